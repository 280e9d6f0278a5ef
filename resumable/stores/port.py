"""What every store can do: the port that ``uploads`` is written against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from attrs import field, frozen

from resumable.model import ObjectOptions


class StoreError(Exception):
    """The store, or something on the way to it, did not do what it was asked for.

    Who wants to know why looks at the type; `code` and `status` are for logs and people.

    :ivar code: the store's error code (``NoSuchUpload``), or a word of ours where none came.
    :ivar status: the HTTP status, 0 if no answer came.
    :ivar said: whether the store's own error document has this code. A status alone, or what something on the way to the
        store has written, says nothing about what is stored.
    """

    def __init__(self, code: str, message: str = "", status: int = 0, *, said: bool = False) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        self.status = status
        self.said = said


class StoreUnavailable(StoreError):
    """The store did not answer, or answered that it cannot just now, for as long as we were willing to ask."""


class Misconfigured(StoreError):
    """The store refuses until the operator mends something: rights, bucket, keys, quota, storage class.

    :ivar everybody: whether nobody's upload can be stored in the bucket. Otherwise it may be this upload alone, to which
        the main application gave something that the store does not know.
    """

    def __init__(
        self, code: str, message: str = "", status: int = 0, *, said: bool = False, everybody: bool = False
    ) -> None:
        super().__init__(code, message, status, said=said)
        self.everybody = everybody


class AnswerTooLong(StoreError):
    """An object has more bytes than were asked for at most."""


class Damaged(StoreError):
    """The store holds other bytes than it had confirmed: found out here, and not said by the store."""


class StoreVerdict(StoreError):
    """A refusal that the store's own error document spells out: only that tells how things are in the store."""

    def __init__(self, code: str, message: str = "", status: int = 0) -> None:
        super().__init__(code, message, status, said=True)


class PreconditionFailed(StoreVerdict):
    """A condition of the request does not hold: the key is taken, or the object is another or shorter than was presumed."""


class PartMismatch(StoreVerdict):
    """The store does not know a part, or not with this ETag."""


class NoSuchUpload(StoreVerdict):
    """The multipart upload is not there."""


class NotFound(StoreVerdict):
    """There is no object under the key."""


class Refused(StoreVerdict):
    """The very same request can never succeed.

    :ivar field: what of the upload the store never takes: ``key``, ``metadata`` or ``length``. None if it is nothing that
        the client has chosen.
    """

    def __init__(self, code: str, message: str = "", status: int = 0, *, field: str | None = None) -> None:
        super().__init__(code, message, status)
        self.field = field


@frozen
class StoreLimits:
    """What a store takes at most, and at least. By default what S3 does, and what speaks like it.

    :ivar smallest_part: bytes of a part that is not the last.
    :ivar largest_part: bytes of a part, and of an object that is stored in one request.
    :ivar parts: parts of one object, which are numbered from 1.
    :ivar largest_object: bytes.
    :ivar key: bytes of an object's key, in UTF-8.
    :ivar metadata: bytes of all of an object's metadata, names (with their prefix) and encoded values.
    """

    smallest_part: int = 5 << 20
    largest_part: int = 5 << 30
    parts: int = 10_000
    largest_object: int = 10_000 * (5 << 30)
    key: int = 1024
    metadata: int = 2048


#: Told of every HTTP request to the store: operation, ``ok`` or an error code, seconds.
Observer = Callable[[str, str, float], None]


@frozen
class StoreContext:
    """What a store is made with, beside its settings.

    :ivar observe: is told of every HTTP request.
    :ivar retried: is told the operation of every HTTP request that is made again.
    """

    reactor: Any
    observe: Observer | None = None
    retried: Callable[[str], None] | None = None


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
        """Note that a try ended without an answer of the store's own: it may still take effect."""


class Store(Protocol):
    """An object store with multipart uploads: Amazon S3, what speaks like it, or another that can do the same.

    A body is a list of ``bytes`` that together are the object or part; it is sent as it is, neither joined nor copied, and
    stays untouched so that a call can be tried again. Every call tries again by itself, with growing pauses, what may
    pass (5xx, 429, time-outs, broken connections, and whatever the store did not say itself) for the store's patience.
    All calls raise `StoreUnavailable` when patience ran out, and another `StoreError` when the store refuses.
    """

    @property
    def limits(self) -> StoreLimits:
        """What the store takes at most, and at least."""

    async def start(self) -> None:
        """Find credentials, and load what the first upload would otherwise wait for.

        :raises StoreUnavailable: there are no credentials.
        """

    async def close(self) -> None:
        """Close idle connections."""

    async def probe(self, bucket: str) -> None:
        """Ask once, with these credentials, for nothing but an answer about this bucket.

        :raises StoreError: there is none, or it is a refusal.
        """

    async def create_bucket(self, bucket: str) -> None:
        """Create a bucket; one's own may be there already."""

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

        :raises PreconditionFailed: `overwrite` is false, and the key is taken.
        """

    async def get_object(
        self, bucket: str, key: str, *, limit: int, span: tuple[int, int] | None = None, etag: str | None = None
    ) -> list[bytes]:
        """Return the object's bytes, in segments.

        :param limit: the most bytes that are taken.
        :param span: offsets of the bytes that are wanted, the first inclusive and the end exclusive; None: all.
        :param etag: of the object that is meant; None: whatever is there.
        :raises NotFound: there is no object.
        :raises PreconditionFailed: the object has another ETag, or none of the bytes of the span.
        :raises AnswerTooLong: there are more bytes than `limit`.
        """

    async def head_object(self, bucket: str, key: str) -> StoredObject | None:
        """Return the object under the key, or None if the store itself says that there is none."""

    async def delete_object(
        self, bucket: str, key: str, *, etag: str | None = None, fence: Fence | None = None
    ) -> None:
        """Delete the object; one that is not there is as good as deleted.

        :param etag: of the object that is meant: another is left alone. None: whatever is there.
        """

    async def list_objects(self, bucket: str, prefix: str) -> list[StoredObject]:
        """Return all objects whose keys begin with the prefix (their metadata left empty), across pages."""

    async def init_multipart_upload(self, bucket: str, key: str, options: ObjectOptions) -> str:
        """Open a multipart upload and return its id."""

    async def upload_part(
        self, bucket: str, key: str, multipart_id: str, number: int, body: Sequence[bytes], *, crc32c: int | None = None
    ) -> str:
        """Store part `number` (from 1), replacing an earlier one, and return its ETag (without quotes)."""

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
        """Make the object of the parts, given in ascending order.

        :raises PartMismatch: a part is not there, or has another ETag.
        :raises NoSuchUpload: the multipart upload is not there; an earlier try may have completed it.
        :raises PreconditionFailed: `overwrite` is false, and the key is taken.
        """

    async def list_parts(self, bucket: str, key: str, multipart_id: str) -> list[StoredPart]:
        """Return all parts stored so far, ascending, across pages.

        :raises NoSuchUpload: the multipart upload is not there.
        """

    async def abort_multipart_upload(self, bucket: str, key: str, multipart_id: str) -> None:
        """Free the parts; a multipart upload that is gone is as good as aborted."""

    async def list_multipart_uploads(self, bucket: str, prefix: str = "") -> list[OpenMultipart]:
        """Return all open multipart uploads whose keys begin with the prefix, across pages."""
