"""The trial of a bucket: makes every call that the service makes, with one byte, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, NoReturn, TypeVar

from crc32c import crc32c as crc32c_of
from twisted.internet.defer import Deferred

from resumable.model import ObjectOptions
from resumable.stores.advice import Advisor
from resumable.stores.port import OpenMultipart, PartRef, Store, StoreError, StoreUnavailable

T = TypeVar("T")

BYTE = b"\n"
#: Seconds that one call may take; the service itself would wait longer.
STEP = 15.0


class Unusable(Exception):
    """The store cannot be used at all: `error` is what it said to `operation`."""

    def __init__(self, operation: str, error: StoreError) -> None:
        super().__init__(f"{operation}: {error}")
        self.operation = operation
        self.error = error


class Trial:
    """One trial of a bucket.

    :param advisor: says which errors mean a missing permission.
    :param prefix: where the service's own objects are; nothing outside it is touched.
    :param name: stands in the key where a fragment's key has the upload's id.
    :ivar denied: the error code of each operation that was denied, by operation.
    :ivar found_by_prefix: whether a listing finds a multipart upload by the beginning of its key. None: that was not tried,
        or the store is known to list by exact keys.
    :ivar left: the key of an object that could not be deleted; None if there is none.
    """

    def __init__(
        self,
        store: Store,
        advisor: Advisor,
        bucket: str,
        prefix: str,
        name: str,
        options: ObjectOptions,
        clock: Any,
    ) -> None:
        self.denied: dict[str, str] = {}
        self._advisor = advisor
        self.found_by_prefix: bool | None = None
        self.left: str | None = None
        self._store = store
        self._bucket = bucket
        self._prefix = prefix
        # Formed like a fragment's key, so that permissions and rules for fragments apply to it too.
        self._folder = f"{prefix}{name}/"
        self._key = f"{self._folder}0-0"
        self._options = options
        self._clock = clock
        self._crc32c: int = crc32c_of(BYTE)
        self._stored = False
        self._asked_for_multipart = False
        self._open: list[str] = []

    async def run(self) -> None:
        """Try every call, except those that a missing permission makes impossible.

        :raises Unusable: the store cannot be used.
        """
        # The listing comes first: it leaves nothing behind, and shows most of what can be wrong.
        listing = self._store.list_objects(self._bucket, self._key)
        await self._try("ListObjects", listing)
        try:
            await self._objects()
            await self._multiparts()
        finally:
            await self._clean_up()

    async def _objects(self) -> None:
        store, where = self._store, (self._bucket, self._key)
        self._stored = True
        putting = store.put_object(*where, [BYTE], self._options, crc32c=self._crc32c)
        self._stored = await self._try("PutObject", putting) is not None
        if self._stored:
            got = await self._try("GetObject", store.get_object(*where, limit=len(BYTE)))
            if got is not None and b"".join(got) != BYTE:
                raise Unusable("GetObject", StoreError("BadObject", "it came back as other bytes than were stored"))
            await self._try("HeadObject", store.head_object(*where))
        # Also where nothing was stored: the permission to delete shows all the same.
        await self._delete()

    async def _delete(self) -> None:
        deleting = self._store.delete_object(self._bucket, self._key)
        await self._try("DeleteObject", deleting)
        if "DeleteObject" not in self.denied:
            self._stored = False

    async def _multiparts(self) -> None:
        store, bucket, key = self._store, self._bucket, self._key
        if "PutObject" in self.denied:
            await self._try("ListMultipartUploads", self._listing())
            return
        completed = await self._create()
        await self._look_for(completed)
        if completed is not None:
            await self._complete(completed, list_parts=True)
        aborted = await self._create()
        if aborted is None:
            return
        aborting = store.abort_multipart_upload(bucket, key, aborted)
        await self._try("AbortMultipartUpload", aborting)
        if "AbortMultipartUpload" in self.denied:
            # Without that permission: once it is completed, the object can be deleted.
            await self._complete(aborted)
        elif aborted in self._open:
            self._open.remove(aborted)

    def _listing(self) -> Coroutine[Any, Any, list[OpenMultipart]]:
        """List multipart uploads as cleaning does: by the beginning of a key where the store can do that.

        It ends with a slash, for some stores know no other beginnings.
        """
        where = self._folder if self._store.limits.lists_uploads else self._key
        return self._store.list_multipart_uploads(self._bucket, where)

    async def _look_for(self, multipart_id: str | None) -> None:
        found = await self._try("ListMultipartUploads", self._listing())
        if found is not None and multipart_id is not None and self._store.limits.lists_uploads:
            self.found_by_prefix = any(one.multipart_id == multipart_id for one in found)

    async def _create(self) -> str | None:
        self._asked_for_multipart = True
        creating = self._store.init_multipart_upload(self._bucket, self._key, self._options)
        multipart_id = await self._try("CreateMultipartUpload", creating)
        self._asked_for_multipart = False
        if multipart_id is not None:
            self._open.append(multipart_id)
        return multipart_id

    async def _complete(self, multipart_id: str, *, list_parts: bool = False) -> None:
        store, upload = self._store, (self._bucket, self._key, multipart_id)
        storing = store.upload_part(*upload, 1, [BYTE], crc32c=self._crc32c)
        etag = await self._try("UploadPart", storing)
        if list_parts:
            await self._try("ListParts", store.list_parts(*upload))
        if etag is None:
            return
        self._stored = True
        completing = store.complete_multipart_upload(*upload, [PartRef(1, etag, self._crc32c)])
        if await self._try("CompleteMultipartUpload", completing) is not None:
            self._open.remove(multipart_id)

    async def _try(self, operation: str, call: Coroutine[Any, Any, T]) -> T | None:
        """Return the result of the call; None if it was denied.

        :raises Unusable: the call failed for another reason.
        """
        try:
            return await self._bounded(call)
        except StoreError as error:
            if not self._advisor.is_denied(error):
                raise Unusable(operation, error) from None
            self.denied.setdefault(operation, error.code)
            return None

    async def _bounded(self, call: Coroutine[Any, Any, T]) -> T:
        return await Deferred.fromCoroutine(call).addTimeout(STEP, self._clock, _no_answer)

    async def _clean_up(self) -> None:
        """Delete what was stored, however far the trial came; `left` names what could not be deleted."""
        store, bucket, key = self._store, self._bucket, self._key
        if self._asked_for_multipart:
            # The answer that holds its id did not come: look for it in a listing.
            with suppress(StoreError):
                found = await self._bounded(self._listing())
                self._open += [upload.multipart_id for upload in found if upload.key == key]
        for multipart_id in self._open:
            with suppress(StoreError):
                await self._bounded(store.abort_multipart_upload(bucket, key, multipart_id))
        if self._stored:
            try:
                await self._bounded(store.delete_object(bucket, key))
            except StoreError:
                self.left = key


def _no_answer(_: object, seconds: float) -> NoReturn:
    raise StoreUnavailable("TimeoutError", f"no answer within {seconds:g} s")
