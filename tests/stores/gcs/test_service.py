"""Uploads through the whole service into Cloud Storage."""

from __future__ import annotations

from base64 import b64encode
from collections import deque
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_twisted
from attrs import evolve

from resumable.stores.gcs.client import GcsStore
from resumable.stores.port import StoreLimits
from tests.protocols.harness import Answer, Door, Memory, memory_service, until
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
        assert done.json["generation"] == str(gcs.buckets["bucket"]["alice/big.bin"].generation)
        small = await service.ask("PUT", "/upload/small.bin", [], DATA[:10])
        assert (small.status, gcs.read("alice/small.bin")) == (200, DATA[:10])
        assert small.json["generation"] == str(gcs.buckets["bucket"]["alice/small.bin"].generation)
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
    assert [event["reason"] for event in logged if event.get("log_format", "").startswith("upload failed")] == [
        "the key is taken"
    ]
    logged.clear()


TUS = "Tus-Resumable: 1.0.0"


async def concatenated(service: Memory, paths: list[str], name: str) -> Answer:
    called = b64encode(name.encode()).decode()
    return await service.ask(
        "POST", "/files/", [TUS, f"Upload-Concat: final;{' '.join(paths)}", f"Upload-Metadata: filename {called}"]
    )


async def partial(service: Memory, data: bytes) -> str:
    headers = [TUS, f"Upload-Length: {len(data)}", "Upload-Concat: partial"]
    made = await service.ask("POST", "/files/", [*headers, "Content-Type: application/offset+octet-stream"], data)
    assert made.status == 201
    return urlsplit(made.header("Location") or "").path


@pytest.mark.parametrize("overwrite", [True, False])
@pytest_twisted.ensureDeferred
async def test_a_concatenation(gcs: GcsServer, store: GcsStore, overwrite: bool) -> None:
    """Google copies and composes: no byte comes back, however short a partial upload is."""
    gcs.smallest_part = 1
    pieces = [DATA[:70], b"", DATA[70:71], DATA[71:]]
    async with memory_service(Door("alice"), store=store, limits=store.limits, overwrite=overwrite) as service:
        paths = [await partial(service, piece) for piece in pieces]
        gcs.asked.clear()
        made = await concatenated(service, paths, "film")
        assert made.status == 201
        assert gcs.read("alice/film") == DATA
        film = await service.parts.ledger.find("alice", "film", "tus", finished=True)
        assert film is not None
        told = await service.ask("GET", f"/uploads/{film.id}", [])
        assert told.json["generation"] == str(gcs.buckets["bucket"]["alice/film"].generation)
        assert (gcs.names().count("RewriteObject"), gcs.names().count("ComposeObject")) == (3, 1)
        read = [one.path for one in gcs.asked if one.name == "GetObject" and "/composed/notes/" not in one.path]
        assert read == []
        # What has been put together is freed in the background.
        await until(lambda: list(gcs.buckets["bucket"]) == ["alice/film"])


@pytest.mark.parametrize(
    "name", ["PutObject", "GetObject", "HeadObject", "RewriteObject", "ComposeObject", "DeleteObject"]
)
@pytest_twisted.ensureDeferred
async def test_a_concatenation_whose_calls_go_wrong(gcs: GcsServer, store: GcsStore, name: str) -> None:
    for fault in (Fault(name, done=True), Fault(name, 503)):
        gcs.reset()
        async with memory_service(Door("alice"), store=store, limits=store.limits) as service:
            paths = [await partial(service, DATA[:60]), await partial(service, DATA[60:])]
            gcs.faults.append(fault)
            assert (await concatenated(service, paths, "film")).status == 201
            await until(lambda: list(gcs.buckets["bucket"]) == ["alice/film"])
            assert gcs.read("alice/film") == DATA
        assert not gcs.faults


@pytest_twisted.ensureDeferred
async def test_a_concatenation_that_is_cancelled(gcs: GcsServer, store: GcsStore, logged: list[Any]) -> None:
    """Its parts go, and its partial uploads."""
    async with memory_service(Door("alice"), store=store, limits=store.limits) as service:
        paths = [await partial(service, DATA[:60]), await partial(service, DATA[60:])]
        gcs.denied.add("ComposeObject")
        made = await concatenated(service, paths, "film")
        assert made.status == 503
        assert any("/composed/parts/" in key for key in gcs.buckets["bucket"])
        gcs.denied.clear()
        upload = await service.parts.ledger.find("alice", "film", "tus")
        assert upload is not None
        assert (await service.ask("DELETE", f"/files/{upload.id}", [TUS])).status == 204
        for path in paths:
            assert (await service.ask("DELETE", path, [TUS])).status == 204
        await until(lambda: not gcs.buckets["bucket"])
    logged.clear()  # that the store has refused


@pytest.mark.parametrize("overwrite", [True, False])
@pytest_twisted.ensureDeferred
async def test_chunks_that_are_larger_than_memory(gcs: GcsServer, store: GcsStore, overwrite: bool) -> None:
    """Google makes each chunk of fragments, and the object of the chunks. Bytes that were stored do not come back."""
    gcs.smallest_part = 4
    data = bytes(range(256)) * 2
    limits = StoreLimits(smallest_part=4, largest_part=100, joins_whole=True)
    rules: dict[str, Any] = {"chunk_size": 16, "memory": 64, "max_chunk": 16, "max_parts": 8, "limits": limits}
    async with memory_service(Door("alice"), store=store, overwrite=overwrite, **rules) as service:
        store._dialect = evolve(store._dialect, limits=limits)
        begun = await service.ask("PUT", "/upload/big", ["Content-Range: bytes 0-299/512"], data[:300])
        assert begun.status == 308
        fault = Fault("ComposeObject", done=True)
        gcs.faults.append(fault)
        done = await service.ask("PUT", "/upload/big", ["Content-Range: bytes 300-511/512"], data[300:])
        assert (done.status, gcs.read("alice/big"), gcs.faults) == (200, data, deque())
        assert gcs.names().count("ComposeObject") >= 7
        await until(lambda: list(gcs.buckets["bucket"]) == ["alice/big"])
        assert gcs.multiparts == {}


@pytest_twisted.ensureDeferred
async def test_of_a_length_that_is_not_known(gcs: GcsServer, store: GcsStore) -> None:
    """Google's own multipart upload: all its parts go through memory."""
    gcs.smallest_part = 1
    async with memory_service(Door("alice"), store=store, limits=store.limits) as service:
        begun = await service.ask("PUT", "/upload/k", ["Content-Range: bytes 0-39/*"], DATA[:40])
        assert begun.status == 308
        assert len(gcs.multiparts) == 1
        done = await service.ask("PUT", "/upload/k", ["Content-Range: bytes 40-99/100"], DATA[40:])
        assert (done.status, gcs.read("alice/k")) == (200, DATA)


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
