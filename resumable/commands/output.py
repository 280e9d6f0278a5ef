"""How commands show things: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

#: Columns where standard output is a pipe or a file: lines must not be folded there.
UNBOUNDED = 10_000


def say_json(value: Any) -> None:
    """Write the value to standard output, as JSON."""
    click.echo(json.dumps(value, indent=2))


def say_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a table to standard output. A column whose title begins with ``>`` is aligned to the right.

    Where a terminal is narrow, cells are folded; those under ``ID`` are whole, for they are copied.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        justify: Literal["left", "right"] = "right" if column.startswith(">") else "left"
        table.add_column(column.lstrip(">"), justify=justify, overflow="fold", no_wrap=column == "ID")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    _show(table)


def say_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Write names and values to standard output, one pair a line."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in fields:
        table.add_row(name, Text(printable(value)))
    _show(table)


def _show(table: Table) -> None:
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else UNBOUNDED, highlight=False).print(table)


def printable(text: str) -> str:
    """Return the text with unprintable characters escaped, so that it cannot control a terminal or forge a line."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def size(count: int | None) -> str:
    """Return a number of bytes as people read it; ``?`` for None."""
    if count is None:
        return "?"
    if count < 1024:
        return f"{count} B"
    amount, units = count / 1024, ["KiB", "MiB", "GiB", "TiB"]
    # What would be shown as 1024.0 becomes 1.0 of the next unit.
    while round(amount, 1) >= 1024 and len(units) > 1:
        amount, units = amount / 1024, units[1:]
    return f"{amount:.1f} {units[0]}"


def age(seconds: float) -> str:
    """Return a time span of so many seconds as people read it."""
    seconds = max(0.0, seconds)
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds:.0f} s"
