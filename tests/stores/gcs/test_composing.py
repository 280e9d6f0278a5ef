"""Multipart uploads whose parts are objects: made of stored bytes, and composed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import pytest_twisted
from crc32c import crc32c

from resumable.model import ObjectOptions
from resumable.stores.gcs.client import GcsStore
from resumable.stores.port import (
    CannotCopy,
    Misconfigured,
    NoSuchUpload,
    NotFound,
    PartMismatch,
    PartRef,
    PreconditionFailed,
    StoreUnavailable,
)
from resumable.stores.xmlapi.calls import Calls, Reply
from tests.stores.gcs.server import Fault, GcsServer
from tests.stores.gcs.test_staged import OPTIONS
from tests.stores.s3.test_fences import Recorder

DATA = [b"some bytes, ", b"", b"and more"]
WHOLE = b"".join(DATA)


async def opened(
    store: GcsStore, gcs: GcsServer, options: ObjectOptions = OPTIONS, *, data: list[bytes] = DATA, key: str = "k"
) -> tuple[str, list[PartRef]]:
    """A multipart upload that lacks only its completion: the first part is copied, the others are sent."""
    source = gcs.make("bucket", "source", data[0], {"content-type": "text/own"}, multipart=False)
    multipart = await store.init_multipart_upload("bucket", key, options, overwrite=False, joins=True)
    copied = await store.upload_part_copy(
        "bucket", key, multipart, 1, source=("bucket", "source"), etag=source.etag, crc32c=crc32c(data[0])
    )
    assert copied.crc32c == crc32c(data[0])
    parts = [PartRef(1, copied.etag, copied.crc32c)]
    for number, each in enumerate(data[1:], 2):
        etag = await store.upload_part("bucket", key, multipart, number, [each], crc32c=crc32c(each))
        parts.append(PartRef(number, etag, crc32c(each)))
    del gcs.buckets["bucket"]["source"]
    return multipart, parts


@pytest.mark.parametrize("overwrite", [True, False])
@pytest_twisted.ensureDeferred
async def test_all_that_was_wanted_is_there(gcs: GcsServer, store: GcsStore, overwrite: bool) -> None:
    """And nothing else. Until then nobody else can read a byte of it."""
    multipart, parts = await opened(store, gcs)
    assert {one.acl for one in gcs.buckets["bucket"].values()} == {""}
    stored = await store.list_parts("bucket", "k", multipart)
    assert [(one.number, one.size, one.etag, one.crc32c) for one in stored] == [
        (part.number, len(data), part.etag, part.crc32c) for part, data in zip(parts, DATA, strict=True)
    ]
    if overwrite:
        gcs.make("bucket", "k", b"former", {}, multipart=False)
    made = await store.complete_multipart_upload("bucket", "k", multipart, parts, overwrite=overwrite)
    assert list(gcs.buckets["bucket"]) == ["k"]
    found = gcs.buckets["bucket"]["k"]
    assert (found.data, found.acl, found.storage_class) == (WHOLE, "public-read", "NEARLINE")
    assert (found.kms_key, made.generation) == (OPTIONS.kms_key, str(found.generation))
    assert gcs.described("k") == {
        "ContentType": "video/x-own",
        "CacheControl": "no-cache",
        "ContentDisposition": "attachment; filename=own.bin",
        "ContentEncoding": "gzip",
    }
    head = await store.head_object("bucket", "k")
    assert head is not None
    assert (head.metadata, head.generation) == (dict(OPTIONS.metadata), made.generation)


@pytest_twisted.ensureDeferred
async def test_many_parts_are_composed_level_by_level(gcs: GcsServer, store: GcsStore) -> None:
    gcs.page = 7
    data = [bytes([number % 256]) for number in range(70)]
    multipart, parts = await opened(store, gcs, data=data)
    assert len(await store.list_parts("bucket", "k", multipart)) == 70
    await store.complete_multipart_upload("bucket", "k", multipart, parts)
    assert gcs.read("k") == b"".join(data)
    assert gcs.names().count("ComposeObject") == 4  # 32, 32, 6; and these three
    assert list(gcs.buckets["bucket"]) == ["k"]


@pytest.mark.parametrize("name", ["GetObject", "ComposeObject", "DeleteObject", "ListObjectResources"])
@pytest.mark.parametrize("overwrite", [True, False])
@pytest_twisted.ensureDeferred
async def test_what_goes_wrong_once(gcs: GcsServer, store: GcsStore, name: str, overwrite: bool) -> None:
    for fault in (Fault(name, done=True), Fault(name, 503), Fault(name, 500, done=True)):
        gcs.buckets["bucket"].clear()
        multipart, parts = await opened(store, gcs)
        gcs.faults.append(fault)
        await store.complete_multipart_upload("bucket", "k", multipart, parts, overwrite=overwrite)
        assert not gcs.faults
        assert gcs.read("k") == WHOLE
        assert list(gcs.buckets["bucket"]) == ["k"]


class _Died(Exception):
    """There is no process any more that could do anything."""


def dying(gcs: GcsServer, after: int) -> tuple[GcsStore, Callable[[], bool]]:
    """A client whose process dies when it has made so many calls; and whether it has."""
    client, left = gcs.client(), after

    def watch(calls: Calls) -> None:
        usual = calls.make

        async def make(*arguments: Any, **options: Any) -> Reply:
            nonlocal left
            left -= 1
            if left < 0:
                raise _Died
            return await usual(*arguments, **options)

        calls.make = make  # type: ignore[method-assign]

    watch(client._calls)
    watch(client._resources._calls)
    return client, lambda: left < 0


@pytest.mark.parametrize("overwrite", [True, False])
@pytest_twisted.ensureDeferred
async def test_the_process_dies_while_completing(gcs: GcsServer, store: GcsStore, overwrite: bool) -> None:
    """After any number of requests. The next try makes the object, or says that it may be there; nothing is left."""
    how = {"overwrite": overwrite}
    for after in range(100):
        gcs.buckets["bucket"].clear()
        multipart, parts = await opened(store, gcs)
        client, died = dying(gcs, after)
        with suppress(_Died):
            await client.complete_multipart_upload("bucket", "k", multipart, parts, **how)
        await client.close()
        if not died():
            break
        if after < 2:
            assert "k" not in gcs.buckets["bucket"]
        try:
            await store.complete_multipart_upload("bucket", "k", multipart, parts, **how)
        except NoSuchUpload:
            assert "k" in gcs.buckets["bucket"]
        assert gcs.read("k") == WHOLE
        assert list(gcs.buckets["bucket"]) == ["k"]
    assert after == 7


@pytest_twisted.ensureDeferred
async def test_a_key_that_is_taken(gcs: GcsServer, store: GcsStore) -> None:
    multipart, parts = await opened(store, gcs)
    gcs.make("bucket", "k", b"theirs", {}, multipart=False)
    with pytest.raises(PreconditionFailed):
        await store.complete_multipart_upload("bucket", "k", multipart, parts, overwrite=False)
    assert gcs.read("k") == b"theirs"
    await store.abort_multipart_upload("bucket", "k", multipart)
    assert list(gcs.buckets["bucket"]) == ["k"]


@pytest_twisted.ensureDeferred
async def test_parts_that_are_not_what_was_said(gcs: GcsServer, store: GcsStore) -> None:
    multipart, parts = await opened(store, gcs)
    with pytest.raises(PartMismatch):
        await store.complete_multipart_upload("bucket", "k", multipart, [PartRef(1, "17"), *parts[1:]])
    with pytest.raises(PartMismatch):
        await store.complete_multipart_upload("bucket", "k", multipart, [*parts, PartRef(9, "17")])
    await store.complete_multipart_upload("bucket", "k", multipart, parts)
    assert gcs.read("k") == WHOLE


@pytest_twisted.ensureDeferred
async def test_one_that_is_not_open(gcs: GcsServer, store: GcsStore) -> None:
    multipart, parts = await opened(store, gcs)
    await store.abort_multipart_upload("bucket", "k", multipart)
    await store.abort_multipart_upload("bucket", "k", multipart)
    gcs.make("bucket", "source", b"bytes", {}, multipart=False)
    for call in (
        store.upload_part("bucket", "k", multipart, 1, [b"late"]),
        store.upload_part_copy("bucket", "k", multipart, 1, source=("bucket", "source"), etag=None),
        store.list_parts("bucket", "k", multipart),
        store.complete_multipart_upload("bucket", "k", multipart, parts),
    ):
        with pytest.raises(NoSuchUpload):
            await call
    assert list(gcs.buckets["bucket"]) == ["source"]


@pytest_twisted.ensureDeferred
async def test_sources_that_cannot_be_copied(gcs: GcsServer, store: GcsStore) -> None:
    multipart = await store.init_multipart_upload("bucket", "k", ObjectOptions(), joins=True)
    made = gcs.make("bucket", "source", b"bytes", {}, multipart=False)

    async def copied(
        key: str = "source", etag: str = made.etag, span: tuple[int, int] | None = None, crc: int | None = None
    ) -> None:
        await store.upload_part_copy(
            "bucket", "k", multipart, 1, source=("bucket", key), etag=etag, span=span, crc32c=crc
        )

    with pytest.raises(NotFound):
        await copied("none")
    with pytest.raises(PreconditionFailed):
        await copied(etag="other")
    with pytest.raises(CannotCopy):
        await copied(span=(0, 2))
    with pytest.raises(StoreUnavailable, match="ChecksumMismatch"):
        await copied(crc=1)
    for options in (ObjectOptions(acl="no acl"), ObjectOptions(tags={"a": "b"})):
        with pytest.raises(Misconfigured):
            await store.init_multipart_upload("bucket", "k", options, joins=True)


@pytest_twisted.ensureDeferred
async def test_they_are_listed(gcs: GcsServer, store: GcsStore) -> None:
    """With the key that they were opened for, however long it is."""
    long = "k" * 1024
    ids = {key: await store.init_multipart_upload("bucket", key, ObjectOptions(), joins=True) for key in ("a/b", long)}
    plain = await store.init_multipart_upload("bucket", "a/c", ObjectOptions())
    found = {one.key: one.multipart_id for one in await store.list_multipart_uploads("bucket")}
    assert found == {**ids, "a/c": plain}
    assert [one.key for one in await store.list_multipart_uploads("bucket", "a/")] == ["a/c", "a/b"]
    await store.abort_multipart_upload("bucket", long, ids[long])
    assert [one.key for one in await store.list_multipart_uploads("bucket")] == ["a/c", "a/b"]


@pytest_twisted.ensureDeferred
async def test_parts_that_cannot_be_deleted(gcs: GcsServer, store: GcsStore, logged: list[Any]) -> None:
    """Not allowed: the object is made, and the log names what is left. Not now: whoever comes next does it."""
    multipart, parts = await opened(store, gcs)
    gcs.denied.add("DeleteObject")
    await store.complete_multipart_upload("bucket", "k", multipart, parts)
    assert gcs.read("k") == WHOLE
    assert "could not be deleted" in str(logged.pop()["log_format"])
    gcs.denied.clear()
    await store.abort_multipart_upload("bucket", "k", multipart)
    multipart, parts = await opened(store, gcs)
    fence, hasty = Recorder(), gcs.client(patience=0.0)
    gcs.faults.extend([Fault("ListObjectResources", 503)] * 40)
    with pytest.raises(StoreUnavailable):
        await hasty.complete_multipart_upload("bucket", "k", multipart, parts, fence=fence)
    await hasty.close()
    assert fence.doubts
    gcs.faults.clear()
    # Who has opened it may not know of it any more.
    assert [one.multipart_id for one in await store.list_multipart_uploads("bucket", "k")] == [multipart]
    with pytest.raises(NoSuchUpload):
        await store.complete_multipart_upload("bucket", "k", multipart, parts)
    assert list(gcs.buckets["bucket"]) == ["k"]
