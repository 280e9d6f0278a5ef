"""Objects of several parts that must not replace another: completed under a key of their own, then moved."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import pytest_twisted
from twisted.internet.defer import ensureDeferred, gatherResults

from resumable.model import ObjectOptions
from resumable.stores.gcs.client import GcsStore
from resumable.stores.gcs.staging import Staged, new_word, parse_id, parse_key, staging_key
from resumable.stores.port import (
    Made,
    Misconfigured,
    NoSuchUpload,
    PartRef,
    PreconditionFailed,
    StoreError,
    StoreUnavailable,
)
from tests.stores.gcs.server import Fault, GcsServer
from tests.stores.s3.test_fences import Closed, Recorder

OPTIONS = ObjectOptions(
    content_type="video/x-own",
    metadata={"resumable-token": "abc", "name": "Grüße"},
    acl="public-read",
    storage_class="NEARLINE",
    cache_control="no-cache",
    content_disposition="attachment; filename=own.bin",
    content_encoding="gzip",
    kms_key="projects/p/locations/l/keyRings/r/cryptoKeys/k",
)
DATA = [b"some bytes, ", b"and more"]
WHOLE = b"".join(DATA)


async def opened(
    store: GcsStore, gcs: GcsServer, options: ObjectOptions = OPTIONS, key: str = "k"
) -> tuple[str, Sequence[PartRef]]:
    """A multipart upload that lacks only its completion."""
    gcs.smallest_part = 1
    multipart = await store.init_multipart_upload("bucket", key, options, overwrite=False)
    parts = [PartRef(n, await store.upload_part("bucket", key, multipart, n, [data])) for n, data in enumerate(DATA, 1)]
    return multipart, parts


async def complete(store: GcsStore, multipart: str, parts: Sequence[PartRef], key: str = "k") -> Made:
    return await store.complete_multipart_upload("bucket", key, multipart, parts, overwrite=False)


@pytest.mark.parametrize("calls", [1, 3])
@pytest_twisted.ensureDeferred
async def test_all_that_was_wanted_is_there(gcs: GcsServer, store: GcsStore, calls: int) -> None:
    """Also where the copy takes several calls. Before it nobody can read the object, and afterwards nothing else is left."""
    gcs.rewrite_calls = calls
    multipart, parts = await opened(store, gcs)
    (staged,) = gcs.multiparts.values()
    assert "x-goog-acl" not in staged.options
    assert staged.key.startswith(".resumable/staged/")
    await complete(store, multipart, parts)
    assert list(gcs.buckets["bucket"]) == ["k"]
    made = gcs.buckets["bucket"]["k"]
    assert (made.data, made.acl, made.storage_class, made.kms_key) == (
        WHOLE,
        "public-read",
        "NEARLINE",
        OPTIONS.kms_key,
    )
    assert gcs.described("k") == {
        "ContentType": "video/x-own",
        "CacheControl": "no-cache",
        "ContentDisposition": "attachment; filename=own.bin",
        "ContentEncoding": "gzip",
    }
    found = await store.head_object("bucket", "k")
    assert found is not None
    assert found.metadata == {"resumable-token": "abc", "name": "Grüße"}
    assert gcs.names().count("RewriteObject") == calls


FAULTS = [
    *(Fault("CompleteMultipartUpload", done=True), Fault("CompleteMultipartUpload", 503, done=True)),
    *(Fault("GetObjectResource"), Fault("GetObjectResource", 502)),
    *(Fault("RewriteObject", done=True), Fault("RewriteObject", 503), Fault("RewriteObject", 500, done=True)),
    *(Fault("DeleteObject", done=True), Fault("DeleteObject", 503)),
]


@pytest_twisted.ensureDeferred
async def test_a_lost_answer(gcs: GcsServer, store: GcsStore) -> None:
    """Each step is recognised when it has been done before."""
    for fault in FAULTS:
        gcs.reset()
        multipart, parts = await opened(store, gcs)
        gcs.faults.append(fault)
        await complete(store, multipart, parts)
        assert not gcs.faults, fault
        assert list(gcs.buckets["bucket"]) == ["k"], fault
        assert gcs.read("k") == WHOLE


@pytest_twisted.ensureDeferred
async def test_asked_anew(gcs: GcsServer, store: GcsStore) -> None:
    """A process that died at any step: the next one asks for the same, and ends with the same object."""
    hasty = gcs.client(patience=0.0)
    for operation in ("CompleteMultipartUpload", "GetObjectResource", "RewriteObject", "DeleteObject"):
        gcs.reset()
        multipart, parts = await opened(store, gcs)
        gcs.faults.append(Fault(operation, 503, done=True))
        made = True
        try:
            await complete(hasty, multipart, parts)
        except StoreError:
            made = False
        # That the staged object could not be deleted hinders nobody.
        assert made == (operation == "DeleteObject")
        try:
            await complete(store, multipart, parts)
        except NoSuchUpload:
            assert made  # The object's metadata tells whoever asks that it is there.
        assert list(gcs.buckets["bucket"]) == ["k"], operation
        assert gcs.read("k") == WHOLE
    await hasty.close()


@pytest_twisted.ensureDeferred
async def test_a_staged_object_that_stays(gcs: GcsServer, store: GcsStore) -> None:
    """Nobody else would find it: so it is not done before it is deleted, unless the store refuses that."""
    hasty = gcs.client(patience=0.0)
    multipart, parts = await opened(store, gcs)
    gcs.faults.append(Fault("DeleteObject", 503))
    fence = Recorder(most=9)
    with pytest.raises(StoreUnavailable):
        await hasty.complete_multipart_upload("bucket", "k", multipart, parts, overwrite=False, fence=fence)
    assert fence.asked[-1] == "doubt"  # for it can make the object once more
    assert len(gcs.buckets["bucket"]) == 2
    await complete(hasty, multipart, parts)
    assert list(gcs.buckets["bucket"]) == ["k"]
    await hasty.close()
    multipart, parts = await opened(store, gcs, key="other")
    gcs.denied.add("DeleteObject")
    await complete(store, multipart, parts, "other")
    assert gcs.read("other") == WHOLE


@pytest_twisted.ensureDeferred
async def test_of_two_one_is_made(gcs: GcsServer, store: GcsStore) -> None:
    """And what the other has stored is freed when it is given up."""
    gcs.rewrite_calls = 2
    ways = [await opened(store, gcs, ObjectOptions(metadata={"resumable-token": word})) for word in ("a", "b")]
    outcomes: list[str] = []

    async def try_it(word: str, multipart: str, parts: Sequence[PartRef]) -> None:
        try:
            await complete(store, multipart, parts)
            outcomes.append(word)
        except PreconditionFailed:
            await store.abort_multipart_upload("bucket", "k", multipart)

    await gatherResults([ensureDeferred(try_it(word, *way)) for word, way in zip("ab", ways, strict=True)])
    assert list(gcs.buckets["bucket"]) == ["k"]
    assert [gcs.buckets["bucket"]["k"].metadata["resumable-token"]] == outcomes
    assert gcs.multiparts == {}


@pytest_twisted.ensureDeferred
async def test_what_is_there_stays(gcs: GcsServer, store: GcsStore) -> None:
    multipart, parts = await opened(store, gcs)
    await store.put_object("bucket", "k", [WHOLE], ObjectOptions(metadata={"resumable-token": "other"}))
    for _ in range(2):
        with pytest.raises(PreconditionFailed):
            await complete(store, multipart, parts)
    assert gcs.buckets["bucket"]["k"].metadata == {"resumable-token": "other"}
    await store.abort_multipart_upload("bucket", "k", multipart)
    assert list(gcs.buckets["bucket"]) == ["k"]


@pytest_twisted.ensureDeferred
async def test_the_fence_is_asked_before_the_object_is_put_there(gcs: GcsServer, store: GcsStore) -> None:
    multipart, parts = await opened(store, gcs)
    fence = Recorder(most=0)
    with pytest.raises(Closed):
        await store.complete_multipart_upload("bucket", "k", multipart, parts, overwrite=False, fence=fence)
    assert fence.asked == ["proceed"]
    assert "RewriteObject" not in gcs.names()
    assert "k" not in gcs.buckets["bucket"]


@pytest_twisted.ensureDeferred
async def test_a_listing_tells_what_was_opened(gcs: GcsServer, store: GcsStore) -> None:
    """By key and id, so that what is in use is known: the ACL stands in the id."""
    multipart, _ = await opened(store, gcs)
    (found,) = await store.list_multipart_uploads("bucket")
    assert (found.key, found.multipart_id) == ("k", multipart)
    assert [part.number for part in await store.list_parts("bucket", "k", multipart)] == [1, 2]
    await store.abort_multipart_upload("bucket", "k", multipart)
    assert gcs.multiparts == {}


@pytest_twisted.ensureDeferred
async def test_one_that_was_opened_to_replace(gcs: GcsServer, store: GcsStore) -> None:
    """It cannot be told afterwards not to."""
    multipart = await store.init_multipart_upload("bucket", "k", ObjectOptions())
    part = PartRef(1, await store.upload_part("bucket", "k", multipart, 1, [b"x"]))
    with pytest.raises(Misconfigured):
        await complete(store, multipart, [part])
    assert "CompleteMultipartUpload" not in gcs.names()


def test_ids_and_keys() -> None:
    for acl in (None, "public-read"):
        staged = Staged(new_word(acl), "ABP:nz.x")
        assert parse_id(staged.multipart_id) == staged
        assert staged.acl == (acl or "")
        assert parse_key("p/", staging_key("p/", staged.word, "a/b")) == (staged.word, "a/b")
    assert parse_id("ABPnz") is None
    assert parse_key("p/", "p/fragments/0-1") is None
    assert parse_key("p/", "other") is None
    long = staging_key("p/", "w", "ü" * 511)
    assert len(long.encode()) <= 1024
    assert parse_key("p/", long) is None
    with pytest.raises(Misconfigured):
        new_word("a:b")
