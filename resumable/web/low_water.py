"""How much has to come from a slow client before its connection is read: the socket's low-water mark (SO_RCVLOWAT, tcp(7)).

A client at 100 kB/s brings a packet every 15 to 30 ms. To read each by itself takes a round of the reactor, and that a
thousand times for an upload of 2 MB. With a mark the kernel says that there is something to read only when it is worth
while, or when the client sends no more.

Nothing may wait for bytes that will not come. So the mark is low at the end of a body, for those whose length is not known,
and after a second in which nothing was read. It is low for fast clients too: theirs might wait for the kernel to have room.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

from twisted.internet import tcp
from twisted.internet.interfaces import IReactorTime

#: Bytes a second. A client that is faster is read whenever something is there.
SLOW = 128 * 1024
#: Seconds for which the rate of a client is measured, and for which something may lie unread.
WHILE = 1.0
#: The marks are what a client brings in this time (seconds), in powers of two and between these bounds (bytes). The kernel takes
#: in as much as a mark says at the least, and a client that is as slow as these fills that in half a second and more.
WORTH = 0.75
LEAST, MOST = 4 * 1024, 64 * 1024
#: Bytes of a body that may have left the socket already, and wait in OpenSSL for the rest of their record.
RECORD = 17 * 1024


class LowWaters:
    """The marks of all connections. Once in a while it lowers those where nothing is read.

    :param patience: seconds after which a client counts as silent. If they are few, no mark is raised.
    """

    def __init__(self, clock: IReactorTime, patience: float) -> None:
        self.clock = clock
        self._in_time = patience >= 4 * WHILE
        self._raised: set[LowWater] = set()
        self._looking = False

    def of(self, transport: object) -> LowWater | None:
        """Return the mark of a connection; None if it can have none."""
        family = transport.socket.family if isinstance(transport, tcp.Connection) else None
        can = family in (socket.AF_INET, socket.AF_INET6) and sys.platform == "linux"
        return LowWater(self, transport) if can and self._in_time else None

    def raised(self, mark: LowWater, is_raised: bool) -> None:
        """Take note whether a mark is raised."""
        if not is_raised:
            self._raised.discard(mark)
            return
        self._raised.add(mark)
        self._look_later()

    def _look_later(self) -> None:
        if self._raised and not self._looking:
            self._looking = True
            self.clock.callLater(WHILE, self._look)

    def _look(self) -> None:
        self._looking = False
        for mark in list(self._raised):
            mark.look()
        self._look_later()


class LowWater:
    """The mark of one connection.

    :ivar mark: bytes; 1: whatever comes is read at once.
    """

    def __init__(self, waters: LowWaters, transport: Any) -> None:
        self.mark = 1
        self._waters = waters
        self._transport = transport
        self._since = waters.clock.seconds()
        self._came = 0
        self._wanted = 1
        self._heard = False

    def hear(self, came: int) -> None:
        """Take note that `came` bytes have been read."""
        self._came += came
        self._heard = True

    def read_on(self, left: int, most: int = MOST) -> None:
        """Have the connection read when it is worth while.

        :param left: bytes that are certain to come.
        :param most: bytes that the next read takes. A mark above that would keep what the read leaves behind waiting.
        """
        past = self._waters.clock.seconds() - self._since
        if past >= WHILE:
            self._wanted = _worth(self._came / past)
            self._since += past
            self._came = 0
        wanted = min(self._wanted, most)
        if wanted < LEAST or left < wanted + RECORD:
            wanted = 1
        if wanted != self.mark:
            self._set(wanted)

    def lower(self) -> None:
        """Have whatever comes be read at once."""
        if self.mark != 1:
            self._set(1)

    def look(self) -> None:
        """Lower the mark if nothing was read since the last look: what there is, is read then."""
        if not self._heard:
            self._set(1)
        self._heard = False

    def _set(self, mark: int) -> None:
        self.mark = mark
        self._waters.raised(self, mark > 1)
        try:
            self._transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, mark)
        except (OSError, AttributeError):
            # The connection is lost.
            self._waters.raised(self, False)


def _worth(rate: float) -> int:
    """Return the mark for a client that brings `rate` bytes a second."""
    if rate > SLOW or rate * WORTH < LEAST:
        return 1
    return min(1 << (int(rate * WORTH).bit_length() - 1), MOST)
