"""The S3 client: what each operation sends, and what its answer means."""

from __future__ import annotations

import random as chance
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote, unquote_plus
from xml.sax.saxutils import escape

from resumable.crc32c_text import encode_crc32c
from resumable.model import ObjectOptions
from resumable.stores.port import (
    AnswerTooLong,
    CannotCopy,
    CopiedPart,
    Fence,
    Made,
    NoSuchUpload,
    NotFound,
    Observer,
    OpenMultipart,
    PartRef,
    PreconditionFailed,
    StoredObject,
    StoredPart,
    StoreError,
    StoreLimits,
    StoreUnavailable,
)
from resumable.stores.s3.addressing import Addressing
from resumable.stores.s3.answers import Answers, CallFailure
from resumable.stores.s3.calls import FIRST_PAUSE, LONGEST_PAUSE, Call, Calls
from resumable.stores.s3.confirming import Completed, Copied, Uploaded, describes, has_upload_id
from resumable.stores.s3.deleting import DELETED_AT_ONCE, all_deleted, deletion
from resumable.stores.s3.documents import document
from resumable.stores.s3.listings import Listing, read_multipart, read_object, read_part, whole_parts
from resumable.stores.s3.options import METADATA, decode_metadata, option_headers
from resumable.stores.s3.signing import NoCredentials, Signer
from resumable.stores.transport.exchange import PAGE_LIMIT
from resumable.stores.transport.pool import Transport

#: Seconds that the store may work before it answers: CompleteMultipartUpload takes "several minutes", AWS says, and a copy
#: of a GiB takes as long as it takes.
COMPLETE = COPY = 600.0
#: The error code of a store that does not know an operation.
NOT_IMPLEMENTED = "NotImplemented"
#: Seconds that the answer to a probe may take.
PROBE = 2.5
IF_NEW = {"If-None-Match": "*"}
#: What a store says if another request for the same key was under way.
CONFLICT = frozenset({"ConditionalRequestConflict"})
#: How many HEAD requests are made while GET says otherwise.
HEADS = 3
#: The most bytes of the answer when only one byte of an object is asked for, to see whether it is there.
GLANCE = 64 * 1024
#: As AWS documents them; a store that takes less says so itself.
S3_LIMITS = StoreLimits()


class S3Store:
    """Amazon S3, or what speaks like it: the port `resumable.stores.port.Store`.

    :param endpoint: URL of a store that is not AWS.
    :param addressing: ``path``, ``virtual``, or ``auto``: virtual at AWS and path at an endpoint.
    :param access_key: if None, botocore's chain finds the credentials.
    :param checksum: whether known CRC32C checksums are sent (some stores refuse them).
    :param patience: seconds for which a call is tried again.
    :param observe: called after every HTTP request: operation, ``ok`` or an error code, seconds.
    :param retried: called with the operation when an HTTP request is made again.
    :param random: returns a number from 0 to 1, for the pauses.
    :param pauses: the limits of the first and of the longest pause between tries, in seconds.
    :param proxies: whether requests use the environment's proxies (``HTTPS_PROXY`` and its like).
    """

    def __init__(
        self,
        reactor: Any,
        *,
        region: str = "us-east-1",
        endpoint: str | None = None,
        addressing: str = "auto",
        access_key: str | None = None,
        secret_key: str | None = None,
        session_token: str | None = None,
        checksum: bool = True,
        patience: float = 120.0,
        observe: Observer | None = None,
        retried: Callable[[str], None] | None = None,
        signer: Signer | None = None,
        transport: Transport | None = None,
        random: Callable[[], float] = chance.random,
        pauses: tuple[float, float] = (FIRST_PAUSE, LONGEST_PAUSE),
        proxies: bool = True,
    ) -> None:
        self._region = region
        self._at_aws = endpoint is None
        self._checksum = checksum
        self._signer = signer or Signer(
            reactor, region, access_key=access_key, secret_key=secret_key, session_token=session_token
        )
        self._transport = transport or Transport(reactor)
        self._answers = Answers(reactor)
        self._calls = Calls(
            reactor,
            self._transport,
            self._signer,
            Addressing(reactor, region, endpoint, addressing, proxies=proxies),
            self._answers,
            patience=patience,
            random=random,
            observe=observe,
            retried=retried,
            pauses=pauses,
        )

    @property
    def limits(self) -> StoreLimits:
        """S3's own limits."""
        return S3_LIMITS

    async def start(self) -> None:
        """Find credentials and load S3's model now, not when the first upload needs them.

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
        """Ask once, with these credentials, whether the store answers about this bucket. It needs ``s3:ListBucket``.

        :raises StoreError: there is no answer, or it is a refusal.
        """
        await self._calls.make(Call("HeadBucket", "HEAD", bucket, answer=PROBE), patience=0.0)

    async def create_bucket(self, bucket: str) -> None:
        """Create a bucket in the region. If these credentials own it already, do nothing."""
        body = b""
        if self._at_aws and self._region != "us-east-1":
            constraint = f"<LocationConstraint>{escape(self._region)}</LocationConstraint>"
            body = document("CreateBucketConfiguration", constraint)
        try:
            await self._calls.make(Call("CreateBucket", "PUT", bucket, body=[body]))
        except StoreError as error:
            if error.code != "BucketAlreadyOwnedByYou":
                raise

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
        headers = option_headers(options)
        headers.update(self._checksum_header(crc32c))
        if not overwrite:
            headers.update(IF_NEW)
        check = Uploaded(crc32c)
        call = Call("PutObject", "PUT", bucket, key, headers=headers, body=body, passing=CONFLICT, check=check)
        del body
        return check.made(await self._calls.make(call, fence=fence))

    async def get_object(
        self, bucket: str, key: str, *, limit: int, span: tuple[int, int] | None = None, etag: str | None = None
    ) -> list[bytes]:
        """Return the object's bytes, at most `limit` of them, in segments."""
        headers = {}
        if span is not None:
            headers["Range"] = f"bytes={span[0]}-{span[1] - 1}"
        if etag is not None:
            headers["If-Match"] = f'"{etag}"'
        call = Call("GetObject", "GET", bucket, key, headers=headers, limit=limit, framed=True)
        return (await self._calls.make(call)).answer.segments

    async def head_object(self, bucket: str, key: str) -> StoredObject | None:
        """Return the object under the key, or None if the store itself says that there is none.

        The answer to a HEAD has no document, so a 404 may come from anybody. A GET then finds out what is meant.
        """
        for _ in range(HEADS):
            call = Call("HeadObject", "HEAD", bucket, key, bare=frozenset({400, 404}), check=describes)
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
            metadata = {}
            for header, values in answer.headers.getAllRawHeaders():
                name = header.decode("latin-1").lower()
                if name.startswith(METADATA):
                    metadata[name[len(METADATA) :]] = decode_metadata(values[0].decode("utf-8", "replace"))
            size = int(answer.header(b"content-length") or 0)
            return StoredObject(key, size, (answer.header(b"etag") or "").strip('"'), metadata)
        raise StoreUnavailable("NotFound", "HEAD does not find the object that GET finds", 404)

    async def presigned_get(self, bucket: str, key: str, seconds: int) -> str:
        """Return a URL from which anybody can GET the object for so long (query authentication of Signature Version 4).

        It leads to the endpoint of the settings, which has to be reachable for whoever gets the URL.
        """
        return await self._calls.presign(bucket, key, seconds)

    async def _is_there(self, bucket: str, key: str) -> bool:
        """Say whether the store itself says that there is an object."""
        headers = {"Range": "bytes=0-0"}
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

    async def delete_object(
        self, bucket: str, key: str, *, etag: str | None = None, fence: Fence | None = None
    ) -> None:
        """Delete the object. If there is none, do nothing. An object with another ETag is left alone.

        A store that cannot delete on this condition says so (``NotImplemented``) or ignores the condition.
        """
        try:
            await self._delete(bucket, key, {} if etag is None else {"If-Match": f'"{etag}"'}, fence)
        except PreconditionFailed:
            if etag is None:
                raise
        except StoreError as error:
            if etag is None or not error.said:
                raise
            if error.code == NOT_IMPLEMENTED:
                await self._delete(bucket, key, {}, fence, again=True)
            elif error.status != 404 or error.code == "NoSuchBucket":
                raise

    async def _delete(
        self, bucket: str, key: str, headers: dict[str, str], fence: Fence | None, *, again: bool = False
    ) -> None:
        call = Call("DeleteObject", "DELETE", bucket, key, headers=headers, passing=CONFLICT)
        with suppress(NotFound):
            await self._calls.make(call, fence=fence, again=again)

    async def delete_objects(self, bucket: str, keys: Sequence[str]) -> None:
        """Delete objects, a thousand with each request (DeleteObjects); one by one in a store that cannot do that."""
        for at in range(0, len(keys), DELETED_AT_ONCE):
            some = keys[at : at + DELETED_AT_ONCE]
            body, headers = deletion(some)
            call = Call("DeleteObjects", "POST", bucket, None, "delete=", headers, [body])
            call.reads, call.limit, call.check = True, PAGE_LIMIT, all_deleted
            try:
                await self._calls.make(call)
            except StoreError as error:
                if error.code != NOT_IMPLEMENTED:
                    raise
                for key in some:
                    await self.delete_object(bucket, key)

    async def list_objects(self, bucket: str, prefix: str) -> list[StoredObject]:
        """Return all objects whose keys begin with the prefix, across pages."""
        found: list[StoredObject] = []
        query = {"encoding-type": "url", "list-type": "2", "prefix": prefix}
        pages = self._pages("ListObjectsV2", bucket, None, query, {"continuation-token": "NextContinuationToken"})
        listing = Listing(bucket, "Contents", ("Key", "Size", "LastModified"))
        async for page in pages:
            found += [read_object(entry, page) for entry in listing.entries(page)]
        return found

    async def init_multipart_upload(self, bucket: str, key: str, options: ObjectOptions) -> str:
        """Open a multipart upload and return its id.

        A try whose answer was lost may have opened one that nobody knows of. So it is not repeated for long.
        """
        headers = option_headers(options)
        if self._checksum:
            headers["x-amz-checksum-algorithm"] = "CRC32C"
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
        check = Uploaded(crc32c)
        call = Call("UploadPart", "PUT", bucket, key, query, self._checksum_header(crc32c), body, check=check)
        del body
        return check.made(await self._calls.make(call)).etag

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
        """Store part `number` (from 1) with bytes of an object that the store has (UploadPartCopy)."""
        headers = {"x-amz-copy-source": quote("/".join(source), safe="/~")}
        if etag is not None:
            headers["x-amz-copy-source-if-match"] = f'"{etag}"'
        if span is not None:
            headers["x-amz-copy-source-range"] = f"bytes={span[0]}-{span[1] - 1}"
        check = Copied(crc32c)
        call = Call(
            *("UploadPartCopy", "PUT", bucket, key, f"partNumber={number}&uploadId={quote(multipart_id, safe='')}"),
            headers=headers,
            reads=True,
            answer=COPY,
            blank=CallFailure(NOT_IMPLEMENTED, "the answer says nothing of a copy", 200, transient=False),
            check=check,
        )
        try:
            return check.part(await self._calls.make(call))
        except StoreError as error:
            if error.code == NOT_IMPLEMENTED:
                raise CannotCopy(error.code, "the store copies no parts", error.status, said=error.said) from error
            raise

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
        """Make the object of the parts.

        After a try whose answer was lost, some stores say ``NoSuchUpload`` to the next one. The caller has to find out
        whether the object was made.
        """
        body = document("CompleteMultipartUpload", "".join(map(self._part, parts)))
        query = f"uploadId={quote(multipart_id, safe='')}"
        headers = {"Content-Type": "application/xml", **({} if overwrite else IF_NEW)}
        check = Completed(parts)
        call = Call(
            *("CompleteMultipartUpload", "POST", bucket, key, query, headers, [body]),
            reads=True,
            answer=COMPLETE,
            check=check,
        )
        return check.made(await self._calls.make(call, fence=fence))

    async def list_parts(self, bucket: str, key: str, multipart_id: str) -> list[StoredPart]:
        """Return all parts stored so far, ascending, across pages."""
        query = {"uploadId": multipart_id}
        markers = {"part-number-marker": "NextPartNumberMarker"}
        parts: list[StoredPart] = []
        async for page in self._pages("ListParts", bucket, key, query, markers):
            parts += [read_part(entry) for entry in page.get("Parts", ())]
            if len(parts) > self.limits.parts:
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

    def _checksum_header(self, crc32c: int | None) -> dict[str, str]:
        return {"x-amz-checksum-crc32c": encode_crc32c(crc32c)} if self._checksum and crc32c is not None else {}

    def _part(self, part: PartRef) -> str:
        crc = ""
        if self._checksum and part.crc32c is not None:
            crc = f"<ChecksumCRC32C>{encode_crc32c(part.crc32c)}</ChecksumCRC32C>"
        return f'<Part><PartNumber>{part.number}</PartNumber><ETag>"{escape(part.etag)}"</ETag>{crc}</Part>'
