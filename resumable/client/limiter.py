"""A limit on the bytes a second that are sent."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

#: The most bytes that are handed to the connection in one go.
MOST = 128 * 1024


class Limiter:
    """Spreads bytes evenly over time, for all who share it.

    :ivar most: bytes to ask for at a time: what passes in a quarter of a second, but no more than `MOST`.
    """

    def __init__(self, clock: Any, rate: float) -> None:
        """
        :param rate: bytes a second.
        """
        if not rate > 0:
            raise ValueError("the rate must be more than 0 bytes a second")
        self.most = max(1, min(MOST, int(rate / 4)))
        self._clock = clock
        self._rate = rate
        self._free = 0.0

    async def take(self, size: int) -> None:
        """Wait until so many bytes may be sent."""
        now = self._clock.seconds()
        start = max(now, self._free)
        self._free = start + size / self._rate
        if start > now:
            await sleep(self._clock, start - now)


def sleep(clock: Any, seconds: float) -> Deferred[None]:
    """Wait for some seconds. Cancelled, it leaves nothing behind."""
    waiting: Deferred[None] = Deferred(lambda _: call.cancel())
    call = clock.callLater(seconds, waiting.callback, None)
    return waiting
