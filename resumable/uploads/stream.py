"""ChunkedStream: a consumer that cuts a body along the grid and hands the pieces on to be stored."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IConsumer, IProducer, IPushProducer
from zope.interface import implementer

from resumable.blocks import Blocks
from resumable.model import TooLarge
from resumable.uploads.digest import BodyDigest
from resumable.uploads.grid import Grid
from resumable.uploads.marks import Marker
from resumable.uploads.memory import MemoryBudget


@define
class ChunkBuffer(Marker):
    """Bytes ``[first, end)`` of the chunk `number`, in memory, as the segments they arrived in. Small ones are put together.

    :ivar segments: all of it, once `seal` has been called.
    """

    number: int = field(kw_only=True)
    segments: list[bytes] = field(factory=list, repr=False, kw_only=True)
    _blocks: Blocks = field(factory=Blocks, init=False, repr=False)

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.end - self.first

    def append(self, data: bytes) -> None:
        """Add a segment; unless it is small it is kept, not copied."""
        self._blocks.add(data)
        self.mark(data)

    def seal(self) -> None:
        """Make segments of all that was added: no more will be."""
        self.segments += self._blocks.seal()
        self._blocks.clear()


@implementer(IConsumer)
class ChunkedStream:
    """Cuts what is written to it into runs that end at the grid's edges, and stores several at a time.

    :ivar first: the offset of the first byte that was or will be written.
    :ivar position: the offset of the next one.
    :ivar stored_to: bytes before this offset were stored before they came.
    :ivar room: bytes from there to the next edge; whoever reads no more than that at once saves it the cutting, which copies.

    Back-pressure: with `in_flight` runs being stored, or when the budget says so, the producer is paused. What it writes
    nevertheless (there may be one more segment on the way) is taken. The first run that cannot be stored ends the taking;
    `drain` tells why.
    """

    def __init__(
        self,
        grid: Grid,
        *,
        position: int,
        stored_to: int = 0,
        limit: int,
        store: Callable[[ChunkBuffer], Awaitable[None]],
        in_flight: int,
        budget: MemoryBudget,
        received: Callable[[int], object] = lambda _: None,
    ) -> None:
        """
        :param position: offset of the first byte that will be written.
        :param stored_to: bytes before this offset are stored already: that they come again is no news.
        :param limit: the offset no byte may reach; the stream fails with `TooLarge` there.
        :param store: stores a run; called for several at once, ends when the run is acknowledged.
        :param in_flight: how many runs are stored at a time.
        :param budget: counts the bytes held.
        :param received: is told, now and then, how many more bytes were written.
        """
        self.grid = grid
        self.first = self.position = position
        self.room = grid.chunk_size - position % grid.chunk_size
        self.stored_to = stored_to
        self._limit = limit
        self._store = store
        self._most = in_flight
        self._budget = budget
        self._received = received
        self._told = position
        self._storing = 0
        self._buffer: ChunkBuffer | None = None
        self._failure: Exception | None = None
        self._producer: IPushProducer | None = None
        self._held = False
        self._paused = False
        self._behind = 0
        self._touched = False
        self._idle: list[Deferred[None]] = []

    # IConsumer

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Remember whom to pause (Twisted's). Only push producers are served."""
        assert streaming, "a body is pushed"
        self._producer = IPushProducer(producer)
        self._budget.join(self)
        self._steer()

    def unregisterProducer(self) -> None:
        """Note that no more bytes will come (Twisted's)."""
        self._producer = None
        self._budget.leave(self)
        # What the producer still had it has let go.
        behind, self._behind = self._behind, 0
        if behind:
            self._budget.give(behind, moved=False)
        self._tell()

    def backlog(self, size: int) -> None:
        """Be told how many bytes lie with the producer because we have paused it: they take memory like any others."""
        self._budget.wait(size - self._behind)
        self._behind = size

    def write(self, data: bytes) -> None:
        """Take one segment. It is cut only where it crosses an edge."""
        if self._failure is not None:
            return
        start = self.position
        self.position = end = start + len(data)
        self.room = self.grid.chunk_size - end % self.grid.chunk_size
        self._touched = True
        if end > self._limit:
            self.fail(TooLarge(f"more than {self._limit} bytes"))
            return
        size = len(data)
        while data and self._failure is None:
            data = self._fill(data, start)
            start = end - len(data)
        if size:
            # Only now: a budget that is used up may spill the run that has just grown.
            self._budget.take(size - len(data), by=self)

    def _fill(self, data: bytes, start: int) -> bytes:
        """Put into the chunk that holds `start` what fits; returns the rest."""
        buffer = self._buffer
        if buffer is None:
            buffer = self._buffer = ChunkBuffer(start, start, number=self.grid.number_at(start))
        room = self.grid.end_of(buffer.number) - start
        if len(data) < room:
            buffer.append(data)
            return b""
        buffer.append(data if len(data) == room else data[:room])
        self.spill()
        return data[room:]

    # Storing

    def spill(self) -> None:
        """Hand on what there is of a chunk, as it is."""
        buffer, self._buffer = self._buffer, None
        if buffer is None:
            return
        buffer.seal()
        self._storing += 1
        self._tell()
        self._budget.move(buffer.size)
        self._steer()
        ensureDeferred(self._store_run(buffer))

    def _tell(self) -> None:
        """Have the bytes counted that were written since the last time."""
        told, self._told = self._told, self.position
        self._received(self.position - told)

    async def _store_run(self, buffer: ChunkBuffer) -> None:
        try:
            await self._store(buffer)
        except Exception as error:
            self.fail(error)
        # Whoever still holds the run (a traceback, a cycle) shall not hold its bytes.
        buffer.segments.clear()
        self._stored(buffer.size)

    def _stored(self, size: int) -> None:
        """Count one less that is being stored, and its bytes as gone from memory."""
        self._storing -= 1
        self._budget.give(size)
        self._steer()
        if not self._storing:
            waiting, self._idle = self._idle, []
            for deferred in waiting:
                deferred.callback(None)

    def checkpoint(self) -> None:
        """Store what was brought, if nothing has come since the last call; called by the clock.

        A stream that is made to wait is not silent, and one that repeats what is stored is left to it: as a whole chunk it can be
        compared as a whole.
        """
        if not self._touched and not self._paused and self._failure is None and self.position > self.stored_to:
            self.spill()
        self._touched = False

    def fail(self, reason: Exception) -> None:
        """Take no more; `drain` will raise `reason`. What is being stored goes on."""
        if self._failure is None:
            self._failure = reason
            buffer, self._buffer = self._buffer, None
            if buffer is not None:
                self._budget.give(buffer.size, moved=False)
            self._stop()

    def end(self, reason: Exception) -> None:
        """Take no more, but store what was taken; `drain` will raise `reason` unless something worse happens."""
        if self._failure is None:
            self.spill()
            if self._failure is None:
                self._failure = reason
                self._stop()

    def _stop(self) -> None:
        if self._producer is not None:
            self._producer.stopProducing()

    @property
    def failed(self) -> bool:
        """Whether the taking has ended before the body."""
        return self._failure is not None

    @property
    def failure(self) -> Exception | None:
        """Why the taking has ended before the body; None while it has not."""
        return self._failure

    async def drain(self) -> None:
        """Hand on what is left of a chunk and wait until everything is stored.

        :raises Exception: what the taking ended with, or the first run that could not be stored failed with.
        """
        if self._failure is None:
            self.spill()
        await self.settle()
        if self._failure is not None:
            raise self._failure

    async def settle(self) -> None:
        """Wait until all that was handed on is stored, or could not be."""
        while self._storing:
            deferred: Deferred[None] = Deferred()
            self._idle.append(deferred)
            await deferred

    def overlaps(self, first: int, end: int | None) -> bool:
        """Say whether the bytes that this stream was opened for, written or not, meet ``[first, end)``."""
        return first < self._limit and (end is None or self.first < end)

    # Back-pressure

    @property
    def partial(self) -> int:
        """See `resumable.uploads.memory.Holder`."""
        return 0 if self._buffer is None else self._buffer.size

    @property
    def behind(self) -> int:
        """See `resumable.uploads.memory.Holder`."""
        return self._behind

    @property
    def silent(self) -> bool:
        """See `resumable.uploads.memory.Holder`."""
        return not self._touched

    def hold(self) -> None:
        """See `resumable.uploads.memory.Holder`."""
        self._held = True
        self._steer()

    def release(self) -> None:
        """See `resumable.uploads.memory.Holder`."""
        self._held = False
        self._steer()

    def _steer(self) -> None:
        """Let the producer run or rest."""
        if self._producer is None or self._failure is not None:
            return
        rest = self._held or self._storing >= self._most
        if rest and not self._paused:
            self._paused = True
            self._producer.pauseProducing()
        elif self._paused and not rest:
            self._paused = False
            self._producer.resumeProducing()


class HeldStream(ChunkedStream):
    """A stream whose bytes count together or not at all: a digest of them is verified when all have come."""

    def __init__(self, grid: Grid, *, digest: BodyDigest, **how: Any) -> None:
        """
        :param how: as for `ChunkedStream`.
        """
        super().__init__(grid, **how)
        self._digest = digest
        self._verified = False

    def write(self, data: bytes) -> None:
        """Take one segment, and have the digest look at it as it is."""
        if not self.failed:
            self._digest.update(data)
        super().write(data)

    def end(self, reason: Exception) -> None:
        """Take no more. What was taken does not count, so there is no need to store it; unless all has come and is right."""
        if self._verified:
            super().end(reason)
        else:
            self.fail(reason)

    async def verify(self, accept: Callable[[], Awaitable[None]]) -> None:
        """Verify the digest once the body has come, and accept what was stored. `settle` waits for that too.

        What either raises fails the stream; `drain` raises it. A stream that has failed before verifies nothing.
        """
        if self.failed:
            return
        self._storing += 1
        try:
            await self._digest.verify()
            # The client may have come back meanwhile, on another connection, which waits until this is settled.
            if not self.failed:
                self._verified = True
                await accept()
        except Exception as error:
            self.fail(error)
        finally:
            self._stored(0)
