"""What a client may take: so many connections, so long for a head; and who it is said to be."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.testing import StringTransport

from resumable.protocols.origin import Proxies
from resumable.protocols.response import Response
from resumable.web import head_timer, lingering
from resumable.web import site as sites
from resumable.web.connection import StreamingChannel
from resumable.web.overload import COMPLAIN_SECONDS, MOST_HEAD, MOST_HEARD, PATIENCE
from resumable.web.request import StreamingRequest
from resumable.web.router import front_page
from tests.web.wire import IDLE, Service, Transport, Wire, head

HEAD = head_timer.HEAD_SECONDS
assert HEAD < IDLE


def problem_in(said: bytes) -> tuple[int, Any]:
    """Status and problem of the one answer, which is whole."""
    fields, body = said.split(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", fields)
    assert length is not None
    assert int(length[1]) == len(body)
    assert b"connection: close" in fields.lower()
    return int(fields.split()[1]), json.loads(body)


# Slow heads


@pytest.mark.parametrize(
    "dripping",
    [
        b"G" * 2000,
        head("PUT", "/a", "Content-Length: 5")[:-2] + b"X: " + b"y" * 2000,
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 99,
    ],
    ids=["request line", "field", "fields"],
)
def test_a_head_that_drips_is_cut(dripping: bytes) -> None:
    """However steadily it comes, it has to be complete in time; the answer says so."""
    wire = Wire(Service())
    wire.clock.advance(IDLE - 1)
    for index in range(int(HEAD)):
        wire.send(dripping[index : index + 1])
        assert wire.said == b""
        wire.clock.advance(1)
    status, said = problem_in(wire.said)
    assert (status, said["status"]) == (408, 408)
    wire.send(dripping[int(HEAD) :] + b"\r\n\r\n")
    wire.clock.advance(lingering.LINGER_SECONDS)
    assert wire.closing
    assert wire.said.count(b"HTTP/1.1 ") == 1


def test_a_head_that_stops_is_cut() -> None:
    wire = Wire(Service())
    wire.send(b"PUT / HTTP/1.1\r\nHo")
    wire.clock.advance(HEAD)
    assert problem_in(wire.said)[0] == 408


def test_the_idle_timeout_bounds_a_head_where_it_is_shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    """And then, too, the client is told."""
    monkeypatch.setattr(sites, "HEAD_SECONDS", 2 * IDLE)
    wire = Wire(Service())
    wire.send(b"PUT / HT")
    wire.clock.advance(IDLE)
    assert problem_in(wire.said)[0] == 408


def test_a_connection_that_does_not_begin_is_closed() -> None:
    """Nothing was asked, nothing is answered."""
    wire = Wire(Service())
    wire.clock.advance(IDLE - 0.1)
    assert not wire.closing
    wire.clock.advance(0.1)
    assert (wire.closing, wire.said) == (True, b"")


def test_a_head_that_is_complete_in_time_has_no_clock_over_it() -> None:
    """The next request's time begins with its own first byte, also when that came behind the former request."""
    service = Service()
    wire = Wire(service)
    for _ in range(3):
        wire.send(b"PUT / HTTP/1.1\r\nHost: h\r\n")
        wire.clock.advance(HEAD - 1)
        wire.send(b"Content-Length: 2\r\n\r\n")
        wire.clock.advance(HEAD)
        wire.send(b"ab")
        wire.clock.advance(HEAD)
    assert wire.said.count(b"HTTP/1.1 200 ") == 3
    wire.send(head("PUT", "/", "Content-Length: 0") + b"PUT / HT")
    wire.clock.advance(HEAD - 0.1)
    assert wire.said.count(b"HTTP/1.1 ") == 4
    wire.clock.advance(0.1)
    assert wire.said.count(b"HTTP/1.1 200 ") == 4
    assert wire.said.count(b"HTTP/1.1 408 ") == 1


def test_a_slow_body_is_not_a_slow_head() -> None:
    service = Service()
    wire = Wire(service)
    wire.send(head("PUT", "/", "Content-Length: 100"))
    for _ in range(100):
        wire.clock.advance(HEAD / 2)
        wire.send(b"x")
    assert service.outcome == "poured"


@pytest.mark.parametrize("end", ["lost", "refused", "closed"])
def test_no_clock_is_left_behind(end: str) -> None:
    wire = Wire(Service())
    wire.send(b"PUT / HTTP/1.1\r\n", b"Host: h\r\n")
    if end == "lost":
        wire.lose()
    elif end == "refused":
        wire.send(b"no field\r\nx\r\n")
    else:
        wire.site.drain()
        wire.lose()
    assert [call for call in wire.clock.getDelayedCalls() if call.func == wire.channel._refuse_slowness] == []


# So many connections


def connect(wire: Wire) -> tuple[Any, StringTransport]:
    """One more connection to the site."""
    protocol, transport = wire.site.buildProtocol(None), Transport()
    assert protocol is not None
    protocol.makeConnection(transport)
    return protocol, transport


def test_beyond_the_limit_a_connection_is_turned_away() -> None:
    """As soon as it has said what it wants, with an answer; those who are there notice nothing, and one who goes makes room."""
    service = Service()
    wire = Wire(service, connections=2)
    second, _ = connect(wire)
    assert isinstance(second, StreamingChannel)
    third, transport = connect(wire)
    assert not isinstance(third, StreamingChannel)
    assert len(wire.site.channels) == 2
    asking = head("PUT", "/", "Content-Length: 5")
    third.dataReceived(asking[:9])
    assert (transport.value(), transport.disconnecting) == (b"", False)
    third.dataReceived(asking[9:])
    assert b"\r\nRetry-After: 5\r\n" in transport.value()
    assert problem_in(transport.value())[0] == 503
    third.dataReceived(b"he")
    assert not transport.disconnecting, "closing now would reset the connection: the body is on its way"
    wire.clock.advance(PATIENCE)
    assert (transport.disconnecting, transport.disconnected) == (True, False)
    wire.clock.advance(PATIENCE)
    assert transport.disconnected
    fourth, transport = connect(wire)
    fourth.dataReceived(head("GET", "/"))
    assert transport.disconnecting
    assert problem_in(transport.value())[0] == 503
    assert service.requests == []
    wire.send(head("PUT", "/", "Content-Length: 5"), b"hello")
    assert wire.said.startswith(b"HTTP/1.1 200 ")
    wire.lose()
    assert isinstance(connect(wire)[0], StreamingChannel)


def test_one_turned_away_who_says_nothing_is_cut() -> None:
    wire = Wire(Service(), connections=1)
    _, transport = connect(wire)
    wire.clock.advance(PATIENCE)
    assert problem_in(transport.value())[0] == 503
    assert not transport.disconnecting, "closing now would reset the connection"
    wire.clock.advance(PATIENCE)
    assert transport.disconnected


@pytest.mark.parametrize(
    "said",
    [
        b"G" * (MOST_HEAD + 1),
        b"\r\n\r\n",
        b"HEAD /\r\n\r\n",
        b"GET / HTTP/1.1\r\nno field\r\n\r\n",
        b"GET / HTTP/1.1\r\n: no name\r\n\r\n",
        b"GET / HTTP/1.1\r\na\xffname: of other bytes\r\n\r\n",
        b"\x16\x03\x01\r\n\r\n",
    ],
    ids=["too long", "empty", "HTTP/0.9", "malformed", "no name", "no token", "no HTTP"],
)
def test_one_turned_away_who_says_nothing_sensible(said: bytes) -> None:
    """The answer is the same as to those who say nothing."""
    wire = Wire(Service(), connections=1)
    protocol, transport = connect(wire)
    protocol.dataReceived(said)
    assert problem_in(transport.value())[0] == 503
    protocol.dataReceived(b"more")
    assert transport.value().count(b"HTTP/1.1 ") == 1
    wire.clock.advance(PATIENCE)
    wire.clock.advance(PATIENCE)
    assert transport.disconnected


def test_a_crowd_is_answered_at_once() -> None:
    """So that those who say nothing do not keep others waiting, nor take memory: only so many are listened to."""
    wire = Wire(Service(), connections=1)
    crowd = [connect(wire) for _ in range(MOST_HEARD)]
    late, transport = connect(wire)
    assert problem_in(transport.value())[0] == 503
    assert not transport.disconnecting, "closing now would reset the connection"
    late.dataReceived(head("PUT", "/", "Content-Length: 5"))
    assert transport.disconnecting
    assert all(other.value() == b"" for _, other in crowd)
    crowd[0][0].connectionLost()
    assert connect(wire)[1].value() == b"", "one who goes makes room"
    crowd[0][0].connectionLost()
    assert connect(wire)[1].value() != b"", "for one"


def test_one_turned_away_leaves_no_clock_behind() -> None:
    wire = Wire(Service(), connections=1)
    before = wire.clock.getDelayedCalls()
    protocol, _ = connect(wire)
    protocol.connectionLost()
    assert wire.clock.getDelayedCalls() == before


def test_a_crowd_does_not_fill_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """One warning a minute, however many come."""
    warned: list[str] = []
    monkeypatch.setattr(sites.log, "warn", lambda message, **values: warned.append(message.format(**values)))
    wire = Wire(Service(), connections=1)
    for _ in range(100):
        connect(wire)
    assert warned == ["limits.connections (1) is reached: new connections get a 503"]
    wire.clock.advance(COMPLAIN_SECONDS)
    connect(wire)
    assert len(warned) == 2


# Who it is said to be


async def who(request: StreamingRequest) -> Response:
    page = await front_page(request)
    base = re.search(rb"(http\S+)/upload", page.body)
    assert base is not None
    return Response(200, base[1] + b" " + request.origin.client.encode())


@pytest.mark.parametrize(
    ("peer", "seen"),
    [
        (IPv4Address("TCP", "10.0.0.1", 1), b"https://up.example.com 203.0.113.9"),
        (UNIXAddress(None), b"https://up.example.com 203.0.113.9"),
        (IPv4Address("TCP", "11.0.0.1", 1), b"http://h 11.0.0.1"),
    ],
)
def test_a_trusted_proxy_says_who_comes_and_how(
    monkeypatch: pytest.MonkeyPatch, peer: Any, seen: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    """To the application, in URLs, and in the log."""
    lines: list[str] = []
    monkeypatch.setattr(sites.log, "debug", lambda message, **values: lines.append(message.format(**values)))
    wire = Wire(who, proxies=Proxies(["10.0.0.0/8", "unix"]))
    wire.transport.peerAddr = peer
    claims = ("X-Forwarded-For: 1.1.1.1, 203.0.113.9", "X-Forwarded-Proto: https", "X-Forwarded-Host: up.example.com")
    wire.send(head("GET", "/a?token=hunter2", *claims))
    assert wire.said.endswith(b"\r\n\r\n" + seen)
    client = seen.split()[1].decode()
    assert lines == [f"GET /a 200 {len(seen)} bytes to {client}"], "no query: clients send tokens in it"
