"""The S3 client: what S3 has of its own, beside what stores with XML documents have in common."""

from __future__ import annotations

import random as chance
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape

from attrs import evolve

from resumable.crc32c_text import encode_crc32c
from resumable.outages import Reports
from resumable.stores.port import (
    CannotCopy,
    CopiedPart,
    Fence,
    Made,
    NotFound,
    Observer,
    PartRef,
    PreconditionFailed,
    StoreError,
    StoreLimits,
)
from resumable.stores.s3.addressing import Addressing
from resumable.stores.s3.codes import S3_CODES
from resumable.stores.s3.confirming import Completed, Copied, told_checksum, told_of_object
from resumable.stores.s3.deleting import DELETED_AT_ONCE, all_deleted, deletion
from resumable.stores.s3.options import METADATA, option_headers
from resumable.stores.s3.signing import Signer
from resumable.stores.transport.exchange import PAGE_LIMIT
from resumable.stores.transport.pool import Transport
from resumable.stores.xmlapi.answers import Answers, CallFailure
from resumable.stores.xmlapi.calls import FIRST_PAUSE, LONGEST_PAUSE, Call, Calls
from resumable.stores.xmlapi.client import COMPLETE, Dialect, XmlStore
from resumable.stores.xmlapi.documents import document
from resumable.tasks import together

#: Seconds that the store may work before it answers: a copy of a GiB takes as long as it takes.
COPY = COMPLETE
#: The error code of a store that does not know an operation.
NOT_IMPLEMENTED = "NotImplemented"
#: Deletions at a time where each is a request.
DELETED_AT_A_TIME = 8
S3 = Dialect(
    limits=StoreLimits(),
    codes=S3_CODES,
    metadata=METADATA,
    created_with=option_headers,
    checksum_headers=lambda crc32c: {"x-amz-checksum-crc32c": encode_crc32c(crc32c)},
    told_checksum=told_checksum,
    told_of_object=told_of_object,
    part_checksum=lambda crc32c: f"<ChecksumCRC32C>{encode_crc32c(crc32c)}</ChecksumCRC32C>",
    parts_with_checksums={"x-amz-checksum-algorithm": "CRC32C"},
    if_new={"If-None-Match": "*"},
    conflicts=frozenset({"ConditionalRequestConflict"}),
)


class S3Store(XmlStore):
    """Amazon S3, or what speaks like it: the port `resumable.stores.port.Store`.

    :param endpoint: URL of a store that is not AWS.
    :param addressing: ``path``, ``virtual``, or ``auto``: virtual at AWS and path at an endpoint.
    :param access_key: if None, botocore's chain finds the credentials.
    :param checksum: whether known CRC32C checksums are sent (some stores refuse them).
    :param limits: what the store takes. By default what AWS documents; a store that takes less says so itself.
    :param patience: seconds for which a call is tried again.
    :param observe: called after every HTTP request: operation, ``ok`` or an error code, seconds.
    :param reports: told of every HTTP request whether the store works.
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
        limits: StoreLimits | None = None,
        patience: float = 120.0,
        observe: Observer | None = None,
        reports: Reports | None = None,
        retried: Callable[[str], None] | None = None,
        signer: Signer | None = None,
        transport: Transport | None = None,
        random: Callable[[], float] = chance.random,
        pauses: tuple[float, float] = (FIRST_PAUSE, LONGEST_PAUSE),
        proxies: bool = True,
    ) -> None:
        self._region = region
        self._at_aws = endpoint is None
        #: Whether the store has said that it cannot delete many at once.
        self._one_by_one = False
        signer = signer or Signer(
            reactor, region, access_key=access_key, secret_key=secret_key, session_token=session_token
        )
        transport, answers = transport or Transport(reactor), Answers(reactor, S3_CODES)
        calls = Calls(
            reactor,
            transport,
            signer,
            Addressing(reactor, region, endpoint, addressing, proxies=proxies),
            answers,
            S3_CODES,
            patience=patience,
            random=random,
            observe=observe,
            reports=reports,
            retried=retried,
            pauses=pauses,
        )
        dialect = S3 if limits is None else evolve(S3, limits=limits)
        super().__init__(dialect, calls, signer=signer, transport=transport, answers=answers, checksum=checksum)

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
        call = Call("DeleteObject", "DELETE", bucket, key, headers=headers, passing=S3.conflicts)
        with suppress(NotFound):
            await self._calls.make(call, fence=fence, again=again)

    async def delete_objects(self, bucket: str, keys: Sequence[str]) -> None:
        """Delete objects, a thousand with each request (DeleteObjects); one by one in a store that cannot do that."""
        for at in range(0, len(keys), DELETED_AT_ONCE):
            some = keys[at : at + DELETED_AT_ONCE]
            if self._one_by_one:
                await self._delete_each(bucket, some)
                continue
            body, headers = deletion(some)
            call = Call("DeleteObjects", "POST", bucket, None, "delete=", headers, [body])
            call.reads, call.limit, call.check = True, PAGE_LIMIT, all_deleted
            try:
                await self._calls.make(call)
            except StoreError as error:
                if error.code != NOT_IMPLEMENTED:
                    raise
                self._one_by_one = True
                await self._delete_each(bucket, some)

    async def _delete_each(self, bucket: str, keys: Sequence[str]) -> None:
        await together([partial(self.delete_object, bucket, key) for key in keys], most=DELETED_AT_A_TIME)

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
        check = Completed(parts)
        headers = {} if overwrite else S3.if_new
        return check.made(await self._complete(bucket, key, multipart_id, parts, check, headers=headers, fence=fence))
