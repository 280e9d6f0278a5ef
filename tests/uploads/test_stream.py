"""ChunkedStream: cutting, back-pressure, failures."""

from __future__ import annotations

from itertools import pairwise

import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from zope.interface import implementer

from resumable.blocks import BLOCK, LARGE
from resumable.model import TooLarge, Unavailable
from resumable.uploads.grid import Grid
from resumable.uploads.memory import MemoryBudget
from resumable.uploads.stream import ChunkBuffer, ChunkedStream


@implementer(IPushProducer)
class Producer:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


class Shelf:
    """Stores runs when the test says so."""

    def __init__(self) -> None:
        self.open: list[tuple[ChunkBuffer, Deferred[None]]] = []
        self.stored: dict[int, tuple[int, bytes, int]] = {}

    async def at_once(self, run: ChunkBuffer) -> None:
        self.stored[run.number] = (run.first, b"".join(run.segments), run.crc32c)

    async def later(self, run: ChunkBuffer) -> None:
        done: Deferred[None] = Deferred()
        self.open.append((run, done))
        await done
        await self.at_once(run)


def make(
    shelf: Shelf, grid: Grid, *, position: int = 0, limit: int = 1 << 60, later: bool = False, memory: int = 1 << 60
):
    stream = ChunkedStream(
        grid,
        position=position,
        limit=limit,
        store=shelf.later if later else shelf.at_once,
        in_flight=2,
        budget=MemoryBudget(memory, Clock()),
    )
    producer = Producer()
    stream.registerProducer(producer, True)
    return stream, producer


@given(
    data=st.binary(min_size=1, max_size=400),
    chunk=st.integers(1, 90),
    cuts=st.lists(st.integers(0, 400)),
    known=st.booleans(),
    where=st.integers(0, 399),
)
def test_any_segmentation_gives_the_same_runs(
    data: bytes, chunk: int, cuts: list[int], known: bool, where: int
) -> None:
    """However the network cuts a body, and wherever it begins, the runs are the grid's."""
    position = min(where, len(data) - 1)
    shelf = Shelf()
    grid = Grid(chunk, len(data) if known else None)
    stream, _ = make(shelf, grid, position=position)
    edges = sorted({position, len(data), *(c for c in cuts if position < c < len(data))})
    for first, end in pairwise(edges):
        stream.write(data[first:end])
    ensureDeferred(stream.drain())
    expected = {}
    for number in range(position // chunk + 1, -(-len(data) // chunk) + 1):
        first, end = max(position, (number - 1) * chunk), min(number * chunk, len(data))
        if first < end:
            expected[number] = (first, data[first:end], crc32c(data[first:end]))
    assert shelf.stored == expected


def test_segments_are_not_copied() -> None:
    """What is stored are the very objects that were written, but for those an edge cuts, and small ones."""
    shelf = Shelf()
    stream, _ = make(shelf, Grid(2 * LARGE + 10, None), later=True)
    segments = [letter * LARGE for letter in (b"a", b"b", b"c")]
    stream.write(segments[0])
    stream.write(b"xy")
    for segment in segments[1:]:
        stream.write(segment)
    run = shelf.open[0][0]
    assert run.segments[0] is segments[0]
    assert run.segments[2] is segments[1]
    assert (run.segments[1], run.segments[3]) == (b"xy", b"c" * 8)


def test_small_segments_are_put_together() -> None:
    """A chunk that comes byte by byte is a few blocks: an object for each byte would take fifty times its size."""
    shelf = Shelf()
    size = 3 * BLOCK + 100
    stream, _ = make(shelf, Grid(size, None), later=True)
    data = bytes(index % 251 for index in range(size))
    for index in range(size):
        stream.write(data[index : index + 1])
    run = shelf.open[0][0]
    assert [len(segment) for segment in run.segments] == [BLOCK] * 3 + [100]
    assert b"".join(run.segments) == data
    assert run.crc32c == crc32c(data)


def test_what_lies_with_a_paused_producer_is_counted() -> None:
    """And no more, once it has been written or dropped."""
    shelf = Shelf()
    stream, _ = make(shelf, Grid(100, None), later=True)
    budget = stream._budget
    stream.write(b"a" * 10)
    stream.backlog(1000)
    assert budget.held == 1010
    stream.backlog(980)
    stream.write(b"a" * 20)
    assert budget.held == 1010
    stream.unregisterProducer()
    assert budget.held == 30


def test_more_in_flight_while_there_is_memory() -> None:
    """A store that takes long for each run gets more at a time, until half of the memory is used."""
    shelf = Shelf()
    stream, producer = make(shelf, Grid(4, None), later=True, memory=40)
    for _ in range(5):
        stream.write(b"aaaa")
    assert producer.told == []
    stream.write(b"aaaa")
    assert producer.told == ["pause"]
    shelf.open[0][1].callback(None)
    assert producer.told == ["pause", "resume"]


def test_back_pressure() -> None:
    """With as many runs under way as may be, the producer is paused; it resumes as soon as one is stored."""
    shelf = Shelf()
    stream, producer = make(shelf, Grid(4, None), later=True, memory=14)
    stream.write(b"aaaa")
    assert producer.told == []
    stream.write(b"bbbb")
    assert producer.told == ["pause"]
    stream.write(b"c")  # one segment may be on its way
    shelf.open[1][1].callback(None)
    assert producer.told == ["pause", "resume"]
    drained = ensureDeferred(stream.drain())
    assert not drained.called
    shelf.open[0][1].callback(None)
    shelf.open[2][1].callback(None)
    assert drained.called
    assert {number: data for number, (_, data, _) in shelf.stored.items()} == {1: b"aaaa", 2: b"bbbb", 3: b"c"}


def test_a_run_that_cannot_be_stored_ends_the_taking() -> None:
    """The producer is told to stop, the other runs are waited for, and drain says why."""
    shelf = Shelf()
    stream, producer = make(shelf, Grid(4, None), later=True, memory=14)
    stream.write(b"aaaabb")
    stream.write(b"bb")
    shelf.open[0][1].errback(Unavailable("S3 is away"))
    assert producer.told == ["pause", "stop"]
    stream.write(b"cccc")
    assert len(shelf.open) == 2
    drained = ensureDeferred(stream.drain())
    errors: list[object] = []
    drained.addErrback(lambda failure: errors.append(failure.type))
    assert errors == []
    shelf.open[1][1].callback(None)
    assert errors == [Unavailable]
    assert list(shelf.stored) == [2]


def test_the_limit() -> None:
    """A byte too many ends the taking, and is not stored."""
    shelf = Shelf()
    stream, producer = make(shelf, Grid(4, None), limit=6)
    stream.write(b"aaaabb")
    stream.write(b"b")
    assert producer.told == ["stop"]
    drained = ensureDeferred(stream.drain())
    failures: list[object] = []
    drained.addErrback(lambda failure: failures.append(failure.type))
    assert failures == [TooLarge]
    assert list(shelf.stored) == [1]


def test_bytes_are_let_go_when_stored() -> None:
    """A stored run keeps no bytes, whoever still holds the run: memory would grow by whole parts."""
    shelf = Shelf()
    stream, _ = make(shelf, Grid(4, None), later=True)
    stream.write(b"aaaa")
    run, done = shelf.open.pop()
    done.callback(None)
    assert run.segments == []


def test_only_push_producers() -> None:
    """A body is pushed; a pull producer would never be asked."""
    stream = ChunkedStream(
        Grid(4, None), position=0, limit=9, store=Shelf().at_once, in_flight=1, budget=MemoryBudget(9, Clock())
    )
    with pytest.raises(AssertionError):
        stream.registerProducer(Producer(), False)


def test_room_is_what_is_left_of_the_chunk() -> None:
    """From wherever the stream begins, and behind an edge the whole next chunk: who reads no more is never cut."""
    shelf = Shelf()
    stream, _ = make(shelf, Grid(10, 25), position=3)
    rooms = [stream.room]
    for size in (2, 5, 10):
        stream.write(bytes(size))
        rooms.append(stream.room)
    assert rooms == [7, 5, 10, 10]
