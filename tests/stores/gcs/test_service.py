"""Uploads through the whole service into Cloud Storage."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted

from resumable.stores.gcs.client import GcsStore
from tests.protocols.harness import Door, memory_service, until
from tests.stores.gcs.server import Fault, GcsServer

DATA = bytes(range(100))


@pytest.mark.parametrize("overwrite", [True, False])
@pytest_twisted.ensureDeferred
async def test_an_upload_that_broke_off(gcs: GcsServer, store: GcsStore, overwrite: bool) -> None:
    """It is put together of fragments and parts, and nothing of it is left over."""
    gcs.smallest_part = 1
    async with memory_service(Door("alice"), store=store, overwrite=overwrite) as service:
        begun = await service.ask("PUT", "/upload/big.bin", ["Content-Range: bytes 0-39/100"], DATA[:40])
        assert begun.status == 308
        assert "UploadPart" in gcs.names()
        done = await service.ask("PUT", "/upload/big.bin", ["Content-Range: bytes 40-99/100"], DATA[40:])
        assert done.status == 200
        assert gcs.read("alice/big.bin") == DATA
        assert done.json["etag"] == gcs.buckets["bucket"]["alice/big.bin"].etag
        small = await service.ask("PUT", "/upload/small.bin", [], DATA[:10])
        assert (small.status, gcs.read("alice/small.bin")) == (200, DATA[:10])
    assert set(gcs.buckets["bucket"]) == {"alice/big.bin", "alice/small.bin"}
    assert gcs.multiparts == {}


@pytest.mark.parametrize("size", [10, 100])
@pytest_twisted.ensureDeferred
async def test_a_key_that_is_taken(gcs: GcsServer, store: GcsStore, size: int, logged: list[Any]) -> None:
    gcs.smallest_part = 1
    gcs.make("bucket", "alice/k", b"theirs", {}, multipart=False)
    async with memory_service(Door("alice"), store=store, overwrite=False) as service:
        refused = await service.ask("PUT", "/upload/k", [], DATA[:size])
        assert refused.status in (409, 412)
        # What was stored of it is freed, the staged object too.
        await until(lambda: list(gcs.buckets["bucket"]) == ["alice/k"] and not gcs.multiparts)
    assert gcs.read("alice/k") == b"theirs"
    assert "the key is taken" in [event["reason"] for event in logged if "reason" in event]
    logged.clear()


LOST = [
    *(("CompleteMultipartUpload", True), ("HeadObject", True), ("CompleteMultipartUpload", False)),
    *(("GetObjectResource", False), ("RewriteObject", False), ("DeleteObject", False), ("HeadObject", False)),
]


@pytest_twisted.ensureDeferred
async def test_a_finish_whose_answer_is_lost(gcs: GcsServer, store: GcsStore) -> None:
    for operation, overwrite in LOST:
        gcs.reset()
        gcs.smallest_part = 1
        gcs.faults.append(Fault(operation, done=True))
        async with memory_service(Door("alice"), store=store, overwrite=overwrite) as service:
            done = await service.ask("PUT", "/upload/k", [], DATA)
            assert done.status == 200, operation
        assert not gcs.faults
        assert gcs.read("alice/k") == DATA
        assert gcs.multiparts == {}
        assert list(gcs.buckets["bucket"]) == ["alice/k"], operation


@pytest_twisted.ensureDeferred
async def test_a_store_that_makes_another_object(gcs: GcsServer, store: GcsStore, logged: Any) -> None:
    """Its answer to Complete tells no checksum. It is asked, and what it has made does not stay."""
    make = gcs.make

    def damaged(bucket: str, key: str, data: bytes, *args: Any, **how: Any) -> Any:
        return make(bucket, key, bytes([data[0] ^ 1]) + data[1:], *args, **how)

    gcs.smallest_part = 1
    async with memory_service(Door("alice"), store=store) as service:
        gcs.make = damaged  # type: ignore[method-assign]
        try:
            refused = await service.ask("PUT", "/upload/k", [], DATA)
        finally:
            gcs.make = make  # type: ignore[method-assign]
        assert refused.status == 410, refused
        assert "other bytes" in refused.json["detail"]
        await until(lambda: not gcs.buckets["bucket"] and not gcs.multiparts)
    logged.clear()
