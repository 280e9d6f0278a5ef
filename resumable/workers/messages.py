"""What parent and child say to each other over their pipes.

The child first gets a `Job`, then lines, and it says lines too: a word and, behind a space, maybe JSON. The end of the
child's pipe means that the parent is gone.
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

#: The child's file descriptors: from the parent (in place of a standard input), to the parent, the loads of all, and
#: from there on the listening sockets.
FROM_PARENT, TO_PARENT, LOADS, SOCKETS = 0, 3, 4, 5

#: What the parent says: end in order; tell what you have counted; this is what all have counted (`figures.Snapshot`).
STOP, COUNT, ALL = b"stop", b"count", b"all"
#: What the child says: it takes connections; a log event; what it has counted; it is asked what all have counted.
READY, LOG, COUNTED, ASKED = b"ready", b"log", b"counted", b"asked"

_LENGTH = struct.Struct("!Q")


@frozen
class Job:
    """What a child is to do.

    :ivar number: which of the workers it is, from 1.
    :ivar settings: of the whole service. The parent's own rather than the file's, which may have changed since.
    :ivar families: the address family of each listening socket, in the order of ``settings.listen``.
    """

    number: int
    settings: Settings
    families: tuple[int, ...]


def pack_job(job: Job) -> bytes:
    """The job for the child's pipe. Secrets go with it, so that they are on no command line and in no file."""
    packed = pickle.dumps(job)
    return _LENGTH.pack(len(packed)) + packed


def read_job(pipe: RawIOBase) -> Job | None:
    """The job from the pipe, which blocks until it is there; None if the parent ends before."""
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
        """The lines that are complete now."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        return lines

    def rest(self) -> list[bytes]:
        """What stands behind the last line, if anything."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []


class Uplink:
    """The child's way to its parent.

    Writing waits for the parent, which does nothing but read, and write its log: as any process waits that logs into a
    pipe. So nothing that is said is lost when a process ends, and nothing piles up.
    """

    def __init__(self, fd: int = TO_PARENT) -> None:
        self._fd = fd
        self._lock = Lock()  # threads log too

    def say(self, word: bytes, text: str = "") -> None:
        """Say it; to nobody, if the parent is gone."""
        line = memoryview(word + b" " + text.encode("utf-8", "backslashreplace") + b"\n")
        with self._lock:
            try:
                while line:
                    line = line[os.write(self._fd, line) :]
            except BrokenPipeError:
                pass

    def log(self, event: LogEvent) -> None:
        """Twisted's: an observer of log events."""
        failure = event.get("log_failure")
        if isinstance(failure, Failure):
            # An exception is nothing that JSON knows; what it says is.
            told: Any = copy(failure)
            told.value = failure.getErrorMessage()
            event = {**event, "log_failure": told}
        self.say(LOG, eventAsJSON(event))
