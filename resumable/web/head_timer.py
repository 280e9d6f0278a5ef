"""The time that the head of a request may take."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall

from resumable.clock import cancel_if_active

#: The longest (seconds) that the head of a request may take from its first byte on, unless the idle timeout is shorter.
HEAD_SECONDS = 20.0


class HeadTimer:
    """Bounds the time of a head from its first byte on, however steadily it drips.

    (The idle timer of a connection begins anew with each byte.)
    """

    def __init__(self, call_later: Callable[..., IDelayedCall], seconds: float, too_slow: Callable[[], object]) -> None:
        """
        :param seconds: that a head may take.
        :param too_slow: is called when it took more.
        """
        self._call_later = call_later
        self._seconds = seconds
        self._too_slow = too_slow
        self._end: IDelayedCall | None = None

    @property
    def running(self) -> bool:
        """Whether there is a head that has begun and is not complete."""
        return self._end is not None

    def start(self) -> None:
        """Begin to count, if that has not been done for this head."""
        if self._end is None:
            self._end = self._call_later(self._seconds, self._too_slow)

    def stop(self) -> None:
        """Take note that the head is complete, or nobody waits for it any more."""
        cancel_if_active(self._end)
        self._end = None
