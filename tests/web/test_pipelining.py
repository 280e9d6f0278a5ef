"""Requests that are sent before the former ones are answered: how many begin at once, and how much of them is held."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from resumable.protocols.response import Response, problem
from resumable.web import pipelining, reading
from resumable.web.request import StreamingRequest
from tests.web.test_chunked import turn
from tests.web.wire import Basin, Transport, Wire, head, statuses

READ = reading.HEAD_READ_SIZE
#: What a channel may hold of requests whose time has not come: a head that is nearly complete, and a read.
MOST_HELD = 32 * 1024

GET = head("GET")
PUT = head("PUT", "/", "Content-Length: 10") + b"0123456789"
CHUNKED = head("PUT", "/", "Transfer-Encoding: chunked") + b"a\r\n0123456789\r\n0\r\n\r\n"


async def not_found(request: StreamingRequest) -> Response:
    """Answers early, whatever the body."""
    return problem(404, "there is nothing here")


async def takes_all(request: StreamingRequest) -> Response:
    """Answers what is complete."""
    await request.pour_into(Basin())
    return Response(200)


def another(wire: Wire) -> tuple[Any, Transport]:
    """One more connection to the same site."""
    channel: Any = wire.site.buildProtocol(None)
    transport = Transport()
    channel.makeConnection(transport)
    return channel, transport


def held(channel: Any) -> int:
    """Bytes that were read and not looked at."""
    return len(channel._buffer) + sum(map(len, channel._dataBuffer))


def feed(channel: Any, transport: Transport, stream: bytes, position: int) -> int:
    """What the reactor does in a turn: read once, unless reading is paused. The new position in the stream."""
    if transport.producerState != "producing":
        return position
    size = min(READ, channel._socket.bufferSize)
    channel.dataReceived(stream[position : position + size])
    return position + size


# (An early answer to a chunked body closes.)
@pytest.mark.parametrize(
    ("handler", "request_"),
    [(not_found, GET), (not_found, PUT), (takes_all, GET), (takes_all, PUT), (takes_all, CHUNKED)],
)
def test_one_connection_begins_few_requests_in_a_turn(handler: Any, request_: bytes) -> None:
    """The rest is served in later turns, all of it, in order, and then reading goes on."""
    wire = Wire(handler)
    wire.send(request_ * 100)
    answered = len(statuses(wire.said))
    assert 1 <= answered <= 1 + pipelining.REQUESTS_AT_ONCE
    assert wire.paused
    for _ in range(100):
        turn(wire.clock)
        now = len(statuses(wire.said))
        assert now - answered <= pipelining.REQUESTS_AT_ONCE
        answered = now
    assert answered == 100
    assert not wire.paused
    assert not wire.closing
    wire.send(request_)
    assert len(statuses(wire.said)) == 101


def test_all_connections_share_a_turn() -> None:
    """However many pipeline, a turn begins no more than its share; each of them has its turn."""
    wire = Wire(not_found)
    others = [another(wire) for _ in range(40)]
    for channel, _ in others:
        channel.dataReceived(GET * 200)

    def answers() -> list[int]:
        return [transport.value().count(b"HTTP/1.1 404") for _, transport in others]

    before = sum(answers())
    # Each read begins one, as it would without pipelining.
    assert before <= len(others) + pipelining.REQUESTS_PER_TURN
    turn(wire.clock)
    assert sum(answers()) - before <= pipelining.REQUESTS_PER_TURN
    for _ in range(2 * len(others)):
        turn(wire.clock)
    assert max(answers()) - min(answers()) <= 2 * pipelining.REQUESTS_AT_ONCE


def test_one_who_does_not_pipeline_does_not_wait() -> None:
    """Not even for a turn, while forty others do."""
    wire = Wire(not_found)
    for channel, _ in [another(wire) for _ in range(40)]:
        channel.dataReceived(GET * 200)
    wire.send(GET)
    assert statuses(wire.said) == [404]


def test_answers_that_come_later_count_as_well() -> None:
    """A request whose answer took time is followed by the next, and that by no burst."""
    gate: Deferred[None] = Deferred()
    begun: list[StreamingRequest] = []

    async def first_waits(request: StreamingRequest) -> Response:
        begun.append(request)
        if len(begun) == 1:
            await gate
        return Response(200)

    wire = Wire(first_waits)
    wire.send(GET * 100)
    assert len(begun) == 1
    gate.callback(None)
    assert len(begun) <= 1 + pipelining.REQUESTS_AT_ONCE
    wire.clock.pump([0] * 100)
    assert statuses(wire.said) == [200] * 100


# (An early answer to a chunked body closes.)
@pytest.mark.parametrize(
    ("handler", "request_"),
    [(not_found, GET), (not_found, PUT), (takes_all, GET), (takes_all, PUT), (takes_all, CHUNKED)],
)
def test_what_is_read_ahead_does_not_grow(handler: Any, request_: bytes) -> None:
    """However many requests were answered: little is held, and nothing is read while something is."""
    wire = Wire(handler)
    stream, position = request_ * 5000, 0
    for _ in range(300):
        position = feed(wire.channel, wire.transport, stream, position)
        assert held(wire.channel) <= MOST_HELD
        assert wire.paused or held(wire.channel) <= len(request_)
        turn(wire.clock)
    assert len(statuses(wire.said)) > 500


@pytest.mark.parametrize("request_", [GET, PUT, CHUNKED], ids=["get", "put", "chunked"])
def test_nothing_is_read_behind_a_request_that_takes_its_time(request_: bytes) -> None:
    """One read at most, and no more after its answer until that read is used up."""
    gates: list[Deferred[None]] = []

    async def slow(request: StreamingRequest) -> Response:
        gates.append(Deferred())
        await gates[-1]
        await request.pour_into(Basin())
        return Response(200)

    wire = Wire(slow)
    stream = request_ * 1000
    position = feed(wire.channel, wire.transport, stream, 0)
    for index in range(20):
        position = feed(wire.channel, wire.transport, stream, position)
        assert (position, wire.paused) == (READ, True)
        gates[index].callback(None)
        turn(wire.clock)
    assert statuses(wire.said) == [200] * 20


def test_who_reads_no_answers_is_asked_no_further() -> None:
    """The transport says that what is written waits: no request begins, until it has gone out."""
    wire = Wire(not_found)
    wire.send(GET * 3 + GET[:-2])
    wire.channel.pauseProducing()
    wire.send(b"\r\n" + GET * 20)
    answered = len(statuses(wire.said))
    assert answered <= 4
    wire.clock.pump([0] * 20)
    assert len(statuses(wire.said)) == answered
    assert wire.paused
    wire.channel.resumeProducing()
    wire.clock.pump([0] * 20)
    assert statuses(wire.said) == [404] * 24
    assert not wire.paused


def test_a_half_closed_client_that_pipelined_gets_all_its_answers() -> None:
    """Those that wait for their turn too; half a head at the end is not waited for."""
    wire = Wire(takes_all)
    wire.send(PUT * 50 + PUT[:20])
    wire.channel.readConnectionLost()
    assert not wire.closing
    wire.clock.pump([0] * 50)
    assert statuses(wire.said) == [200] * 50
    assert wire.closing


@pytest.mark.parametrize("tail", [b"", GET, GET[:-2]])
def test_draining_lets_no_one_wait(tail: bytes) -> None:
    """What has its turn next is answered and closes; and half a head is not waited for."""
    wire = Wire(not_found)
    wire.send(GET * (1 + pipelining.REQUESTS_AT_ONCE) + tail)
    answered = len(statuses(wire.said))
    wire.site.drain()
    wire.clock.pump([0, 0])
    assert wire.closing
    assert len(statuses(wire.said)) == answered + (tail == GET)


def test_a_connection_lost_before_its_turn() -> None:
    wire = Wire(not_found)
    wire.send(GET * 50)
    said = wire.said
    wire.lose()
    wire.clock.pump([0] * 5)
    assert wire.said == said
    assert held(wire.channel) == 0
    assert wire.clock.getDelayedCalls() == []
