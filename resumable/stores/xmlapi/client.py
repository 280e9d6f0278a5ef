"""What the clients of stores with XML documents have in common: what each operation sends, and what its answer means."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote, unquote_plus
from xml.sax.saxutils import escape

from attrs import field, frozen

from resumable.crc32c_text import decode_crc32c
from resumable.model import ObjectOptions
from resumable.stores.port import (
    AnswerTooLong,
    Fence,
    Made,
    NoSuchUpload,
    NotFound,
    OpenMultipart,
    PartRef,
    StoredObject,
    StoredPart,
    StoreError,
    StoreLimits,
    StoreUnavailable,
)
from resumable.stores.transport.exchange import PAGE_LIMIT, Answer
from resumable.stores.transport.pool import Transport
from resumable.stores.xmlapi.answers import Answers, CallFailure
from resumable.stores.xmlapi.calls import Call, Calls, Reply
from resumable.stores.xmlapi.codes import Codes
from resumable.stores.xmlapi.confirming import Uploaded, describes, has_upload_id, told_generation, unquoted
from resumable.stores.xmlapi.credentials import Credentials, NoCredentials
from resumable.stores.xmlapi.documents import document
from resumable.stores.xmlapi.listings import (
    Listing,
    read_http_date,
    read_multipart,
    read_object,
    read_part,
    whole_parts,
)
from resumable.stores.xmlapi.options import decode_metadata

#: Seconds that the store may work before it answers: CompleteMultipartUpload takes "several minutes", AWS and Google say.
COMPLETE = 600.0
#: Seconds that the answer to a probe may take.
PROBE = 2.5
#: How many HEAD requests are made while GET says otherwise.
HEADS = 3
#: Statuses of an answer to HEAD that do not say whether there is an object.
BARE = frozenset({400, 404})
#: The most bytes of the answer when only one byte of an object is asked for, to see whether it is there.
GLANCE = 64 * 1024


@frozen(kw_only=True)
class Dialect:
    """What differs between stores with XML documents.

    :ivar codes: what error codes mean.
    :ivar metadata: what the names of the headers for metadata begin with, in lower case.
    :ivar created_with: returns the headers that an object is created with.
    :ivar checksum_headers: returns the headers that tell the CRC32C of a request's body.
    :ivar told_checksum: returns the CRC32C that an answer to PutObject or UploadPart tells, as text.
    :ivar told_of_object: returns the CRC32C of all bytes of an object that an answer to HeadObject tells, as text.
    :ivar part_checksum: returns the XML that tells a part's CRC32C to CompleteMultipartUpload.
    :ivar parts_with_checksums: what CreateMultipartUpload is told, since parts will have checksums.
    :ivar reading: the headers of requests that read objects.
    :ivar if_new: the headers of a request that must not replace an object.
    :ivar generation: the header that tells an object's generation, in lower case; None if there are no generations.
    :ivar conflicts: what the store says if another request for the same key was under way.
    """

    limits: StoreLimits
    codes: Codes
    metadata: str
    created_with: Callable[[ObjectOptions], dict[str, str]]
    checksum_headers: Callable[[int], Mapping[str, str]]
    told_checksum: Callable[[Answer], str | None]
    told_of_object: Callable[[Answer], str | None]
    part_checksum: Callable[[int], str] = field(default=lambda crc32c: "")
    parts_with_checksums: Mapping[str, str] = field(factory=dict)
    reading: Mapping[str, str] = field(factory=dict)
    if_new: Mapping[str, str]
    conflicts: frozenset[str] = frozenset()
    generation: str | None = None


class XmlStore:
    """The calls that are the same in every store with XML documents: the greater half of `resumable.stores.port.Store`.

    :param checksum: whether known CRC32C checksums are sent (some stores refuse them).
    """

    def __init__(
        self,
        dialect: Dialect,
        calls: Calls,
        *,
        signer: Credentials,
        transport: Transport,
        answers: Answers,
        checksum: bool,
    ) -> None:
        self._dialect = dialect
        self._calls = calls
        self._signer = signer
        self._transport = transport
        self._answers = answers
        self._checksum = checksum

    @property
    def limits(self) -> StoreLimits:
        """What the store takes at most, and at least."""
        return self._dialect.limits

    async def start(self) -> None:
        """Find credentials and load the model of answers now, not when the first upload needs them.

        :raises StoreUnavailable: there are no credentials.
        """
        try:
            await self._signer.ready()
        except NoCredentials as error:
            raise StoreUnavailable("NoCredentials", str(error)) from error
        await self._answers.load()

    async def close(self) -> None:
        """Close idle connections."""
        await self._transport.close()

    async def probe(self, bucket: str) -> None:
        """Ask once, with these credentials, whether the store answers about this bucket.

        :raises StoreError: there is no answer, or it is a refusal.
        """
        await self._calls.make(Call("HeadBucket", "HEAD", bucket, answer=PROBE), patience=0.0)

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

        A try whose answer was lost may have stored the object. Without ``overwrite`` the next try then raises
        `PreconditionFailed`.
        """
        headers = {**self._dialect.created_with(options), **self._checksum_header(crc32c)}
        if not overwrite:
            headers.update(self._dialect.if_new)
        check = Uploaded(crc32c, self._dialect.told_checksum, self._dialect.generation)
        passing = self._dialect.conflicts
        call = Call("PutObject", "PUT", bucket, key, headers=headers, body=body, passing=passing, check=check)
        del body
        return check.made(await self._calls.make(call, fence=fence))

    async def get_object(
        self, bucket: str, key: str, *, limit: int, span: tuple[int, int] | None = None, etag: str | None = None
    ) -> list[bytes]:
        """Return the object's bytes, at most `limit` of them, in segments."""
        headers = dict(self._dialect.reading)
        if span is not None:
            headers["Range"] = f"bytes={span[0]}-{span[1] - 1}"
        if etag is not None:
            headers["If-Match"] = f'"{etag}"'
        call = Call("GetObject", "GET", bucket, key, headers=headers, limit=limit, framed=True)
        return (await self._calls.make(call)).answer.segments

    async def head_object(self, bucket: str, key: str) -> StoredObject | None:
        """Return the object under the key, or None if the store itself says that there is none."""
        answer = await self._head(bucket, key)
        if answer is None:
            return None
        return self._described(key, answer)

    def _described(self, key: str, answer: Answer) -> StoredObject:
        metadata = {}
        for header, values in answer.headers.getAllRawHeaders():
            name = header.decode("latin-1").lower()
            if name.startswith(self._dialect.metadata):
                value = values[0].decode("utf-8", "replace")
                metadata[name[len(self._dialect.metadata) :]] = decode_metadata(value)
        size = int(answer.header(b"content-length") or 0)
        modified = read_http_date(answer.header(b"last-modified"))
        crc32c = decode_crc32c(self._dialect.told_of_object(answer))
        generation = told_generation(answer, self._dialect.generation)
        return StoredObject(key, size, unquoted(answer.header(b"etag")), metadata, modified, crc32c, generation)

    async def look_at(self, bucket: str, key: str) -> tuple[StoredObject, dict[str, str]]:
        """Return the object under the key, and the headers of the answer to HeadObject.

        :raises NotFound: the store itself says that there is none.
        """
        answer = await self._head(bucket, key)
        if answer is None:
            raise NotFound("NoSuchKey", "there is no such object", 404)
        pairs = answer.headers.getAllRawHeaders()
        headers = {name.decode("latin-1"): values[0].decode("utf-8", "replace") for name, values in pairs}
        return self._described(key, answer), headers

    async def _head(self, bucket: str, key: str) -> Answer | None:
        """Return the answer to HeadObject, or None if the store itself says that there is no object.

        The answer to a HEAD has no document, so a 404 may come from anybody. A GET then finds out what is meant.
        """
        for _ in range(HEADS):
            call = Call("HeadObject", "HEAD", bucket, key, headers=self._dialect.reading, bare=BARE, check=describes)
            try:
                answer = (await self._calls.make(call)).answer
            except StoreUnavailable:
                raise
            except StoreError as error:
                if error.status not in call.bare:
                    raise
                if not await self._is_there(bucket, key):
                    return None
                continue
            return answer
        raise StoreUnavailable("NotFound", "HEAD does not find the object that GET finds", 404)

    async def presigned_get(self, bucket: str, key: str, seconds: int) -> str:
        """Return a URL from which anybody can GET the object for so long (its query is the permission).

        It leads to the endpoint of the settings, which has to be reachable for whoever gets the URL.
        """
        return await self._calls.presign(bucket, key, seconds)

    async def _is_there(self, bucket: str, key: str) -> bool:
        """Say whether the store itself says that there is an object."""
        headers = {**self._dialect.reading, "Range": "bytes=0-0"}
        call = Call("GetObject", "GET", bucket, key, headers=headers, limit=GLANCE, bare=frozenset({416}))
        try:
            await self._calls.make(call)
        except NotFound:
            return False
        except AnswerTooLong:
            return True  # a store that knows no ranges sends the whole object
        except StoreError as error:
            # An empty object has no first byte.
            if error.status != 416 or isinstance(error, StoreUnavailable):
                raise
        return True

    async def list_objects(self, bucket: str, prefix: str) -> list[StoredObject]:
        """Return all objects whose keys begin with the prefix, across pages."""
        found: list[StoredObject] = []
        query = {"encoding-type": "url", "list-type": "2", "prefix": prefix}
        pages = self._pages("ListObjectsV2", bucket, None, query, {"continuation-token": "NextContinuationToken"})
        listing = Listing(bucket, "Contents", ("Key",))
        async for page in pages:
            found += [read_object(entry, page) for entry in listing.entries(page)]
        return found

    async def list_page(
        self, bucket: str, prefix: str, *, after: str = "", most: int = 1000
    ) -> tuple[list[StoredObject], bool]:
        """Return the first objects whose keys begin with the prefix and sort after `after`, and whether there are more."""
        query = {"encoding-type": "url", "list-type": "2", "max-keys": str(most), "prefix": prefix}
        if after:
            query["start-after"] = after
        encoded = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
        page = (
            await self._calls.make(Call("ListObjectsV2", "GET", bucket, None, encoded, reads=True, limit=PAGE_LIMIT))
        ).fields
        listing = Listing(bucket, "Contents", ("Key", "Size", "LastModified"))
        return [read_object(entry, page) for entry in listing.entries(page)], bool(page.get("IsTruncated"))

    async def init_multipart_upload(
        self, bucket: str, key: str, options: ObjectOptions, *, overwrite: bool = True, joins: bool = False
    ) -> str:
        """Open a multipart upload and return its id.

        A try whose answer was lost may have opened one that nobody knows of. So it is not repeated for long.
        """
        headers = self._dialect.created_with(options)
        if self._checksum:
            headers.update(self._dialect.parts_with_checksums)
        call = Call(
            *("CreateMultipartUpload", "POST", bucket, key, "uploads=", headers),
            reads=True,
            once=True,
            check=has_upload_id,
        )
        multipart_id: str = (await self._calls.make(call)).fields["UploadId"]
        return multipart_id

    async def upload_part(
        self, bucket: str, key: str, multipart_id: str, number: int, body: Sequence[bytes], *, crc32c: int | None = None
    ) -> str:
        """Store part `number` (from 1) and return its ETag (without quotes).

        It replaces an earlier part of the number.
        """
        query = f"partNumber={number}&uploadId={quote(multipart_id, safe='')}"
        check = Uploaded(crc32c, self._dialect.told_checksum)
        call = Call("UploadPart", "PUT", bucket, key, query, self._checksum_header(crc32c), body, check=check)
        del body
        return check.made(await self._calls.make(call)).etag

    async def _complete(
        self,
        bucket: str,
        key: str,
        multipart_id: str,
        parts: Sequence[PartRef],
        check: Callable[[Reply], CallFailure | None],
        *,
        headers: Mapping[str, str] | None = None,
        fence: Fence | None = None,
    ) -> Reply:
        """Make the object of the parts, and return the answer.

        After a try whose answer was lost, some stores say ``NoSuchUpload`` to the next one. The caller has to find out
        whether the object was made.
        """
        body = document("CompleteMultipartUpload", "".join(map(self._part, parts)))
        query = f"uploadId={quote(multipart_id, safe='')}"
        call = Call(
            *("CompleteMultipartUpload", "POST", bucket, key, query),
            headers={"Content-Type": "application/xml", **(headers or {})},
            body=[body],
            reads=True,
            answer=COMPLETE,
            check=check,
        )
        return await self._calls.make(call, fence=fence)

    async def list_parts(self, bucket: str, key: str, multipart_id: str) -> list[StoredPart]:
        """Return all parts stored so far, ascending, across pages."""
        query = {"uploadId": multipart_id}
        markers = {"part-number-marker": "NextPartNumberMarker"}
        parts: list[StoredPart] = []
        async for page in self._pages("ListParts", bucket, key, query, markers):
            parts += [read_part(entry) for entry in page.get("Parts", ())]
            if len(parts) > self._dialect.limits.parts:
                raise StoreUnavailable("MalformedAnswer", "a listing of more parts than there can be", 200)
        return parts

    async def abort_multipart_upload(self, bucket: str, key: str, multipart_id: str) -> None:
        """Free the parts. If the multipart upload is gone, do nothing."""
        query = f"uploadId={quote(multipart_id, safe='')}"
        with suppress(NoSuchUpload):
            await self._calls.make(Call("AbortMultipartUpload", "DELETE", bucket, key, query))

    async def list_multipart_uploads(self, bucket: str, prefix: str = "") -> list[OpenMultipart]:
        """Return all open multipart uploads whose keys begin with the prefix, across pages."""
        query = {"encoding-type": "url", "prefix": prefix, "uploads": ""}
        markers = {"key-marker": "NextKeyMarker", "upload-id-marker": "NextUploadIdMarker"}
        listing = Listing(bucket, "Uploads", ("Key", "UploadId", "Initiated"))
        found: list[OpenMultipart] = []
        async for page in self._pages("ListMultipartUploads", bucket, None, query, markers):
            found += [read_multipart(entry, page) for entry in listing.entries(page)]
        return found

    async def _pages(
        self, operation: str, bucket: str, key: str | None, query: dict[str, str], markers: dict[str, str]
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield the pages of a listing.

        :param markers: query parameter of the next page -> field of this page that has its value.
        """
        while True:
            encoded = "&".join(f"{name}={quote(value, safe='')}" for name, value in sorted(query.items()))
            call = Call(operation, "GET", bucket, key, encoded, reads=True, limit=PAGE_LIMIT)
            if operation == "ListParts":
                call.check = whole_parts
            page = dict((await self._calls.make(call)).fields)
            yield page
            if not page.get("IsTruncated"):
                return
            following = {name: str(page[field]) for name, field in markers.items() if page.get(field)}
            if "key-marker" in following and page.get("EncodingType") == "url":
                following["key-marker"] = unquote_plus(following["key-marker"])
            if all(query.get(name) == value for name, value in following.items()):
                raise StoreUnavailable("MalformedAnswer", "a listing that does not go on", 200)
            query = {**query, **following}

    def _checksum_header(self, crc32c: int | None) -> Mapping[str, str]:
        return self._dialect.checksum_headers(crc32c) if self._checksum and crc32c is not None else {}

    def _part(self, part: PartRef) -> str:
        crc32c = part.crc32c if self._checksum else None
        more = "" if crc32c is None else self._dialect.part_checksum(crc32c)
        return f'<Part><PartNumber>{part.number}</PartNumber><ETag>"{escape(part.etag)}"</ETag>{more}</Part>'
