"""Connections to servers that may answer without end: what comes before an answer's body is bounded.

Twisted's own parser takes as many header fields and interim (1xx) answers as are sent. Whoever reads a body has to
bound it.
"""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web._newclient import HEADER, STATUS, HTTP11ClientProtocol, HTTPClientParser, Request
from twisted.web.client import HTTPConnectionPool, _HTTP11ClientFactory

#: Bytes that may come before an answer's body: status line and fields, those of interim answers included.
MAX_HEAD = 64 * 1024
#: Interim answers that may come before the final one.
MAX_INTERIM = 20


class HeadTooLong(Exception):
    """More came before an answer's body than is allowed."""


class UnexpectedBytes(Exception):
    """A server has sent bytes that nobody asked for."""


#: Where a head may end: at an empty line, whose line break may be a bare line feed.
_EMPTY_LINE = re.compile(rb"\n\r?\n")


def _end_of_head(data: bytes, at: int) -> int:
    """Return the offset of what follows a head in `data`, of which what stands before `at` is not part.

    If the head may end sooner, as at an empty line that comes first, that is the offset.
    """
    if data.startswith((b"\n", b"\r\n"), at):
        return data.index(b"\n", at) + 1
    empty = _EMPTY_LINE.search(data, at)
    return empty.end() if empty is not None else len(data)


class BoundedConnection(HTTP11ClientProtocol):
    """A connection that is aborted where the head of an answer has no end, or makes no sense.

    :cvar piece: bytes of a body that are handed on in one go; None for all that came. With a limit, a reader that
        unpacks what it gets can stop before it has unpacked it all.
    """

    piece: int | None = None
    _parser: HTTPClientParser | None
    _head = _interim = 0
    _reason: Failure | None = None

    def request(self, request: Request):  # type: ignore[no-untyped-def]
        """Send a request, and count the head of its answer from 0 (called by Twisted)."""
        self._head = self._interim = 0
        finished = super().request(request)
        if self._parser is not None:
            # The bound applies to the whole head, so a single line may be as long.
            self._parser.MAX_LENGTH = MAX_HEAD + 1
            # A reader that has enough calls this. Under TLS the other side could put off an orderly end for ever.
            ending: Any = self._parser.transport
            ending.loseConnection = self.hang_up
        return finished

    def dataReceived(self, data: bytes) -> None:
        """Hand on bytes that have come, those of a head by themselves so that its end is seen (called by Twisted)."""
        parser, at = self._parser, 0
        try:
            while at < len(data) and self._reason is None:
                if parser is None or parser is not self._parser:
                    # The answer is whole. What follows must not be taken for the next answer.
                    raise UnexpectedBytes("after an answer")
                if parser.state in (STATUS, HEADER):
                    end = _end_of_head(data, at)
                    self._feed_head(parser, data[at:end])
                else:
                    end = len(data) if self.piece is None else at + self.piece
                    parser.dataReceived(data[at:end] if at or end < len(data) else data)
                at = end
        except Exception:  # what a parser fails with has no base class of its own
            self._abort(Failure())

    def _feed_head(self, parser: HTTPClientParser, lines: bytes) -> None:
        left = MAX_HEAD - self._head
        self._head += len(lines)
        # What the bound allows is looked at. Twisted sends a request once more where an answer has not even begun.
        parser.dataReceived(lines[:left])
        if len(lines) > left:
            raise HeadTooLong(f"more than {MAX_HEAD} bytes")
        # After a whole line it expects another status line only if that was the end of an interim answer.
        if parser.state == STATUS and lines.endswith(b"\n"):
            self._interim += 1
            if self._interim > MAX_INTERIM:
                raise HeadTooLong(f"more than {MAX_INTERIM} interim answers")

    def _finishResponse(self, rest: bytes) -> None:
        """Finish an answer (called by Twisted). If more bytes came with its end, the connection is not used again.

        A server of HTTP/1.0 closes its connection after each answer (RFC 9112, 9.3), which Twisted does not expect.
        """
        parser = self._parser
        if parser is not None and (rest or parser.response.version[1:] == (1, 0)):
            parser.connHeaders.setRawHeaders(b"Connection", [b"close"])
        super()._finishResponse(rest)

    def _abort(self, reason: Failure) -> None:
        """Abort the connection, whatever is still to be written; tell `reason` to whoever waits for the answer."""
        if self._reason is None:
            reason.cleanFailure()
            self._reason = reason
            transport: Any = self.transport
            transport.abortConnection()

    def hang_up(self) -> None:
        """Abort the connection: nobody wants what else may come."""
        self._abort(Failure(ConnectionAborted()))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Pass on why the connection has ended (called by Twisted)."""
        super().connectionLost(self._reason or reason)  # type: ignore[no-untyped-call]


class PiecewiseConnection(BoundedConnection):
    """A bounded connection for answers that may be compressed: 1 KiB unpacks to 1 MiB at most."""

    piece = 1024


class _Factory(_HTTP11ClientFactory):
    """Makes bounded connections."""

    protocol = BoundedConnection
    noisy = False

    def buildProtocol(self, addr: IAddress | None) -> HTTP11ClientProtocol:
        """Return a bounded connection (called by Twisted)."""
        return self.protocol(self._quiescentCallback)  # type: ignore[no-untyped-call]


class _PiecewiseFactory(_Factory):
    protocol = PiecewiseConnection


class BoundedPool(HTTPConnectionPool):
    """Keeps connections, as Twisted's pool does. They are bounded, and do not each write two lines to the log."""

    _factory = _Factory

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor)  # type: ignore[no-untyped-call]

    def closeCachedConnections(self) -> Deferred[None]:
        """Close the connections that are not in use (overrides Twisted's)."""
        closing: Deferred[None] = super().closeCachedConnections()  # type: ignore[no-untyped-call]
        return closing


class PiecewisePool(BoundedPool):
    """A bounded pool for answers that may be compressed."""

    _factory = _PiecewiseFactory
