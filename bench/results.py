"""The results of a run: measurements, and the JSON file that holds them."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import asdict, field, frozen

#: The version of the file. It is increased when a field changes its meaning.
FORMAT = 1


@frozen(kw_only=True)
class Measurement:
    """One server under one load, once."""

    server: str
    load: str
    round: int
    #: Seconds from the first connection to the last answer.
    seconds: float
    #: Bytes of finished uploads, bytes that were sent for them, and the number of finished uploads.
    size: int
    sent: int
    uploads: int
    #: CPU seconds (user and system) of the server's processes.
    cpu: float
    #: Peak resident memory, and resident memory before the load, in bytes.
    peak: int
    idle: int
    #: The most bytes in temporary files, and all bytes written to discs.
    temporary: int
    written: int
    #: S3 calls, by name.
    calls: Mapping[str, int]
    #: Seconds from last byte to answer of each upload, and seconds of each status query.
    answers: list[float] = field(factory=list)
    statuses: list[float] = field(factory=list)
    failures: list[str] = field(factory=list)


@frozen(kw_only=True)
class Results:
    """A run."""

    date: str
    command: str
    machine: Mapping[str, Any]
    #: Name -> what it is.
    servers: Mapping[str, str]
    loads: Mapping[str, str]
    #: Servers that were left out -> what is missing for them.
    skipped: Mapping[str, str]
    measurements: list[Measurement]

    def of(self, server: str, load: str) -> list[Measurement]:
        """Return all measurements of a server under a load."""
        return [one for one in self.measurements if one.server == server and one.load == load]

    def write(self, path: Path) -> None:
        """Write the JSON file, one line for each measurement. Latencies are rounded to a tenth of a millisecond."""
        whole = {"format": FORMAT, **asdict(self, filter=lambda field, _: field.name != "measurements")}
        head = json.dumps(whole, indent=1).removesuffix("\n}")
        measurements = [
            {**asdict(one), "answers": _short(one.answers), "statuses": _short(one.statuses)}
            for one in self.measurements
        ]
        lines = ",\n".join(json.dumps(one, sort_keys=True, separators=(",", ":")) for one in measurements)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'{head},\n "measurements": [\n{lines}\n]}}\n')


def read_results(path: Path) -> Results:
    """Return what `Results.write` wrote.

    :raises ValueError: the file is something else, or of another version.
    """
    try:
        whole = json.loads(path.read_text())
        if whole.pop("format") != FORMAT:
            raise ValueError(f"{path}: was written by another version of the benchmark")
        measurements = [Measurement(**one) for one in whole.pop("measurements")]
        return Results(measurements=measurements, **whole)
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: is not a result of `bench run`: {error}") from None


def merged(results: list[Results]) -> Results:
    """Return several runs as one. Date and machine are those of the first.

    :raises ValueError: the runs had different scales for a load.
    """
    first = results[0]
    for one in results:
        for name, about in one.loads.items():
            if any(other.loads.get(name, about) != about for other in results):
                raise ValueError(f"the load {name} is not the same in all runs: {about}")
    return Results(
        date=first.date,
        command="; ".join(one.command for one in results),
        machine=first.machine,
        servers={name: about for one in results for name, about in one.servers.items()},
        loads={name: about for one in results for name, about in one.loads.items()},
        skipped={name: what for one in results for name, what in one.skipped.items()},
        measurements=[measurement for one in results for measurement in one.measurements],
    )


def machine() -> dict[str, Any]:
    """Return a description of this machine."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }


def _short(seconds: list[float]) -> list[float]:
    return [round(one, 4) for one in seconds]
