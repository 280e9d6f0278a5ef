"""A connection goes to the worker with the least to do.

All workers wait at the same listening socket, and the kernel wakes all of them for a connection. Left alone, the first
one takes all that are waiting: a burst of uploads would go to a single worker and leave the others with nothing. So
each takes one at a time, and only if nobody has less to do. Otherwise it lets the others go first, for some
hundredths of a second. How much each has to do stands in memory that all share.

The fewer connections there are, the more it matters where each goes. Where there are many, small differences are
ignored.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
from collections.abc import Callable
from typing import IO, Any

from twisted.internet.task import LoopingCall

from resumable.listening import accept_at_most

#: Seconds that the others get to take a connection before this worker does, and how often they get them. One that has
#: less to do may be occupied just now.
WAIT = 0.002
TIMES = 25
#: A worker lets the others go first where it has more to do than the least busy one, by over one part in so many.
SLACK = 8
#: Seconds between updates of a worker's load, and those after which a worker without an update hangs or is gone.
LOOK = 0.1
STALE = 1.0
#: The load of a worker that takes no connections.
ABSENT = float("inf")

_ENTRY = struct.Struct("=dd")


class Loads:
    """How much each worker has to do, and when it said so, in memory that processes share."""

    def __init__(self, fd: int) -> None:
        """:param fd: as from `shared_file`; it may be closed afterwards."""
        self._map = mmap.mmap(fd, os.fstat(fd).st_size)
        self._values = memoryview(self._map).cast("d")

    def of(self, number: int) -> float:
        """Return how much the worker has to do."""
        return self._values[2 * number - 2]

    def set(self, number: int, load: float, now: float) -> None:
        """Set how much the worker has to do.

        :param now: seconds of the monotonic clock, which all processes of a machine share.
        """
        self._values[2 * number - 2] = load
        self._values[2 * number - 1] = now

    def least(self, now: float) -> float:
        """Return the smallest load of the workers that keep theirs up to date; `ABSENT` if none does."""
        pairs = zip(self._values[::2], self._values[1::2], strict=True)
        return min((load for load, looked in pairs if now - looked < STALE), default=ABSENT)


def shared_file(workers: int) -> int:
    """Return a file descriptor for the `Loads` of so many workers, all of them absent.

    The file has no name. It is in memory where the system has such files (Linux).
    """
    with _nameless() as file:
        file.write(_ENTRY.pack(ABSENT, 0.0) * workers)
        file.flush()
        return os.dup(file.fileno())


def _nameless() -> IO[bytes]:
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("resumable-loads"), "w+b")
    return tempfile.TemporaryFile()


class Turns:
    """Makes a worker's listening ports take connections in turn with the other workers'."""

    def __init__(self, loads: Loads, number: int, busy: Callable[[], int], clock: Any) -> None:
        """
        :param number: the number of this worker.
        :param busy: returns how many connections of this worker have something to do.
        """
        self._loads = loads
        self._number = number
        self._busy = busy
        self._clock = clock
        self._ports: list[Any] = []
        self._loop = LoopingCall(self._look)
        self._loop.clock = clock
        self._loop.start(LOOK)

    def _look(self) -> None:
        listening = any(port.connected for port in self._ports)
        # No worker must wait for one that does not listen yet, or does not listen any more.
        self._loads.set(self._number, self._busy() if listening else ABSENT, self._clock.seconds())

    def _ours(self) -> bool:
        """Say whether no worker has much less to do."""
        least = self._loads.least(self._clock.seconds())
        return self._loads.of(self._number) <= least * (1 + 1 / SLACK)

    def rule(self, port: Any, connections: Callable[[], int]) -> None:
        """Make `port` (Twisted's, on a listening socket) accept in turn.

        :param connections: returns how many connections of the port there are.
        """
        self._ports.append(port)
        self._look()
        accept_at_most(1, port)
        accept = port.doRead
        waited = 0

        def ready() -> None:
            nonlocal waited
            if waited < TIMES and not self._ours():
                waited += 1
                port.stopReading()
                self._clock.callLater(WAIT, look_again)
                return
            waited = 0
            before = connections()
            accept()
            # A new connection counts as busy until the next update.
            load = self._loads.of(self._number) + connections() - before
            self._loads.set(self._number, load, self._clock.seconds())

        def look_again() -> None:
            if port.connected and not port.disconnecting:
                port.startReading()

        port.doRead = ready
