"""What Cloud Storage has of its own. What it has in common with S3 is in stores/s3/test_client.py."""

from __future__ import annotations

import pytest
import pytest_twisted
from crc32c import crc32c

from resumable.model import ObjectOptions
from resumable.stores.gcs.client import GcsStore
from resumable.stores.port import (
    CannotCopy,
    Misconfigured,
    NotFound,
    PartRef,
    PreconditionFailed,
    Refused,
    StoreUnavailable,
)
from tests.stores.gcs.server import Fault, GcsServer

PLAIN = ObjectOptions()
DATA = b"123456789"
CRC = crc32c(DATA)


@pytest_twisted.ensureDeferred
async def test_a_checksum_confirms_what_is_stored(gcs: GcsServer, store: GcsStore) -> None:
    made = await store.put_object("bucket", "k", [DATA], PLAIN, crc32c=CRC)
    assert made.confirmed
    assert not (await store.put_object("bucket", "k", [DATA], PLAIN)).confirmed
    assert gcs.asked[0].headers["x-goog-hash"] == "crc32c=4waSgw=="
    quiet = gcs.client(checksum=False)
    await quiet.put_object("bucket", "k", [DATA], PLAIN, crc32c=CRC)
    assert "x-goog-hash" not in gcs.asked[-1].headers
    await quiet.close()


@pytest_twisted.ensureDeferred
async def test_bytes_that_were_damaged_are_sent_again(gcs: GcsServer, store: GcsStore) -> None:
    opened = await store.init_multipart_upload("bucket", "k", PLAIN)
    for code in ("CrcMismatch", "BadDigest", "InvalidDigest"):
        gcs.asked.clear()
        gcs.faults.append(Fault("UploadPart", 400, code=code))
        await store.upload_part("bucket", "k", opened, 1, [DATA], crc32c=CRC)
        assert gcs.names() == ["UploadPart", "UploadPart"]
    hasty = gcs.client(patience=0.0)
    with pytest.raises(StoreUnavailable, match="CrcMismatch"):
        await hasty.upload_part("bucket", "k", opened, 1, [DATA], crc32c=CRC ^ 1)
    await hasty.close()


@pytest.mark.parametrize("fault", [Fault("*", 503), Fault("*", 429), Fault("*"), Fault("*", 500, code="InternalError")])
@pytest_twisted.ensureDeferred
async def test_what_passes_is_tried_again(gcs: GcsServer, store: GcsStore, fault: Fault) -> None:
    gcs.smallest_part = 1
    gcs.faults.append(fault)
    opened = await store.init_multipart_upload("bucket", "k", PLAIN)
    gcs.faults.append(fault)
    etag = await store.upload_part("bucket", "k", opened, 1, [DATA], crc32c=CRC)
    gcs.faults.append(fault)
    assert len(await store.list_parts("bucket", "k", opened)) == 1
    gcs.faults.append(fault)
    await store.complete_multipart_upload("bucket", "k", opened, [PartRef(1, etag, CRC)])
    gcs.faults.append(fault)
    assert b"".join(await store.get_object("bucket", "k", limit=100)) == DATA
    gcs.faults.append(fault)
    found = await store.head_object("bucket", "k")
    assert found is not None
    assert found.size == len(DATA)
    gcs.faults.append(fault)
    await store.delete_object("bucket", "k", etag=found.etag)
    assert gcs.buckets["bucket"] == {}
    assert not gcs.faults


@pytest_twisted.ensureDeferred
async def test_reading_on_conditions(gcs: GcsServer, store: GcsStore) -> None:
    etag = (await store.put_object("bucket", "k", [DATA], ObjectOptions(content_encoding="gzip"))).etag
    assert await store.get_object("bucket", "k", limit=100, span=(2, 4), etag=etag) == [b"34"]
    with pytest.raises(PreconditionFailed):
        await store.get_object("bucket", "k", limit=100, etag="other")
    with pytest.raises(PreconditionFailed):
        await store.get_object("bucket", "k", limit=100, span=(9, 10))
    with pytest.raises(NotFound):
        await store.get_object("bucket", "none", limit=100)


@pytest_twisted.ensureDeferred
async def test_deleting_on_a_condition(gcs: GcsServer, store: GcsStore) -> None:
    """By the generation, so that the same bytes of somebody else stay."""
    etag = (await store.put_object("bucket", "k", [DATA], PLAIN)).etag
    await store.delete_object("bucket", "k", etag="other")
    assert gcs.read("k") == DATA
    await store.delete_object("bucket", "none", etag=etag)
    generation = gcs.buckets["bucket"]["k"].generation
    await store.delete_object("bucket", "k", etag=etag)
    assert gcs.buckets["bucket"] == {}
    assert gcs.asked[-1].headers["x-goog-if-generation-match"] == str(generation)
    head = store._head

    async def looked(bucket: str, key: str) -> object:
        found = await head(bucket, key)
        gcs.make("bucket", "k", DATA, {}, multipart=False)
        return found

    await store.put_object("bucket", "k", [DATA], PLAIN)
    store._head = looked  # type: ignore[assignment, method-assign]
    await store.delete_object("bucket", "k", etag=etag)
    assert gcs.read("k") == DATA


@pytest_twisted.ensureDeferred
async def test_many_are_deleted(gcs: GcsServer, store: GcsStore) -> None:
    keys = [f"f/{n}" for n in range(20)]
    for key in keys:
        gcs.make("bucket", key, DATA, {}, multipart=False)
    await store.delete_objects("bucket", [*keys, "none"])
    assert gcs.buckets["bucket"] == {}


@pytest_twisted.ensureDeferred
async def test_refusals(gcs: GcsServer, store: GcsStore) -> None:
    with pytest.raises(Refused) as caught:
        await store.put_object("bucket", "k" * 1025, [DATA], PLAIN)
    assert caught.value.field == "key"
    for options in (ObjectOptions(tags={"a": "b"}), ObjectOptions(encryption="aws:kms"), ObjectOptions(acl="nonsense")):
        for call in (
            store.put_object("bucket", "k", [DATA], options),
            store.init_multipart_upload("bucket", "k", options),
        ):
            with pytest.raises(Misconfigured) as refused:
                await call
            assert not refused.value.everybody
    opened = await store.init_multipart_upload("bucket", "k", PLAIN)
    with pytest.raises(CannotCopy):
        await store.upload_part_copy("bucket", "k", opened, 1, source=("bucket", "o"), etag="e")
    gcs.denied.add("PutObject")
    with pytest.raises(Misconfigured, match="AccessDenied") as denied:
        await store.put_object("bucket", "k", [DATA], PLAIN)
    assert denied.value.everybody


@pytest_twisted.ensureDeferred
async def test_the_probe(gcs: GcsServer, store: GcsStore) -> None:
    await store.probe("bucket")
    with pytest.raises(Misconfigured, match="NoSuchBucket"):
        await store.probe("none")
    gcs.faults.append(Fault("*", 503))
    with pytest.raises(StoreUnavailable):
        await store.probe("bucket")
