"""Measuring: a fresh server is started, warmed up and put under a load. Its figures are read before and after."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from attrs import asdict, frozen

from bench.clients.data import digest
from bench.clients.job import Job, Report
from bench.disc import DiscWatch
from bench.loads import Load
from bench.processes import StartFailed, run_python
from bench.results import Measurement
from bench.servers.server import Server
from bench.sink.handle import Sink
from bench.tree import ProcessTree

#: Bytes of the upload that warms a server up. This is more than one part with every server.
WARM_UP = 9 << 20
#: After its last answer a server may still call the store, to delete pieces for example. It counts as done after so
#: many seconds without a call; the second figure is the longest wait for that.
SETTLE = 0.3
LONGEST_SETTLE = 20.0
#: Seconds that a load may take, and additional seconds for each MB.
TIMEOUT, TIMEOUT_FOR_MB = 120.0, 0.2


def say(line: str) -> None:
    """Print a line of progress."""
    print(line, file=sys.stderr, flush=True)


@frozen
class Bench:
    """The place where servers are started, and the sink that they write to."""

    sink: Sink
    directory: Path

    def measure(self, server: Server, load: Load, number: int) -> Measurement:
        """Start the server, put it under the load once and stop it.

        :raises StartFailed: the server does not start.
        :raises RuntimeError: the server or the driver has ended, or the load takes too long.
        """
        self.sink.reset()
        try:
            server.start(Path(tempfile.mkdtemp(prefix=f"{server.name}-", dir=self.directory)))
            drive(server, Load(name="warm-up", about="", count=2, size=WARM_UP), "warm")
            return self.under(server, load, number)
        finally:
            server.stop()

    def under(self, server: Server, load: Load, number: int) -> Measurement:
        """Put a running server under the load once.

        :raises RuntimeError: the server or the driver has ended, or the load takes too long.
        """
        self.sink.reset()
        self.sink.configure(keep=load.checked, delay=load.delay)
        tree = ProcessTree(server.pid)
        tree.forget_peak()
        idle, cpu, written = tree.peak_memory(), tree.cpu_seconds(), tree.written()
        prefix = f"{load.name}-{number}-"
        with DiscWatch(server.temporary, tree) as disc:
            report = drive(server, load, prefix)
            self._settle()
        if not server.running:
            raise RuntimeError("has ended under the load")
        return Measurement(
            server=server.name,
            load=load.name,
            round=number,
            seconds=report.seconds,
            size=report.size,
            sent=report.sent,
            uploads=len(report.answers),
            cpu=tree.cpu_seconds() - cpu,
            peak=tree.peak_memory(),
            idle=idle,
            temporary=disc.peak,
            written=tree.written() - written,
            calls=self.sink.calls(),
            answers=report.answers,
            statuses=report.statuses,
            failures=report.failures + (self._wrong(server, load, report) if load.checked else []),
        )

    def _settle(self) -> None:
        """Wait until the server makes no more calls of the store."""
        end = time.monotonic() + LONGEST_SETTLE
        before: Mapping[str, int] | None = None
        while (calls := self.sink.calls()) != before and time.monotonic() < end:
            before = calls
            time.sleep(SETTLE)

    def _wrong(self, server: Server, load: Load, report: Report) -> list[str]:
        """Return a line for each object in the sink that is not what was sent."""
        expected = digest(load.size)
        found = {name: self.sink.digest(server.key(name, session)) for name, session in report.sessions.items()}
        return [f"{name} is not what was sent: {one}" for name, one in found.items() if one != expected]


def drive(server: Server, load: Load, prefix: str) -> Report:
    """Run a driver to its end, and return its report."""
    job = Job(
        protocol=server.protocol,
        port=server.port,
        path=server.path,
        tls=server.tls,
        prefix=prefix,
        count=load.count,
        size=load.size,
        concurrency=load.concurrency,
        request_size=load.request_size,
        breaks=load.breaks,
        rate=load.rate,
        queries=load.queries,
    )
    timeout = TIMEOUT + load.total / 1e6 * TIMEOUT_FOR_MB
    return Report(**json.loads(run_python("bench.clients", json.dumps(asdict(job)), timeout=timeout)))


def compare(servers: Sequence[Server], loads: Sequence[Load], rounds: int, bench: Bench) -> Iterator[Measurement]:
    """Measure every server under every load, `rounds` times. In a round the servers come one after the other."""
    for load in loads:
        say(f"{load.name}: {load.about}")
        able = [server for server in servers if server.can(load)]
        for number in range(1, rounds + 1):
            for server in able:
                try:
                    measured = bench.measure(server, load, number)
                except (StartFailed, RuntimeError) as error:
                    say(f"  {server.name}: {error}")
                    continue
                say(f"  round {number}/{rounds}  {server.name:16} {line(measured)}")
                yield measured


def line(measured: Measurement) -> str:
    """Return a measurement's main figures in one line."""
    gist = (
        f"{measured.size / 1e6 / measured.seconds:7.1f} MB/s  {measured.cpu:7.2f} s CPU  "
        f"{measured.peak / 1e6:6.0f} MB peak  {sum(measured.calls.values()):6} S3 requests"
    )
    return gist + (f"  {len(measured.failures)} failed: {measured.failures[0]}" if measured.failures else "")


def workplace(where: Path | None) -> Path:
    """Make a fresh directory for logs and temporary files."""
    if where is not None:
        where.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="bench-", dir=where))


def clear(directory: Path) -> None:
    """Remove the directory."""
    shutil.rmtree(directory, ignore_errors=True)
