"""Answers given before the body was in: the client has time to read them."""

from __future__ import annotations

import pytest

from resumable.web import lingering, reading
from tests.web.wire import (
    IDLE,
    Service,
    Wire,
    head,
    refuse,
    statuses,
)


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
    for _ in range(int(lingering.LINGER_SECONDS) - 1):
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
    monkeypatch.setattr(lingering, "LINGER_SECONDS", 2 * IDLE)
    monkeypatch.setattr(lingering, "LINGER_SILENCE", 2 * IDLE)
    wire = Wire(refuse)
    wire.send(b"nonsense\r\n\r\n")
    wire.clock.advance(IDLE)
    assert not wire.closing


def test_lingering_is_not_ended_by_size() -> None:
    """A client that sends all before it reads is listened to, and none of it is kept."""
    wire = early()
    segment = bytes(reading.TLS_READ_SIZE)
    for _ in range(300):
        wire.send(segment)
    assert not wire.closing
    assert not wire.channel.requests[0]._inbox


def test_lingering_ends_by_silence() -> None:
    """One that sends no more has read the answer."""
    wire = early()
    wire.clock.advance(lingering.LINGER_SILENCE - 1)
    wire.send(b"a")
    wire.clock.advance(lingering.LINGER_SILENCE - 0.1)
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
    wire.clock.advance(lingering.LINGER_SECONDS)
    assert wire.closing
    wire.lose()
    assert wire.clock.getDelayedCalls() == []
