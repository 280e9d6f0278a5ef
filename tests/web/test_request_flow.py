"""The flow of a body: pausing, resuming and stopping reach the socket."""

from __future__ import annotations

from typing import Any

from tests.web.wire import (
    IDLE,
    A,
    B,
    Basin,
    C,
    Service,
    Wire,
    chunked,
    head,
    statuses,
    unfinished,
)


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
