"""A store in memory, for tests that need thousands of calls: as strict as S3 about parts, and in trouble when told to be."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from attrs import define, field
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from resumable.model import ObjectOptions
from resumable.stores.port import (
    AnswerTooLong,
    CannotCopy,
    CopiedPart,
    Fence,
    Made,
    NoSuchUpload,
    NotFound,
    OpenMultipart,
    PartMismatch,
    PartRef,
    PreconditionFailed,
    Refused,
    StoredObject,
    StoredPart,
    StoreLimits,
    StoreUnavailable,
)

T = TypeVar("T")
#: What dead processes wait for, for ever.
_HUNG: list[Deferred[None]] = []


@define
class Bucket:
    """What is stored; outlives the processes that talk to it.

    :ivar smallest: the fewest bytes of a part that is not the last. None: all have to be equal.
    :ivar copies: whether it can make parts of what it has.
    :ivar calls: the names of all calls.
    """

    objects: dict[str, tuple[bytes, dict[str, str]]] = field(factory=dict)
    multiparts: dict[str, tuple[str, dict[str, str], dict[int, bytes]]] = field(factory=dict)
    opened: int = 0
    smallest: int | None = None
    copies: bool = True
    calls: list[str] = field(factory=list)


class MemoryStore:
    """One process's connection to the bucket.

    :ivar trouble: what goes wrong next: (call, ``before`` or ``after`` the work); each once.
    :ivar dead: the process is gone: no call ever returns.
    """

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        smallest = bucket.smallest or 1
        self.limits = StoreLimits(smallest_part=smallest, equal_parts=bucket.smallest is None)
        self.trouble: list[tuple[str, str]] = []
        self.dead = False

    async def _call(self, name: str, work: Callable[[], T], fence: Fence | None = None) -> T:
        await deferLater(reactor, 0)  # type: ignore[arg-type]
        self._bucket.calls.append(name)
        if self.dead:
            # Kept, or it would be unwound whenever memory is collected, in the middle of anything.
            _HUNG.append(Deferred())
            await _HUNG[-1]
        if (name, "before") in self.trouble:
            self.trouble.remove((name, "before"))
            raise StoreUnavailable("SlowDown", "as the test wants it", 503, said=True)
        done = work()
        if (name, "after") in self.trouble:
            self.trouble.remove((name, "after"))
            if fence is not None:
                fence.doubt()
            raise StoreUnavailable("ConnectionLost", "as the test wants it")
        return done

    async def put_object(
        self,
        bucket: str,
        key: str,
        body: Sequence[bytes],
        options: ObjectOptions,
        *,
        crc32c: int | None = None,
        overwrite: bool = True,
        fence: Fence | None = None,
    ) -> Made:
        data = b"".join(body)

        def work() -> Made:
            if not overwrite and key in self._bucket.objects:
                raise PreconditionFailed("PreconditionFailed", "", 412)
            self._bucket.objects[key] = (data, dict(options.metadata))
            return Made(_etag(data), True)

        return await self._call("put_object", work, fence)

    async def get_object(
        self, bucket: str, key: str, *, limit: int, span: tuple[int, int] | None = None, etag: str | None = None
    ) -> list[bytes]:
        def work() -> list[bytes]:
            if key not in self._bucket.objects:
                raise NotFound("NoSuchKey", "", 404)
            data = self._bucket.objects[key][0]
            if etag is not None and not same_etag(etag, data):
                raise PreconditionFailed("PreconditionFailed", "", 412)
            wanted = data if span is None else data[slice(*span)]
            if len(wanted) > limit:
                raise AnswerTooLong("AnswerTooLong")
            return [wanted]

        return await self._call("get_object", work)

    async def head_object(self, bucket: str, key: str) -> StoredObject | None:
        def work() -> StoredObject | None:
            if key not in self._bucket.objects:
                return None
            data, metadata = self._bucket.objects[key]
            return StoredObject(key, len(data), _etag(data), metadata)

        return await self._call("head_object", work)

    async def presigned_get(self, bucket: str, key: str, seconds: int) -> str:
        return await self._call("presigned_get", lambda: f"memory:///{bucket}/{key}?seconds={seconds}")

    async def delete_object(
        self, bucket: str, key: str, *, etag: str | None = None, fence: Fence | None = None
    ) -> None:
        def work() -> None:
            found = self._bucket.objects.get(key)
            if found is not None and (etag is None or same_etag(etag, found[0])):
                del self._bucket.objects[key]

        await self._call("delete_object", work, fence)

    async def delete_objects(self, bucket: str, keys: Sequence[str]) -> None:
        def work() -> None:
            for key in keys:
                self._bucket.objects.pop(key, None)

        await self._call("delete_objects", work)

    async def list_objects(self, bucket: str, prefix: str) -> list[StoredObject]:
        def work() -> list[StoredObject]:
            found = [(key, data) for key, (data, _) in self._bucket.objects.items() if key.startswith(prefix)]
            return [StoredObject(key, len(data), _etag(data)) for key, data in found]

        return await self._call("list_objects", work)

    async def init_multipart_upload(
        self, bucket: str, key: str, options: ObjectOptions, *, overwrite: bool = True, joins: bool = False
    ) -> str:
        def work() -> str:
            self._bucket.opened += 1
            self._bucket.multiparts[str(self._bucket.opened)] = (key, dict(options.metadata), {})
            return str(self._bucket.opened)

        return await self._call("init_multipart_upload", work)

    def _parts(self, multipart_id: str) -> dict[int, bytes]:
        if multipart_id not in self._bucket.multiparts:
            raise NoSuchUpload("NoSuchUpload", "", 404)
        return self._bucket.multiparts[multipart_id][2]

    async def upload_part(
        self, bucket: str, key: str, multipart_id: str, number: int, body: Sequence[bytes], *, crc32c: int | None = None
    ) -> str:
        data = b"".join(body)

        def work() -> str:
            self._parts(multipart_id)[number] = data
            return _etag(data)

        return await self._call("upload_part", work)

    async def upload_part_copy(
        self,
        bucket: str,
        key: str,
        multipart_id: str,
        number: int,
        *,
        source: tuple[str, str],
        etag: str | None,
        span: tuple[int, int] | None = None,
        crc32c: int | None = None,
    ) -> CopiedPart:
        def work() -> CopiedPart:
            if not self._bucket.copies:
                raise CannotCopy("NotImplemented", "", 501, said=True)
            if source[1] not in self._bucket.objects:
                raise NotFound("NoSuchKey", "", 404)
            whole = self._bucket.objects[source[1]][0]
            if etag is not None and not same_etag(etag, whole):
                raise PreconditionFailed("PreconditionFailed", "", 412)
            data = whole if span is None else whole[slice(*span)]
            self._parts(multipart_id)[number] = data
            return CopiedPart(_etag(data))

        return await self._call("upload_part_copy", work)

    async def complete_multipart_upload(
        self,
        bucket: str,
        key: str,
        multipart_id: str,
        parts: Sequence[PartRef],
        *,
        overwrite: bool = True,
        fence: Fence | None = None,
    ) -> Made:
        def work() -> Made:
            stored = self._parts(multipart_id)
            if any(_etag(stored.get(part.number, b"")) != part.etag for part in parts):
                raise PartMismatch("InvalidPart", "", 400)
            sizes = {len(stored[part.number]) for part in parts[:-1]}
            if len(sizes) > 1 if self._bucket.smallest is None else min(sizes, default=1 << 30) < self._bucket.smallest:
                raise Refused("EntityTooSmall", "", 400)
            data = b"".join(stored[part.number] for part in parts)
            if not overwrite and key in self._bucket.objects:
                raise PreconditionFailed("PreconditionFailed", "", 412)
            self._bucket.objects[key] = (data, self._bucket.multiparts.pop(multipart_id)[1])
            return Made(_etag(data), True)

        return await self._call("complete_multipart_upload", work, fence)

    async def list_parts(self, bucket: str, key: str, multipart_id: str) -> list[StoredPart]:
        def work() -> list[StoredPart]:
            parts = sorted(self._parts(multipart_id).items())
            return [StoredPart(number, len(data), _etag(data)) for number, data in parts]

        return await self._call("list_parts", work)

    async def abort_multipart_upload(self, bucket: str, key: str, multipart_id: str) -> None:
        await self._call("abort_multipart_upload", lambda: self._bucket.multiparts.pop(multipart_id, None))

    async def list_multipart_uploads(self, bucket: str, prefix: str = "") -> list[OpenMultipart]:
        def work() -> list[OpenMultipart]:
            return [
                OpenMultipart(key, name, 0.0)
                for name, (key, *_) in self._bucket.multiparts.items()
                if (key.startswith(prefix) if self.limits.lists_uploads else key == prefix)
            ]

        return await self._call("list_multipart_uploads", work)


CALLS = (
    "put_object",
    "get_object",
    "head_object",
    "delete_object",
    "list_objects",
    "init_multipart_upload",
    "upload_part",
    "upload_part_copy",
    "delete_objects",
    "complete_multipart_upload",
    "abort_multipart_upload",
)


def same_etag(etag: str, data: bytes) -> bool:
    return bool(_etag(data) == etag)


def _etag(data: bytes) -> Any:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
