"""A soak: many uploads of all lengths for hours, and what becomes of the server's memory meanwhile."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import asdict, frozen

from bench.clients.mixed import MixedJob
from bench.processes import Child, python_environment
from bench.results import machine
from bench.run import Bench, say
from bench.servers.resumable import Resumable
from bench.svg import Series, curves
from bench.units import MIB

#: The most memory beside the budget, in bytes: code and its data, connections, and what the allocators hold in reserve.
BESIDE = 110 * MIB
#: Who the clients are, as often as needed.
CLIENTS = (("put", "/upload/"), ("tus", "/files/"), ("google", "/upload"), ("put", "/upload/"))
#: Seconds for what runs when the time is over.
LAST_UPLOADS = 120.0
#: Seconds in which a service has warmed up: what it holds then, it may hold for ever.
WARM = 120.0


@frozen(kw_only=True)
class Soak:
    """How to soak. Sizes in bytes."""

    seconds: float = 600.0
    clients: int = 4
    #: Uploads a minute.
    rate: float = 1000.0
    least: int = 1000
    most: int = 14 * MIB
    #: Share of the uploads that break off, 0 to 1.
    broken: float = 0.4
    #: The setting ``limits.memory``.
    memory: int = 64 * MIB
    #: Seconds between samples.
    every: float = 5.0
    #: Variables for the server's process, as ``NAME=VALUE``.
    variables: Sequence[str] = ()

    @property
    def ceiling(self) -> int:
        """The most bytes that may be resident."""
        return self.memory + BESIDE


class Probed(Resumable):
    """The server of this project, in a process that watches its own memory."""

    name = "resumable-soak"

    def __init__(self, bench: Bench, soak: Soak) -> None:
        super().__init__(bench.sink)
        self.samples = bench.directory / "samples.jsonl"
        self._soak = soak

    def configuration(self) -> dict[str, Any]:
        return {**super().configuration(), "limits": {"memory": self._soak.memory}}

    def command(self) -> list[str]:
        *_, kind, flag, path = super().command()
        probe = [sys.executable, "-m", "bench.soak_probe", str(self.samples), str(self._soak.every)]
        return [*probe, "-n", kind, flag, path]

    def environment(self) -> Mapping[str, str]:
        return {**super().environment(), **dict(one.split("=", 1) for one in self._soak.variables)}


@frozen
class Outcome:
    """What a soak has found."""

    samples: Sequence[Mapping[str, float]]
    #: The clients' last line: see `bench.clients.mixed.Progress`.
    progress: Mapping[str, Any]
    #: Whether the server ran to the end.
    survived: bool = True


def run(soak: Soak, bench: Bench, base: Path) -> Outcome:
    """Soak, writing ``base.json`` and ``base.svg`` every minute.

    :raises StartFailed: the server does not start.
    """
    # In hours there are a hundred thousand objects.
    bench.sink.configure(forget=True)
    server = Probed(bench, soak)
    server.start(Path(tempfile.mkdtemp(prefix="soak-", dir=bench.directory)))
    job = MixedJob(
        port=server.port,
        clients=[CLIENTS[number % len(CLIENTS)] for number in range(soak.clients)],
        seconds=soak.seconds,
        rate=soak.rate,
        least=soak.least,
        most=soak.most,
        broken=soak.broken,
    )
    log = bench.directory / "clients.log"
    command = [sys.executable, "-m", "bench.clients.mixed", json.dumps(asdict(job))]
    clients = Child(command, log=log, environment=python_environment())
    end = time.monotonic() + soak.seconds + LAST_UPLOADS
    told = time.monotonic()
    try:
        while clients.running and server.running and time.monotonic() < end:
            time.sleep(0.5)
            if time.monotonic() - told > 60:
                told = time.monotonic()
                say(gist(soak, write(soak, base, _outcome(server, log))))
        return write(soak, base, _outcome(server, log))
    finally:
        clients.stop()
        details = server.samples.with_suffix(".xml")
        if details.exists():
            shutil.copy(details, base.with_suffix(".xml"))
        if (server.directory / "log").exists():
            shutil.copy(server.directory / "log", base.with_suffix(".log"))
        server.stop()


def _outcome(server: Probed, log: Path) -> Outcome:
    lines = [line for line in log.read_text().splitlines() if line.startswith("{")]
    samples = server.samples.read_text().rpartition("\n")[0].splitlines()
    progress = json.loads(lines[-1]) if lines else {}
    return Outcome([json.loads(line) for line in samples], progress, server.running)


def write(soak: Soak, base: Path, outcome: Outcome) -> Outcome:
    """Write what is known to ``base.json``, and a plot to ``base.svg``; return the outcome."""
    options = {**asdict(soak), "variables": list(soak.variables)}
    found = {"machine": machine(), "soak": options, "verdict": verdict(soak, outcome), **asdict(outcome)}
    partial = base.with_suffix(".part")
    partial.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    os.replace(partial, base.with_suffix(".json"))
    if len(outcome.samples) > 1:
        base.with_suffix(".svg").write_text(picture(soak, outcome))
    return outcome


def verdict(soak: Soak, outcome: Outcome) -> Mapping[str, float]:
    """Return the figures by which a soak is judged: bytes, uploads, and bytes an hour."""
    samples = outcome.samples
    warm = [one for one in samples if one["time"] - samples[0]["time"] >= min(WARM, soak.seconds / 3)] or samples
    half = warm[len(warm) // 2 :]
    return {
        "ceiling": soak.ceiling,
        "peak": max((one["rss"] for one in samples), default=0),
        "last": samples[-1]["rss"] if samples else 0,
        "growth": slope([(one["time"] / 3600, one["rss"]) for one in half]),
        "uploads": outcome.progress.get("uploads", 0),
        "failed": outcome.progress.get("failed", 0),
    }


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the slope of the straight line with the least squares; 0 for fewer than two points."""
    if len(points) < 2:
        return 0.0
    middle = math.fsum(x for x, _ in points) / len(points)
    spread = math.fsum((x - middle) ** 2 for x, _ in points)
    return math.fsum((x - middle) * y for x, y in points) / spread if spread else 0.0


def passed(soak: Soak, outcome: Outcome) -> bool:
    """Say whether the server kept below the ceiling to the end, and no upload failed."""
    found = verdict(soak, outcome)
    return outcome.survived and 0 < found["peak"] <= soak.ceiling and found["uploads"] > 0 and not found["failed"]


def gist(soak: Soak, outcome: Outcome) -> str:
    """Return the figures in one line."""
    found, samples = verdict(soak, outcome), outcome.samples
    minutes = (samples[-1]["time"] - samples[0]["time"]) / 60 if samples else 0.0
    failures = outcome.progress.get("failures") or []
    return (
        f"{minutes:6.1f} min  {found['uploads']:7.0f} uploads  RSS {found['last'] / MIB:6.1f} MiB, at most "
        f"{found['peak'] / MIB:.1f} of {soak.ceiling / MIB:.0f}, {found['growth'] / MIB:+.1f} MiB/h in the second half"
        + (f"  {found['failed']:.0f} failed: {failures[0] if failures else ''}" if found["failed"] else "")
    )


def picture(soak: Soak, outcome: Outcome) -> str:
    """Return a plot of memory over time."""
    first = outcome.samples[0]["time"]
    names = {"rss": "RSS", "pss": "PSS", "heap": "heap", "used": "heap in use", "mapped": "mapped blocks"}
    series = [
        Series(text, [((one["time"] - first) / 60, one[name] / MIB) for one in outcome.samples])
        for name, text in names.items()
        if name in outcome.samples[0]
    ]
    ends = (0.0, (outcome.samples[-1]["time"] - first) / 60)
    series.append(Series("ceiling", [(x, soak.ceiling / MIB) for x in ends]))
    return curves(f"{soak.rate:.0f} uploads a minute", "minutes", "MiB", series)
