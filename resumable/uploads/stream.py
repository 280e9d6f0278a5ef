"""ChunkedStream: a consumer that cuts a body along the grid and hands the pieces on to be stored."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IConsumer, IProducer, IPushProducer, IReactorTime
from zope.interface import implementer

from resumable.blocks import Blocks
from resumable.clock import cancel_if_active
from resumable.model import TooLarge
from resumable.uploads.digest import BodyDigest
from resumable.uploads.grid import Grid
from resumable.uploads.marks import Marker
from resumable.uploads.memory import MemoryBudget

#: Buffers of one stream that are stored at a time at the most, however much memory there is.
MOST = 32


@define
class ChunkBuffer(Marker):
    """Bytes ``[first, end)`` of the chunk `number`, in memory, in the segments they arrived in.

    Small segments are joined.

    :ivar segments: all the bytes, once `seal` has been called.
    """

    number: int = field(kw_only=True)
    segments: list[bytes] = field(factory=list, repr=False, kw_only=True)
    _blocks: Blocks = field(factory=Blocks, init=False, repr=False)

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.end - self.first

    def append(self, data: bytes) -> None:
        """Add a segment. Only a small one is copied."""
        self._blocks.add(data)
        self.mark(data)

    def seal(self) -> None:
        """Move all bytes into `segments`. Nothing may be added after this."""
        self.segments += self._blocks.seal()
        self._blocks.clear()


@implementer(IConsumer)
class ChunkedStream:
    """Cuts what is written to it into buffers that end at the edges of the grid's chunks, and stores several at a time.

    A buffer of a chunk that is too large for memory ends at the edge of a cell.

    :ivar first: the offset of the first byte that was or will be written.
    :ivar position: the offset of the next byte to be written.
    :ivar stored_to: bytes before this offset were stored before they came.
    :ivar room: bytes from `position` to the next such edge. A producer that reads no more than this at once avoids cutting a
        segment, which copies.

    The producer is paused while `in_flight` buffers are being stored and there is no memory for more, or when the
    budget demands it. A segment that it writes nevertheless (one may be on its way) is taken. The first buffer that
    cannot be stored fails the stream: it takes no more bytes, and `drain` raises the reason.
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
        :param stored_to: bytes before this offset are stored already, and only come again.
        :param limit: the exclusive end of what may be written; the stream fails with `TooLarge` beyond it.
        :param store: stores a buffer, and returns when its bytes are acknowledged. Called for several at once.
        :param in_flight: how many buffers are stored at a time. There may be more as long as half of the budget is free:
            a store that takes long for each is as fast with many at a time.
        :param budget: counts the bytes held.
        :param received: called now and then with the number of bytes written since the last call.
        """
        self.grid = grid
        self.first = self.position = position
        self._edge = grid.cell_at(position)[1]
        self.room = self._edge - position
        self.stored_to = stored_to
        self._limit = limit
        self._store = store
        self._most = in_flight
        self._budget = budget
        self._received = received
        self._told = position
        self._storing = 0
        self._buffer: ChunkBuffer | None = None
        #: The offset at which the buffer ends when it is full.
        self._full = position
        self._failure: Exception | None = None
        self._producer: IPushProducer | None = None
        self._held = False
        self._paused = False
        self._behind = 0
        #: See `resumable.uploads.memory.Holder`, also for `silent`. Attributes: the budget looks at those of all streams.
        self.partial = 0
        self.silent = True
        self._idle: list[Deferred[None]] = []

    # IConsumer

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Remember the producer to pause (called by Twisted). It has to be a push producer."""
        assert streaming, "a body is pushed"
        self._producer = IPushProducer(producer)
        self._budget.join(self)
        self._steer()

    def unregisterProducer(self) -> None:
        """Note that no more bytes will come (called by Twisted)."""
        self._producer = None
        self._budget.leave(self)
        # The producer has let go of the bytes that it still had.
        behind, self._behind = self._behind, 0
        if behind:
            self._budget.give(behind, moved=False)
        self._tell()

    def backlog(self, size: int) -> None:
        """Count the bytes that the producer has read and holds because it is paused. They take memory like any others.

        :param size: bytes it holds now.
        """
        self._budget.wait(size - self._behind)
        self._behind = size

    def write(self, data: bytes) -> None:
        """Take one segment. It is cut only if it crosses an edge of the grid."""
        if self._failure is not None:
            return
        start = self.position
        self.position = end = start + len(data)
        if end >= self._edge:
            self._edge = self.grid.cell_at(end)[1]
        self.room = self._edge - end
        self.silent = False
        if end > self._limit:
            self.fail(TooLarge(f"more than {self._limit} bytes"))
            return
        size, storing = len(data), self._storing
        while data and self._failure is None:
            data = self._fill(data, start)
            start = end - len(data)
        if size:
            # Only now, because a budget that is used up may spill the buffer that has just grown.
            self._budget.take(size - len(data), by=self)
            if self._storing > storing:
                self._steer()

    def _fill(self, data: bytes, start: int) -> bytes:
        """Put what fits into the buffer of the chunk that holds offset `start`. Return the rest."""
        buffer = self._buffer
        if buffer is None:
            number = self.grid.number_at(start)
            buffer = self._buffer = ChunkBuffer(start, start, number=number)
            self._full = min(self.grid.end_of(number), self.grid.cell_at(start)[1])
        room = self._full - start
        if len(data) < room:
            buffer.append(data)
            self.partial += len(data)
            return b""
        buffer.append(data if len(data) == room else data[:room])
        self.spill()
        return data[room:]

    # Storing

    def spill(self) -> None:
        """Have the bytes of the unfinished chunk stored as they are."""
        buffer, self._buffer = self._buffer, None
        if buffer is None:
            return
        self.partial = 0
        buffer.seal()
        self._storing += 1
        self._tell()
        self._budget.move(buffer.size)
        self._steer()
        ensureDeferred(self._store_run(buffer))

    def _tell(self) -> None:
        """Report how many bytes were written since the last report."""
        told, self._told = self._told, self.position
        self._received(self.position - told)

    async def _store_run(self, buffer: ChunkBuffer) -> None:
        try:
            await self._store(buffer)
        except Exception as error:
            self.fail(error)
        # Something (a traceback, a reference cycle) may still hold the buffer. It must not hold the bytes.
        buffer.segments.clear()
        self._stored(buffer.size)

    def _stored(self, size: int) -> None:
        """Note that a buffer is not being stored any more, and that its bytes have left memory."""
        self._storing -= 1
        self._budget.give(size)
        self._steer()
        if not self._storing:
            waiting, self._idle = self._idle, []
            for deferred in waiting:
                deferred.callback(None)

    def checkpoint(self) -> None:
        """Have the unfinished chunk stored if nothing has come since the last call. Called by the clock.

        A stream that is told to wait does not count as silent. Nor is a chunk stored early while the client repeats
        stored bytes: a whole chunk can be compared as a whole.
        """
        if self.silent and not self._paused and self._failure is None and self.position > self.stored_to:
            self.spill()
        self.silent = True

    def fail(self, reason: Exception) -> None:
        """Take no more bytes; `drain` will raise `reason`. Buffers that are being stored go on."""
        if self._failure is None:
            self._failure = reason
            buffer, self._buffer = self._buffer, None
            if buffer is not None:
                self.partial = 0
                self._budget.give(buffer.size, moved=False)
            self._stop()

    def end(self, reason: Exception) -> None:
        """Take no more bytes, but store those taken; `drain` will raise `reason` unless the stream fails first."""
        if self._failure is None:
            self.spill()
            if self._failure is None:
                self._failure = reason
                self._stop()

    def _stop(self) -> None:
        if self._producer is not None:
            self._producer.stopProducing()

    @property
    def draining(self) -> bool:
        """Whether no more bytes will come, and those that came are still being stored."""
        return self._producer is None and bool(self._storing or self._buffer is not None)

    async def settle_within(self, seconds: float, clock: IReactorTime) -> None:
        """Wait as `settle` does, but no longer than so many seconds."""
        if not self._storing:
            return
        waiting: Deferred[None] = Deferred()
        self._idle.append(waiting)

        def give_up() -> None:
            self._idle.remove(waiting)
            waiting.callback(None)

        giving_up = clock.callLater(seconds, give_up)
        await waiting
        cancel_if_active(giving_up)

    @property
    def failed(self) -> bool:
        """Whether the stream stopped taking bytes before the body ended."""
        return self._failure is not None

    @property
    def failure(self) -> Exception | None:
        """Why the stream stopped taking bytes before the body ended; None if it has not."""
        return self._failure

    async def drain(self) -> None:
        """Have the unfinished chunk stored, and wait until everything is stored.

        :raises Exception: the reason given to `fail` or `end`, or the error of the first buffer that could not be
            stored.
        """
        if self._failure is None:
            self.spill()
        await self.settle()
        if self._failure is not None:
            raise self._failure

    async def settle(self) -> None:
        """Wait until no buffer is being stored any more, whether they could be stored or not."""
        while self._storing:
            deferred: Deferred[None] = Deferred()
            self._idle.append(deferred)
            await deferred

    def overlaps(self, first: int, end: int | None) -> bool:
        """Say whether ``[first, end)`` overlaps with the bytes that this stream was opened for, written or not."""
        return first < self._limit and (end is None or self.first < end)

    # Back-pressure

    @property
    def behind(self) -> int:
        """See `resumable.uploads.memory.Holder`."""
        return self._behind

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
        busy = self._storing >= self._most and (self._storing >= MOST or not self._budget.roomy)
        rest = self._held or busy
        if rest and not self._paused:
            self._paused = True
            self._producer.pauseProducing()
        elif self._paused and not rest:
            self._paused = False
            self._producer.resumeProducing()


class HeldStream(ChunkedStream):
    """A stream whose bytes are accepted all together or not at all: a digest is verified when all have come."""

    def __init__(self, grid: Grid, *, digest: BodyDigest, **how: Any) -> None:
        """
        :param how: as for `ChunkedStream`.
        """
        super().__init__(grid, **how)
        self._digest = digest
        self._verified = False

    def write(self, data: bytes) -> None:
        """Take one segment, and feed it to the digest without a copy."""
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
        """Verify the digest once the body has come, then accept what was stored. `settle` waits for that too.

        If either raises, the stream fails, and `drain` raises the error. A stream that failed before verifies nothing.
        """
        if self.failed:
            return
        self._storing += 1
        try:
            await self._digest.verify()
            # Meanwhile the client may have come back on another connection, which waits until this stream is settled.
            if not self.failed:
                self._verified = True
                await accept()
        except Exception as error:
            self.fail(error)
        finally:
            self._stored(0)
