"""Multipart uploads whose parts are objects, so that a part can be made of bytes that Cloud Storage has already.

Google's own multipart uploads know no parts that are copied. So each part is an object below the service's prefix: stored,
or copied from another object within Google. Completing composes them, 32 with each call ("Objects: compose"), level upon
level if there are more. No byte passes through here, and whether an object may be replaced is a condition of the last call.

A note, which is an object too, says that the multipart upload is open, and what its object is to be made with. It is the
first to come and the first to go: where it is gone, parts that are left are of no use to anybody. Such parts come from calls
that took effect after their multipart upload had ended. Notes and parts say in their metadata whose they are (`marks`), so
that a listing shows to a cleaning also those parts.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from secrets import token_hex
from typing import Any

from attrs import field, frozen
from twisted.logger import Logger

from resumable.model import ObjectOptions
from resumable.stores.gcs.marks import marked_key, marked_ledger, marks
from resumable.stores.gcs.options import METADATA, PLAIN, option_headers
from resumable.stores.gcs.resources import MOST_SOURCES, Resource, Resources
from resumable.stores.gcs.staging import check_acl
from resumable.stores.port import (
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
    Store,
    StoredPart,
    StoreError,
    StoreUnavailable,
)
from resumable.tasks import together

#: What the ids of such multipart uploads begin with.
_ID = "composed:"
#: What their objects' keys have after the service's prefix.
FOLDER = "composed"
_NOTES, _PARTS = f"{FOLDER}/notes/", f"{FOLDER}/parts/"
#: The most bytes of a key.
_LONGEST = 1024
#: The most bytes of a note: metadata has 8 KiB at most, and the key 1 KiB.
_NOTE_LIMIT = 64 * 1024
#: Calls at a time.
_AT_A_TIME = 8
#: Headers that an object is created with -> their names in the JSON API.
_FIELDS = {
    PLAIN["content_type"]: "contentType",
    PLAIN["cache_control"]: "cacheControl",
    PLAIN["content_encoding"]: "contentEncoding",
    PLAIN["storage_class"]: "storageClass",
    "Content-Disposition": "contentDisposition",
}


@frozen
class Note:
    """What the object is to be made with.

    :ivar fields: as the JSON API has them.
    :ivar acl: canned ACL; empty for the bucket's own.
    :ivar kms_key: the name of the KMS key; None for the bucket's own.
    :ivar marks: metadata of the note itself, and of the parts.
    """

    fields: Mapping[str, Any]
    acl: str = ""
    kms_key: str | None = None
    marks: Mapping[str, str] = field(factory=dict)

    @classmethod
    def of(cls, options: ObjectOptions, marks: Mapping[str, str]) -> Note:
        """Return the note for these options. Errors as `option_headers`.

        :raises Misconfigured: there is no such ACL.
        """
        check_acl(options.acl)
        headers = option_headers(options)
        fields: dict[str, Any] = {_FIELDS[name]: value for name, value in headers.items() if name in _FIELDS}
        metadata = {n.removeprefix(METADATA): value for n, value in headers.items() if n.startswith(METADATA)}
        if metadata:
            fields["metadata"] = metadata
        return cls(fields, options.acl or "", options.kms_key or None, marks)

    @property
    def storage_class(self) -> str | None:
        """The storage class of the object, and so of all its parts; None for the bucket's own."""
        found = self.fields.get("storageClass")
        return None if found is None else str(found)

    @property
    def part_fields(self) -> dict[str, Any]:
        """What a part is made with, as the JSON API has it."""
        chosen = {} if self.storage_class is None else {"storageClass": self.storage_class}
        marked = {"metadata": dict(self.marks)} if self.marks else {}
        return {"contentType": "application/octet-stream", **marked, **chosen}

    @property
    def part_options(self) -> ObjectOptions:
        """What a part is made with."""
        return ObjectOptions(
            content_type="application/octet-stream",
            metadata=self.marks,
            storage_class=self.storage_class,
            kms_key=self.kms_key,
        )

    def encode(self) -> bytes:
        """Return the note as it is stored."""
        said = {"fields": self.fields, "acl": self.acl, "kms_key": self.kms_key, "marks": dict(self.marks)}
        return json.dumps(said).encode()

    @classmethod
    def decode(cls, stored: bytes) -> Note:
        """Return the note that was stored.

        :raises StoreUnavailable: something else has come.
        """
        try:
            said = json.loads(stored)
            return cls(dict(said["fields"]), str(said["acl"]), said["kms_key"], dict(said.get("marks", {})))
        except (ValueError, LookupError, TypeError, RecursionError):
            raise StoreUnavailable("MalformedAnswer", "the note of a multipart upload is none", 200) from None


def word_of(multipart_id: str) -> str | None:
    """Return what tells a multipart upload from others; None if it is not one whose parts are objects."""
    return multipart_id[len(_ID) :] if multipart_id.startswith(_ID) else None


class Composer:
    """Makes objects of parts that are objects.

    :param store: stores and reads single objects.
    :param prefix: what the service's own keys begin with.
    :param ledger: returns the id of the service's ledger; None if there is no ledger.
    """

    _log = Logger()

    def __init__(
        self, store: Store, resources: Resources, prefix: str, ledger: Callable[[], Awaitable[str | None]]
    ) -> None:
        self._store = store
        self._resources = resources
        self._prefix = prefix
        self._ledger = ledger

    def _note_key(self, key: str, word: str) -> str:
        whole = f"{self._prefix}{_NOTES}{word}/{key}"
        return whole if len(whole.encode()) <= _LONGEST else f"{self._prefix}{_NOTES}{word}"

    def _folder(self, word: str) -> str:
        return f"{self._prefix}{_PARTS}{word}/"

    def _part_key(self, word: str, number: int) -> str:
        return f"{self._folder(word)}{number:05}"

    async def open(self, bucket: str, key: str, options: ObjectOptions) -> str:
        """Open a multipart upload and return its id."""
        word, note = token_hex(8), Note.of(options, marks(await self._ledger(), key))
        await self._store.put_object(
            bucket,
            self._note_key(key, word),
            [note.encode()],
            ObjectOptions(content_type="application/json", metadata=note.marks),
        )
        return f"{_ID}{word}"

    async def _note(self, bucket: str, key: str, word: str) -> Note:
        """Return the note.

        :raises NoSuchUpload: it is gone.
        """
        try:
            segments = await self._store.get_object(bucket, self._note_key(key, word), limit=_NOTE_LIMIT)
        except NotFound as error:
            raise NoSuchUpload("NoSuchUpload", "the multipart upload is not open", error.status) from error
        return Note.decode(b"".join(segments))

    async def upload_part(
        self, bucket: str, key: str, word: str, number: int, body: Sequence[bytes], crc32c: int | None
    ) -> str:
        """Store part `number` and return its ETag: the object's generation."""
        # If an abort comes between this look and the storing, the part stays. A second look afterwards would cost each part
        # a request, and miss what a process that died has still under way. So it is left to the cleaning (`list_open`).
        note = await self._note(bucket, key, word)
        place = self._part_key(word, number)
        made = await self._store.put_object(bucket, place, body, note.part_options, crc32c=crc32c)
        if made.generation is not None:
            return made.generation
        found = await self._resources.find(bucket, place)
        if found is None:
            raise StoreUnavailable("NotStored", "the store said that the part is stored, and does not have it")
        return found.generation

    async def copy_part(
        self,
        bucket: str,
        key: str,
        word: str,
        number: int,
        *,
        source: tuple[str, str],
        etag: str | None,
        span: tuple[int, int] | None,
        crc32c: int | None,
    ) -> CopiedPart:
        """Store part `number` with the bytes of an object. Errors as `Store.upload_part_copy`."""
        if span is not None:
            raise CannotCopy("NotImplemented", "Cloud Storage copies whole objects only")
        note = await self._note(bucket, key, word)
        found = await self._store.head_object(*source)
        if found is None:
            raise NotFound("NoSuchKey", "there is no object to copy", 404)
        if etag is not None and found.etag != etag:
            raise PreconditionFailed("PreconditionFailed", "the object to copy is another", 412)
        if found.generation is None:
            raise StoreUnavailable("MalformedAnswer", "no generation", 200)
        place = (bucket, self._part_key(word, number))
        made = await self._resources.copy(source, found.generation, place, note.part_fields, kms_key=note.kms_key)
        if crc32c is not None and made.crc32c not in (None, crc32c):
            raise StoreUnavailable("ChecksumMismatch", "the copy has other bytes than was asked for", 200)
        return CopiedPart(made.generation, made.crc32c)

    async def list_parts(self, bucket: str, key: str, word: str) -> list[StoredPart]:
        """Return all parts stored so far, ascending.

        :raises NoSuchUpload: the multipart upload is not open.
        """
        await self._note(bucket, key, word)
        folder = self._folder(word)
        names = [(one.key.removeprefix(folder), one) for one in await self._resources.list(bucket, folder)]
        parts = [StoredPart(int(n), one.size, one.generation, one.crc32c) for n, one in names if n.isdecimal()]
        return sorted(parts, key=lambda part: part.number)

    async def complete(
        self, bucket: str, key: str, word: str, parts: Sequence[PartRef], *, overwrite: bool, fence: Fence | None
    ) -> Made:
        """Make the object of the parts. Errors as `Store.complete_multipart_upload`.

        If it was made already and the answer was lost, it is made once more, of the same bytes; or `NoSuchUpload` says
        that it may have been made.
        """
        try:
            note = await self._note(bucket, key, word)
        except NoSuchUpload:
            await self._free(bucket, word)
            raise
        sources = [(self._part_key(word, part.number), part.etag) for part in parts]
        try:
            while len(sources) > MOST_SOURCES:
                groups = [sources[at : at + MOST_SOURCES] for at in range(0, len(sources), MOST_SOURCES)]
                works = [partial(self._group, bucket, word, group, note) for group in groups]
                sources = await together(works, most=_AT_A_TIME)
            made = await self._resources.compose(
                bucket,
                sources,
                key,
                note.fields,
                kms_key=note.kms_key,
                acl=note.acl,
                overwrite=overwrite,
                fence=fence,
            )
        except NotFound as error:
            raise PartMismatch("InvalidPart", "a part is gone, or is another", error.status) from error
        except PreconditionFailed:
            made = await self._made_before(bucket, key, note)
        await self._tidy_up(bucket, key, word, fence)
        return Made(made.etag, generation=made.generation)

    async def _tidy_up(self, bucket: str, key: str, word: str, fence: Fence | None) -> None:
        """Free the parts of an object that is made.

        :raises StoreUnavailable: they may be there still, so that an earlier try could make the object once more.
        """
        try:
            await self.abort(bucket, key, word)
        except StoreUnavailable:
            if fence is not None:
                fence.doubt()
            raise
        except StoreError as error:
            self._log.warn(
                "{bucket}/{folder} was made an object of and could not be deleted: {error}",
                bucket=bucket,
                folder=self._folder(word),
                error=str(error),
            )

    async def _group(self, bucket: str, word: str, sources: Sequence[tuple[str, str]], note: Note) -> tuple[str, str]:
        """Make one object of some parts; return its key and generation."""
        # A name of its own: whoever completes the same at the same time makes others.
        place = f"{self._folder(word)}group-{token_hex(8)}"
        made = await self._resources.compose(bucket, sources, place, note.part_fields, kms_key=note.kms_key)
        return place, made.generation

    async def _made_before(self, bucket: str, key: str, note: Note) -> Resource:
        """Return what is under the key if it was made there by a try whose answer was lost.

        :raises PreconditionFailed: it is another object.
        """
        found = await self._resources.find(bucket, key)
        if found is None:
            raise StoreUnavailable("Conflict", "the key was taken, and is free again", 412)
        # Every upload's metadata has a token of its own.
        metadata = note.fields.get("metadata")
        if metadata is None or found.fields.get("metadata") != metadata:
            raise PreconditionFailed("PreconditionFailed", "the key is taken", 412)
        return found

    async def abort(self, bucket: str, key: str, word: str) -> None:
        """Free the parts. What is gone already does not matter."""
        await self._store.delete_object(bucket, self._note_key(key, word))
        await self._free(bucket, word)

    async def _free(self, bucket: str, word: str) -> None:
        found = await self._resources.list(bucket, self._folder(word))
        await self._store.delete_objects(bucket, [one.key for one in found])

    async def list_open(self, bucket: str, prefix: str) -> list[OpenMultipart]:
        """Return all such multipart uploads whose keys begin with the prefix: the open ones, and what is left of others.

        What is left are parts without a note. They are as old as the last of them.
        """
        # The parts come first: a note is stored before them. So there is none, or it is gone, if it is not found after.
        words = await self._resources.list_folders(bucket, f"{self._prefix}{_PARTS}")
        begin, opened, found = f"{self._prefix}{_NOTES}", set(), []
        for note in await self._resources.list(bucket, begin):
            word, _, key = note.key[len(begin) :].partition("/")
            opened.add(word)
            found.append(_told(word, [note], key))
        left = [word for word in words if word not in opened]
        found += await together((partial(self._left, bucket, word) for word in left), most=_AT_A_TIME)
        return [one for one in found if one is not None and one.key.startswith(prefix)]

    async def _left(self, bucket: str, word: str) -> OpenMultipart | None:
        return _told(word, await self._resources.list(bucket, self._folder(word)))


def _told(word: str, stored: Sequence[Resource], key: str = "") -> OpenMultipart | None:
    """Return the multipart upload that these objects belong to; None if they do not tell its key, or when they came.

    :param key: as the note's own key tells it.
    """
    times = [one.created for one in stored if one.created is not None]
    key = key or next((marked_key(one.metadata) for one in stored), "")
    if not key or not times:
        return None
    return OpenMultipart(key, f"{_ID}{word}", max(times), ledger=marked_ledger(stored[0].metadata))
