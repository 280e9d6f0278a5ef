"""Requests served at their headers: what is read and said, when, and in which order."""

from __future__ import annotations

import gc
import json
import re
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.web import http
from twisted.web.resource import Resource

from resumable.blocks import LARGE
from resumable.model import Interrupted
from resumable.protocols.response import Response, problem, reason_phrase
from resumable.web import connection as channels
from resumable.web import site as sites
from resumable.web.request import ORDINARY_LIMIT, StreamingRequest
from tests.web.wire import IDLE, Basin, Leaf, Service, Wire, head

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

#: Chunks that are handed on one by one: small ones are put together.
A, B, C = (letter * LARGE for letter in (b"a", b"b", b"c"))


def statuses(said: bytes) -> list[int]:
    """The status of each answer, in order."""
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", said)]


def body_of(said: bytes) -> Any:
    """The JSON body of the last answer."""
    return json.loads(said.rsplit(b"\r\n\r\n", 1)[1])


def unfinished(*chunks: bytes) -> bytes:
    """The beginning of a chunked body."""
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)


def chunked(*chunks: bytes) -> bytes:
    """A chunked body."""
    return unfinished(*chunks, b"")


async def refuse(request: StreamingRequest) -> Response:
    """A handler that answers without the body."""
    return problem(401, "who are you?")


# Begin


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


# Flow


def test_pause_reaches_the_transport_and_holds_what_is_decoded() -> None:
    """One segment may hold many chunks: those after the pause wait, and come in order."""
    basin = Basin(lambda basin, data: basin.producer.pauseProducing())
    wire = Wire(Service(basin))
    wire.send(head("PUT", "/", "Transfer-Encoding: chunked"), unfinished(A, B, C))
    assert basin.chunks == [A]
    assert wire.paused
    basin.producer.resumeProducing()
    assert basin.chunks == [A, B]
    assert wire.paused
    basin.on_write = None
    basin.producer.resumeProducing()
    assert basin.chunks == [A, B, C]
    assert not wire.paused


def test_pause_and_resume_within_write() -> None:
    """A consumer may change its mind inside ``write``."""

    def both(basin: Basin, data: bytes) -> None:
        basin.producer.pauseProducing()
        basin.producer.resumeProducing()

    basin = Basin(both)
    wire = Wire(Service(basin))
    wire.send(head("PUT", "/", "Content-Length: 4"), b"ab")
    assert not wire.paused
    wire.send(b"cd")
    assert basin.data == b"abcd"


def test_a_change_of_mind_for_each_chunk_does_not_recurse() -> None:
    """Thousands of chunks fit in one segment."""

    def both(basin: Basin, data: bytes) -> None:
        basin.producer.pauseProducing()
        basin.producer.resumeProducing()

    service = Service(Basin(both), before=True)
    wire = Wire(service)
    wire.send(head("PUT", "/", "Transfer-Encoding: chunked") + chunked(*[b"a"] * 3000))
    assert service.before is not None
    service.before.callback(None)
    assert len(service.basin.data) == 3000
    assert service.outcome == "poured"


def test_a_whole_body_is_held_for_a_paused_consumer() -> None:
    """The end is known, but it comes after the data."""
    basin = Basin(lambda basin, data: basin.producer.pauseProducing())
    service = Service(basin)
    wire = Wire(service)
    wire.send(head("PUT", "/", "Transfer-Encoding: chunked"), chunked(A, B))
    assert (basin.data, service.outcome) == (A, None)
    basin.producer.resumeProducing()
    assert (basin.data, service.outcome) == (A + B, "poured")


def test_a_whole_chunked_body_gives_the_flow_back() -> None:
    """It came with the head, and was held: the channel reads again, and has its idle timer after the answer."""
    service = Service(before=True)
    wire = Wire(service)
    wire.send(head("PUT", "/", "Transfer-Encoding: chunked") + chunked(b"abc"))
    assert not wire.paused
    wire.clock.advance(2 * IDLE)
    assert service.before is not None
    service.before.callback(None)
    assert statuses(wire.said) == [200]
    wire.clock.advance(IDLE)
    assert wire.closing


def test_stop_within_a_segment() -> None:
    """Chunks of the same segment after the stop are not written."""
    basin = Basin(lambda basin, data: basin.producer.stopProducing())
    service = Service(basin, before=True)
    wire = Wire(service)
    wire.send(head("PUT", "/", "Transfer-Encoding: chunked") + unfinished(A, B))
    assert service.before is not None
    service.before.callback(None)
    assert basin.data == A


def test_the_end_does_not_wait_for_a_paused_consumer() -> None:
    """All is written; the consumer may need the end to make room."""
    service = Service(Basin(lambda basin, data: basin.producer.pauseProducing()))
    wire = Wire(service)
    wire.send(head("PUT", "/", "Content-Length: 2"), b"ab")
    assert service.outcome == "poured"
    assert not wire.paused


def test_a_drained_send_buffer_does_not_resume_what_is_held() -> None:
    """The transport resumes the channel when it has sent; the request still wants no body."""
    wire = Wire(Service(before=True))
    wire.send(head("PUT", "/", "Content-Length: 5"))
    wire.channel.pauseProducing()
    wire.channel.resumeProducing()
    assert wire.paused


def test_a_full_send_buffer_is_not_overruled() -> None:
    """Pouring begins while the transport cannot send: reading waits for it."""
    service = Service(before=True)
    wire = Wire(service)
    wire.send(head("PUT", "/", "Content-Length: 5"))
    wire.channel.pauseProducing()
    assert service.before is not None
    service.before.callback(None)
    assert wire.paused
    wire.channel.resumeProducing()
    assert not wire.paused


def test_the_channel_reads_again_after_the_body() -> None:
    """While the handler works on, a disconnect is noticed: the transport is not paused."""
    service = Service(after=True)
    wire = Wire(service)
    wire.send(head("PUT", "/", "Content-Length: 5"), b"abcde")
    assert not wire.paused


def test_stop_ends_the_pouring() -> None:
    """The consumer wants no more: a normal return, the rest is not taken."""
    service = Service(Basin(lambda basin, data: basin.producer.stopProducing()), after=True)
    wire = Wire(service)
    wire.send(head("PUT", "/", "Content-Length: 9"), b"abc")
    assert service.outcome == "poured"
    assert service.basin.events == ["register", "unregister"]
    assert wire.paused
    wire.send(b"def")
    assert service.basin.data == b"abc"
    assert service.after is not None
    service.after.callback(None)
    assert statuses(wire.said) == [200]
    assert b"Connection: close" in wire.said


def test_stop_from_outside() -> None:
    """The consumer may stop us at any time, also while it has paused us."""
    service = Service()
    wire = Wire(service)
    wire.send(head("PUT", "/", "Content-Length: 9"), b"abc")
    service.basin.producer.pauseProducing()
    service.basin.producer.stopProducing()
    assert service.outcome == "poured"


def test_an_error_in_the_consumer_is_the_handlers(logged_errors: list[Any]) -> None:
    """It comes out of ``pour_into``; the client gets an answer, not a reset."""

    def fail(basin: Basin, data: bytes) -> None:
        raise ZeroDivisionError("full")

    service = Service(Basin(fail))
    wire = Wire(service)
    wire.send(head("PUT", "/", "Content-Length: 9"), b"abc")
    assert isinstance(service.outcome, ZeroDivisionError)
    assert service.basin.events == ["register", "unregister"]
    assert statuses(wire.said) == [500]
    assert len(logged_errors) == 1
    logged_errors.clear()


# Silence and loss


def test_silence_while_pouring_is_interrupted_as_idle() -> None:
    """The handler can still tell the client: 408, and close."""
    service = Service()
    wire = Wire(service)
    wire.send(head("PUT", "/", "Content-Length: 9"), b"abc")
    wire.clock.advance(IDLE - 1)
    wire.send(b"d")
    wire.clock.advance(IDLE - 1)
    assert service.outcome is None
    wire.clock.advance(1)
    assert isinstance(service.outcome, Interrupted)
    assert service.outcome.idle
    assert service.basin.data == b"abcd"
    assert service.basin.events == ["register", "unregister"]
    assert statuses(wire.said) == [408]
    assert b"Connection: close" in wire.said
    assert body_of(wire.said)["status"] == 408


def test_a_pause_is_not_silence() -> None:
    """Before pouring and while the consumer pauses the clock does not run; after it runs again."""
    service = Service(before=True)
    wire = Wire(service)
    wire.send(head("PUT", "/", "Content-Length: 9"))
    wire.clock.advance(10 * IDLE)
    assert service.before is not None
    service.before.callback(None)
    wire.send(b"abc")
    service.basin.producer.pauseProducing()
    wire.clock.advance(10 * IDLE)
    assert service.outcome is None
    assert not wire.closing
    service.basin.producer.resumeProducing()
    wire.clock.advance(IDLE - 1)
    assert service.outcome is None
    wire.clock.advance(1)
    assert service.outcome.idle


@pytest.mark.parametrize(
    "segments",
    [[head("GET")], [head("PUT", "/", "Content-Length: 2"), b"ab"], [head("PUT", "/", "Content-Length: 2") + b"ab"]],
)
def test_an_idle_connection_is_closed(segments: list[bytes]) -> None:
    """The keep-alive timer survives our pauses: it runs after an answer, by force in the end."""
    wire = Wire(Service())
    wire.send(*segments)
    assert statuses(wire.said) == [200]
    wire.clock.advance(IDLE - 1)
    assert not wire.closing
    wire.clock.advance(1)
    assert wire.closing
    wire.clock.advance(wire.channel.abortTimeout)
    assert wire.transport.disconnected


def test_a_silent_head_is_closed() -> None:
    """One who connects and says half a head is not waited for."""
    wire = Wire(Service())
    wire.send(b"GET / HTTP/1.1\r\nHo")
    wire.clock.advance(channels.HEAD_SECONDS)
    assert statuses(wire.said) == [408]
    wire.clock.advance(channels.LINGER_SECONDS)
    assert wire.closing
    wire.lose()
    assert wire.clock.getDelayedCalls() == []


def test_vanished_after_data() -> None:
    """Everything that arrived is written, then the interruption is told; nobody is answered."""
    service = Service()
    wire = Wire(service)
    wire.send(head("PUT", "/", "Content-Length: 9"), b"abc")
    wire.lose(ConnectionLost())
    assert service.basin.data == b"abc"
    assert service.basin.events == ["register", "unregister"]
    assert isinstance(service.outcome, Interrupted)
    assert not service.outcome.idle
    assert wire.said == b""
    assert wire.clock.getDelayedCalls() == []


def test_vanished_while_paused() -> None:
    """What was held back is still delivered, when the consumer takes it."""
    basin = Basin(lambda basin, data: basin.producer.pauseProducing())
    service = Service(basin)
    wire = Wire(service)
    wire.send(head("PUT", "/", "Transfer-Encoding: chunked"), unfinished(A, B))
    wire.lose()
    assert service.outcome is None
    basin.producer.resumeProducing()
    assert basin.data == A + B
    assert isinstance(service.outcome, Interrupted)


def test_vanished_before_pouring() -> None:
    """Pouring later gives what came with the head, and says that there is no more."""
    service = Service(before=True)
    wire = Wire(service)
    wire.send(head("PUT", "/", "Content-Length: 9") + b"abc")
    wire.lose()
    assert service.before is not None
    service.before.callback(None)
    assert service.basin.data == b"abc"
    assert isinstance(service.outcome, Interrupted)


def test_vanished_with_the_body_whole() -> None:
    """A whole body is a whole body, whoever is still there."""
    service = Service(before=True)
    wire = Wire(service)
    wire.send(head("PUT", "/", "Content-Length: 3") + b"abc")
    wire.lose()
    assert service.before is not None
    service.before.callback(None)
    assert (service.outcome, service.basin.data) == ("poured", b"abc")


def test_vanished_while_the_handler_works() -> None:
    """It is not cancelled; its answer is dropped without a word in the log."""
    done = []
    gate: Deferred[None] = Deferred()

    async def work(request: StreamingRequest) -> Response:
        await gate
        done.append(1)
        return Response(200, b"x")

    wire = Wire(work)
    wire.send(head("GET"))
    wire.lose()
    gate.callback(None)
    assert done == [1]
    assert wire.said == b""


# Answers


@pytest.mark.parametrize(
    ("response", "line", "length"),
    [
        (Response(200, b"abc"), b"200 OK", b"3"),
        (Response(201), b"201 Created", b"0"),
        (Response(204), b"204 No Content", None),
        (Response(304), b"304 Not Modified", None),
        (Response(308), b"308 Resume Incomplete", b"0"),
        (Response(423), b"423 Locked", b"0"),
        (Response(418, reason=b"Short and Stout"), b"418 Short and Stout", b"0"),
    ],
)
def test_what_is_written(response: Response, line: bytes, length: bytes | None) -> None:
    """Status line, Content-Length by RFC 9110, 8.6, and no default type for what has none."""

    async def answer(request: StreamingRequest) -> Response:
        return response

    wire = Wire(answer)
    wire.send(head("GET"))
    top, _, body = wire.said.partition(b"\r\n\r\n")
    assert top.startswith(b"HTTP/1.1 " + line + b"\r\n")
    assert body == response.body
    assert (b"Content-Length: " in top) == (length is not None)
    if length is not None:
        assert b"Content-Length: " + length in top
    assert b"Content-Type" not in top
    assert b"Transfer-Encoding" not in top
    assert b"Date: " in top


def test_headers_are_written_as_given_but_for_line_breaks() -> None:
    """Text or bytes, pairs or mapping, a field twice; and no second header smuggled in."""

    async def answer(request: StreamingRequest) -> Response:
        return Response(200, headers=[("Link", "a"), (b"Link", b"b"), ("X", "c\r\nY: d")])

    wire = Wire(answer)
    wire.send(head("GET"))
    assert b"Link: a\r\nLink: b\r\n" in wire.said
    assert b"\r\nY:" not in wire.said
    assert Response(200, headers={"a": "b"}).headers == (("a", "b"),)


def test_head_has_no_body() -> None:
    """HEAD is told the length and nothing else; a resource may name another length."""

    async def answer(request: StreamingRequest) -> Response:
        return Response(200, b"abc", {"Content-Length": "77"} if request.path == b"/own" else {})

    wire = Wire(answer)
    wire.send(head("HEAD"))
    assert wire.said.endswith(b"\r\n\r\n")
    assert b"Content-Length: 3\r\n" in wire.said
    wire.transport.clear()
    wire.send(head("HEAD", "/own"))
    assert b"Content-Length: 77\r\n" in wire.said
    assert wire.said.count(b"Content-Length") == 1
    wire.send(head("GET", "/own"))
    assert b"Content-Length: 3\r\n" in wire.said
    assert not wire.closing


def test_interim_answers() -> None:
    """Any number of them, not to HTTP/1.0."""

    async def answer(request: StreamingRequest) -> Response:
        request.inform(104, {"Location": "/u"})
        await request.pour_into(Basin())
        return Response(200)

    wire = Wire(answer)
    wire.send(head("PUT", "/", "Content-Length: 1", "Expect: 100-continue"), b"a")
    assert wire.said.startswith(b"HTTP/1.1 104 Upload Resumption Supported\r\nLocation: /u\r\n\r\n" + CONTINUE)
    assert statuses(wire.said) == [104, 100, 200]
    old = Wire(answer)
    old.send(head("PUT", "/", "Content-Length: 1", version="1.0"), b"a")
    assert statuses(old.said) == [200]


def test_reason_of_an_unknown_status_is_empty() -> None:
    """No words are better than wrong ones."""
    assert reason_phrase(599) == b""


def test_a_failing_handler_gives_500_and_tells_only_the_log(logged_errors: list[Any]) -> None:
    """The traceback is for us, the client gets a status."""

    async def fail(request: StreamingRequest) -> Response:
        raise ValueError("secret")

    wire = Wire(fail)
    wire.send(head("GET"))
    assert statuses(wire.said) == [500]
    assert wire.said.endswith(b'\r\n\r\n{"type":"about:blank","title":"Internal Server Error","status":500}')
    assert b"application/problem+json" in wire.said
    assert logged_errors[0]["log_failure"].value.args == ("secret",)
    assert not wire.closing
    logged_errors.clear()


def test_an_answer_that_cannot_be_written_gives_500(logged_errors: list[Any]) -> None:
    """A name that is no field name fails before anything is written."""

    async def fail(request: StreamingRequest) -> Response:
        return Response(200, b"x", {"Fine": "1", "Not fine": "x"})

    wire = Wire(fail)
    wire.send(head("GET"))
    assert statuses(wire.said) == [500]
    assert b"Fine" not in wire.said
    logged_errors.clear()


# Answers before the body


def early(length: int = 100_000_000) -> Wire:
    """A connection with an answer and a body still to come."""
    wire = Wire(refuse)
    wire.send(head("PUT", "/", f"Content-Length: {length}", "Expect: 100-continue"))
    return wire


def test_answer_without_the_body() -> None:
    """It goes out at once, without 100, and the connection will close; until then it is read."""
    wire = early()
    assert statuses(wire.said) == [401]
    assert b"Connection: close\r\n" in wire.said
    assert not wire.paused
    assert not wire.closing


def test_lingering_ends_by_time() -> None:
    """30 s of steady sending, then a clean close; what still comes is not looked at, and force follows."""
    wire = early()
    for _ in range(int(channels.LINGER_SECONDS) - 1):
        wire.clock.advance(1)
        wire.send(b"a" * 1000)
    wire.clock.advance(0.9)
    assert not wire.closing
    wire.clock.advance(0.1)
    assert wire.closing
    assert wire.transport.producer is None
    wire.send(b"a" * 1000)
    wire.clock.advance(wire.channel.abortTimeout)
    assert wire.transport.disconnected


def test_lingering_is_not_cut_short_by_the_idle_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A site may have little patience otherwise."""
    monkeypatch.setattr(channels, "LINGER_SECONDS", 2 * IDLE)
    monkeypatch.setattr(channels, "LINGER_SILENCE", 2 * IDLE)
    wire = Wire(refuse)
    wire.send(b"nonsense\r\n\r\n")
    wire.clock.advance(IDLE)
    assert not wire.closing


def test_lingering_is_not_ended_by_size() -> None:
    """A client that sends all before it reads is listened to, and none of it is kept."""
    wire = early()
    segment = bytes(channels.TLS_READ_SIZE)
    for _ in range(300):
        wire.send(segment)
    assert not wire.closing
    assert not wire.channel.requests[0]._inbox


def test_lingering_ends_by_silence() -> None:
    """One that sends no more has read the answer."""
    wire = early()
    wire.clock.advance(channels.LINGER_SILENCE - 1)
    wire.send(b"a")
    wire.clock.advance(channels.LINGER_SILENCE - 0.1)
    assert not wire.closing
    wire.clock.advance(0.1)
    assert wire.closing


@pytest.mark.parametrize("draining", ["before", "meanwhile"])
def test_lingering_is_short_when_the_service_stops(draining: str) -> None:
    wire = Wire(refuse)
    if draining == "before":
        wire.site.draining = True
    wire.send(head("PUT", "/", "Content-Length: 100000"))
    wire.clock.advance(0.5)
    if draining == "meanwhile":
        wire.site.drain()
    for _ in range(3):
        assert not wire.closing
        wire.clock.advance(0.5)
        wire.send(b"a")
    if draining == "meanwhile":
        wire.clock.advance(0.5)
    assert wire.closing
    wire.lose()
    assert wire.clock.getDelayedCalls() == []


def test_lingering_ends_with_the_body() -> None:
    """The client has sent all it had: nothing to wait for. What follows is not served."""
    wire = early(4)
    wire.send(b"ab", b"cd" + head("GET"))
    assert wire.closing
    assert statuses(wire.said) == [401]


def test_lingering_ends_with_the_client() -> None:
    """It closed; no timer is left."""
    wire = early()
    wire.lose()
    assert wire.clock.getDelayedCalls() == []
    assert wire.site.channels == set()


def test_lingering_is_silent_about_garbage() -> None:
    """The chunks of a body nobody wants may be malformed: there has been an answer."""
    wire = Wire(refuse)
    wire.send(head("PUT", "/", "Transfer-Encoding: chunked"), b"zz\r\n")
    assert statuses(wire.said) == [401]
    assert wire.closing


def test_lingering_survives_the_idle_timer() -> None:
    """Neither the idle timer nor a pause of before is left behind."""
    service = Service()
    wire = Wire(service)
    wire.send(head("PUT", "/", "Content-Length: 9"), b"abc")
    wire.clock.advance(IDLE)
    assert not wire.paused
    wire.clock.advance(channels.LINGER_SECONDS)
    assert wire.closing
    wire.lose()
    assert wire.clock.getDelayedCalls() == []


# One connection, many requests


def test_three_pipelined_requests() -> None:
    """Served one after the other, in order, with an answer that takes its time in between."""
    gates: list[Deferred[None]] = []

    async def slow(request: StreamingRequest) -> Response:
        gate: Deferred[None] = Deferred()
        gates.append(gate)
        basin = Basin()
        await request.pour_into(basin)
        await gate
        return Response(200, request.path + basin.data)

    wire = Wire(slow)
    wire.send(
        head("PUT", "/1", "Content-Length: 2")
        + b"ab"
        + head("GET", "/2")
        + head("PUT", "/3", "Transfer-Encoding: chunked")
        + b"2\r\ncd\r\n0\r\n\r\n"
    )
    for expected in (1, 2, 3):
        assert len(gates) == expected
        gates[-1].callback(None)
    assert [wire.said.count(b"\r\n\r\n" + body) for body in (b"/1ab", b"/2", b"/3cd")] == [1, 1, 1]
    assert wire.said.endswith(b"/3cd")
    assert not wire.closing


def test_many_pipelined_requests_do_not_recurse() -> None:
    """Thousands fit in one read; they are served in many turns."""
    wire = Wire(refuse)
    wire.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" * 3000)
    wire.clock.pump([0] * 3000)
    assert statuses(wire.said) == [401] * 3000


def test_connection_close_is_honoured() -> None:
    """By the client's wish, by the handler's, by HTTP/1.0, by draining."""

    async def answer(request: StreamingRequest) -> Response:
        return Response(200, headers={"Connection": "close"} if request.path == b"/close" else {})

    for segment, draining in [
        (head("GET", "/", "Connection: close"), False),
        (head("GET", "/close"), False),
        (head("GET", version="1.0"), False),
        (head("GET"), True),
    ]:
        wire = Wire(answer)
        wire.site.draining = draining
        wire.send(segment)
        assert wire.said.count(b"Connection: close\r\n") == 1
        assert wire.closing


def test_http_1_0_body() -> None:
    """An old client uploads as well."""
    service = Service()
    wire = Wire(service)
    wire.send(head("PUT", "/", "Content-Length: 3", version="1.0"), b"abc")
    assert service.basin.data == b"abc"
    assert wire.said.startswith(b"HTTP/1.0 200 OK")
    assert wire.closing


BODIES = [b"", b"a", bytes(range(256)) * 3]
STREAM = (
    head("PUT", "/0", "Transfer-Encoding: chunked")
    + b"3\r\nabc\r\n10;x=y\r\n0123456789abcdef\r\n0\r\nT: v\r\n\r\n"
    + b"".join(head("PUT", f"/{n}", f"Content-Length: {len(body)}") + body for n, body in enumerate(BODIES, 1))
    + head("PUT", "/4", "Transfer-Encoding: chunked", "Expect: 100-continue")
    + b"0\r\n\r\n"
)


@given(st.lists(st.integers(0, len(STREAM)), max_size=12).map(sorted))
def test_any_segmentation_gives_the_same_bytes(cuts: list[int]) -> None:
    """However a connection's bytes are cut, every consumer gets its own."""
    got: dict[bytes, bytes] = {}

    async def serve(request: StreamingRequest) -> Response:
        basin = Basin()
        await request.pour_into(basin)
        got[request.path] = basin.data
        return Response(200)

    wire = Wire(serve)
    for begin, end in zip([0, *cuts], [*cuts, len(STREAM)], strict=True):
        wire.send(STREAM[begin:end])
    bodies = [b"abc0123456789abcdef", *BODIES, b""]
    assert got == {b"/%d" % n: body for n, body in enumerate(bodies)}
    assert [status for status in statuses(wire.said) if status != 100] == [200] * 5
    assert not wire.closing


def test_byte_by_byte() -> None:
    """The extreme of it."""
    service = Service()
    wire = Wire(service)
    for number in range(len(STREAM)):
        wire.send(STREAM[number : number + 1])
    assert service.basin.data == b"abc0123456789abcdef" + b"".join(BODIES)


# Requests that are none


@pytest.mark.parametrize(
    ("bad", "status", "word"),
    [
        (head("PUT", "/", "Content-Length: -5"), 400, "Content-Length"),
        (head("PUT", "/", "Content-Length: five"), 400, "Content-Length"),
        (head("PUT", "/", "Content-Length: " + "9" * 5000), 400, "Content-Length"),
        (head("PUT", "/", "Content-Length: 5", "Content-Length: 6"), 400, "Content-Length"),
        (head("PUT", "/", "Content-Length: 5", "Transfer-Encoding: chunked"), 400, "Content-Length"),
        (head("PUT", "/", "Transfer-Encoding: gzip"), 400, "Transfer-Encoding"),
        (head("PUT", "/", "Transfer-Encoding: identity", "Content-Length: 0"), 400, "Transfer-Encoding"),
        (head("PUT", "/", "Content-Length: 0", "Transfer-Encoding: Identity"), 400, "Transfer-Encoding"),
        (head("PUT", "/", "Transfer-Encoding: chunked", "Transfer-Encoding: identity"), 400, "Transfer-Encoding"),
        (head("PUT", "/", "Transfer-Encoding: identity", "Transfer-Encoding: chunked"), 400, "Transfer-Encoding"),
        (head("PUT", "/", "Transfer-Encoding: identity"), 400, "Transfer-Encoding"),
        (head("PUT", "/", "no colon"), 400, "header field"),
        (head("PUT", "/", "b@d name: x"), 400, "header field"),
        (head("PUT", "/", "X: a\0b"), 400, "header field"),
        (b"nonsense\r\n\r\n", 400, "request line"),
        (b"GET / HTTP/3.0\r\n\r\n", 400, "request line"),
        (head("PUT", "/", *(f"X-{n}: {'a' * 100}" for n in range(200))), 431, "16384"),
        (head("PUT", "/", "X: " + "a" * 20000), 431, "16384"),
        (head("PUT", "/", *["X: a"] * 600), 431, "500"),
        (head("PUT", "/" + "a" * 20000), 414, "16384"),
    ],
)
def test_malformed_heads(bad: bytes, status: int, word: str) -> None:
    """A readable problem and a clean close; not served, and neither is what follows."""
    service = Service()
    wire = Wire(service)
    wire.send(bad + head("GET"), head("GET"))
    assert statuses(wire.said) == [status]
    assert wire.said.startswith(b"HTTP/1.1 %d %s\r\n" % (status, reason_phrase(status)))
    assert b"Connection: close\r\n" in wire.said
    assert b"Content-Type: application/problem+json\r\n" in wire.said
    said = body_of(wire.said)
    assert said["status"] == status
    assert word in said["detail"]
    assert service.requests == []
    wire.clock.advance(channels.LINGER_SECONDS)
    assert wire.closing
    wire.lose()
    assert wire.clock.getDelayedCalls() == []


def test_malformed_head_after_a_good_request() -> None:
    """The state of the request before does not colour the answer."""
    wire = Wire(refuse)
    wire.send(head("GET") + b"x\r\n\r\n")
    assert statuses(wire.said) == [401, 400]
    assert "request line" in body_of(wire.said)["detail"]


@pytest.mark.parametrize("together", [False, True])
def test_malformed_chunk(together: bool) -> None:
    """The consumer gets what was sound and an interruption, the client a 400 and nothing else."""
    service = Service()
    wire = Wire(service)
    wire.send(head("PUT", "/", "Transfer-Encoding: chunked"))
    wire.send(*[b"3\r\nabc\r\nzz\r\n"] if together else [b"3\r\nabc\r\n", b"zz\r\n"])
    assert service.basin.data == b"abc"
    assert service.basin.events == ["register", "unregister"]
    assert isinstance(service.outcome, Interrupted)
    assert not service.outcome.idle
    assert statuses(wire.said) == [400]
    assert "chunked" in body_of(wire.said)["detail"]
    wire.send(b"3\r\nabc\r\n")
    wire.clock.advance(channels.LINGER_SECONDS)
    assert wire.closing


def test_malformed_chunk_before_pouring() -> None:
    """The client is told at once, the handler when it asks."""
    service = Service(before=True)
    wire = Wire(service)
    wire.send(head("PUT", "/", "Transfer-Encoding: chunked") + b"3\r\nabc\r\nzz\r\n")
    assert statuses(wire.said) == [400]
    assert service.before is not None
    service.before.callback(None)
    assert service.basin.data == b"abc"
    assert isinstance(service.outcome, Interrupted)
    assert statuses(wire.said) == [400]


# Resources


class Echo(Resource):
    """An ordinary resource of Twisted."""

    isLeaf = True

    def render_POST(self, request: Any) -> bytes:
        request.setHeader("X-Half", "done")
        if request.path == b"/echo/fail":
            raise ValueError("no")
        return b"<" + request.content.read() + b">"


def tree() -> Resource:
    """A root with an ordinary and a streaming child."""
    root = Resource()
    root.putChild(b"echo", Echo())
    root.putChild(b"stream", Leaf(refuse))
    return root


@pytest.mark.filterwarnings("ignore:twisted.web.resource:DeprecationWarning")  # Twisted's own 404 and 405
def test_a_resource_tree() -> None:
    """Children are found as ever; ordinary ones find a small body in ``content``."""
    wire = Wire(root=tree())
    wire.send(head("POST", "/stream/x"))
    wire.send(head("POST", "/echo", "Content-Length: 5", "Expect: 100-continue"), b"ab", b"cde")
    wire.send(head("GET", "/nowhere"), head("GET", "/echo"))
    assert statuses(wire.said) == [401, 100, 200, 404, 405]
    assert b"\r\n\r\n<abcde>" in wire.said
    assert not wire.closing


def test_an_ordinary_resource_takes_no_big_body() -> None:
    """What it wants whole has to fit in memory."""
    wire = Wire(root=tree())
    wire.send(head("POST", "/echo", f"Content-Length: {ORDINARY_LIMIT + 1}"), bytes(ORDINARY_LIMIT), b"abc")
    assert statuses(wire.said) == [413]


def test_an_ordinary_resource_that_fails(logged_errors: list[Any]) -> None:
    """It is treated like ours; nothing of what it had prepared goes out."""
    wire = Wire(root=tree())
    wire.send(head("POST", "/echo/fail"))
    assert statuses(wire.said) == [500]
    assert b"X-Half" not in wire.said
    assert len(logged_errors) == 1
    logged_errors.clear()


# The site


def test_channels_are_known() -> None:
    """For draining."""
    wire = Wire(refuse)
    assert wire.site.channels == {wire.channel}
    wire.lose()
    assert wire.site.channels == set()


def test_http_1_1_only() -> None:
    """No h2 is offered."""
    assert Wire(refuse).site.acceptableProtocols() == [b"http/1.1"]


def test_the_site_starts_no_clock() -> None:
    """A site without a log file needs no timer for its time stamps."""
    wire = Wire(refuse)
    before = wire.clock.getDelayedCalls()
    wire.site.doStart()
    assert wire.clock.getDelayedCalls() == before
    wire.site.doStop()


def test_access_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each answer leaves one, early or not, without header values and query."""
    lines: list[str] = []
    monkeypatch.setattr(sites.log, "debug", lambda form, **said: lines.append(form.format(**said)))
    wire = Wire(refuse)
    wire.send(head("GET", "/a?secret", "Authorization: secret"), head("PUT", "/c", "Content-Length: 9"))
    assert [line.split(" to ")[0] for line in lines] == ["GET /a 401 82 bytes", "PUT /c 401 82 bytes"]
    assert "secret" not in "".join(lines)


def test_drain_closes_idle_connections() -> None:
    """At once; and what was begun is answered first."""
    service = Service(after=True)
    wire = Wire(service)
    wire.site.drain()
    assert wire.closing
    busy = Wire(service)
    busy.send(head("PUT", "/", "Content-Length: 3"), b"abc")
    busy.site.drain()
    assert not busy.closing
    assert service.after is not None
    service.after.callback(None)
    assert statuses(busy.said) == [200]
    assert b"Connection: close" in busy.said
    assert busy.closing


def test_drain_ends_bodies() -> None:
    """What arrived is written, the handler hears of an interruption, the client is told to come again."""
    service = Service()
    wire = Wire(service)
    wire.send(head("PUT", "/", "Content-Length: 9"), b"abc")
    wire.site.drain()
    assert service.basin.data == b"abc"
    assert isinstance(service.outcome, Interrupted)
    assert statuses(wire.said) == [503]
    assert b"Retry-After: 1\r\n" in wire.said
    assert b"Connection: close\r\n" in wire.said
    wire.clock.advance(channels.LINGER_SECONDS)
    assert wire.closing


def test_drain_before_the_body() -> None:
    """A body that has not begun is not asked for, another answer stands."""
    for service, status in ((Service(before=True), 503), (refuse, 401)):
        wire = Wire(service)
        wire.site.draining = True
        wire.send(head("PUT", "/", "Content-Length: 9", "Expect: 100-continue"))
        if isinstance(service, Service) and service.before is not None:
            service.before.callback(None)
        assert statuses(wire.said) == [status]


def test_force_leaves_no_timer() -> None:
    """Aborting what was closing already."""
    wire = Wire(refuse)
    wire.site.drain()
    wire.channel.forceAbortClient()
    assert wire.transport.disconnected
    wire.lose()
    assert wire.clock.getDelayedCalls() == []
