"""Requests served at their headers: what is known, read and said before the body."""

from __future__ import annotations

import gc
import sys
from typing import Any

import pytest
from twisted.web import http

from resumable.protocols.response import Response
from resumable.web.request import StreamingRequest
from tests.web.wire import (
    CONTINUE,
    Basin,
    Service,
    Wire,
    head,
    refuse,
    statuses,
)


def test_served_at_headers() -> None:
    """The handler has everything the head says before any of the body has come."""
    service = Service(before=True)
    wire = Wire(service)
    wire.send(head("PATCH", "/a%2Fb/c?x=1&x=2&y=", "Content-Length: 5"))
    (request,) = service.requests
    assert (request.method, request.uri, request.path) == (b"PATCH", b"/a%2Fb/c?x=1&x=2&y=", b"/a%2Fb/c")
    assert request.args == {b"x": [b"1", b"2"], b"y": [b""]}
    assert (request.clientproto, request.length) == (b"HTTP/1.1", 5)
    assert request.content is None


def test_length_of_chunked_body_is_unknown() -> None:
    """None, not 0, stands for a body of which nobody knows the end."""
    service = Service(before=True)
    wire = Wire(service)
    wire.send(head("PUT", "/", "Transfer-Encoding: chunked"))
    assert service.requests[0].length is None


def test_nothing_is_read_before_pouring() -> None:
    """The transport is paused at the head; pouring registers, asks for the body, resumes."""
    basin = Basin()
    service = Service(basin, before=True)
    wire = Wire(service)
    wire.send(head("PUT", "/", "Content-Length: 5", "Expect: 100-Continue"))
    assert wire.transport.events == ["pause"]
    assert (wire.said, basin.events) == (b"", [])
    assert service.before is not None
    service.before.callback(None)
    assert wire.transport.events == ["pause", b"HTTP/1.1 100 Continue", "resume"]
    assert (wire.said, basin.events) == (CONTINUE, ["register"])
    wire.send(b"ab", b"cde")
    assert (basin.chunks, basin.events) == ([b"ab", b"cde"], ["register", "unregister"])
    assert statuses(wire.said) == [100, 200]
    assert not wire.closing


def test_no_pause_without_a_body() -> None:
    """A request without a body has nothing to hold back."""
    wire = Wire(Service(before=True))
    wire.send(head("GET"))
    assert "pause" not in wire.transport.events


@pytest.mark.parametrize(
    ("request_head", "tail"),
    [
        (head("PUT", "/", "Content-Length: 5", version="1.0") + b"", b"Expect: 100-continue"),
        (head("PUT", "/", "Content-Length: 5", "Expect: 100-continue") + b"a", b""),
        (head("PUT", "/", "Content-Length: 5", "Expect: 100-continue") + b"abcde", b""),
        (head("PUT", "/", "Transfer-Encoding: chunked", "Expect: 100-continue") + b"5", b""),
        (head("PUT", "/", "Content-Length: 0", "Expect: 100-continue"), b""),
        (head("PUT", "/", "Content-Length: 5"), b""),
    ],
)
def test_no_continue_where_none_is_waited_for(request_head: bytes, tail: bytes) -> None:
    """Not to HTTP/1.0, not when the body comes by itself, not when there is none (RFC 9110, 10.1.1)."""
    if tail:
        request_head = request_head.replace(b"Host: h", b"Host: h\r\n" + tail)
    wire = Wire(Service())
    wire.send(request_head)
    assert CONTINUE not in wire.said


def test_continue_waits_for_a_consumer_that_pauses() -> None:
    """A consumer without room when it gets the producer: the client is not asked yet."""

    class Full(Basin):
        def registerProducer(self, producer: Any, streaming: bool) -> None:
            super().registerProducer(producer, streaming)
            producer.pauseProducing()

    basin = Full()
    wire = Wire(Service(basin))
    wire.send(head("PUT", "/", "Content-Length: 5", "Expect: 100-continue"))
    assert wire.paused
    assert wire.said == b""
    basin.producer.resumeProducing()
    assert not wire.paused
    assert wire.said == CONTINUE


def test_body_in_the_segment_of_the_head() -> None:
    """It is kept until it is poured, the rest is not read."""
    service = Service(before=True)
    wire = Wire(service)
    wire.send(head("PUT", "/", "Content-Length: 5") + b"abc")
    assert wire.paused
    assert service.basin.chunks == []
    assert service.before is not None
    service.before.callback(None)
    assert service.basin.chunks == [b"abc"]
    assert not wire.paused
    wire.send(b"de")
    assert service.basin.data == b"abcde"


def test_whole_body_in_the_segment_of_the_head_keeps_the_connection() -> None:
    """An answer without pouring needs no closing when the body has come already."""
    wire = Wire(refuse)
    wire.send(head("PUT", "/", "Content-Length: 5") + b"abcde" + head("GET"))
    assert statuses(wire.said) == [401, 401]
    assert not wire.closing


def test_the_very_objects_are_passed_on_and_let_go() -> None:
    """No copy, and no reference left when the consumer has dropped them."""
    basin = Basin()
    wire = Wire(Service(basin, after=True))
    wire.send(head("PUT", "/", "Content-Length: 2000000"))
    data = bytes(1000000)
    references = sys.getrefcount(data)
    gc.disable()
    try:
        wire.send(data)
        assert basin.chunks[0] is data
        basin.chunks.clear()
        assert sys.getrefcount(data) == references
        basin.producer.pauseProducing()
        service_request = wire.channel.requests[0]
        service_request.handleContentChunk(data)
        basin.producer.stopProducing()
        assert sys.getrefcount(data) == references
    finally:
        gc.enable()


def test_no_spool_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twisted makes a temporary file for a long body; we never ask for one."""
    monkeypatch.setattr(http, "_getContentFile", lambda length: pytest.fail("spooled"))
    wire = Wire(Service())
    monkeypatch.setattr(wire.site, "getContentFile", lambda length: pytest.fail("spooled"), raising=False)
    wire.send(head("PUT", "/", "Content-Length: 1000000"), b"a")


def test_body_of_length_0() -> None:
    """Pouring nothing registers, unregisters and returns at once."""
    service = Service()
    wire = Wire(service)
    wire.send(head("PUT", "/", "Content-Length: 0"))
    assert service.basin.events == ["register", "unregister"]
    assert statuses(wire.said) == [200]
    assert not wire.closing


def test_pouring_twice_is_a_mistake(logged_errors: list[Any]) -> None:
    """A body exists once."""

    async def twice(request: StreamingRequest) -> Response:
        await request.pour_into(Basin())
        await request.pour_into(Basin())
        return Response(200)

    wire = Wire(twice)
    wire.send(head("PUT", "/", "Content-Length: 1"), b"a")
    assert statuses(wire.said) == [500]
    logged_errors.clear()


def test_a_consumer_that_takes_no_producer(logged_errors: list[Any]) -> None:
    """Its error is the handler's, and nothing is left waiting when the client goes."""

    class Busy(Basin):
        def registerProducer(self, producer: Any, streaming: bool) -> None:
            raise RuntimeError("I have one")

    wire = Wire(Service(Busy()))
    wire.send(head("PUT", "/", "Content-Length: 9", "Expect: 100-continue"))
    assert statuses(wire.said) == [500]
    assert len(logged_errors) == 1
    logged_errors.clear()
    wire.lose()
