"""Fragments in the store, and those kept in memory."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred
from twisted.internet.task import Clock

from resumable.model import Piece, Upload
from resumable.stores.port import StoreError
from resumable.uploads.checksum import checksum
from resumable.uploads.fragments import Fragments
from resumable.uploads.memory import MemoryBudget
from tests.uploads.memory_store import Bucket, MemoryStore

#: Who brings bytes; nothing is asked of it.
SOMEBODY: Any = object()
UPLOAD = Upload("abc", "put", "alice", "film", "bucket", "film", 100, 16, 0.0, 0.0, fragmented=True)


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
def store(bucket: Bucket) -> MemoryStore:
    return MemoryStore(bucket)


@pytest.fixture
def budget() -> MemoryBudget:
    return MemoryBudget(100, Clock())


@pytest.fixture
def fragments(store: MemoryStore, budget: MemoryBudget) -> Fragments:
    return Fragments(store, budget, ".resumable/", "ledger")


async def put(fragments: Fragments, first: int, *segments: bytes) -> Piece:
    return await fragments.put(UPLOAD, first, segments, checksum(segments))


@ensureDeferred
async def test_stored_under_the_prefix(fragments: Fragments, bucket: Bucket, budget: MemoryBudget) -> None:
    """The bytes are in the store under a name that tells upload and range, and in memory once more."""
    piece = await put(fragments, 5, b"hello", b"world")
    assert (piece.first, piece.end, piece.number, piece.crc32c) == (5, 15, None, checksum([b"helloworld"]))
    assert bucket.objects[f".resumable/abc/5-14.{piece.etag}"][0] == b"helloworld"
    assert b"".join(await fragments.read(UPLOAD, piece)) == b"helloworld"
    kept = fragments.kept(UPLOAD, piece)
    assert kept == [b"hello", b"world"]
    assert budget.held == 10


@ensureDeferred
async def test_what_is_kept_gives_way(fragments: Fragments, bucket: Bucket, budget: MemoryBudget) -> None:
    """Bytes in need of the memory have it; the fragment is in the store as before."""
    piece = await put(fragments, 0, b"x" * 40)
    budget.take(90, by=SOMEBODY)
    assert fragments.kept(UPLOAD, piece) is None
    assert budget.held == 90
    assert await fragments.read(UPLOAD, piece) == [b"x" * 40]
    second = await put(fragments, 40, b"y" * 10)
    assert fragments.kept(UPLOAD, second) is None
    assert budget.held == 90


@ensureDeferred
async def test_other_bytes_than_were_stored(fragments: Fragments, bucket: Bucket) -> None:
    """What was changed or cut in the store is not made part of an object."""
    piece = await put(fragments, 0, b"hello")
    for wrong in (b"hellO", b"hell", b"hello!"):
        bucket.objects[f".resumable/abc/0-4.{piece.etag}"] = (wrong, {})
        with pytest.raises(StoreError) as caught:
            await fragments.read(UPLOAD, piece)
        assert caught.value.code == "BadFragment"


@ensureDeferred
async def test_deleting(fragments: Fragments, store: MemoryStore, bucket: Bucket, budget: MemoryBudget) -> None:
    """Gone from store and memory; what the store refuses, it is left to the sweep, and the others are deleted."""
    pieces = [await put(fragments, 0, b"one"), await put(fragments, 3, b"two")]
    store.trouble.append(("delete_object", "before"))
    fragments.forget(UPLOAD.id, pieces)
    assert budget.held == 0
    await fragments.delete(UPLOAD, pieces)
    assert list(bucket.objects) == [f".resumable/abc/0-2.{pieces[0].etag}"]
    assert [fragments.kept(UPLOAD, piece) for piece in pieces] == [None, None]
    with pytest.raises(StoreError) as caught:
        await fragments.read(UPLOAD, pieces[1])
    assert caught.value.code == "NoSuchKey"


@ensureDeferred
async def test_sweeping(fragments: Fragments, store: MemoryStore, bucket: Bucket, budget: MemoryBudget) -> None:
    """Everything of this upload goes, whoever stored it; what others have stays. A refusal is told, and asked again."""
    await put(fragments, 0, b"one")
    bucket.objects[".resumable/abc/50-52"] = (b"old", {})
    bucket.objects[".resumable/abcd/0-2"] = (b"two", {})
    bucket.objects["film"] = (b"an object", {})
    store.trouble.append(("list_objects", "before"))
    with pytest.raises(StoreError):
        await fragments.sweep(UPLOAD)
    await fragments.sweep(UPLOAD)
    assert sorted(bucket.objects) == [".resumable/abcd/0-2", "film"]
    assert budget.held == 0


@ensureDeferred
async def test_nothing_to_sweep(fragments: Fragments, store: MemoryStore) -> None:
    """An upload that never had a fragment costs no request."""
    store.trouble.append(("list_objects", "before"))
    await fragments.sweep(evolve(UPLOAD, fragmented=False))
    assert store.trouble
