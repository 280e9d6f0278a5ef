"""The child: a worker that takes connections from the sockets it shares.

`resumable.workers.pool` runs this module as a program. What the child needs comes through its pipes.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import Any, cast

from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IListeningPort
from twisted.internet.main import CONNECTION_DONE
from twisted.logger import FilteringLogObserver, ILogObserver, LogLevel, LogLevelFilterPredicate, globalLogBeginner
from twisted.python.failure import Failure

from resumable.clock import run_on_monotonic_time
from resumable.metrics import Metrics
from resumable.service import Resumable, make_resumable
from resumable.workers.loads import Loads, Turns
from resumable.workers.messages import (
    ALL,
    COUNT,
    FROM_PARENT,
    LOADS,
    READY,
    SOCKETS,
    STOP,
    Job,
    Lines,
    Uplink,
    read_job,
)
from resumable.workers.sockets import adopt
from resumable.workers.worker_metrics import WorkerMetrics


class Sharing:
    """Listens on the sockets that this worker shares with the others, and tells the parent when it listens on all."""

    def __init__(self, job: Job, uplink: Uplink) -> None:
        self._job = job
        self._uplink = uplink
        self._sockets = list(enumerate(job.families, SOCKETS))
        self._turns: Turns | None = None

    async def listen(self, reactor: Any, description: str, factory: Any, *, operations: bool = False) -> IListeningPort:
        """Listen on the next socket (called by `resumable.service`)."""
        if self._turns is None:
            loads = Loads(LOADS)
            os.close(LOADS)
            self._turns = Turns(loads, self._job.number, lambda: _busy(factory), reactor)
        fd, family = self._sockets.pop(0)
        port = await adopt(reactor, description, factory, fd, family)
        if not operations:  # those who watch wait for nobody's turn
            self._turns.rule(port, lambda: len(factory.channels))
        if not self._sockets:
            self._uplink.say(READY)
        return port


def _busy(site: Any) -> int:
    return sum(1 for channel in site.channels if channel.busy)


class FromParent:
    """Reads what the parent says: a descriptor for the reactor."""

    def __init__(self, worker: Worker, fd: int = FROM_PARENT) -> None:
        self._worker = worker
        self._fd = fd
        self._lines = Lines()

    def fileno(self) -> int:
        """Return the descriptor (called by Twisted)."""
        return self._fd

    def logPrefix(self) -> str:
        """Return the name for log lines (called by Twisted)."""
        return "parent"

    def doRead(self) -> Exception | None:
        """Pass on the lines that have come; return a reason at the end of the pipe (called by Twisted)."""
        data = os.read(self._fd, 65536)
        if not data:
            return CONNECTION_DONE
        for line in self._lines.feed(data):
            self._worker.told(line)
        return None

    def connectionLost(self, reason: Failure) -> None:
        """Tell the worker that the pipe has ended (called by Twisted)."""
        self._worker.orphaned()


class Worker:
    """Does what the parent and the system tell the service in this process to do."""

    def __init__(self, service: Resumable, worker_metrics: WorkerMetrics, reactor: Any) -> None:
        self._service = service
        self._worker_metrics = worker_metrics
        self._reactor = reactor
        self._stopping = False

    def told(self, line: bytes) -> None:
        """Do what a line from the parent says."""
        word, _, rest = line.partition(b" ")
        if word == STOP:
            self.stop()
        elif word == COUNT:
            self._worker_metrics.tell()
        elif word == ALL:
            self._worker_metrics.told(rest)

    def orphaned(self) -> None:
        """End quickly, since the parent is gone: the port has to be free at once for the next service."""
        self._service.hurry()
        self.stop()

    def stop(self) -> None:
        """End in order; a second call does nothing. The parent may ask for it, or a signal to all processes."""
        if not self._stopping:
            self._stopping = True
            with suppress(ReactorNotRunning):  # one that cannot start stops by itself
                self._reactor.stop()


def main() -> None:
    """Read the job from the parent and do it."""
    # Ctrl-C in a terminal reaches the whole process group; the parent tells its children.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the signal for the terminal's end reaches the whole group too
    with open(FROM_PARENT, "rb", buffering=0, closefd=False) as pipe:
        job = read_job(pipe)
    if job is not None:
        work(job)


def work(job: Job) -> None:
    """Run the service until it is told to end."""
    from twisted.internet import reactor as installed

    reactor: Any = installed
    run_on_monotonic_time(reactor)
    uplink = Uplink()
    lowest = LogLevelFilterPredicate(defaultLogLevel=LogLevel.levelWithName(job.settings.log.level))
    globalLogBeginner.beginLoggingTo(
        [FilteringLogObserver(cast(ILogObserver, uplink.log), [lowest])], redirectStandardIO=False
    )
    metrics, sharing = Metrics(), Sharing(job, uplink)
    worker_metrics = WorkerMetrics(metrics, uplink, reactor)
    service = make_resumable(
        job.settings,
        prepare=False,
        metrics=metrics,
        listen=sharing.listen,
        figures=worker_metrics.figures,
        looks=job.number == 1,
    )
    worker = Worker(service, worker_metrics, reactor)

    def begin() -> None:
        # Twisted's own handler would complain of a second signal.
        signal.signal(signal.SIGTERM, lambda *_: reactor.callFromThread(worker.stop))
        reactor.addReader(FromParent(worker))
        service.startService()

    reactor.callWhenRunning(begin)
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.run()
    worker_metrics.tell()


if __name__ == "__main__":
    main()
