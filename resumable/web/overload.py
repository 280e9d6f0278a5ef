"""A connection for which there is no room: it is told so at once, at the least cost, and closed."""

from __future__ import annotations

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from resumable.clock import cancel_if_active
from resumable.protocols.response import NO_STORE, problem, raw_headers, reason_phrase

#: Seconds until one who was turned away may come again.
RETRY_AFTER = 5
#: Seconds between two complaints in the log.
COMPLAIN_SECONDS = 60.0
#: Seconds for which the client may hold the connection after its answer.
PATIENCE = 1.0


def _answer() -> bytes:
    refusal = problem(503, "There are too many connections.", {"Retry-After": str(RETRY_AFTER), "Connection": "close"})
    headers = raw_headers(refusal.headers)
    headers.setRawHeaders(b"content-length", [b"%d" % len(refusal.body)])
    headers.setRawHeaders(*NO_STORE)
    fields = [b"%s: %s" % (name, value) for name, values in headers.getAllRawHeaders() for value in values]
    first = b"HTTP/1.1 %d %s" % (refusal.status, reason_phrase(refusal.status))
    return b"\r\n".join([first, *fields, b"", refusal.body])


_ANSWER = _answer()


class TurnedAway(Protocol):
    """Answers 503 before anything is asked.

    Closing before the client's request has been read would reset the connection, which can destroy the answer: so it is
    closed when the client has said something, or after a moment.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._end: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Say it at once (Twisted's)."""
        assert self.transport is not None
        # Over TLS closing would wait for the client, so in the end it is done by force.
        self._end = self._clock.callLater(PATIENCE, self.transport.abortConnection)  # type: ignore[attr-defined]
        self.transport.write(_ANSWER)

    def dataReceived(self, data: bytes) -> None:
        """Close (Twisted's): whatever came, it has had its answer."""
        assert self.transport is not None
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Leave no timer behind (Twisted's)."""
        cancel_if_active(self._end)
