"""What every store can do: the port that ``uploads`` is written against."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from attrs import field, frozen

from resumable.model import ObjectOptions
from resumable.outages import Reports


class StoreError(Exception):
    """The store, or something on the way to it, did not do what it was asked for.

    Callers tell the reason by the type; `code` and `status` are for logs and people.

    :ivar code: the store's error code (``NoSuchUpload``), or a word of ours if none came.
    :ivar status: the HTTP status, 0 if no answer came.
    :ivar said: whether the store's own error document has this code. A status alone, or the answer of something on the
        way to the store, says nothing about what is stored.
    """

    def __init__(self, code: str, message: str = "", status: int = 0, *, said: bool = False) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        self.status = status
        self.said = said


class StoreUnavailable(StoreError):
    """The store did not answer, or said that it cannot just now, until patience ran out."""


class Misconfigured(StoreError):
    """The store refuses until the operator mends something: rights, bucket, keys, quota, storage class.

    :ivar everybody: whether no upload at all can be stored in the bucket. If false, it may be this upload alone, for
        which the main application chose something that the store does not know.
    :ivar needs: the permission that is missing, as the store calls it; empty if that is not what is wrong.
    """

    def __init__(
        self, code: str, message: str = "", status: int = 0, *, said: bool = False, everybody: bool = False
    ) -> None:
        super().__init__(code, message, status, said=said)
        self.everybody = everybody
        self.needs = ""


class AnswerTooLong(StoreError):
    """An object has more bytes than the caller wanted at most."""


class Damaged(StoreError):
    """The store holds other bytes than it had confirmed. This was found out here; the store did not say it."""


class CannotCopy(StoreError):
    """The store does not know how to make a part of bytes that it has already.

    :ivar sure: whether that is the store's own word, and not that of something on the way to it.
    """

    @property
    def sure(self) -> bool:
        """See the class."""
        return self.said or self.status == 200


class StoreVerdict(StoreError):
    """A refusal in the store's own error document. Only such a document tells what is in the store."""

    def __init__(self, code: str, message: str = "", status: int = 0) -> None:
        super().__init__(code, message, status, said=True)


class PreconditionFailed(StoreVerdict):
    """A condition of the request does not hold: the key is taken, or the object is another or a shorter one."""


class PartMismatch(StoreVerdict):
    """The store does not know a part, or not with this ETag."""


class NoSuchUpload(StoreVerdict):
    """The multipart upload is not there."""


class NotFound(StoreVerdict):
    """There is no object under the key."""


class Refused(StoreVerdict):
    """The very same request can never succeed.

    :ivar field: the field of the upload that the store never accepts: ``key``, ``metadata`` or ``length``. None if the
        client did not choose what is refused.
    """

    def __init__(self, code: str, message: str = "", status: int = 0, *, field: str | None = None) -> None:
        super().__init__(code, message, status)
        self.field = field


@frozen
class StoreLimits:
    """What a store takes at most, and at least. By default what S3 does, and what speaks like it.

    :ivar smallest_part: the fewest bytes of a part that is not the last.
    :ivar largest_part: the most bytes of a part, and of an object that is stored in one request.
    :ivar parts: the most parts of one object. They are numbered from 1.
    :ivar largest_object: the most bytes of an object.
    :ivar key: the most bytes of an object's key, in UTF-8.
    :ivar metadata: the most bytes of an object's metadata: names (with their prefix) and encoded values.
    :ivar equal_parts: whether all parts of an object but the last need to have one size.
    :ivar joins: whether it can make parts of objects that it has (`Store.upload_part_copy`), as far as is known beforehand.
    :ivar lists_uploads: whether it lists multipart uploads by the beginning of their keys. If not, at most by an exact key.
    :ivar joins_whole: whether it can do so only with whole objects, and with those of any length.
    :ivar folders: below the service's prefix, where its client keeps what it makes objects of.
        `Store.list_multipart_uploads` tells of all that is in there.
    """

    smallest_part: int = 5 << 20
    largest_part: int = 5 << 30
    parts: int = 10_000
    largest_object: int = 10_000 * (5 << 30)
    key: int = 1024
    metadata: int = 2048
    equal_parts: bool = False
    joins: bool = True
    lists_uploads: bool = True
    joins_whole: bool = False
    folders: frozenset[str] = frozenset()

    @property
    def copies_freely(self) -> bool:
        """Whether an object can be made of others by copying, wherever those end: its parts have all sizes then."""
        return self.joins and not self.equal_parts


#: Called after every HTTP request to the store with the operation, ``ok`` or an error code, and seconds.
Observer = Callable[[str, str, float], None]


@frozen
class StoreContext:
    """What a store is made with, besides its settings.

    :ivar observe: called after every HTTP request.
    :ivar retried: called with the operation when an HTTP request is made again.
    :ivar reports: told of each HTTP request whether the store works.
    :ivar ledger: returns the id of the service's ledger, or raises what the ledger raises. None where there is no ledger.
    """

    reactor: Any
    observe: Observer | None = None
    retried: Callable[[str], None] | None = None
    reports: Reports | None = None
    ledger: Callable[[], Awaitable[str]] | None = None


@frozen
class Made:
    """An object that was made.

    :ivar confirmed: whether the store's answer had the checksum of the bytes that were sent.
    :ivar crc32c: of the whole object, as the store tells it; None if it does not, or if that was compared already.
    :ivar generation: tells the object from all others that the key ever had, in a store that has such numbers.
    """

    etag: str
    confirmed: bool = False
    crc32c: int | None = None
    generation: str | None = None


@frozen
class CopiedPart:
    """A part that the store has made of an object's bytes.

    :ivar crc32c: as the store tells it; None if it does not.
    """

    etag: str
    crc32c: int | None = None


@frozen
class PartRef:
    """A part as CompleteMultipartUpload wants it."""

    number: int
    etag: str
    crc32c: int | None = None


@frozen
class StoredPart:
    """A part as ListParts gives it."""

    number: int
    size: int
    etag: str
    crc32c: int | None = None


@frozen
class StoredObject:
    """An object as HeadObject or a listing gives it. Some stores' listings tell no more than keys: the rest is empty then.

    :ivar metadata: names are in lower case. Empty in listings.
    :ivar modified: seconds since the epoch; None where the store does not tell it.
    :ivar crc32c: of all its bytes, as the store tells it; None if it does not. Never in listings.
    :ivar generation: as `Made.generation`. Not in listings.
    """

    key: str
    size: int
    etag: str
    metadata: dict[str, str] = field(factory=dict)
    modified: float | None = None
    crc32c: int | None = None
    generation: str | None = None


@frozen
class OpenMultipart:
    """A multipart upload that was neither completed nor aborted; ``initiated`` in seconds since the epoch.

    :ivar multipart_id: only its beginning where no more than an object is left that an ended one has made.
    :ivar ledger: the id of the ledger whose it is; None if the store does not tell it.
    """

    key: str
    multipart_id: str
    initiated: float
    ledger: str | None = None


class Fence(Protocol):
    """Stands by while a call that changes an object is tried again and again, and may stop it."""

    async def proceed(self) -> None:
        """Return if the call may be tried again; raise if not."""

    async def pause(self, seconds: float) -> None:
        """Wait between two tries."""

    def doubt(self) -> None:
        """Note that a try ended without the store's own answer, so it may still take effect."""


class Store(Protocol):
    """An object store with multipart uploads: Amazon S3, what speaks like it, or another store that can do the same.

    A body is a list of ``bytes`` that together are the object or part. It is sent without being joined or copied, and
    is not changed, so that a call can be tried again. Every call tries again by itself, with growing pauses, after
    trouble that may pass: 5xx, 429, time-outs, broken connections, and any refusal that is not the store's own. When
    the store's patience (a time) runs out, the call raises `StoreUnavailable`. When the store refuses, it raises
    another `StoreError`.
    """

    @property
    def limits(self) -> StoreLimits:
        """What the store takes at most, and at least."""

    async def start(self) -> None:
        """Find credentials, and load what the first upload would otherwise have to wait for.

        :raises StoreUnavailable: there are no credentials.
        """

    async def close(self) -> None:
        """Close idle connections."""

    async def probe(self, bucket: str) -> None:
        """Ask once, with these credentials, whether the store answers about this bucket. Nothing is changed.

        :raises StoreError: there is no answer, or it is a refusal.
        """

    async def create_bucket(self, bucket: str) -> None:
        """Create a bucket. If these credentials own it already, do nothing."""

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

        :param limit: the most bytes that may come.
        :param span: offsets of the wanted bytes, first (inclusive) and end (exclusive). None for all bytes.
        :param etag: the ETag that the object has to have. None for any object.
        :raises NotFound: there is no object.
        :raises PreconditionFailed: the object has another ETag, or ends before the span.
        :raises AnswerTooLong: there are more bytes than `limit`.
        """

    async def head_object(self, bucket: str, key: str) -> StoredObject | None:
        """Return the object under the key, or None if the store itself says that there is none."""

    async def presigned_get(self, bucket: str, key: str, seconds: int) -> str:
        """Return a URL from which anybody can GET the object, with nothing else in hand. The store itself is not asked.

        The answer to that GET has the headers with which the object was created.

        :param seconds: how long the URL is valid, at most. Where the credentials end sooner, it ends with them.
        :raises StoreError: it cannot be signed, because there are no credentials, say.
        """

    async def delete_object(
        self, bucket: str, key: str, *, etag: str | None = None, fence: Fence | None = None
    ) -> None:
        """Delete the object. If there is none, do nothing.

        :param etag: an object with another ETag is left alone. None deletes any object.
        """

    async def delete_objects(self, bucket: str, keys: Sequence[str]) -> None:
        """Delete objects, with few requests where the store can do that. Those that are not there do not matter.

        :raises StoreError: some of them may be left. The call may be repeated.
        """

    async def list_objects(self, bucket: str, prefix: str) -> list[StoredObject]:
        """Return all objects whose keys begin with the prefix, across pages. Their metadata is empty."""

    async def init_multipart_upload(
        self, bucket: str, key: str, options: ObjectOptions, *, overwrite: bool = True, joins: bool = False
    ) -> str:
        """Open a multipart upload and return its id.

        :param overwrite: what `complete_multipart_upload` will be told. Some stores have to know it from the beginning.
        :param joins: whether `upload_part_copy` will be asked for. Some stores have to know that, too.
        """

    async def upload_part(
        self, bucket: str, key: str, multipart_id: str, number: int, body: Sequence[bytes], *, crc32c: int | None = None
    ) -> str:
        """Store part `number` (from 1) and return its ETag (without quotes).

        It replaces an earlier part of the number.
        """

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
        """Store part `number` (from 1) with bytes of an object that the store has. They do not pass through here.

        :param source: bucket and key of that object.
        :param etag: the ETag that it has to have. None for any.
        :param span: offsets of the wanted bytes, first (inclusive) and end (exclusive). None for all bytes, as it has to be
            where `StoreLimits.joins_whole` is true.
        :param crc32c: of the wanted bytes, if that is known.
        :raises CannotCopy: the store does not do that, or was not told when the multipart upload was opened.
        :raises NotFound: there is no such object.
        :raises PreconditionFailed: the object has another ETag, or ends before the span.
        """

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
        """Make the object of the parts, which are given in ascending order.

        :raises PartMismatch: a part is not there, or has another ETag.
        :raises NoSuchUpload: the multipart upload is not there. An earlier try may have completed it.
        :raises PreconditionFailed: `overwrite` is false, and the key is taken.
        """

    async def list_parts(self, bucket: str, key: str, multipart_id: str) -> list[StoredPart]:
        """Return all parts stored so far, ascending, across pages.

        :raises NoSuchUpload: the multipart upload is not there.
        """

    async def abort_multipart_upload(self, bucket: str, key: str, multipart_id: str) -> None:
        """Free the parts. If the multipart upload is gone, do nothing."""

    async def list_multipart_uploads(self, bucket: str, prefix: str = "") -> list[OpenMultipart]:
        """Return all open multipart uploads whose keys begin with the prefix, across pages."""
