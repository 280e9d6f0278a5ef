"""What parent and child say to each other over their pipes.

The child first gets a `Job`, and then lines. It sends lines too. A line is the name of a message and, behind a space,
maybe JSON. The end of the child's pipe means that the parent is gone.
"""

from __future__ import annotations

import os
import pickle
import struct
from copy import copy
from io import RawIOBase
from threading import Lock
from typing import Any, cast

from attrs import frozen
from twisted.logger import LogEvent, eventAsJSON
from twisted.python.failure import Failure

from resumable.settings import Settings

#: The child's file descriptors: from the parent (in place of standard input), to the parent, the loads of all workers,
#: and the first of the listening sockets.
FROM_PARENT, TO_PARENT, LOADS, SOCKETS = 0, 3, 4, 5

#: What the parent says: end in order; send your figures; these are the figures of all (`figures.Snapshot`).
STOP, COUNT, ALL = b"stop", b"count", b"all"
#: What the child says: it takes connections; a log event; its figures; it needs the figures of all.
READY, LOG, COUNTED, ASKED = b"ready", b"log", b"counted", b"asked"

_LENGTH = struct.Struct("!Q")


@frozen
class Job:
    """What a child is to do.

    :ivar number: which of the workers it is, from 1.
    :ivar settings: those of the whole service, as the parent has them: the file may have changed since.
    :ivar families: the address family of each listening socket, in the order of ``settings.listen``, and of
        ``settings.operations.listen`` after them.
    """

    number: int
    settings: Settings
    families: tuple[int, ...]


def pack_job(job: Job) -> bytes:
    """Return the job as bytes for the child's pipe.

    Secrets go through the pipe too, so that they are on no command line and in no file.
    """
    packed = pickle.dumps(job)
    return _LENGTH.pack(len(packed)) + packed


def read_job(pipe: RawIOBase) -> Job | None:
    """Return the job from the pipe, after waiting for it; None if the parent ends before."""
    try:
        (length,) = _LENGTH.unpack(_exactly(pipe, _LENGTH.size))
        return cast(Job, pickle.loads(_exactly(pipe, length)))
    except EOFError:
        return None


def _exactly(pipe: RawIOBase, size: int) -> bytes:
    # Not a byte more: what follows is for the reactor to read.
    data = b""
    while len(data) < size:
        more = pipe.read(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


class Lines:
    """Cuts what comes out of a pipe into lines."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that are complete now."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        return lines

    def rest(self) -> list[bytes]:
        """Return what came after the last complete line, if anything."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []


class Uplink:
    """The child's way to its parent.

    Writing waits for the parent, as every process waits that logs into a pipe. The parent does nothing but read, and
    write its log. So no message is lost when a process ends, and none piles up.
    """

    def __init__(self, fd: int = TO_PARENT) -> None:
        self._fd = fd
        self._lock = Lock()  # threads log too

    def say(self, word: bytes, text: str = "") -> None:
        """Send a line to the parent; do nothing if the parent is gone."""
        line = memoryview(word + b" " + text.encode("utf-8", "backslashreplace") + b"\n")
        with self._lock:
            try:
                while line:
                    line = line[os.write(self._fd, line) :]
            except BrokenPipeError:
                pass

    def log(self, event: LogEvent) -> None:
        """Send a log event to the parent (a log observer, called by Twisted)."""
        failure = event.get("log_failure")
        if isinstance(failure, Failure):
            # JSON cannot hold an exception, so its message is sent.
            told: Any = copy(failure)
            told.value = failure.getErrorMessage()
            event = {**event, "log_failure": told}
        self.say(LOG, eventAsJSON(event))
