"""A worker's process, as its parent sees it."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any, Protocol

from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import LogEvent, Logger, eventFromJSON, globalLogPublisher
from twisted.python.failure import Failure

from resumable.workers.figures import Snapshot
from resumable.workers.messages import (
    ALL,
    ASKED,
    COUNT,
    COUNTED,
    FROM_PARENT,
    LOG,
    READY,
    STOP,
    TO_PARENT,
    Job,
    Lines,
    pack_job,
)


class Listener(Protocol):
    """Hears what the process says."""

    def ready(self) -> None:
        """Hear that the process takes connections."""

    def counted(self, figures: Snapshot) -> None:
        """Hear the figures of the process."""

    def asked(self) -> None:
        """Hear that the process needs the figures of all."""

    def ended(self, status: int | None, how: str) -> None:
        """Hear that the process has ended.

        :param status: its exit status; None after a signal.
        :param how: how it ended, for the log.
        """


class Process(ProcessProtocol):
    """Tells the process what to do, and hears what it says."""

    _log = Logger()

    def __init__(self, job: Job, listener: Listener) -> None:
        self._job = job
        self._listener = listener
        self._lines = {fd: Lines() for fd in (1, 2, TO_PARENT)}

    def connectionMade(self) -> None:
        """Send the job, as the process runs now (called by Twisted)."""
        self._tell(pack_job(self._job))

    def stop(self) -> None:
        """Tell the process to end in order."""
        self._tell(STOP + b"\n")

    def count(self) -> None:
        """Tell the process to send its figures."""
        self._tell(COUNT + b"\n")

    def answer(self, figures: Snapshot) -> None:
        """Send the process the figures of all."""
        self._tell(ALL + b" " + json.dumps(figures).encode() + b"\n")

    def kill(self) -> None:
        """Kill the process."""
        with suppress(ProcessExitedAlready):
            self._transport.signalProcess("KILL")

    @property
    def _transport(self) -> Any:
        return self.transport

    def _tell(self, data: bytes) -> None:
        with suppress(KeyError):  # it has closed its end
            self._transport.writeToChild(FROM_PARENT, data)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Take what the process has said (called by Twisted)."""
        for line in self._lines[childFD].feed(data):
            self._heard(childFD, line)

    def _heard(self, fd: int, line: bytes) -> None:
        if fd != TO_PARENT:
            # This is no log event: Python or a library has written it to standard output or standard error.
            self._log.warn("worker {worker}: {line}", worker=self._job.number, line=line.decode(errors="replace"))
            return
        word, _, rest = line.partition(b" ")
        if word == READY:
            self._log.info("worker {worker} is ready, process {pid}", worker=self._job.number, pid=self._transport.pid)
            self._listener.ready()
        elif word == COUNTED:
            self._listener.counted(json.loads(rest))
        elif word == ASKED:
            self._listener.asked()
        elif word == LOG:
            globalLogPublisher(self._marked(eventFromJSON(rest.decode())))

    def _marked(self, event: LogEvent) -> LogEvent:
        """Return the event, marked with the worker that it is from."""
        level = event.get("log_level")
        system = event.get("log_system") or f"{event.get('log_namespace', '-')}#{level.name if level else 'info'}"
        return {**event, "worker": self._job.number, "log_system": f"worker {self._job.number}, {system}"}

    def processEnded(self, reason: Failure) -> None:
        """Tell the listener how the process ended, after all that it has said (called by Twisted)."""
        for fd in (1, 2):
            for line in self._lines[fd].rest():
                self._heard(fd, line)
        value: Any = reason.value
        how = f"signal {value.signal}" if value.signal else f"exit status {value.exitCode}"
        self._listener.ended(value.exitCode if value.signal is None else None, how)
