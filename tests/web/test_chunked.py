"""The chunked coding: what it takes and refuses, and how much of the reactor's time it has at once."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.web import http

from resumable.blocks import BLOCK, LARGE
from resumable.model import Interrupted
from resumable.protocols.response import Response
from resumable.web import chunked, lingering, reading
from resumable.web.chunked import ChunkedDecoder, MalformedChunk, Turns
from resumable.web.request import StreamingRequest
from tests.web.wire import IDLE, Basin, Service, Wire, head, statuses


def turn(clock: Clock) -> None:
    """One turn of the reactor: what is due when it begins. (`Clock.advance` does what comes to be due meanwhile as well.)"""
    for call in [call for call in clock.calls if call.getTime() <= clock.seconds()]:
        clock.calls.remove(call)
        call.called = 1
        call.func(*call.args, **call.kw)


CHUNKED = head("PUT", "/", "Transfer-Encoding: chunked")


class Decoding:
    """A decoder, what it has handed on, and the turns of its reactor."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.pieces: list[bytes] = []
        self.rest: bytes | None = None
        self.stalls: list[bool] = []
        self.decoder = ChunkedDecoder(
            self.pieces.append,
            self.finish,
            turns=Turns(self.clock),
            stall=self.stalls.append,
            go_on=lambda: self.decoder.go_on(),
        )

    def finish(self, rest: bytes) -> None:
        assert self.rest is None
        self.rest = rest

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)

    def outcome(self, *segments: bytes) -> tuple[bytes, bytes | None]:
        """The body and what followed it."""
        for index, segment in enumerate(segments):
            if self.rest is not None:
                return self.data, self.rest + b"".join(segments[index:])
            self.decoder.dataReceived(segment)
            while self.decoder.behind:
                self.clock.advance(0)
        return self.data, self.rest


class Reference:
    """The same by Twisted's decoder."""

    def __init__(self) -> None:
        self.data, self.rest = b"", None
        self.decoder = http._ChunkedTransferDecoder(self.take, self.finish)

    def take(self, data: bytes) -> None:
        self.data += data

    def finish(self, rest: Any) -> None:
        self.rest = rest


def pieces_of(wire: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(wire), *(cut % (len(wire) + 1) for cut in cuts)})
    return [wire[start:end] for start, end in pairwise(edges)]


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=40), max_size=12),
    extension=st.sampled_from([b"", b";a", b";a=b;c", b';q="x y\t\xff"']),
    trailers=st.sampled_from([b"", b"A: b\r\n", b"A: b\r\nC: d\r\n"]),
    cuts=st.lists(st.integers(0, 2000)),
    width=st.integers(1, 8),
)
def test_any_segmentation_gives_the_body(
    chunks: list[bytes], extension: bytes, trailers: bytes, cuts: list[int], width: int
) -> None:
    """And the trailers are kept out of it."""
    wire = b"".join(b"%0*x%s\r\n%s\r\n" % (width, len(chunk), extension, chunk) for chunk in chunks)
    wire += b"0" * width + extension + b"\r\n" + trailers + b"\r\nGET /"
    assert Decoding().outcome(*pieces_of(wire, cuts)) == (b"".join(chunks), b"GET /")


@given(
    wire=st.lists(
        st.sampled_from(
            [b"0", b"1", b"a", b"f", b"\r\n", b"\r", b"\n", b";", b" ", b"x", b":", b"\t", b"0\r\n\r\n", b"\\"]
        )
    ).map(b"".join),
    cuts=st.lists(st.integers(0, 100), max_size=5),
)
def test_whatever_it_takes_twisted_takes_the_same(wire: bytes, cuts: list[int]) -> None:
    """Where a body ends is never seen elsewhere than by others: what one takes the other takes, or refuses (smuggling)."""
    reference = Reference()
    refused = False
    try:
        reference.decoder.dataReceived(wire)
    except MalformedChunk:
        refused = True
    ours = Decoding()
    try:
        data, rest = ours.outcome(*pieces_of(wire, cuts))
    except MalformedChunk as malformed:
        # Twisted reads over trailers that are none.
        assert reference.rest is None or "trailer" in str(malformed)
        return
    assert not refused
    assert rest == reference.rest
    assert data == reference.data


@pytest.mark.parametrize(
    "bad",
    [
        b"\r\n",
        b"x\r\n",
        b"-1\r\n",
        b"+1\r\n",
        b"0x1\r\n",
        b"1_0\r\n",
        b" 1\r\n",
        b"1 \r\n",
        b"1 ;a\r\n",
        b"\xb2\r\n",
        b"1\na\r\n",
        b"1\r\nab\r\n",
        b"1\r\na\n0",
        b"1\r\na\r0",
        b"1;\x00\r\n",
        b"1;a\nb\r\n",
        b"1;a\rb\r\n",
        b"1" * 17 + b"\r\n",
        b"1;" + b"a" * 1024 + b"\r\n",
        b"1;" + b"a" * 3000,
        b"0\r\n" + b"a: b\r\n" * 3000,
        b"0\r\n" + b"a" * 20000,
    ],
)
@pytest.mark.parametrize("drip", [False, True])
def test_what_is_refused(bad: bytes, drip: bool) -> None:
    """At once, not when more has come; what was sound before it has been handed on."""
    decoding = Decoding()
    wire = b"3\r\nabc\r\n" + bad
    with pytest.raises(MalformedChunk):
        decoding.outcome(*([wire[index : index + 1] for index in range(len(wire))] if drip else [wire]))
    assert decoding.data[:3] == b"abc"
    assert decoding.rest is None


def test_a_large_piece_is_not_copied() -> None:
    decoding = Decoding()
    decoding.decoder.dataReceived(b"%x\r\n" % 1_000_000)
    segment = bytes(100_000)
    decoding.decoder.dataReceived(segment)
    assert decoding.pieces[0] is segment


def test_small_chunks_come_in_blocks() -> None:
    """Not as an object each, which would take fifty times its size."""
    decoding = Decoding()
    count = 100_000
    data, _ = decoding.outcome(b"2\r\nab\r\n" * count)
    assert data == b"ab" * count
    assert len(decoding.pieces) < 2 * count // chunked.CHUNKS_PER_TURN + 10


def test_a_turn_of_the_reactor_is_bounded() -> None:
    """However many chunks a read holds: the rest is decoded in the turns that follow, and no more is read until then."""
    basin = Basin()
    service = Service(basin)
    wire = Wire(service)
    count = 10 * chunked.CHUNKS_PER_TURN
    wire.send(CHUNKED, b"2\r\nab\r\n" * count)
    turns = 1
    before = len(basin.data)
    assert 0 < before <= 2 * chunked.CHUNKS_PER_TURN
    assert wire.paused
    while len(basin.data) < 2 * count:
        turn(wire.clock)
        now = len(basin.data)
        assert 0 < now - before <= 2 * chunked.CHUNKS_PER_TURN
        before = now
        turns += 1
    assert turns >= 10
    assert not wire.paused
    assert wire.transport.bufferSize == chunked.SMALL_READ_SIZE  # type: ignore[attr-defined]
    wire.send(b"0\r\n\r\n")
    turn(wire.clock)
    assert service.outcome == "poured"
    assert wire.said.startswith(b"HTTP/1.1 200 ")


def test_a_turn_is_shared_by_all_connections() -> None:
    """Many who send small chunks do not take many turns' time in one; each gets on."""
    basins = [Basin() for _ in range(20)]
    waiting = list(basins)

    async def pour(request: StreamingRequest) -> Response:
        await request.pour_into(waiting.pop(0))
        return Response(200)

    wire = Wire(pour)
    channels_ = [wire.channel]
    for _ in basins[1:]:
        channel: Any = wire.site.buildProtocol(None)
        channel.makeConnection(type(wire.transport)())
        channels_.append(channel)
    count = chunked.CHUNKS_PER_TURN
    for channel in channels_:
        channel.dataReceived(CHUNKED + b"1\r\na\r\n" * count)
    total = sum(len(basin.data) for basin in basins)
    assert total <= count
    while total < 20 * count - 20:
        turn(wire.clock)
        now = sum(len(basin.data) for basin in basins)
        assert 0 < now - total <= count
        total = now
        if total >= 20 * count:
            break
    assert [len(basin.data) for basin in basins] == [count] * 20


def test_pipelined_requests_behind_many_chunks() -> None:
    """What follows the body is kept in order while the decoder is behind, whenever it comes."""
    service = Service()
    wire = Wire(service)
    count = 3 * chunked.CHUNKS_PER_TURN
    wire.send(CHUNKED + b"1\r\na\r\n" * count, b"1\r\nb\r\n0\r\n\r\n" + head("PUT", "/b", "Content-Length: 1")[:20])
    wire.send(head("PUT", "/b", "Content-Length: 1")[20:] + b"c")
    for _ in range(10):
        wire.clock.advance(0)
    assert service.basin.data == b"a" * count + b"bc"
    assert wire.said.count(b"HTTP/1.1 200 ") == 2
    assert not wire.paused
    wire.clock.advance(IDLE)
    assert wire.closing


def test_a_consumer_that_pauses_while_the_decoder_is_behind() -> None:
    """What is decoded waits in few objects, the socket stays paused until both are ready."""
    basin = Basin(lambda basin, data: basin.producer.pauseProducing())
    wire = Wire(Service(basin))
    count = 3 * chunked.CHUNKS_PER_TURN
    wire.send(CHUNKED, b"1\r\na\r\n" * count)
    for _ in range(5):
        wire.clock.advance(0)
    assert wire.paused
    inbox = wire.channel.requests[0]._inbox
    assert inbox.size == count - len(basin.data)
    assert len(inbox.whole) <= inbox.size // BLOCK
    basin.on_write = None
    basin.producer.resumeProducing()
    assert basin.data == b"a" * count
    assert not wire.paused


def test_small_pieces_of_a_held_body_take_few_objects() -> None:
    """Over TLS more may come after the pause, record by record."""
    service = Service(before=True)
    wire = Wire(service)
    wire.send(head("PUT", "/", f"Content-Length: {LARGE}"))
    for _ in range(LARGE - 1):
        wire.send(b"a")
    inbox = wire.channel.requests[0]._inbox
    assert (inbox.size, inbox.whole) == (LARGE - 1, [])
    assert service.before is not None
    service.before.callback(None)
    assert service.basin.chunks == [b"a" * (LARGE - 1)]


class Counting(Basin):
    """A consumer that wants to know what waits."""

    def __init__(self) -> None:
        super().__init__(lambda basin, data: basin.producer.pauseProducing())
        self.told: list[int] = []

    def backlog(self, size: int) -> None:
        self.told.append(size)


def test_a_consumer_is_told_what_waits_for_it() -> None:
    """So that it can be counted; what goes on is not told as waiting."""
    basin = Counting()
    wire = Wire(Service(basin))
    segment = b"".join(b"%x\r\n%s\r\n" % (LARGE, bytes(LARGE)) for _ in range(3))
    wire.send(CHUNKED, segment)
    assert basin.told == [LARGE, 2 * LARGE]
    basin.producer.resumeProducing()
    assert basin.told[-1] == LARGE
    basin.producer.resumeProducing()
    assert basin.told[-1] == 0


@pytest.mark.parametrize("how", ["lost", "stopped", "malformed", "refused"])
def test_ends_while_the_decoder_is_behind(how: str) -> None:
    """The connection goes, the consumer has enough, or nonsense follows: nothing goes on afterwards."""
    basin = Basin()
    service = Service(basin)
    wire = Wire(service)
    count = 5 * chunked.CHUNKS_PER_TURN
    wire.send(CHUNKED, b"1\r\na\r\n" * count + (b"nonsense" if how == "malformed" else b""))
    if how == "lost":
        wire.lose()
        assert isinstance(service.outcome, Interrupted)
    elif how == "stopped":
        basin.producer.stopProducing()
        assert service.outcome == "poured"
    elif how == "refused":
        wire.channel.loseConnection()
    got = len(basin.data)
    for _ in range(10):
        wire.clock.advance(0)
    if how == "malformed":
        assert len(basin.data) == count
        assert isinstance(service.outcome, Interrupted)
        assert wire.said.startswith(b"HTTP/1.1 400 ")
    else:
        assert len(basin.data) == got
    if how != "lost":
        wire.clock.advance(lingering.LINGER_SECONDS)
        assert wire.closing
        wire.lose()
    assert wire.clock.getDelayedCalls() == []


def test_waiting_for_a_turn_is_not_silence() -> None:
    """Others may be many: the idle timer is for clients."""
    service = Service()
    wire = Wire(service)
    wire.send(CHUNKED, b"1\r\na\r\n" * (4 * chunked.CHUNKS_PER_TURN))
    for _ in range(6):
        wire.clock.advance(IDLE * 0.9)
        if not wire.channel._behind:
            break
    assert service.outcome is None


def test_a_read_ends_with_the_body() -> None:
    """What follows would lie in memory, uncounted, until the answer."""
    service = Service()
    wire = Wire(service)
    wire.send(head("PUT", "/", "Content-Length: 100"))
    assert wire.transport.bufferSize == 100  # type: ignore[attr-defined]
    wire.send(b"a" * 60)
    assert wire.transport.bufferSize == 40  # type: ignore[attr-defined]
    wire.send(b"a" * 40)
    assert wire.transport.bufferSize == reading.HEAD_READ_SIZE  # type: ignore[attr-defined]


# Trailers


BAD_FIELDS = [
    b"no colon\r\n",
    b"A: b\nC: d\r\n",
    b"A: b\n\r\n",
    b"\n\r\n",
    b"A: b\0\r\n",
    b"A\0: b\r\n",
    b"A: b\rC: d\r\n",
    b"\rA: b\r\n",
    b"A : b\r\n",
    b": b\r\n",
    b"b@d: c\r\n",
    b" A: b\r\n",
    b"\xc3\xa4: b\r\n",
]


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("bad", BAD_FIELDS)
def test_malformed_trailers(bad: bytes, together: bool) -> None:
    """400 and close, as for a head; what another reader may take for the next request is not served."""
    service = Service()
    wire = Wire(service)
    rest = b"3\r\nabc\r\n0\r\nSound: yes\r\n" + bad + b"\r\n" + head("GET")
    wire.send(CHUNKED, *([rest] if together else [rest[at : at + 1] for at in range(len(rest))]))
    assert statuses(wire.said) == [400]
    assert b"Connection: close\r\n" in wire.said
    assert len(service.requests) == 1
    assert service.basin.data == b"abc"
    assert isinstance(service.outcome, Interrupted)


@pytest.mark.parametrize("bad", BAD_FIELDS)
def test_heads_refuse_what_trailers_refuse(bad: bytes) -> None:
    service = Service()
    wire = Wire(service)
    wire.send(b"PUT / HTTP/1.1\r\n" + bad + b"Host: h\r\n\r\n")
    assert statuses(wire.said) == [400]
    assert service.requests == []


@pytest.mark.parametrize("doubtful", [b"\n", b"A: b\n", b"A: \0", b"A: b\rC"])
def test_a_trailer_that_never_ends_is_refused_at_once(doubtful: bytes) -> None:
    """Its sender takes it for the end, and waits for the answer."""
    wire = Wire(Service())
    wire.send(CHUNKED, b"3\r\nabc\r\n0\r\n" + doubtful)
    assert statuses(wire.said) == [400]


@pytest.mark.parametrize("together", [True, False])
def test_sound_trailers(together: bool) -> None:
    service = Service()
    wire = Wire(service)
    rest = b"3\r\nabc\r\n0\r\nA:b\r\nX-!#$%&'*+.^_`|~9: \t c:\xff \r\nEmpty:\r\n\r\n"
    wire.send(CHUNKED, *([rest] if together else [rest[at : at + 1] for at in range(len(rest))]))
    assert statuses(wire.said) == [200]
    assert service.outcome == "poured"
