"""How cost grows with the size of a file, the number of its parts, of open uploads, and of connections."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import asdict, evolve, frozen

from bench.ledger_rows import FullLedger
from bench.loads import Load
from bench.results import Measurement
from bench.run import Bench, drive, line, say
from bench.servers.resumable import Resumable
from bench.servers.server import Server
from bench.stats import percentile
from bench.svg import Series, lines
from bench.table import figure, milliseconds, render
from bench.units import KIB, MIB, show_size

#: The smallest part that S3 takes.
PART = 5 * MIB


class SmallParts(Resumable):
    """The server of this project with the smallest parts that S3 takes, so that a file has many.

    It has too little memory for larger ones: parts grow with the file only as far as memory bears it.
    """

    chunk_size = PART

    def configuration(self) -> dict[str, Any]:
        """Return the settings that the server runs with."""
        return {**super().configuration(), "limits": {"memory": 4 * PART}}


@frozen
class Axis:
    """A quantity that grows from step to step."""

    name: str
    about: str
    #: The default values, which take minutes.
    values: Sequence[int]
    make: Callable[[Bench, int], Server]
    load: Callable[[int], Load]
    show: Callable[[float], str]


@frozen
class Step:
    """The measurement of one value of an axis, in seconds and bytes."""

    x: int
    seconds: float
    cpu: float
    #: Peak memory, and memory before the load.
    peak: int
    idle: int
    answer_p50: float | None
    status_p50: float | None
    status_p99: float | None
    failures: int


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _uploads(name: str, size: int, count: int = 1, concurrency: int = 1) -> Load:
    return Load(name=name, about="", count=count, size=size, concurrency=concurrency)


AXES: Mapping[str, Axis] = {
    axis.name: axis
    for axis in (
        Axis(
            "size",
            "one upload, by its size",
            [MIB, 16 * MIB, 256 * MIB, 1024 * MIB, 4096 * MIB],
            lambda bench, _: Resumable(bench.sink),
            lambda x: _uploads("size", x),
            show_size,
        ),
        Axis(
            "parts",
            "one upload, by the number of its parts of 5 MiB",
            [10, 40, 160, 640],
            lambda bench, _: SmallParts(bench.sink),
            lambda x: _uploads("parts", x * PART),
            _count,
        ),
        Axis(
            "uploads",
            "300 uploads of 64 KiB and status queries, by the number of open uploads in the ledger",
            [1, 1_000, 10_000, 100_000],
            lambda bench, x: FullLedger(bench.sink, x),
            lambda x: _uploads("uploads", 64 * KIB, 300, 8),
            _count,
        ),
        Axis(
            "connections",
            "connections at 100 kB/s for 5 s each, and status queries, by their number",
            [10, 100, 500, 1_000],
            lambda bench, _: Resumable(bench.sink),
            lambda x: Load(name="connections", about="", count=x, size=500_000, rate=100_000, queries=20.0),
            _count,
        ),
    )
}

#: Status queries while one upload of 500 kB comes in at 100 kB/s.
QUERIES = Load(name="queries", about="", count=1, size=500_000, rate=100_000, queries=50.0)


def measure(axis: Axis, values: Sequence[int], bench: Bench) -> list[Step]:
    """Measure the axis, value by value."""
    say(f"{axis.name}: {axis.about}")
    steps = []
    for x in values:
        server = axis.make(bench, x)
        measured = _with_queries(bench, server, axis.load(x))
        steps.append(make_step(x, measured))
        say(f"  {axis.show(x):>10}  {line(measured)}")
    return steps


def _with_queries(bench: Bench, server: Server, load: Load) -> Measurement:
    """Measure under the load. If it has no status queries, measure some of them afterwards."""
    bench.sink.reset()
    try:
        server.start(Path(tempfile.mkdtemp(prefix="growth-", dir=bench.directory)))
        drive(server, _uploads("warm-up", 9 * MIB, 2), "warm")
        measured = bench.under(server, load, 1)
        if load.queries:
            return measured
        return evolve(measured, statuses=bench.under(server, QUERIES, 1).statuses)
    finally:
        server.stop()


def make_step(x: int, measured: Measurement) -> Step:
    """Return the figures that are plotted."""
    return Step(
        x,
        measured.seconds,
        measured.cpu,
        measured.peak,
        measured.idle,
        percentile(measured.answers, 50),
        percentile(measured.statuses, 50),
        percentile(measured.statuses, 99),
        len(measured.failures),
    )


def table(axis: Axis, steps: Sequence[Step]) -> str:
    """Return the steps as a table with a heading, in Markdown."""
    head = (axis.name, "seconds", "CPU s", "peak RSS", "more than idle", "answer p50 ms", "status p50/p99 ms", "failed")
    steps_shown = render(
        head,
        [
            [
                axis.show(step.x),
                figure(step.seconds),
                figure(step.cpu),
                show_size(step.peak),
                show_size(max(0, step.peak - step.idle)),
                milliseconds(step.answer_p50),
                f"{milliseconds(step.status_p50)} / {milliseconds(step.status_p99)}",
                str(step.failures),
            ]
            for step in steps
        ],
    )
    return f"### {axis.about}\n\n{steps_shown}"


def picture(axis: Axis, steps: Sequence[Step]) -> str:
    """Return a plot of all figures as multiples of the first step. CPU time has a resolution of 10 ms."""
    values: Mapping[str, Callable[[Step], float | None]] = {
        "seconds": lambda step: step.seconds,
        "CPU": lambda step: max(step.cpu, 0.01),
        "peak memory": lambda step: step.peak,
        "answer p50": lambda step: step.answer_p50,
        "status p50": lambda step: step.status_p50,
    }
    series = []
    for name, value in values.items():
        first = value(steps[0])
        points = [(float(step.x), y / first) for step in steps if first and (y := value(step))]
        if len(points) == len(steps):
            series.append(Series(name, points))
    return lines(axis.about, axis.name, "times the first; dotted: in proportion", series)


def write(path: Path, date: str, machine: Mapping[str, Any], measured: Mapping[str, Sequence[Step]]) -> None:
    """Write the JSON file."""
    series = {name: [asdict(step) for step in steps] for name, steps in measured.items()}
    path.write_text(json.dumps({"date": date, "machine": machine, "series": series}, indent=1, sort_keys=True) + "\n")


def read(path: Path) -> Mapping[str, Sequence[Step]]:
    """Return what `write` wrote: the steps of each axis.

    :raises ValueError: the file is something else.
    """
    try:
        series = json.loads(path.read_text())["series"]
        return {name: [Step(**step) for step in series[name]] for name in AXES if name in series}
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: is not a result of `bench growth`: {error}") from None
