"""The bytes of finished uploads, read back one after the other, as the body of another upload."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IPushProducer
from zope.interface import implementer

from resumable.model import Upload
from resumable.stores.port import Damaged, PreconditionFailed, Store
from resumable.uploads.limiter import ReadBackLimiter
from resumable.uploads.readback import Lent

#: The most bytes that are read with one request.
READ = 4 << 20


@implementer(IPushProducer)
class StoredBody:
    """Bytes of finished uploads, from an offset on, as if they were one.

    :param sources: the uploads, in order.
    :param offset: of the first byte that is wanted, in bytes.
    :param read_back: limits the bytes that are read at a time.
    """

    def __init__(self, store: Store, read_back: ReadBackLimiter, sources: Sequence[Upload], offset: int) -> None:
        self._store = store
        self._read_back = read_back
        self._sources = sources
        self._offset = offset
        self._stopped = self._paused = False
        self._waiting: Deferred[None] | None = None

    async def pour_into(self, consumer: IConsumer) -> None:
        """Give everything to `consumer`; returns at the end, or when the consumer wants no more.

        :raises StoreError: the store refuses, or is in trouble.
        """
        consumer.registerProducer(self, True)
        try:
            for source, first, end in self._ranges():
                await self._turn()
                if self._stopped:
                    return
                # The room is given back before anything is written, for the consumer may need it to store what it has.
                for segment in await self._read(source, first, end):
                    await self._turn()
                    if self._stopped:
                        return
                    consumer.write(segment)
        finally:
            consumer.unregisterProducer()

    def _ranges(self) -> Iterator[tuple[Upload, int, int]]:
        skipped = self._offset
        for source in self._sources:
            size = source.length or 0
            first = min(skipped, size)
            skipped -= first
            for begin in range(first, size, READ):
                yield source, begin, min(begin + READ, size)

    async def _read(self, source: Upload, first: int, end: int) -> list[bytes]:
        async with Lent(self._read_back, end - first):
            return await read_extent(self._store, source, first, end)

    async def _turn(self) -> None:
        while self._paused and not self._stopped:
            self._waiting = Deferred()
            await self._waiting

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def pauseProducing(self) -> None:
        """See `IPushProducer`."""
        self._paused = True

    def resumeProducing(self) -> None:
        """See `IPushProducer`."""
        self._paused = False
        self._wake()

    def stopProducing(self) -> None:
        """See `IPushProducer`."""
        self._stopped = True
        self._wake()


async def read_extent(store: Store, source: Upload, first: int, end: int, *, etag: str | None = None) -> list[bytes]:
    """Return bytes ``[first, end)`` of a finished upload's object.

    :param etag: the object's, where that is not in the ledger yet.
    :raises Damaged: there are fewer, or it is another object.
    """
    span = (first, end)
    try:
        segments = await store.get_object(
            source.bucket, source.key, limit=end - first, span=span, etag=etag or source.etag
        )
    except PreconditionFailed as error:
        raise other_object() from error
    if sum(map(len, segments)) != end - first:
        raise Damaged("ShortObject", f"bytes {first}-{end - 1} of a partial upload are not all there")
    return segments


def other_object() -> Damaged:
    """Return what is to be said where a partial upload's object has another ETag than when it was made."""
    return Damaged("SourceChanged", "the object of a partial upload is another one, of other bytes")
