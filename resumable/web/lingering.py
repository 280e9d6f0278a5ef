"""The time that a client has to read an answer it was given before it had sent its request.

Many clients send all they have before they read. Closing with unread bytes in the socket resets the connection, which can
destroy the answer on its way (RFC 9112, 9.6).
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from resumable.clock import cancel_if_active

#: How long (seconds) such a client may go on sending.
LINGER_SECONDS = 30.0
#: The longest silence (seconds) meanwhile: then it has read the answer, or never will.
LINGER_SILENCE = 5.0
#: In place of `LINGER_SECONDS` when the service stops.
LINGER_STOPPING = 2.0


class Lingering:
    """Closes a connection when the time is over, or its client has been silent for long."""

    def __init__(self, clock: IReactorTime, close: Callable[[], object], *, hurried: bool) -> None:
        """Begin at once.

        :param close: is called at the end.
        :param hurried: the service stops.
        """
        self._clock = clock
        self._close = close
        self._heard = clock.seconds()
        self._ends = self._heard + (LINGER_STOPPING if hurried else LINGER_SECONDS)
        self._call: IDelayedCall | None = None
        self._look()

    def hear(self) -> None:
        """Take note that the client has sent something."""
        self._heard = self._clock.seconds()

    def hurry(self) -> None:
        """Shorten what is left of the time: the service stops."""
        if self._call is not None and self._call.active():
            self._call.cancel()
            self._ends = min(self._ends, self._clock.seconds() + LINGER_STOPPING)
            self._look()

    def stop(self) -> None:
        """Close no more: the connection ends for another reason."""
        cancel_if_active(self._call)

    def _look(self) -> None:
        left = min(self._ends, self._heard + LINGER_SILENCE) - self._clock.seconds()
        if left > 0:
            self._call = self._clock.callLater(left, self._look)
        else:
            self._close()
