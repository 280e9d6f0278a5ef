"""txAWS's S3 client, as far as it was used for objects: a face on this service's own, whose calls return Deferreds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IProtocol
from twisted.web.iweb import IBodyProducer

from resumable.s3.receiving import Delivery
from resumable.s3.sending import Sender
from resumable.s3.values import (
    AWSCredentials,
    AWSServiceEndpoint,
    BucketItem,
    BucketListing,
    MultipartCompletionResponse,
    MultipartInitiationResponse,
    habits,
    options_of,
)
from resumable.stores.port import OpenMultipart, PartRef, StoredPart
from resumable.stores.s3.client import S3Store

#: The most objects in an answer to `S3Client.get_bucket`. S3 gives no more at a time.
MOST_KEYS = 1000


class S3Client:
    """A client of Amazon S3, or of a store that speaks like it.

    Every call tries again by itself, with growing pauses, what may pass (5xx, time-outs, broken connections). If it does
    not pass, the Deferred fails with an `S3Error`: `StoreUnavailable`, `NotFound`, or another whose `code` is S3's.
    Cancelling a Deferred ends the call.

    :param creds: None to have botocore look where AWS's own tools look, and renew what it finds.
    :param endpoint: where a store is that is not AWS.
    :param profile: what the store takes and refuses: a name of ``docs/stores.md``, such as ``r2``, or ``auto`` to go by the
        endpoint's host. What is said besides wins.
    :param region: the bucket's. None leaves it to the profile, which may find it in the endpoint's host.
    :param addressing: ``path``, ``virtual``, or ``auto``: virtual at AWS, and path at an endpoint.
    :param checksum: whether bodies go with their CRC32C. None leaves it to the profile: some stores refuse it.
    :param patience: seconds for which a call is tried again.
    :param store: a store to use in place of one made of all these.
    :raises ValueError: there is no such profile.
    """

    def __init__(
        self,
        creds: AWSCredentials | None = None,
        endpoint: AWSServiceEndpoint | str | None = None,
        *,
        reactor: Any = None,
        profile: str = "auto",
        region: str | None = None,
        addressing: str = "auto",
        checksum: bool | None = None,
        patience: float = 120.0,
        store: S3Store | None = None,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        uri = endpoint.uri if isinstance(endpoint, AWSServiceEndpoint) else endpoint
        taken = habits(profile, uri, region, checksum)
        self._store = store or S3Store(
            reactor,
            region=taken.region,
            endpoint=uri,
            addressing=addressing,
            access_key=creds.access_key if creds else None,
            secret_key=creds.secret_key if creds else None,
            session_token=creds.session_token if creds else None,
            checksum=taken.checksum,
            limits=taken.limits,
            patience=patience,
        )
        self._sender = Sender(self._store, checksum=taken.checksum)

    def close(self) -> Deferred[None]:
        """Close idle connections. A program that ends need not wait for it."""
        return Deferred.fromCoroutine(self._store.close())

    def create_bucket(self, bucket: str) -> Deferred[None]:
        """Create a bucket. If these credentials own it already, do nothing."""
        return Deferred.fromCoroutine(self._store.create_bucket(bucket))

    def get_bucket(
        self, bucket: str, marker: str | None = None, max_keys: int | None = None, prefix: str | None = None
    ) -> Deferred[BucketListing]:
        """List some of a bucket's objects, in the order of their keys.

        :param marker: keys that sort after it.
        :param max_keys: how many at most; 1000 is the most that S3 gives at a time.
        """
        return Deferred.fromCoroutine(self._list(bucket, marker or "", max_keys, prefix or ""))

    async def _list(self, bucket: str, marker: str, max_keys: int | None, prefix: str) -> BucketListing:
        most = MOST_KEYS if max_keys is None else min(max_keys, MOST_KEYS)
        found, more = await self._store.list_page(bucket, prefix, after=marker, most=most)
        items = [
            BucketItem(one.key, datetime.fromtimestamp(one.modified or 0.0, timezone.utc), one.etag, one.size)
            for one in found
        ]
        return BucketListing(bucket, prefix, marker, most, more, items)

    def put_object(
        self,
        bucket: str,
        object_name: str,
        data: bytes | None = None,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        amz_headers: Mapping[str, str] | None = None,
        body_producer: IBodyProducer | None = None,
    ) -> Deferred[str]:
        """Store an object. The Deferred fires with its ETag.

        :param body_producer: writes the bytes, in place of `data`. Its length may be unknown. What it writes is in memory a
            few parts at a time, of 8 MiB or as many more as it takes for all of them to be as few as the store allows. It is
            paused meanwhile, and need not be able to begin again.
        :raises ValueError: there are `data` and `body_producer`, or an `amz_headers` that is not known.
        """
        _only_one(data, body_producer)
        options = options_of(content_type, metadata, amz_headers)

        async def put() -> str:
            if body_producer is not None:
                return (await self._sender.put(bucket, object_name, options, body_producer)).etag
            body = [data] if data else []
            crc32c = self._sender.checksum(body)
            return (await self._store.put_object(bucket, object_name, body, options, crc32c=crc32c)).etag

        return Deferred.fromCoroutine(put())

    def get_object(
        self,
        bucket: str,
        object_name: str,
        *,
        receiver: IProtocol | None = None,
        consumer: IConsumer | None = None,
        first: int = 0,
        end: int | None = None,
    ) -> Deferred[Any]:
        """Read an object. The Deferred fires with its bytes; or, if somebody else takes them, with a `StoredObject`.

        :param receiver: a protocol that gets the bytes as of a connection, and `ResponseDone` at the end, or the failure.
            Its transport can be paused, resumed and stopped.
        :param consumer: gets the bytes from a push producer.
        :param first: the offset of the first byte that is wanted, from 0.
        :param end: the offset behind the last one; None for the object's end.
        :raises ValueError: an offset is negative, or there are a `receiver` and a `consumer`.
        """
        for name, offset in (("first", first), ("end", end)):
            if offset is not None and offset < 0:
                raise ValueError(f"{name} is an offset from the object's first byte, and cannot be {offset}")
        if receiver is not None and consumer is not None:
            raise ValueError("either a receiver or a consumer takes the bytes")
        delivery = Delivery(self._store, bucket, object_name, first, end)
        if consumer is not None:
            return Deferred.fromCoroutine(delivery.to_consumer(consumer))
        if receiver is not None:
            return Deferred.fromCoroutine(delivery.to_protocol(receiver))

        async def collected() -> bytes:
            segments: list[bytes] = []
            await delivery.to_function(segments.append)
            return b"".join(segments)

        return Deferred.fromCoroutine(collected())

    def head_object(self, bucket: str, object_name: str) -> Deferred[dict[str, str]]:
        """Look at an object. The Deferred fires with the answer's headers, whose names are written as in ``Content-Type``."""

        looked = Deferred.fromCoroutine(self._store.look_at(bucket, object_name))
        return looked.addCallback(lambda found: found[1])

    def delete_object(self, bucket: str, object_name: str) -> Deferred[None]:
        """Delete an object. If there is none, do nothing."""
        return Deferred.fromCoroutine(self._store.delete_object(bucket, object_name))

    # Multipart uploads

    def init_multipart_upload(
        self,
        bucket: str,
        object_name: str,
        content_type: str | None = None,
        amz_headers: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Deferred[MultipartInitiationResponse]:
        """Open a multipart upload."""
        options = options_of(content_type, metadata, amz_headers)
        opened = Deferred.fromCoroutine(self._store.init_multipart_upload(bucket, object_name, options))
        return opened.addCallback(lambda upload_id: MultipartInitiationResponse(bucket, object_name, upload_id))

    def upload_part(
        self,
        bucket: str,
        object_name: str,
        upload_id: str,
        part_number: int,
        data: bytes | None = None,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        body_producer: IBodyProducer | None = None,
    ) -> Deferred[dict[str, str]]:
        """Store a part (from 1). The Deferred fires with a dictionary that has its ``ETag``.

        :param content_type: not used: it belongs to the object. Nor is `metadata`.
        :param body_producer: writes the bytes, in place of `data`. All of the part is in memory until it is stored.
        :raises ValueError: there are `data` and `body_producer`.
        """
        _only_one(data, body_producer)

        async def store() -> dict[str, str]:
            body = [data] if data else []
            if body_producer is not None:
                body = await self._sender.collect(body_producer)
            crc32c = self._sender.checksum(body)
            where = (bucket, object_name, upload_id, int(part_number))
            return {"ETag": f'"{await self._store.upload_part(*where, body, crc32c=crc32c)}"'}

        return Deferred.fromCoroutine(store())

    def complete_multipart_upload(
        self,
        bucket: str,
        object_name: str,
        upload_id: str,
        parts_list: Sequence[tuple[int, str]],
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Deferred[MultipartCompletionResponse]:
        """Make the object of its parts.

        :param parts_list: number and ETag of each, in any order; with quotes or without.
        :param content_type: not used: it was said when the multipart upload was opened. Nor is `metadata`.
        """
        parts = sorted((int(number), etag.strip('"')) for number, etag in parts_list)
        refs = [PartRef(number, etag) for number, etag in parts]
        made = Deferred.fromCoroutine(self._sender.complete(bucket, object_name, upload_id, refs))
        return made.addCallback(lambda done: MultipartCompletionResponse(bucket, object_name, done.etag))

    def list_parts(self, bucket: str, object_name: str, upload_id: str) -> Deferred[list[StoredPart]]:
        """List all parts of a multipart upload, ascending."""
        return Deferred.fromCoroutine(self._store.list_parts(bucket, object_name, upload_id))

    def abort_multipart_upload(self, bucket: str, object_name: str, upload_id: str) -> Deferred[None]:
        """Free the parts. If the multipart upload is gone, do nothing."""
        return Deferred.fromCoroutine(self._store.abort_multipart_upload(bucket, object_name, upload_id))

    def list_multipart_uploads(self, bucket: str, prefix: str = "") -> Deferred[list[OpenMultipart]]:
        """List all open multipart uploads whose keys begin with the prefix."""
        return Deferred.fromCoroutine(self._store.list_multipart_uploads(bucket, prefix))


def _only_one(data: bytes | None, body_producer: IBodyProducer | None) -> None:
    if data is not None and body_producer is not None:
        raise ValueError("data and body_producer are mutually exclusive")
