"""The client of Google Cloud Storage: what it has of its own, beside what stores with XML documents have in common."""

from __future__ import annotations

import random as chance
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from attrs import evolve
from twisted.logger import Logger

from resumable.model import ObjectOptions
from resumable.outages import Reports
from resumable.stores.gcs import composing, staging
from resumable.stores.gcs.codes import GCS_CODES, read_error
from resumable.stores.gcs.composing import Composer, word_of
from resumable.stores.gcs.marks import ledger_mark, marked_ledger
from resumable.stores.gcs.options import METADATA, checksum_headers, option_headers, told_checksum
from resumable.stores.gcs.resources import PATH, Resource, Resources
from resumable.stores.gcs.staging import Staged, folder, new_word, parse_id, parse_key, staging_key, tells
from resumable.stores.gcs.tokens import Tokens
from resumable.stores.port import (
    CannotCopy,
    CopiedPart,
    Fence,
    Made,
    Misconfigured,
    NoSuchUpload,
    NotFound,
    Observer,
    OpenMultipart,
    PartRef,
    PreconditionFailed,
    StoredPart,
    StoreError,
    StoreLimits,
    StoreUnavailable,
)
from resumable.stores.transport.pool import Transport
from resumable.stores.xmlapi.addressing import EndpointAddressing
from resumable.stores.xmlapi.answers import Answers, CallFailure
from resumable.stores.xmlapi.calls import FIRST_PAUSE, LONGEST_PAUSE, Call, Calls, Reply
from resumable.stores.xmlapi.client import PROBE, Dialect, XmlStore
from resumable.stores.xmlapi.confirming import lacking, unquoted
from resumable.stores.xmlapi.credentials import Credentials
from resumable.tasks import together

ENDPOINT = "https://storage.googleapis.com"
GENERATION = "x-goog-generation"
IF_GENERATION = "x-goog-if-generation-match"
#: Objects that are deleted at a time: the XML API deletes them one by one.
DELETED_AT_A_TIME = 8
GCS = Dialect(
    # "Quotas and limits", Cloud Storage's documentation.
    limits=StoreLimits(
        largest_object=5 << 40,
        metadata=8192,
        joins_whole=True,
        folders=frozenset({composing.FOLDER, staging.FOLDER}),
    ),
    codes=GCS_CODES,
    metadata=METADATA,
    created_with=option_headers,
    checksum_headers=checksum_headers,
    told_checksum=told_checksum,
    told_of_object=told_checksum,
    # Without it an object with Content-Encoding: gzip is sent uncompressed, and without its length.
    reading={"Accept-Encoding": "gzip"},
    if_new={IF_GENERATION: "0"},
    generation=GENERATION,
)


class GcsStore(XmlStore):
    """Google Cloud Storage: the port `resumable.stores.port.Store`.

    :param credentials: path of a key file; None for Application Default Credentials.
    :param prefix: what the service's own keys begin with.
    :param checksum: whether known CRC32C checksums are sent.
    :param patience: seconds for which a call is tried again.
    :param observe: called after every HTTP request: operation, ``ok`` or an error code, seconds.
    :param reports: told of every HTTP request whether the store works.
    :param retried: called with the operation when an HTTP request is made again.
    :param random: returns a number from 0 to 1, for the pauses.
    :param pauses: the limits of the first and of the longest pause between tries, in seconds.
    :param proxies: whether requests use the environment's proxies (``HTTPS_PROXY`` and its like).
    :param ledger: returns the id of the service's ledger. It is asked once, before it is needed first.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        *,
        endpoint: str | None = None,
        credentials: str | None = None,
        prefix: str = ".resumable/",
        checksum: bool = True,
        patience: float = 120.0,
        observe: Observer | None = None,
        reports: Reports | None = None,
        retried: Callable[[str], None] | None = None,
        signer: Credentials | None = None,
        transport: Transport | None = None,
        random: Callable[[], float] = chance.random,
        pauses: tuple[float, float] = (FIRST_PAUSE, LONGEST_PAUSE),
        proxies: bool = True,
        ledger: Callable[[], Awaitable[str]] | None = None,
    ) -> None:
        endpoint = (endpoint or ENDPOINT).rstrip("/")
        signer = signer or Tokens(reactor, credentials)
        transport, answers = transport or Transport(reactor), Answers(reactor, GCS_CODES, read_error)

        def calls_at(base: str) -> Calls:
            return Calls(
                reactor,
                transport,
                signer,
                EndpointAddressing(base, proxies=proxies),
                answers,
                GCS_CODES,
                patience=patience,
                random=random,
                observe=observe,
                reports=reports,
                retried=retried,
                pauses=pauses,
            )

        super().__init__(
            GCS, calls_at(endpoint), signer=signer, transport=transport, answers=answers, checksum=checksum
        )
        self._resources = Resources(calls_at(endpoint + PATH))
        self._prefix = prefix
        self._composer = Composer(self, self._resources, prefix, self._ledger)
        self._ask_ledger = ledger
        self._ledger_id: str | None = None

    async def _ledger(self) -> str | None:
        """Return the id of the service's ledger; None if there is no ledger."""
        if self._ledger_id is None and self._ask_ledger is not None:
            self._ledger_id = await self._ask_ledger()
        return self._ledger_id

    async def probe(self, bucket: str) -> None:
        """Ask once whether the store answers about this bucket. It needs ``storage.objects.list``."""
        query = "list-type=2&max-keys=1"
        await self._calls.make(Call("ListObjectsV2", "GET", bucket, None, query, answer=PROBE), patience=0.0)

    async def create_bucket(self, bucket: str) -> None:
        """Create a bucket in the credentials' project. If these credentials own it already, do nothing."""
        try:
            await self._calls.make(Call("CreateBucket", "PUT", bucket))
        except StoreError as error:
            if error.code != "BucketAlreadyOwnedByYou":
                raise

    async def delete_object(
        self, bucket: str, key: str, *, etag: str | None = None, fence: Fence | None = None
    ) -> None:
        """Delete the object. If there is none, do nothing. An object with another ETag is left alone.

        The store can make it a condition which generation is deleted, but not which ETag. So a look comes first.
        """
        headers = {}
        if etag is not None:
            found = await self._head(bucket, key)
            if found is None or unquoted(found.header(b"etag")) != etag:
                return
            generation = found.header(GENERATION.encode())
            if not generation:
                raise StoreUnavailable("MalformedAnswer", f"no {GENERATION}", found.status)
            headers[IF_GENERATION] = generation
        try:
            with suppress(NotFound):
                await self._calls.make(Call("DeleteObject", "DELETE", bucket, key, headers=headers), fence=fence)
        except PreconditionFailed:
            if etag is None:
                raise

    async def delete_objects(self, bucket: str, keys: Sequence[str]) -> None:
        """Delete objects, some at a time."""
        await together((partial(self.delete_object, bucket, key) for key in keys), most=DELETED_AT_A_TIME)

    # Multipart uploads. Those that must not replace an object are made under a key of their own: see `staging`. Those that
    # have parts made of stored objects are not the store's own: see `composing`.

    def _place(self, key: str, multipart_id: str) -> tuple[str, str]:
        """Return the key that a multipart upload is made under, and its id as the store has it."""
        staged = parse_id(multipart_id)
        return (key, multipart_id) if staged is None else (self._staging(key, staged), staged.upload_id)

    def _staging(self, key: str, staged: Staged) -> str:
        return staging_key(self._prefix, staged.word, key)

    async def init_multipart_upload(
        self, bucket: str, key: str, options: ObjectOptions, *, overwrite: bool = True, joins: bool = False
    ) -> str:
        """Open a multipart upload and return its id, which says where and how it is made."""
        if joins:
            return await self._composer.open(bucket, key, options)
        if overwrite:
            return await super().init_multipart_upload(bucket, key, options)
        word = new_word(options.acl)
        if not tells(self._prefix, word, key):
            # Google's listings of multipart uploads tell the staging key and nothing else. Nobody could see whose it is.
            return await self._composer.open(bucket, key, options)
        hidden = evolve(options, acl=None, metadata={**options.metadata, **ledger_mark(await self._ledger())})
        opened = await super().init_multipart_upload(bucket, staging_key(self._prefix, word, key), hidden)
        return Staged(word, opened).multipart_id

    async def upload_part(
        self, bucket: str, key: str, multipart_id: str, number: int, body: Sequence[bytes], *, crc32c: int | None = None
    ) -> str:
        """Store part `number` (from 1) and return its ETag (without quotes)."""
        word = word_of(multipart_id)
        if word is not None:
            return await self._composer.upload_part(bucket, key, word, number, body, crc32c)
        place = self._place(key, multipart_id)
        return await super().upload_part(bucket, *place, number, body, crc32c=crc32c)

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
        """Store part `number` with the bytes of an object that the store has.

        :raises CannotCopy: the multipart upload was not opened for that: the XML API makes no part of stored bytes.
        """
        word = word_of(multipart_id)
        if word is None:
            raise CannotCopy("NotImplemented", "Cloud Storage copies no parts into multipart uploads of its own")
        return await self._composer.copy_part(
            bucket, key, word, number, source=source, etag=etag, span=span, crc32c=crc32c
        )

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
        """Make the object of the parts. The answer has no checksum of the object: `Made.confirmed` is false.

        :raises Misconfigured: `overwrite` is false, but the multipart upload was opened with true.
        """
        word, staged = word_of(multipart_id), parse_id(multipart_id)
        if word is not None:
            return await self._composer.complete(bucket, key, word, parts, overwrite=overwrite, fence=fence)
        if staged is not None:
            return await self._complete_staged(bucket, key, staged, parts, overwrite=overwrite, fence=fence)
        if not overwrite:
            raise Misconfigured("NotSupported", "the multipart upload was opened to replace what is there")
        reply = await self._complete(bucket, key, multipart_id, parts, _has_etag, fence=fence)
        return Made(unquoted(reply.fields["ETag"]))

    async def _complete_staged(
        self,
        bucket: str,
        key: str,
        staged: Staged,
        parts: Sequence[PartRef],
        *,
        overwrite: bool,
        fence: Fence | None,
    ) -> Made:
        """Make the object under its staging key, and move it to its own. Each step may be repeated.

        :raises NoSuchUpload: neither the multipart upload nor a staged object is there. The object may have been moved.
        """
        place = self._staging(key, staged)
        gone: NoSuchUpload | None = None
        try:
            await self._complete(bucket, place, staged.upload_id, parts, _has_etag, fence=fence)
        except NoSuchUpload as error:
            gone = error
        source = await self._resources.find(bucket, place)
        if source is None and gone is not None:
            raise gone
        if source is None:
            raise StoreUnavailable("NotStored", "the store said that the object is made, and does not have it")
        try:
            moved = await self._resources.move(
                bucket, source, place, key, acl=staged.acl, overwrite=overwrite, fence=fence
            )
        except PreconditionFailed:
            moved = await self._moved_before(bucket, source, key)
        except NotFound as error:
            # Somebody else has moved it meanwhile.
            raise NoSuchUpload("NoSuchUpload", str(error), error.status) from error
        await self._remove(bucket, place, fence)
        return Made(moved.etag, generation=moved.generation)

    async def _moved_before(self, bucket: str, source: Resource, key: str) -> Resource:
        """Return what is under the key if it was moved there from the source, by a try whose answer was lost.

        :raises PreconditionFailed: it is another object.
        """
        found = await self._resources.find(bucket, key)
        if found is None:
            raise StoreUnavailable("Conflict", "the key was taken, and is free again", 412)
        if not found.is_copy_of(source):
            raise PreconditionFailed("PreconditionFailed", "the key is taken", 412)
        return found

    async def _remove(self, bucket: str, place: str, fence: Fence | None) -> None:
        """Delete a staged object that has been moved. If the store refuses that, what was made is made all the same.

        :raises StoreUnavailable: it is there still. Whoever asks again for the object deletes it; nobody else would.
        """
        try:
            await self.delete_object(bucket, place)
        except StoreUnavailable:
            if await self._resources.find(bucket, place) is None:
                return
            if fence is not None:
                fence.doubt()
            raise
        except StoreError as error:
            self._log.warn(
                "{bucket}/{key} was copied to its place and could not be deleted: {error}",
                bucket=bucket,
                key=place,
                error=str(error),
            )

    async def list_parts(self, bucket: str, key: str, multipart_id: str) -> list[StoredPart]:
        """Return all parts stored so far, ascending, across pages."""
        word = word_of(multipart_id)
        if word is not None:
            return await self._composer.list_parts(bucket, key, word)
        return await super().list_parts(bucket, *self._place(key, multipart_id))

    async def abort_multipart_upload(self, bucket: str, key: str, multipart_id: str) -> None:
        """Free the parts, and an object that was staged but not moved. If the multipart upload is gone, do nothing."""
        word = word_of(multipart_id)
        if word is not None:
            await self._composer.abort(bucket, key, word)
            return
        place, upload_id = self._place(key, multipart_id)
        if upload_id:
            await super().abort_multipart_upload(bucket, place, upload_id)
        if place != key:
            await self.delete_object(bucket, place)

    async def list_multipart_uploads(self, bucket: str, prefix: str = "") -> list[OpenMultipart]:
        """Return all open multipart uploads whose keys begin with the prefix, across pages.

        Those that are staged stand there with the key and the id that they were opened with. Objects and parts that
        ended ones have left stand there, too.
        """
        native = await super().list_multipart_uploads(bucket, prefix)
        found = [self._opened(each) for each in native]
        return [*found, *await self._left_staged(bucket, prefix), *await self._composer.list_open(bucket, prefix)]

    async def _left_staged(self, bucket: str, prefix: str) -> list[OpenMultipart]:
        """Return the staged objects that say whose they are. Their ids lack what was Google's own."""
        found = []
        for one in await self._resources.list(bucket, folder(self._prefix)):
            place, ledger, created = parse_key(self._prefix, one.key), marked_ledger(one.metadata), one.created
            if place is not None and ledger is not None and created is not None and place[1].startswith(prefix):
                found.append(OpenMultipart(place[1], Staged(place[0], "").multipart_id, created, ledger=ledger))
        return found

    def _opened(self, found: OpenMultipart) -> OpenMultipart:
        place = parse_key(self._prefix, found.key)
        if place is None:
            return found
        word, key = place
        return evolve(found, key=key, multipart_id=Staged(word, found.multipart_id).multipart_id)


def _has_etag(reply: Reply) -> CallFailure | None:
    """Check the answer to CompleteMultipartUpload."""
    return None if unquoted(reply.fields.get("ETag")) else lacking("ETag", reply)
