"""Clients that fall silent, or go away."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost

from resumable.model import Interrupted
from resumable.protocols.response import Response
from resumable.web import head_timer, lingering
from resumable.web.request import StreamingRequest
from tests.web.wire import (
    IDLE,
    A,
    B,
    Basin,
    Service,
    Wire,
    body_of,
    head,
    statuses,
    unfinished,
)


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
    wire.clock.advance(head_timer.HEAD_SECONDS)
    assert statuses(wire.said) == [408]
    wire.clock.advance(lingering.LINGER_SECONDS)
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


def test_the_client_goes_away_while_the_service_stops() -> None:
    """Its answer is dropped as any other is: that is no fault of the service, and nothing to be logged as one."""
    storing: Deferred[None] = Deferred()

    async def handle(request: StreamingRequest) -> Response:
        try:
            await request.pour_into(Basin())
        except Interrupted:
            await storing
            raise
        return Response(200)

    wire = Wire(handle)
    wire.send(head("PUT", "/", "Content-Length: 9"), b"abc")
    wire.site.drain()
    wire.lose()
    # (That nothing is logged as an error is seen to for each test here.)
    storing.callback(None)
