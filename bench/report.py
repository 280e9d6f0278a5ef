"""The report of a run: tables in Markdown, and a picture."""

from __future__ import annotations

from collections.abc import Sequence

from bench.prices import Prices
from bench.results import Results
from bench.rows import Row, rows_of
from bench.svg import bars
from bench.table import figure, milliseconds, render
from bench.units import show_size

#: The server that the others are compared with: the one with TLS on the same side, where it was measured.
FLOOR = "nginx"
#: What the names of servers end with that speak TLS, in the order of the tables: first what people run.
TLS = ("-both-tls", "-store-tls", "-tls")

HEAD = (
    "server",
    "MB/s",
    "CPU s/GiB",
    "x floor",
    "CPU ms/upload",
    "spread",
    "peak RSS",
    "temp. disc",
    "written",
    "S3 requests/upload",
    "$/million uploads",
    "answer p50/p99 ms",
)


def tables(results: Results, prices: Prices) -> str:
    """Return a table for each load, and the S3 calls of each server."""
    shown = [f"{_where(results)}\n"]
    for load, about in results.loads.items():
        rows = _tls_first(rows_of(results, load, prices))
        if rows:
            shown.append(f"### {load}: {about}\n\n{_load_table(rows)}{_notes(rows)}")
    if results.skipped:
        left_out = "".join(f"- {name}: install {what}\n" for name, what in results.skipped.items())
        shown.append(f"Left out:\n\n{left_out}")
    return "\n".join(shown)


def _where(results: Results) -> str:
    machine = results.machine
    return (
        f"{results.date}, {machine['processor']}, {machine['cores']} cores, {show_size(machine['memory'])}, "
        f"Linux {machine['kernel']}, Python {machine['python']}; load average at the start {machine['load']:.1f}."
    )


def _load_table(rows: Sequence[Row]) -> str:
    head, lines = list(HEAD), [_line(row, _floor(row.server, rows)) for row in rows]
    if any(row.status_p50 is not None for row in rows):
        head.append("status p50/p99 ms")
        for row, line in zip(rows, lines, strict=True):
            line.append(f"{milliseconds(row.status_p50)} / {milliseconds(row.status_p99)}")
    if any(row.again > 0 for row in rows):
        head.append("sent again")
        for row, line in zip(rows, lines, strict=True):
            line.append(f"{row.again:.0%}")
    return render(head, lines)


def _side(server: str) -> str:
    """Return where the server speaks TLS, as its name says it; empty if nowhere."""
    return next((side for side in TLS if server.endswith(side)), "")


def _tls_first(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (*TLS, "").index(_side(row.server)))


def _floor(server: str, rows: Sequence[Row]) -> float | None:
    """Return the CPU seconds for a GiB that the server's are compared with, or None if nothing of the kind was measured."""
    measured = {row.server: row.cpu_per_gib for row in rows}
    return measured.get(FLOOR + _side(server), measured.get(FLOOR))


def _line(row: Row, floor: float | None) -> list[str]:
    return [
        row.server,
        figure(row.speed / 1e6),
        figure(row.cpu_per_gib),
        figure(row.cpu_per_gib / floor if floor else None),
        milliseconds(row.cpu_per_upload),
        f"{row.cpu_spread:.0%}",
        show_size(row.peak),
        show_size(row.temporary),
        show_size(row.written),
        figure(sum(row.calls.values())),
        figure(row.million),
        f"{milliseconds(row.answer_p50)} / {milliseconds(row.answer_p99)}",
    ]


def _notes(rows: Sequence[Row]) -> str:
    """Return the S3 calls by name, and the failures."""
    notes = ["\nS3 requests for an upload, by call:\n"]
    for row in rows:
        calls = ", ".join(f"{name} {figure(count)}" for name, count in row.calls.items() if count)
        notes.append(f"- {row.server}: {calls or 'none'}")
    notes += [f"- **{row.server}: {row.failures} failures**" for row in rows if row.failures]
    return "\n".join(notes) + "\n"


def picture(results: Results, prices: Prices) -> str:
    """Return a picture of the CPU time for a GiB, as bars, load by load."""
    groups = {}
    for load, about in results.loads.items():
        rows = _tls_first(rows_of(results, load, prices))
        if rows:
            groups[f"{load}: {about}"] = [
                (row.server, row.cpu_per_gib, f"{figure(row.cpu_per_gib)} s, {figure(row.speed / 1e6)} MB/s")
                for row in rows
            ]
    return bars("CPU seconds for a GiB (user + system), and MB/s", groups)
