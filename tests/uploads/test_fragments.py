"""Fragments in the store, and those kept in memory."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred
from twisted.internet.task import Clock

from resumable.model import ObjectOptions, Piece, Upload
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
    """Gone from store and memory, with one request; what the store refuses is left to the sweep."""
    pieces = [await put(fragments, 0, b"one"), await put(fragments, 3, b"two")]
    left = await put(fragments, 6, b"three")
    store.trouble += [("delete_objects", "after"), ("delete_object", "before")]
    fragments.forget(UPLOAD.id, [*pieces, left])
    assert budget.held == 0
    await fragments.delete(UPLOAD, pieces)
    await fragments.delete(UPLOAD, [left])
    await fragments.delete(UPLOAD, [])
    assert list(bucket.objects) == [f".resumable/abc/6-10.{left.etag}"]
    assert bucket.calls[3:] == ["delete_objects", "delete_object"]
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
async def test_several_are_swept_together(fragments: Fragments, bucket: Bucket) -> None:
    """One request deletes what there is of them in a bucket."""
    others = [evolve(UPLOAD, id=f"other{number}", bucket=f"bucket{number % 2}") for number in range(4)]
    for other in others:
        bucket.objects[f".resumable/{other.id}/0-2"] = bucket.objects[f".resumable/{other.id}/3-5"] = (b"one", {})
    bucket.objects["film"] = (b"an object", {})
    await fragments.sweep(*others, evolve(UPLOAD, fragmented=False))
    assert sorted(bucket.objects) == ["film"]
    assert bucket.calls == [*["list_objects"] * 4, *["delete_objects"] * 2]


@ensureDeferred
async def test_nothing_to_sweep(fragments: Fragments, store: MemoryStore) -> None:
    """An upload that never had a fragment costs no request."""
    store.trouble.append(("list_objects", "before"))
    await fragments.sweep(evolve(UPLOAD, fragmented=False))
    assert store.trouble


@pytest.fixture
def alone(store: MemoryStore, budget: MemoryBudget) -> Fragments:
    """Those of the only process."""
    return Fragments(store, budget, ".resumable/", "ledger", alone=True)


def listings(bucket: Bucket) -> int:
    return bucket.calls.count("list_objects")


@ensureDeferred
async def test_known_fragments_are_swept_without_asking(alone: Fragments, store: MemoryStore, bucket: Bucket) -> None:
    """Those that are there, those that are deleted already, and one whose storing nobody heard the end of."""
    alone.begin(UPLOAD.id)
    first, second = await put(alone, 0, b"one"), await put(alone, 3, b"two")
    store.trouble.append(("put_object", "after"))
    with pytest.raises(StoreError):
        await put(alone, 6, b"three")
    await alone.delete(UPLOAD, [first])
    assert len(bucket.objects) == 2
    await alone.sweep(UPLOAD)
    assert bucket.objects == {}
    assert listings(bucket) == 0
    # What comes after that is looked for.
    await put(alone, 3, b"two")
    await alone.sweep(UPLOAD)
    assert bucket.objects == {}
    assert listings(bucket) == 1
    assert second.etag


@ensureDeferred
async def test_a_sweep_that_fails_still_knows_the_fragments(
    alone: Fragments, store: MemoryStore, bucket: Bucket
) -> None:
    alone.begin(UPLOAD.id)
    await put(alone, 0, b"one")
    store.trouble.append(("delete_object", "before"))
    with pytest.raises(StoreError):
        await alone.sweep(UPLOAD)
    await alone.sweep(UPLOAD)
    assert bucket.objects == {}
    assert listings(bucket) == 0


@ensureDeferred
@pytest.mark.parametrize("change", [{"partial": True}, {"sources": ("one",)}, {"growth": ((2, 1 << 33),), "cell": 10}])
async def test_where_there_is_more_than_fragments_the_store_is_asked(
    alone: Fragments, bucket: Bucket, change: dict[str, Any]
) -> None:
    alone.begin(UPLOAD.id)
    await put(alone, 0, b"one")
    await alone.sweep(evolve(UPLOAD, **change))
    assert bucket.objects == {}
    assert listings(bucket) == 1


@ensureDeferred
async def test_what_the_store_has_joined_is_looked_for(alone: Fragments, store: MemoryStore, bucket: Bucket) -> None:
    """Although by now all chunks fit: the client may have begun anew, with a short file."""
    alone.begin(UPLOAD.id)
    await put(alone, 0, b"one")
    joined = alone.new_key(UPLOAD, "part-1")
    await store.put_object(UPLOAD.bucket, joined, [b"one"], ObjectOptions(), crc32c=0)
    await alone.sweep(UPLOAD)
    assert bucket.objects == {}


@ensureDeferred
async def test_what_is_known_is_bounded(alone: Fragments, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """All uploads and fragments together, and the fragments of one upload."""
    monkeypatch.setattr("resumable.uploads.known_keys.MOST_KNOWN", 5)
    monkeypatch.setattr("resumable.uploads.known_keys.MOST_OF_ONE", 2)
    ids = [UPLOAD.id, "second", "third"]

    async def known(upload_id: str) -> bool:
        """Sweep the upload. Return whether that asks for no list; all is gone in any case."""
        before = listings(bucket)
        await alone.sweep(evolve(UPLOAD, id=upload_id))
        assert not [key for key in bucket.objects if f"/{upload_id}/" in key]
        return listings(bucket) == before

    # Three uploads and three fragments: the oldest is known no more.
    for upload_id in ids:
        alone.begin(upload_id)
        await alone.put(evolve(UPLOAD, id=upload_id), 0, [b"x"], 0)
    assert [await known(upload_id) for upload_id in ids] == [False, True, True]
    # What is deleted, or swept, takes no room.
    for _ in range(5):
        alone.begin(UPLOAD.id)
        for first in range(3):
            await alone.delete(UPLOAD, [await put(alone, first, b"x")])
        assert await known(UPLOAD.id)
    # Too many of one upload.
    alone.begin("second")
    alone.begin(UPLOAD.id)
    for first in range(3):
        await put(alone, first, b"x")
    assert not await known(UPLOAD.id)
    assert await known("second")


@ensureDeferred
async def test_where_others_store_fragments_the_store_is_asked(fragments: Fragments, bucket: Bucket) -> None:
    fragments.begin(UPLOAD.id)
    await put(fragments, 0, b"one")
    bucket.objects[".resumable/abc/3-5.theirs"] = (b"two", {})
    await fragments.sweep(UPLOAD)
    assert bucket.objects == {}
