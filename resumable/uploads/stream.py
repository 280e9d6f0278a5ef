"""ChunkedStream: a consumer that cuts a body along the grid and hands the pieces on to be stored."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from attrs import define, field
from google_crc32c import extend
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IConsumer, IProducer, IPushProducer
from zope.interface import implementer

from resumable.model import TooLarge
from resumable.uploads.grid import Grid


@define
class Run:
    """Bytes ``[first, end)`` of one chunk, in memory as the segments they arrived in, in order."""

    number: int
    first: int
    end: int
    segments: list[bytes] = field(factory=list, repr=False)
    crc32c: int = 0

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.end - self.first

    def append(self, data: bytes) -> None:
        """Add a segment; it is kept, not copied."""
        self.segments.append(data)
        self.end += len(data)
        self.crc32c = extend(self.crc32c, data)


@implementer(IConsumer)
class ChunkedStream:
    """Cuts what is written to it into runs that end at the grid's edges, and stores several at a time.

    :ivar position: the offset of the next byte that will be written.

    Back-pressure: with `in_flight` runs being stored the producer is paused. What it writes nevertheless (there may be one
    more segment on the way) is taken. The first run that cannot be stored ends the taking; `drain` tells why.
    """

    def __init__(
        self,
        grid: Grid,
        *,
        position: int,
        skip_to: int,
        limit: int,
        store: Callable[[Run], Awaitable[None]],
        in_flight: int,
    ) -> None:
        """
        :param position: offset of the first byte that will be written.
        :param skip_to: bytes before this offset are stored already and are dropped.
        :param limit: the offset no byte may reach; the stream fails with `TooLarge` there.
        :param store: stores a run; called for several at once, ends when the run is acknowledged.
        :param in_flight: how many runs are stored at a time.
        """
        self.grid = grid
        self.position = position
        self._skip_to = skip_to
        self._limit = limit
        self._store = store
        self._most = in_flight
        self._storing = 0
        self._run: Run | None = None
        self._failure: Exception | None = None
        self._producer: IPushProducer | None = None
        self._paused = False
        self._idle: list[Deferred[None]] = []

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Twisted's: whom to pause. Only push producers are served."""
        assert streaming, "a body is pushed"
        self._producer = IPushProducer(producer)

    def unregisterProducer(self) -> None:
        """Twisted's: no more bytes will come."""
        self._producer = None

    def write(self, data: bytes) -> None:
        """Take one segment. It is cut only where it crosses an edge."""
        if self._failure is not None:
            return
        start = self.position
        self.position = end = start + len(data)
        if end > self._limit:
            self._fail(TooLarge(f"more than {self._limit} bytes"))
            return
        if start < self._skip_to:
            data = data[self._skip_to - start :]
            start = end - len(data)
        while data:
            data = self._fill(data, start)
            start = end - len(data)

    def _fill(self, data: bytes, start: int) -> bytes:
        """Put into the chunk that holds `start` what fits; returns the rest."""
        run = self._run
        if run is None:
            run = self._run = Run(self.grid.number_at(start), start, start)
        room = self.grid.end_of(run.number) - start
        if len(data) < room:
            run.append(data)
            return b""
        run.append(data if len(data) == room else data[:room])
        self._seal()
        return data[room:]

    def _seal(self) -> None:
        run, self._run = self._run, None
        if run is None:
            return
        self._storing += 1
        if self._storing >= self._most and not self._paused and self._producer is not None:
            self._paused = True
            self._producer.pauseProducing()
        ensureDeferred(self._store_run(run))

    async def _store_run(self, run: Run) -> None:
        try:
            await self._store(run)
        except Exception as error:
            self._fail(error)
        # Whoever still holds the run (a traceback, a cycle) shall not hold its bytes.
        run.segments.clear()
        self._storing -= 1
        self._settled()

    def _settled(self) -> None:
        if self._paused and self._storing < self._most:
            self._paused = False
            if self._producer is not None and self._failure is None:
                self._producer.resumeProducing()
        if not self._storing:
            waiting, self._idle = self._idle, []
            for deferred in waiting:
                deferred.callback(None)

    def _fail(self, failure: Exception) -> None:
        if self._failure is None:
            self._failure = failure
            self._run = None
            if self._producer is not None:
                self._producer.stopProducing()

    @property
    def failed(self) -> bool:
        """Whether the taking has ended because something could not be stored."""
        return self._failure is not None

    async def drain(self) -> None:
        """Hand on what is left of a chunk and wait until everything is stored.

        :raises Exception: what the first run that could not be stored failed with, after the others have ended too.
        """
        if self._failure is None:
            self._seal()
        while self._storing:
            deferred: Deferred[None] = Deferred()
            self._idle.append(deferred)
            await deferred
        if self._failure is not None:
            raise self._failure
