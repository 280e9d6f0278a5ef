"""What every store can do: the port that ``uploads`` is written against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from attrs import field, frozen

from resumable.model import ObjectOptions


class StoreError(Exception):
    """The store said no.

    :ivar code: S3's error code (``NoSuchUpload``), or a word of ours where none came.
    :ivar status: the HTTP status, 0 if no answer came.
    :ivar said: whether the store's own error document has this code. A status alone, or what something on the way to the
        store has written, says nothing about what is stored.
    """

    def __init__(self, code: str, message: str, status: int = 0, *, said: bool = False) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        self.status = status
        self.said = said


class StoreUnavailable(StoreError):
    """The store did not answer, or answered that it cannot just now, for as long as we were willing to ask."""


@frozen
class Made:
    """An object that was made.

    :ivar confirmed: whether the store has named the checksum of what it was sent.
    """

    etag: str
    confirmed: bool = False


@frozen
class PartRef:
    """A part as CompleteMultipartUpload wants it."""

    number: int
    etag: str
    crc32c: int | None = None


@frozen
class StoredPart:
    """A part as ListParts tells it."""

    number: int
    size: int
    etag: str
    crc32c: int | None = None


@frozen
class StoredObject:
    """An object as HeadObject or a listing tells it; ``metadata`` keys are lower case, and are not in listings.

    :ivar modified: in listings: seconds since the epoch.
    """

    key: str
    size: int
    etag: str
    metadata: dict[str, str] = field(factory=dict)
    modified: float | None = None


@frozen
class OpenMultipart:
    """A multipart upload that was neither completed nor aborted; ``initiated`` in seconds since the epoch."""

    key: str
    multipart_id: str
    initiated: float


class Fence(Protocol):
    """What a call that changes an object is asked for and tells while it is tried again and again."""

    async def proceed(self) -> None:
        """Return if the call may be tried again; raise if not."""

    async def pause(self, seconds: float) -> None:
        """Wait between two tries."""

    def doubt(self) -> None:
        """A try ended without an answer of the store's own: it may still take effect."""


class Store(Protocol):
    """Amazon S3, or what speaks like it.

    A body is a list of ``bytes`` that together are the object or part; it is sent as it is, neither joined nor copied, and
    stays untouched so that a call can be tried again. Every call tries again by itself, with growing pauses, what may
    pass (5xx, 429, time-outs, broken connections, and whatever the store did not say itself) for the store's patience.
    Errors: `StoreError` when the store refuses, `StoreUnavailable` when patience ran out.
    """

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
        """Store a whole object in one request.

        With ``overwrite`` false the store refuses with ``PreconditionFailed`` where the key is taken.
        """

    async def get_object(
        self, bucket: str, key: str, *, limit: int, span: tuple[int, int] | None = None, etag: str | None = None
    ) -> list[bytes]:
        """The object's bytes, in segments; ``NoSuchKey`` where there is none, ``AnswerTooLong`` beyond `limit` bytes.

        :param span: first and end of the bytes that are wanted; None: all.
        :param etag: ``PreconditionFailed`` where the object has another.
        """

    async def head_object(self, bucket: str, key: str) -> StoredObject | None:
        """The object under the key, or None where the store itself says that there is none."""

    async def delete_object(
        self, bucket: str, key: str, *, etag: str | None = None, fence: Fence | None = None
    ) -> None:
        """Delete, with an `etag` only the object that has it; one that is not there is as good as deleted."""

    async def list_objects(self, bucket: str, prefix: str) -> list[StoredObject]:
        """All objects whose keys begin with the prefix (their metadata left empty)."""

    async def init_multipart_upload(self, bucket: str, key: str, options: ObjectOptions) -> str:
        """Open a multipart upload; returns its id."""

    async def upload_part(
        self, bucket: str, key: str, multipart_id: str, number: int, body: Sequence[bytes], *, crc32c: int | None = None
    ) -> str:
        """Store part ``number`` (from 1), replacing an earlier one; returns its ETag (without quotes)."""

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
        """Make the object of the parts, given in ascending order."""

    async def list_parts(self, bucket: str, key: str, multipart_id: str) -> list[StoredPart]:
        """All parts stored so far, ascending, across pages."""

    async def abort_multipart_upload(self, bucket: str, key: str, multipart_id: str) -> None:
        """Free the parts; a multipart upload that is gone is as good as aborted."""

    async def list_multipart_uploads(self, bucket: str, prefix: str = "") -> list[OpenMultipart]:
        """All open multipart uploads whose keys begin with the prefix, across pages."""
