"""Plots, as SVG written by hand. For two kinds of picture a plotting library of a hundred megabytes is too much.

The colours can be read on white and on dark pages. Every value stands beside its mark as text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from xml.sax.saxutils import escape

from attrs import frozen

COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#e45756", "#72b7b2", "#b279a2", "#9d755d", "#8a8a8a")
INK = "#777777"


@frozen
class Series:
    """A line in a plot: points of x and y, all above 0."""

    name: str
    points: Sequence[tuple[float, float]]


def bars(title: str, groups: Mapping[str, Sequence[tuple[str, float, str]]]) -> str:
    """Draw horizontal bars in groups, each group with a scale of its own.

    :param groups: heading of a group -> its bars: label, length (any unit) and the text after the bar.
    """
    parts, y, colours = [], 40, _colours(label for bars in groups.values() for label, _, _ in bars)
    for heading, group in groups.items():
        parts.append(_text(10, y + 12, heading, weight="bold"))
        y += 22
        longest = max((length for _, length, _ in group), default=0) or 1
        for label, length, text in group:
            width = max(1, round(length / longest * 420))
            parts.append(_text(150, y + 12, label, anchor="end"))
            parts.append(f'<rect x="156" y="{y + 1}" width="{width}" height="14" fill="{colours[label]}"/>')
            parts.append(_text(162 + width, y + 12, text))
            y += 19
        y += 12
    return _picture(title, 760, y, parts)


def lines(title: str, x_label: str, y_label: str, series: Sequence[Series]) -> str:
    """Draw lines on logarithmic scales.

    The dotted line rises in proportion; what is steeper grows faster than linearly.
    """
    xs = [x for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in one.points]
    across, up = _Scale(xs, 70, 560), _Scale(ys, 320, 50)
    parts = [f'<rect x="70" y="50" width="490" height="270" fill="none" stroke="{INK}"/>']
    for x in sorted(set(xs)):
        parts.append(_text(across.at(x), 336, _short(x), anchor="middle"))
    for y in up.decades():
        parts.append(
            f'<line x1="70" x2="560" y1="{up.at(y):.1f}" y2="{up.at(y):.1f}" stroke="{INK}" stroke-width="0.3"/>'
        )
        parts.append(_text(64, up.at(y) + 4, _short(y), anchor="end"))
    parts.append(_proportional(xs, ys, across, up))
    for number, one in enumerate(series):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{across.at(x):.1f},{up.at(y):.1f}" for x, y in one.points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for x, y in one.points:
            parts.append(f'<circle cx="{across.at(x):.1f}" cy="{up.at(y):.1f}" r="3" fill="{colour}"/>')
        parts.append(f'<rect x="574" y="{52 + 20 * number}" width="10" height="10" fill="{colour}"/>')
        parts.append(_text(590, 62 + 20 * number, one.name))
    parts += [_text(315, 356, x_label, anchor="middle"), _text(70, 44, y_label)]
    return _picture(title, 760, 370, parts)


def curves(title: str, x_label: str, y_label: str, series: Sequence[Series]) -> str:
    """Draw curves of many points on linear scales that begin at 0."""
    right = max((x for one in series for x, _ in one.points), default=0) or 1
    top = max((y for one in series for _, y in one.points), default=0) or 1
    parts = [f'<rect x="70" y="50" width="490" height="270" fill="none" stroke="{INK}"/>']
    for mark in _round_marks(right):
        parts.append(_text(70 + mark / right * 490, 336, f"{mark:g}", anchor="middle"))
    for mark in _round_marks(top):
        y = 320 - mark / top * 270
        parts.append(f'<line x1="70" x2="560" y1="{y:.1f}" y2="{y:.1f}" stroke="{INK}" stroke-width="0.3"/>')
        parts.append(_text(64, y + 4, f"{mark:g}", anchor="end"))
    for number, one in enumerate(series):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{70 + x / right * 490:.1f},{320 - y / top * 270:.1f}" for x, y in one.points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts.append(f'<rect x="574" y="{52 + 20 * number}" width="10" height="10" fill="{colour}"/>')
        parts.append(_text(590, 62 + 20 * number, one.name))
    parts += [_text(315, 356, x_label, anchor="middle"), _text(70, 44, y_label)]
    return _picture(title, 760, 370, parts)


def _round_marks(most: float) -> list[float]:
    """Return up to ten round values from 0 to `most`: multiples of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(most / 10))
    step = next(power * factor for factor in (1, 2, 5, 10) if most / (power * factor) <= 10)
    return [number * step for number in range(math.floor(most / step) + 1)]


class _Scale:
    """A logarithmic scale from pixel `low` to pixel `high`."""

    def __init__(self, values: Sequence[float], low: float, high: float) -> None:
        least, most = math.log10(min(values)), math.log10(max(values))
        room = max(0.15, (most - least) * 0.05)
        self._least, self._most = least - room, most + room
        self._low, self._high = low, high

    def at(self, value: float) -> float:
        """Return the pixel for a value."""
        part = (math.log10(value) - self._least) / (self._most - self._least)
        return self._low + part * (self._high - self._low)

    def decades(self) -> list[float]:
        """Return round values on the scale: 1, 2 and 5 times powers of ten."""
        powers = range(math.floor(self._least), math.ceil(self._most) + 1)
        marks = [mantissa * 10.0**power for power in powers for mantissa in (1, 2, 5)]
        return [mark for mark in marks if self._least <= math.log10(mark) <= self._most]


def _proportional(xs: Sequence[float], ys: Sequence[float], across: _Scale, up: _Scale) -> str:
    """Draw the dotted line from the lowest point on, as far as it stays in the picture."""
    x, y, most = min(xs), min(ys), max(ys)
    end = min(max(xs), x * most / y)
    return (
        f'<line x1="{across.at(x):.1f}" y1="{up.at(y):.1f}" x2="{across.at(end):.1f}" y2="{up.at(y * end / x):.1f}" '
        f'stroke="{INK}" stroke-dasharray="2 4"/>'
    )


def _colours(labels: Iterable[str]) -> Mapping[str, str]:
    known: dict[str, str] = {}
    for label in labels:
        known.setdefault(label, COLOURS[len(known) % len(COLOURS)])
    return known


def _short(value: float) -> str:
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g}{unit}"
    return f"{value:.3g}"


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" font-weight="{weight}" fill="{INK}">{escape(text)}</text>'


def _picture(title: str, width: int, height: int, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="12">'
    )
    heading = f'<text x="10" y="22" font-size="15" font-weight="bold" fill="{INK}">{escape(title)}</text>'
    return "\n".join([head, heading, *parts, "</svg>"]) + "\n"
