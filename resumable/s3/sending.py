"""Bodies from producers: what an `IBodyProducer` writes is cut in parts, and it is paused while enough is in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from hashlib import md5
from typing import Any

from crc32c import crc32c as crc32c_of
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IConsumer
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface import implementer

from resumable.model import ObjectOptions
from resumable.stores.port import Made, NoSuchUpload, PartRef, Store, StoreError, StoreLimits

#: Bytes of a part, unless the body is so long that its parts have to be larger.
PART = 8 << 20
#: Parts that are stored at a time.
IN_FLIGHT = 2
#: How often the size of parts doubles at most, where the length is not known: each time after a tenth of all the parts
#: that the store takes.
DOUBLINGS = 10
#: How often a multipart upload is aborted that the store has more parts of afterwards.
ABORTS = 3


class WrongLength(Exception):
    """A body producer wrote more or fewer bytes than its `length` says. Nothing was stored."""


class Stopped(Exception):
    """Whoever takes an object's bytes wants no more of them."""


def checksum_of(segments: list[bytes]) -> int:
    """Return the CRC32C of the segments, one after the other."""
    running = 0
    for segment in segments:
        running = crc32c_of(segment, running)
    return running


@implementer(IConsumer)
class Feed:
    """Takes what a body producer writes, and gives it out in pieces of the sizes that are asked for."""

    def __init__(self, producer: IBodyProducer) -> None:
        self._producer = producer
        self._length: Any = producer.length
        self._segments: deque[bytes] = deque()
        self._held = self._taken = 0
        self._wanted = 0
        self._waiting: Deferred[None] | None = None
        self._began = self._ended = self._paused = False
        self._error: Failure | None = None

    @property
    def length(self) -> int | None:
        """How many bytes the producer says it has; None if it does not know."""
        return None if self._length is UNKNOWN_LENGTH else int(self._length)

    def write(self, data: bytes) -> None:
        """Take the next bytes. The producer is paused as soon as there are as many as are wanted now."""
        if self._ended:
            return
        self._segments.append(data)
        self._held += len(data)
        self._taken += len(data)
        if self.length is not None and self._taken > self.length:
            self._fail(Failure(WrongLength(f"the body has more than {self.length} bytes")))
            self._producer.stopProducing()
        elif self._held >= self._wanted:
            self._pause()
            self._wake()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Do nothing: the body producer is known already."""

    def unregisterProducer(self) -> None:
        """Do nothing: its Deferred says when a body producer has written everything."""

    async def take(self, size: int) -> list[bytes]:
        """Return the next bytes, in segments: `size` of them, or all that are left.

        :raises WrongLength: they are more or fewer than the producer said.
        """
        self._wanted = size
        if not self._began:
            self._began = True
            self._producer.startProducing(self).addCallbacks(self._all, self._fail)
        while self._held < size and not self._ended:
            waiting = self._waiting = Deferred()
            self._resume()
            await waiting
        if self._error is not None:
            self._error.raiseException()
        taken: list[bytes] = []
        while self._segments and size:
            segment = self._segments.popleft()
            if len(segment) > size:
                self._segments.appendleft(segment[size:])
                segment = segment[:size]
            taken.append(segment)
            size -= len(segment)
            self._held -= len(segment)
        return taken

    def stop(self) -> None:
        """Forget what is left: nobody wants it."""
        self._segments.clear()
        if self._began and not self._ended:
            self._ended = True
            self._producer.stopProducing()

    def _pause(self) -> None:
        if not self._paused and not self._ended:
            self._paused = True
            self._producer.pauseProducing()

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            self._producer.resumeProducing()

    def _all(self, _: object) -> None:
        if self.length is not None and self._taken < self.length and self._error is None:
            self._error = Failure(WrongLength(f"the body has {self._taken} bytes, and said {self.length}"))
        self._ended = True
        self._wake()

    def _fail(self, failure: Failure) -> None:
        self._ended = True
        self._error = self._error or failure
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.callback(None)


def part_size(number: int, length: int | None, limits: StoreLimits) -> int:
    """Return the bytes of part `number` (from 1) of a body, whose length may not be known.

    :raises WrongLength: no object can have so many.
    """
    if length is None:
        if limits.equal_parts:
            return PART
        return min(PART << (number - 1) * DOUBLINGS // limits.parts, limits.largest_part)
    if length > limits.largest_object:
        raise WrongLength(f"an object has at most {limits.largest_object} bytes, and not {length}")
    return max(PART, -(-length // limits.parts))


class Sender:
    """Stores objects whose bytes come from producers.

    :param checksum: whether the CRC32C of what is sent is computed, and sent along.
    """

    _log = Logger()

    def __init__(self, store: Store, *, checksum: bool) -> None:
        self._store = store
        self._checksum = checksum

    def checksum(self, segments: list[bytes]) -> int | None:
        """Return the CRC32C to send along; None if none is sent."""
        return checksum_of(segments) if self._checksum else None

    async def put(self, bucket: str, key: str, options: ObjectOptions, producer: IBodyProducer) -> Made:
        """Store an object: in one request if it is not longer than a part, else as a multipart upload.

        If it fails there is no object, and nothing is left of it.

        :raises WrongLength: the producer wrote more or fewer bytes than it said, or more than an object can have.
        """
        feed = Feed(producer)
        try:
            limits, length = self._store.limits, feed.length
            begun = [await feed.take(part_size(number, length, limits)) for number in (1, 2)]
            if not begun[1]:
                return await self._store.put_object(bucket, key, begun[0], options, crc32c=self.checksum(begun[0]))
            return await self._in_parts(bucket, key, options, begun, feed)
        except BaseException:
            feed.stop()
            raise

    async def collect(self, producer: IBodyProducer) -> list[bytes]:
        """Return all that a producer writes, up to the most bytes of a part. Errors as `put`."""
        feed, most = Feed(producer), self._store.limits.largest_part
        try:
            collected = await feed.take(most)
            if await feed.take(1):
                raise WrongLength(f"a part has at most {most} bytes")
            return collected
        except BaseException:
            feed.stop()
            raise

    async def _in_parts(
        self, bucket: str, key: str, options: ObjectOptions, begun: list[list[bytes]], feed: Feed
    ) -> Made:
        upload_id = await self._open(bucket, key, options)

        def stored(number: int, body: list[bytes]) -> Callable[[], Coroutine[Any, Any, PartRef]]:
            async def store() -> PartRef:
                crc32c = self.checksum(body)
                etag = await self._store.upload_part(bucket, key, upload_id, number, body, crc32c=crc32c)
                return PartRef(number, etag, crc32c)

            return store

        async def works() -> AsyncIterator[Callable[[], Coroutine[Any, Any, PartRef]]]:
            number, limits = 0, self._store.limits
            while body := begun.pop(0) if begun else await feed.take(part_size(number + 1, feed.length, limits)):
                number += 1
                if number > limits.parts:
                    raise WrongLength(f"the body has more than {limits.parts} parts: say its length")
                yield stored(number, body)

        try:
            parts = await _pipelined(works(), IN_FLIGHT)
            return await self.complete(bucket, key, upload_id, parts)
        except BaseException:
            await self._abort(bucket, key, upload_id)
            raise

    async def complete(self, bucket: str, key: str, upload_id: str, parts: list[PartRef]) -> Made:
        """Make the object of the parts.

        After a try whose answer was lost some stores no longer know the multipart upload. Then the object's ETag, which
        follows from those of the parts, says whether it was made.

        :raises NoSuchUpload: the multipart upload is not there, and its object neither, as far as can be told.
        """
        try:
            return await self._store.complete_multipart_upload(bucket, key, upload_id, parts)
        except NoSuchUpload:
            wanted = composite_etag([part.etag for part in parts])
            found = await self._store.head_object(bucket, key) if wanted is not None else None
            if found is None or found.etag != wanted:
                raise
            return Made(found.etag)

    async def _open(self, bucket: str, key: str, options: ObjectOptions) -> str:
        """Open a multipart upload.

        If it is cancelled, wait for the id all the same: without the id nobody can abort it.
        """
        outcomes: list[str | Failure] = []
        waiting: Deferred[None] = Deferred()

        def told(outcome: str | Failure) -> None:
            outcomes.append(outcome)
            waiting.callback(None)

        Deferred.fromCoroutine(self._store.init_multipart_upload(bucket, key, options)).addBoth(told)
        try:
            await waiting
        except CancelledError:
            if not outcomes:
                waiting = Deferred()
                await waiting
            if isinstance(outcomes[0], str):
                await self._abort(bucket, key, outcomes[0])
            raise
        if isinstance(outcomes[0], Failure):
            outcomes[0].raiseException()
        return str(outcomes[0])

    async def _abort(self, bucket: str, key: str, upload_id: str) -> None:
        """Free the parts, and ask the store whether any are left.

        One that had reached the store before its request was cancelled may be stored after the others are freed. Then the
        store wants to be asked again (Amazon S3 API Reference, "AbortMultipartUpload").
        """
        where, why = (bucket, key, upload_id), "there are more of them each time"
        try:
            for _ in range(ABORTS):
                await self._store.abort_multipart_upload(*where)
                if not await self._store.list_parts(*where):
                    return
        except NoSuchUpload:
            return
        except StoreError as error:
            why = str(error)
        self._log.warn(
            "parts of {bucket}/{key} (upload {id}) may be left: {error}",
            bucket=bucket,
            key=key,
            id=upload_id,
            error=why,
        )


def composite_etag(etags: list[str]) -> str | None:
    """Return the ETag of the object that S3 makes of parts with these ETags; None if they are no MD5s."""
    try:
        sums = [bytes.fromhex(etag) for etag in etags]
    except ValueError:
        return None
    if any(len(one) != 16 for one in sums):
        return None
    return f"{md5(b''.join(sums), usedforsecurity=False).hexdigest()}-{len(sums)}"


async def _pipelined(works: AsyncIterator[Callable[[], Coroutine[Any, Any, PartRef]]], most: int) -> list[PartRef]:
    """Do each work as it comes, so many at a time; return the results in order.

    The next is asked for only when there is room for it. After the first failure the others are cancelled, and have ended
    when it is raised.
    """
    running: deque[Deferred[PartRef]] = deque()
    done: list[PartRef] = []
    try:
        async for work in works:
            running.append(Deferred.fromCoroutine(work()))
            if len(running) >= most:
                done.append(await running[0])
                running.popleft()
        while running:
            done.append(await running[0])
            running.popleft()
    finally:
        for each in running:
            each.cancel()
        await DeferredList(running, consumeErrors=True)
    return done
