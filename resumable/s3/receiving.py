"""An object's bytes to a consumer: read range by range, so that each is tried again alone, and no faster than they are taken."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IProtocol, IPushProducer
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from zope.interface import implementer

from resumable.s3.sending import Stopped
from resumable.stores.port import StoredObject
from resumable.stores.s3.client import S3Store

#: Bytes that are asked for with one request. The next are asked for while these are handed over.
RANGE = 8 << 20


@implementer(IPushProducer)
class Delivery:
    """Hands an object's bytes over, from `first` (inclusive) to `end` (exclusive; None: to the object's end).

    All are of one object: if another takes its place meanwhile, the delivery fails (`PreconditionFailed`).
    """

    def __init__(self, store: S3Store, bucket: str, key: str, first: int, end: int | None) -> None:
        self._store = store
        self._where = bucket, key
        self._first = first
        self._end = end
        self._paused = self._stopped = False
        self._waiting: Deferred[None] | None = None

    async def to_consumer(self, consumer: IConsumer) -> StoredObject:
        """Write the bytes to a consumer, as a push producer. Return what the store says of the object.

        :raises Stopped: the consumer wants no more.
        """
        found = await self._look()
        consumer.registerProducer(self, True)
        try:
            await self._deliver(found, consumer.write)
        finally:
            consumer.unregisterProducer()
        return found

    async def to_protocol(self, receiver: IProtocol) -> StoredObject:
        """Hand the bytes to a protocol, as `IResponse.deliverBody` does. Return what the store says of the object.

        Its ``connectionLost`` gets `ResponseDone` at the end, or the failure.
        """
        found = await self._look()
        receiver.makeConnection(self)  # type: ignore[arg-type]
        try:
            await self._deliver(found, receiver.dataReceived)
        except BaseException:
            receiver.connectionLost(Failure())
            raise
        receiver.connectionLost(Failure(ResponseDone("Response body fully received")))
        return found

    async def to_function(self, write: Callable[[bytes], Any]) -> None:
        """Hand the bytes to a function, which takes them all."""
        await self._deliver(await self._look(), write)

    async def _look(self) -> StoredObject:
        return (await self._store.look_at(*self._where))[0]

    async def _deliver(self, found: StoredObject, write: Callable[[bytes], Any]) -> None:
        end = found.size if self._end is None else min(self._end, found.size)
        spans = [(at, min(at + RANGE, end)) for at in range(self._first, end, RANGE)]
        coming: Deferred[list[bytes]] | None = None
        try:
            for number, span in enumerate(spans):
                segments = await (coming or self._read(found, span))
                coming = self._read(found, spans[number + 1]) if number + 1 < len(spans) else None
                for segment in segments:
                    await self._go_on()
                    write(segment)
                segments.clear()
            await self._go_on()
        finally:
            if coming is not None:
                coming.addErrback(lambda _: None)
                coming.cancel()

    def _read(self, found: StoredObject, span: tuple[int, int]) -> Deferred[list[bytes]]:
        reading = partial(self._store.get_object, *self._where, limit=span[1] - span[0], span=span, etag=found.etag)
        return Deferred.fromCoroutine(reading())

    async def _go_on(self) -> None:
        """Wait until more is wanted.

        :raises Stopped: that will not be.
        """
        while self._paused and not self._stopped:
            waiting = self._waiting = Deferred()
            await waiting
        if self._stopped:
            raise Stopped

    def pauseProducing(self) -> None:
        """Hand nothing over for now."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Go on."""
        self._paused = False
        self._wake()

    def stopProducing(self) -> None:
        """Hand nothing over any more."""
        self._stopped = True
        self._wake()

    loseConnection = abortConnection = stopProducing

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)
