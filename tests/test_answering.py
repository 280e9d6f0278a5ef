"""Answers without end, and answers that nobody asked for, on connections in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.python.failure import Failure
from twisted.web._newclient import Request, ResponseFailed
from twisted.web.http_headers import Headers

from resumable.answering import (
    MAX_HEAD,
    MAX_INTERIM,
    BoundedConnection,
    HeadTooLong,
    PiecewiseConnection,
    UnexpectedBytes,
)


class Wire(StringTransportWithDisconnection):
    """A transport that loses its connection only when told to, as a socket does in the reactor's next round."""

    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True


class Body(Protocol):
    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.ended: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.pieces.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended = reason


class Bench:
    """A connection, and what became of the request on it."""

    def __init__(self, kind: type[BoundedConnection] = BoundedConnection) -> None:
        self.idle: list[Any] = []
        self.then: Callable[[], None] | None = None
        self.connection = kind(self.idle.append)  # type: ignore[no-untyped-call]
        self.wire = Wire(hostAddress=None, peerAddress=None)
        self.wire.protocol = self.connection
        self.connection.makeConnection(self.wire)
        self.ask()

    def ask(self, method: bytes = b"GET") -> None:
        self.response: Any = None
        self.failure: Failure | None = None
        request = Request(method, b"/", Headers({"Host": ["h"]}), None, persistent=True)  # type: ignore[no-untyped-call]
        answered: Deferred[Any] = self.connection.request(request)
        answered.addCallbacks(self._answered, self._failed)

    def _answered(self, response: Any) -> None:
        self.response, then, self.then = response, self.then, None
        if then is not None:
            then()

    def _failed(self, failure: Failure) -> None:
        self.failure = failure

    def receive(self, data: bytes, read: int = 2**16) -> int:
        """What the socket gives, so many bytes at a time; returns how many were taken before the end."""
        for at in range(0, len(data), read):
            if self.wire.aborted:
                return at
            self.connection.dataReceived(data[at : at + read])
        return len(data)

    def end(self) -> BaseException | None:
        """Let the connection be lost; what the request failed with."""
        self.connection.connectionLost(Failure(ConnectionAborted()))
        if self.failure is None:
            return None
        error = self.failure.value
        return error.reasons[0].value if isinstance(error, ResponseFailed) else error


def head(size: int) -> bytes:
    """A head of so many bytes."""
    begin, end = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n", b"\r\n"
    fields = b""
    while (left := size - len(begin) - len(fields) - len(end)) > 0:
        # What is left over must be a field too.
        length = left if left < 2000 else 1000
        fields += b"x: " + b"y" * (length - 5) + b"\r\n"
    return begin + fields + end


@pytest.mark.parametrize("read", [1000, 2**16, 2**20])
def test_an_answer_whose_head_is_too_long_has_begun(read: int) -> None:
    """However it comes. Otherwise Twisted's pool would ask once more for the same."""
    bench = Bench()
    bench.receive(head(MAX_HEAD + 100), read)
    assert isinstance(bench.end(), HeadTooLong)
    assert bench.failure is not None
    assert bench.failure.type is ResponseFailed


@pytest.mark.parametrize("read", [1, 7, 1000, 2**16, 2**20])
def test_a_head_of_just_the_bound(read: int) -> None:
    bench, body = Bench(), Body()
    assert len(head(MAX_HEAD)) == MAX_HEAD
    bench.receive(head(MAX_HEAD) + b"data", read)
    assert not bench.wire.aborted
    bench.response.deliverBody(body)
    assert b"".join(body.pieces) == b"data"
    assert bench.idle == [bench.connection]


@pytest.mark.parametrize("read", [1, 1000, 2**16, 2**20])
def test_a_head_of_one_byte_more(read: int) -> None:
    bench = Bench()
    bench.receive(head(MAX_HEAD + 1) + b"data", read)
    assert bench.wire.aborted
    assert isinstance(bench.end(), HeadTooLong)
    assert bench.response is None


@pytest.mark.parametrize("endless", [b"a: b\r\n", b"a" * 1000, b" folded\r\n", b"\x00"])
def test_a_head_without_end(endless: bytes) -> None:
    """Fields, one line, a line that goes on and on: it is over after the bound and a read."""
    bench = Bench()
    bench.receive(b"HTTP/1.1 200 OK\r\na: b\r\n")
    taken = bench.receive(endless * (10 * MAX_HEAD // len(endless)), read=4096)
    assert taken <= MAX_HEAD + 4096
    assert isinstance(bench.end(), HeadTooLong)


@pytest.mark.parametrize("interim", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Hints\r\nLink: </a>\r\n\r\n"])
@pytest.mark.parametrize("read", [1, 50, 2**16])
def test_interim_answers(interim: bytes, read: int) -> None:
    last = b"HTTP/1.1 204 OK\r\n\r\n"
    bench = Bench()
    bench.receive(interim * MAX_INTERIM + last, read)
    assert bench.response.code == 204
    # The next answer has a bound of its own.
    bench.ask()
    bench.receive(interim * MAX_INTERIM + last, read)
    assert bench.response.code == 204
    bench.ask()
    bench.receive(interim * (MAX_INTERIM + 1) + last, read)
    assert bench.wire.aborted
    assert isinstance(bench.end(), HeadTooLong)
    assert bench.response is None


def test_large_interim_answers() -> None:
    """They count as one head."""
    bench = Bench()
    bench.receive(b"HTTP/1.1 103 Hints\r\na: " + b"x" * (MAX_HEAD // 2) + b"\r\n\r\n")
    assert not bench.wire.aborted
    bench.receive(b"HTTP/1.1 103 Hints\r\na: " + b"x" * (MAX_HEAD // 2) + b"\r\n\r\n")
    assert bench.wire.aborted
    assert isinstance(bench.end(), HeadTooLong)


def test_an_answer_that_makes_no_sense() -> None:
    """The connection is not merely closed, which waits for what is still to be written, but aborted."""
    bench = Bench()
    bench.receive(b"what?\r\n\r\n")
    assert bench.wire.aborted
    assert type(bench.end()).__name__ == "ParseError"


@pytest.mark.parametrize("at_once", [True, False])
def test_bytes_after_an_answer(at_once: bool) -> None:
    """They would be taken for the answer to what is asked next."""
    bench = Bench()
    bench.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" + (b"HTTP/1.1 200 OK\r\n" if at_once else b""))
    assert bench.response.code == 200
    if not at_once:
        assert not bench.wire.aborted
        bench.receive(b"HTTP/1.1 200 OK\r\n")
    assert bench.wire.aborted
    assert bench.end() is None


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 4\r\n\r\ndata", b"Transfer-Encoding: chunked\r\n\r\n4\r\ndata\r\n0\r\n\r\n"]
)
def test_bytes_after_a_body(framing: bytes) -> None:
    """The answer is good, and the connection is not used again."""
    for more in (b"", b"HTTP"):
        bench, body = Bench(), Body()
        bench.receive(b"HTTP/1.1 200 OK\r\n" + framing + more)
        bench.response.deliverBody(body)
        assert b"".join(body.pieces) == b"data"
        assert bench.idle == ([] if more else [bench.connection])
        assert bench.wire.connected != bool(more)


@pytest.mark.parametrize(("version", "kept"), [(b"1.0", False), (b"1.1", True)])
def test_a_server_of_http_1_0(version: bytes, kept: bool) -> None:
    """It closes its connection after the answer; a POST that is sent on it meanwhile would be lost."""
    bench, body = Bench(), Body()
    bench.receive(b"HTTP/" + version + b" 200 OK\r\nContent-Length: 4\r\n\r\ndata")
    bench.response.deliverBody(body)
    assert b"".join(body.pieces) == b"data"
    assert bench.idle == ([bench.connection] if kept else [])
    assert bench.wire.connected == kept


def test_bytes_after_an_answer_are_not_the_next_ones() -> None:
    """Also where the next request is made as soon as the answer is there."""
    bench = Bench()
    bench.then = bench.ask
    bench.receive(b"HTTP/1.1 204 OK\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert bench.wire.aborted
    assert isinstance(bench.end(), UnexpectedBytes)


def test_a_reader_that_has_enough_ends_the_connection_at_once() -> None:
    """Closing it would, under TLS, go on for as long as the other side likes to send."""
    bench, body = Bench(), Body()
    bench.receive(b"HTTP/1.1 200 OK\r\n\r\nsome")
    bench.response.deliverBody(body)
    body.transport.loseConnection()  # type: ignore[union-attr]
    assert bench.wire.aborted
    bench.receive(b"more")
    bench.connection.dataReceived(b"more")
    assert b"".join(body.pieces) == b"some"
    bench.end()
    assert body.ended is not None


def test_pieces() -> None:
    """What may be packed is handed on in small pieces; what is not, as it came."""
    for kind, sizes in ((PiecewiseConnection, [1024] * 4 + [4]), (BoundedConnection, [4100])):
        bench, body = Bench(kind), Body()
        bench.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 8200\r\n\r\n")
        bench.response.deliverBody(body)
        bench.receive(b"x" * 4100, read=4100)
        assert [len(piece) for piece in body.pieces] == sizes
