"""Tables in Markdown that can be read in a terminal too."""

from __future__ import annotations

from collections.abc import Sequence


def render(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table. The first column is text, the others are figures.

    :raises ValueError: a line is longer or shorter than the head.
    """
    columns = list(zip(head, *lines, strict=True))
    widths = [max(map(len, column)) for column in columns]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(_line(cells, widths) for cells in (head, rule, *lines)) + "\n"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = cells
    padded = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
    return f"| {' | '.join(padded)} |"


def figure(value: float | None, digits: int = 3) -> str:
    """Return the number with `digits` significant digits, or a dash for None."""
    if value is None:
        return "-"
    if value == 0:
        return "0"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def milliseconds(seconds: float | None) -> str:
    """Return the time in milliseconds, or a dash for None."""
    return figure(None if seconds is None else seconds * 1000)
