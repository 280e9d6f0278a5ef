"""HTTP's manners: Host, targets, clients that close one half, and what no cache may keep."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from resumable.model import Interrupted
from resumable.protocols.response import Response, problem
from resumable.web import chunked, lingering
from resumable.web.request import StreamingRequest
from resumable.web.site import StreamingSite
from tests.web.wire import Basin, Leaf, Service, Wire, body_of, head, statuses


async def tell(request: StreamingRequest) -> Response:
    host = request.requestHeaders.getRawHeaders(b"host", [])
    return Response(200, b" ".join([request.uri, request.path, *host, request.origin.base.encode()]))


# Host and targets


@pytest.mark.parametrize(
    "first",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\nhost: b\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        *(
            b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n" % host
            for host in (
                b"a:65536",
                b"[::1]:99999",
                b":70000",
                b"a b",
                b"a, b",
                b"a/b",
                b"a@b",
                b"a:x",
                b"a:1:2",
                b"[::1",
                b"a#",
                b"a\\",
                b"a%g0",
                b"\xff",
            )
        ),
        *(b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n" % host for host in (b"a:65536", b"[::1]:99999", b":70000")),
        b"PUT / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
        b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ],
)
def test_host_is_said_once(first: bytes) -> None:
    """Whoever stands in front may have read another: 400 and close, and what follows is not served (RFC 9112, 3.2)."""
    service = Service()
    wire = Wire(service)
    wire.send(first + head("GET"), head("GET"))
    assert statuses(wire.said) == [400]
    assert "Host" in body_of(wire.said)["detail"]
    assert b"Connection: close\r\n" in wire.said
    assert service.requests == []
    wire.clock.advance(lingering.LINGER_SILENCE)
    assert wire.closing
    wire.lose()
    assert wire.clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    "host", [b"", b"h", b"H.example.com:8080", b"[::1]:80", b"192.0.2.1", b"a_b", b"a-b.~c", b"a%20", b"h:"]
)
def test_hosts_that_are_well(host: bytes) -> None:
    wire = Wire(tell)
    wire.send(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
    assert statuses(wire.said) == [200]


def test_http_1_0_needs_no_host() -> None:
    wire = Wire(tell)
    wire.send(b"GET / HTTP/1.0\r\n\r\n")
    assert statuses(wire.said) == [200]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("http://other:81/upload/x?y=z", b"/upload/x?y=z /upload/x other:81 http://other:81"),
        ("HTTP://other", b"/ / other http://other"),
        ("http://other?y", b"/?y / other http://other"),
        ("https://other/a//b", b"/a//b /a//b other http://other"),
        ("http://[::1]:8/x", b"/x /x [::1]:8 http://[::1]:8"),
        ("//x/y", b"//x/y //x/y h http://h"),
    ],
)
def test_absolute_form(target: str, said: bytes) -> None:
    """As clients send it that take us for a proxy; the target's authority counts, not Host (RFC 9112, 3.2.2)."""
    wire = Wire(tell)
    wire.send(head("PUT", target, "Content-Length: 0"))
    assert statuses(wire.said) == [200]
    assert wire.said.endswith(b"\r\n\r\n" + said)
    assert not wire.closing


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "ftp://h/x"),
        ("GET", "http:///x"),
        ("GET", "http://:80/x"),
        ("GET", "http://h:65536/x"),
        ("PUT", "https://[::1]:99999"),
        ("GET", "http://user@h/x"),
        ("GET", "http:/x"),
        ("GET", "h:80"),
        ("GET", "upload/x"),
        ("GET", "*"),
        ("GET", "http://h/x#y"),
        ("CONNECT", "h:80"),
        ("CONNECT", "/x"),
        ("OPTIONS", "**"),
    ],
)
def test_other_targets(method: str, target: str) -> None:
    service = Service()
    wire = Wire(service)
    wire.send(head(method, target))
    assert statuses(wire.said) == [400]
    assert service.requests == []
    assert b"Connection: close\r\n" in wire.said


@pytest.mark.parametrize("authority", ["h:65535", "[::1]:65535", "h:0", "h:", "[::1]", "[::1]:"])
def test_ports_that_exist(authority: str) -> None:
    """In an absolute target and in Host."""
    wire = Wire(tell)
    wire.send(head("GET", f"http://{authority}/x"), f"GET / HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
    assert statuses(wire.said) == [200, 200]


def test_options_of_everything() -> None:
    wire = Wire(tell)
    wire.send(head("OPTIONS", "*"))
    assert statuses(wire.said) == [200]


# No cache


async def forbid(request: StreamingRequest) -> Response:
    if request.path == b"/own":
        return Response(200, headers={"Cache-Control": "max-age=5"})
    return {b"/308": Response(308), b"/409": problem(409), b"/200": Response(200, b"{}")}[request.path]


@pytest.mark.parametrize("path", ["/308", "/409", "/200"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
def test_answers_are_not_kept(path: str, method: str) -> None:
    """How far an upload is was true for a moment only."""
    wire = Wire(forbid)
    wire.send(head(method, path))
    assert wire.said.count(b"Cache-Control: no-store\r\n") == 1


def test_a_handler_may_say_otherwise() -> None:
    wire = Wire(forbid)
    wire.send(head("GET", "/own"))
    assert wire.said.count(b"Cache-Control: ") == 1
    assert b"Cache-Control: max-age=5\r\n" in wire.said


def test_answers_that_no_handler_gives_are_not_kept(logged_errors: list[Any]) -> None:
    """The connection's own, a failure's, and those of one who is turned away."""
    wire = Wire(forbid, connections=1)
    wire.send(head("GET", "/unknown"), b"nonsense\r\n\r\n")
    crowded: Any = wire.site.buildProtocol(None)
    transport = type(wire.transport)()
    crowded.makeConnection(transport)
    crowded.dataReceived(head("GET", "/"))
    crowded.connectionLost()
    assert statuses(wire.said) == [500, 400]
    assert wire.said.count(b"Cache-Control: no-store\r\n") == 2
    assert transport.value().count(b"Cache-Control: no-store\r\n") == 1
    logged_errors.clear()


# One half closed


def test_a_half_closed_client_gets_its_answer() -> None:
    """It has sent all, and said so; the handler takes its time."""
    service = Service(after=True)
    wire = Wire(service)
    wire.send(head("PUT", "/", "Content-Length: 3"), b"abc")
    assert IHalfCloseableProtocol.providedBy(wire.channel)
    wire.channel.readConnectionLost()
    assert not wire.closing
    assert service.after is not None
    service.after.callback(None)
    assert statuses(wire.said) == [200]
    assert wire.closing
    wire.lose()
    assert wire.clock.getDelayedCalls() == []


def test_a_half_closed_client_gets_all_its_answers() -> None:
    """Those to requests it had pipelined too; a last one that is not whole is dropped."""
    gates: list[Deferred[None]] = []

    async def slow(request: StreamingRequest) -> Response:
        gates.append(Deferred())
        await gates[-1]
        return Response(200, request.path)

    wire = Wire(slow)
    wire.send(head("GET", "/1") + head("GET", "/2") + head("PUT", "/3", "Content-Length: 0") + b"GET /4 HT")
    wire.channel.readConnectionLost()
    for _ in range(3):
        assert not wire.closing
        gates[-1].callback(None)
    assert statuses(wire.said) == [200] * 3
    assert wire.closing
    wire.lose()
    assert wire.clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HT",
        head("GET"),
        b"GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nX:",
        head("PUT", "/", "Content-Length: 3")[:-2],
        head("PUT", "/", "Transfer-Encoding: chunked")[:-1],
        head("GET") + head("GET")[:-2],
    ],
)
def test_a_half_closed_client_with_nothing_to_wait_for(sent: bytes) -> None:
    wire = Wire(tell)
    wire.send(sent)
    wire.channel.readConnectionLost()
    assert wire.closing
    wire.lose()
    assert wire.clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("field", "sent"), [("Content-Length: 9", b"abc"), ("Transfer-Encoding: chunked", b"3\r\nabc\r\n5\r\n")]
)
def test_a_body_that_a_half_close_cuts_short(field: str, sent: bytes) -> None:
    """What came of it is given on; the body is interrupted, not silent; the answer closes."""
    service = Service()
    wire = Wire(service)
    wire.send(head("PUT", "/", field), sent)
    wire.channel.readConnectionLost()
    assert service.basin.data == b"abc"
    assert isinstance(service.outcome, Interrupted)
    assert not service.outcome.idle
    assert statuses(wire.said) == [400]
    assert wire.closing
    wire.lose()
    assert wire.clock.getDelayedCalls() == []


def test_a_half_close_while_the_handler_asks() -> None:
    """The answer does not need the body."""
    gate: Deferred[None] = Deferred()

    async def refuse(request: StreamingRequest) -> Response:
        await gate
        return problem(401)

    wire = Wire(refuse)
    wire.send(head("PUT", "/", "Content-Length: 9") + b"abc")
    wire.channel.readConnectionLost()
    gate.callback(None)
    assert statuses(wire.said) == [401]
    assert wire.closing


def test_a_half_close_ends_lingering() -> None:
    async def refuse(request: StreamingRequest) -> Response:
        return problem(401)

    wire = Wire(refuse)
    wire.send(head("PUT", "/", "Content-Length: 9"), b"abc")
    assert not wire.closing
    wire.channel.readConnectionLost()
    assert wire.closing


def test_a_half_close_waits_for_what_is_not_decoded_yet() -> None:
    """What came before it counts."""
    service = Service()
    wire = Wire(service)
    count = 3 * chunked.CHUNKS_PER_TURN
    wire.send(head("PUT", "/", "Transfer-Encoding: chunked"), b"1\r\na\r\n" * count + b"0\r\n\r\n")
    wire.channel.readConnectionLost()
    assert statuses(wire.said) == []
    for _ in range(5):
        wire.clock.advance(0)
    assert service.basin.data == b"a" * count
    assert statuses(wire.said) == [200]
    assert wire.closing


def ask(port: int, request: bytes) -> bytes:
    """Send a request, close that half, and read all."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        said = b""
        while piece := client.recv(65536):
            said += piece
        return said


@pytest_twisted.ensureDeferred
async def test_half_closed_sockets() -> None:
    """As nc and many a script do it; and the connection is gone afterwards."""
    service = Service(Basin())

    async def slow(request: StreamingRequest) -> Response:
        answer = await service(request)
        await deferLater(reactor, 0.05)  # type: ignore[arg-type]  # the end of the input comes meanwhile
        return answer

    site = StreamingSite(Leaf(slow), idle_timeout=5.0, reactor=reactor)  # type: ignore[arg-type]
    port = reactor.listenTCP(0, site, interface="127.0.0.1")  # type: ignore[attr-defined]
    number = port.getHost().port
    said = await deferToThread(ask, number, head("PUT", "/", "Content-Length: 3") + b"abc")
    assert said.endswith(b"\r\n\r\ngot 3")
    said = await deferToThread(ask, number, head("PUT", "/", "Content-Length: 9") + b"abc")
    assert json.loads(said.partition(b"\r\n\r\n")[2])["status"] == 400
    assert service.basin.data == b"abcabc"
    await port.stopListening()
    while site.channels:
        await deferLater(reactor, 0.01)  # type: ignore[arg-type]
