"""Every call of the store, against servers that were not written for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from crc32c import crc32c

from resumable.model import ObjectOptions
from resumable.stores.port import PartRef, Store, StoreError, StoreUnavailable
from resumable.stores.s3.client import S3Store
from tests.s3servers import MotoServer, RcloneServer, S3Server
from tests.stores.fakes import R
from tests.stores.gcs.server import GcsServer

PLAIN = ObjectOptions()
LIMIT = 2**24
#: Every test here runs against each of them: whoever takes another one in proves that its store keeps to the port.
SERVERS = [MotoServer, RcloneServer, GcsServer]
pytestmark = pytest.mark.parametrize("s3", SERVERS, ids=lambda kind: kind.name, indirect=True, scope="session")


@pytest_twisted.async_yield_fixture
async def store(s3: S3Server) -> AsyncIterator[Any]:
    client = s3.client()
    yield client
    await client.close()


@pytest_twisted.ensureDeferred
async def test_an_object_comes_and_goes(s3: S3Server, store: Store) -> None:
    etag = (
        await store.put_object(s3.bucket, "an/object", [b"some ", b"", b"bytes"], PLAIN, crc32c=crc32c(b"some bytes"))
    ).etag
    assert s3.read("an/object") == b"some bytes"
    found = await store.head_object(s3.bucket, "an/object")
    assert found is not None
    assert (found.key, found.size, found.etag, found.metadata) == ("an/object", 10, etag, {})
    assert b"".join(await store.get_object(s3.bucket, "an/object", limit=LIMIT)) == b"some bytes"
    assert [(o.key, o.size, o.etag) for o in await store.list_objects(s3.bucket, "an/")] == [("an/object", 10, etag)]
    for _ in range(2):
        await store.delete_object(s3.bucket, "an/object")
    assert await store.head_object(s3.bucket, "an/object") is None
    assert await store.list_objects(s3.bucket, "an/") == []
    with pytest.raises(StoreError) as caught:
        await store.get_object(s3.bucket, "an/object", limit=LIMIT)
    assert (caught.value.code, caught.value.status, caught.value.said) == ("NoSuchKey", 404, True)


@pytest_twisted.ensureDeferred
async def test_an_empty_object(s3: S3Server, store: Store) -> None:
    await store.put_object(s3.bucket, "empty", [], PLAIN)
    assert await store.get_object(s3.bucket, "empty", limit=LIMIT) == []


@pytest_twisted.ensureDeferred
async def test_what_an_object_is_created_with(s3: S3Server, store: Store) -> None:
    options = ObjectOptions(
        content_type="text/plain; charset=utf-8",
        metadata={"Name": "Grüße  aus 東京", "token": "abc", "sum": "=?x"},
        acl="private",
        storage_class="STANDARD",
        cache_control="no-cache",
        content_disposition='attachment; filename="ü\r\n.txt"',
        tags={} if "tags" in s3.lacks and s3.name != "rclone" else {"some tag": "its value"},
    )
    await store.put_object(s3.bucket, "with options", [b"x"], options)
    opened = await store.init_multipart_upload(s3.bucket, "with options 2", options)
    part = await store.upload_part(s3.bucket, "with options 2", opened, 1, [b"x"])
    await store.complete_multipart_upload(s3.bucket, "with options 2", opened, [PartRef(1, part)])
    for key in ("with options", "with options 2"):
        head = s3.described(key)
        assert head["ContentType"] == "text/plain; charset=utf-8"
        assert head["CacheControl"] == "no-cache"
        assert head["ContentDisposition"] == "attachment; filename=\"u__.txt\"; filename*=UTF-8''%C3%BC%0D%0A.txt"
        found = await store.head_object(s3.bucket, key)
        assert found is not None
        assert found.metadata == {"name": "Grüße  aus 東京", "token": "abc", "sum": "=?x"}
        if "tags" not in s3.lacks:
            tags = s3.boto3().get_object_tagging(Bucket=s3.bucket, Key=key)["TagSet"]
            assert tags == [{"Key": "some tag", "Value": "its value"}]


#: rclone has directories, and refuses what is no path in them.
NO_PATHS = ["a//b", "/leading", "..", "a/../b", "."]
KEYS = [
    "a b",
    "a+b",
    "a%20b",
    "a?b=c&d",
    "a#b",
    "ünï/ço∂e/😀",
    "a;b,c:d@e$f=g",
    "a'\"(b)*!",
    "~t-._",
    "a\\b",
    "a\tb",
    "a{}[]^`|b",
]


@pytest.mark.parametrize("key", KEYS + NO_PATHS)
@pytest_twisted.ensureDeferred
async def test_any_key(s3: S3Server, store: Store, key: str) -> None:
    if s3.name == "rclone" and key in NO_PATHS:
        pytest.skip("rclone refuses the key")
    if s3.name == "gcs" and key in (".", ".."):
        pytest.skip("Cloud Storage refuses the key")
    await store.put_object(s3.bucket, key, [key.encode()], PLAIN)
    try:
        assert s3.read(key) == key.encode()
        assert await store.get_object(s3.bucket, key, limit=LIMIT) == [key.encode()]
        assert [found.key for found in await store.list_objects(s3.bucket, key)] == [key]
        opened = await store.init_multipart_upload(s3.bucket, key, PLAIN)
        assert opened in {found.multipart_id for found in await store.list_multipart_uploads(s3.bucket, key)}
        await store.abort_multipart_upload(s3.bucket, key, opened)
    finally:
        await store.delete_object(s3.bucket, key)


@pytest_twisted.ensureDeferred
async def test_a_multipart_upload(s3: S3Server, store: Store) -> None:
    key, big, small = "some/big object", [bytes([n]) * 2**20 for n in range(5)], [b"the", b" end"]
    opened = await store.init_multipart_upload(s3.bucket, key, ObjectOptions(metadata={"token": "abc"}))
    assert await store.list_parts(s3.bucket, key, opened) == []
    crcs = [crc32c(b"".join(part)) for part in (big, small)]
    second = await store.upload_part(s3.bucket, key, opened, 2, small, crc32c=crcs[1])
    first = await store.upload_part(s3.bucket, key, opened, 1, big, crc32c=crcs[0])
    parts = await store.list_parts(s3.bucket, key, opened)
    assert [(p.number, p.size, p.etag) for p in parts] == [(1, 5 * 2**20, first), (2, 7, second)]
    assert [u.key for u in await store.list_multipart_uploads(s3.bucket, "some/")] == [key]
    done = [PartRef(1, first, crcs[0]), PartRef(2, second, crcs[1])]
    etag = (await store.complete_multipart_upload(s3.bucket, key, opened, done)).etag
    found = await store.head_object(s3.bucket, key)
    assert found is not None
    assert (found.size, found.metadata["token"]) == (5 * 2**20 + 7, "abc")
    # rclone forgets the ETag that it told.
    assert etag.endswith("-2") or s3.name == "gcs"
    assert s3.name == "rclone" or found.etag == etag
    assert s3.read(key) == b"".join(big + small)
    assert b"".join(await store.get_object(s3.bucket, key, limit=LIMIT)) == b"".join(big + small)
    assert await store.list_multipart_uploads(s3.bucket, "some/") == []


@pytest_twisted.ensureDeferred
async def test_aborting(s3: S3Server, store: Store) -> None:
    opened = await store.init_multipart_upload(s3.bucket, "aborted", PLAIN)
    await store.upload_part(s3.bucket, "aborted", opened, 1, [b"x"])
    for _ in range(2):
        await store.abort_multipart_upload(s3.bucket, "aborted", opened)
    with pytest.raises(StoreError, match="NoSuchUpload"):
        await store.list_parts(s3.bucket, "aborted", opened)
    if s3.name == "moto":
        return  # It has a 500 for the rest.
    for call in (
        store.complete_multipart_upload(s3.bucket, "aborted", opened, [PartRef(1, "0" * 32)]),
        store.upload_part(s3.bucket, "aborted", opened, 1, [b"x"]),
    ):
        with pytest.raises(StoreError) as caught:
            await call
        assert (caught.value.code, caught.value.status, caught.value.said) == ("NoSuchUpload", 404, True)


@pytest_twisted.ensureDeferred
async def test_a_wrong_part(s3: S3Server, store: Store) -> None:
    opened = await store.init_multipart_upload(s3.bucket, "wrong", PLAIN)
    await store.upload_part(s3.bucket, "wrong", opened, 1, [b"x"])
    with pytest.raises(StoreError, match="InvalidPart"):
        await store.complete_multipart_upload(s3.bucket, "wrong", opened, [PartRef(1, "0" * 32)])
    await store.abort_multipart_upload(s3.bucket, "wrong", opened)


@pytest_twisted.ensureDeferred
async def test_pages_of_parts(s3: S3Server, store: Any) -> None:
    opened = await store.init_multipart_upload(s3.bucket, "many parts", PLAIN)
    for number in range(1, 12):
        await store.upload_part(s3.bucket, "many parts", opened, number, [b"x" * number])
    pages = store._pages(
        "ListParts",
        s3.bucket,
        "many parts",
        {"uploadId": opened, "max-parts": "4"},
        {"part-number-marker": "NextPartNumberMarker"},
    )
    numbers = [[part["PartNumber"] for part in page["Parts"]] async for page in pages]
    assert numbers == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11]]
    await store.abort_multipart_upload(s3.bucket, "many parts", opened)


@pytest_twisted.ensureDeferred
async def test_without_overwriting(s3: S3Server, store: Store) -> None:
    if "If-None-Match" in s3.lacks:
        pytest.skip(f"{s3.name} does not know If-None-Match")
    await store.put_object(s3.bucket, "taken", [b"x"], PLAIN, overwrite=False)
    with pytest.raises(StoreError, match="PreconditionFailed"):
        await store.put_object(s3.bucket, "taken", [b"y"], PLAIN, overwrite=False)
    opened = await store.init_multipart_upload(s3.bucket, "taken", PLAIN, overwrite=False)
    part = PartRef(1, await store.upload_part(s3.bucket, "taken", opened, 1, [b"y"]))
    with pytest.raises(StoreError, match="PreconditionFailed"):
        await store.complete_multipart_upload(s3.bucket, "taken", opened, [part], overwrite=False)
    await store.abort_multipart_upload(s3.bucket, "taken", opened)
    assert await store.get_object(s3.bucket, "taken", limit=LIMIT) == [b"x"]


@pytest_twisted.ensureDeferred
async def test_no_such_bucket(s3: S3Server, store: Store) -> None:
    with pytest.raises(StoreError) as caught:
        await store.put_object("no-such-bucket", "k", [b"x"], PLAIN)
    assert (caught.value.code, caught.value.status, caught.value.said) == ("NoSuchBucket", 404, True)


@pytest_twisted.ensureDeferred
async def test_a_bucket_of_ones_own(s3: S3Server, store: Store) -> None:
    await store.create_bucket("another")
    await store.put_object("another", "k", [b"x"], PLAIN)
    if s3.name == "moto":
        await store.create_bucket("another")


@pytest_twisted.ensureDeferred
async def test_a_wrong_secret(s3: S3Server) -> None:
    if s3.name != "rclone":
        pytest.skip("moto checks no signatures, and Cloud Storage has none")
    tries: list[tuple[str, str]] = []
    store = S3Store(
        R,
        endpoint=s3.endpoint,
        access_key=s3.access_key,
        secret_key="wrong-and-hidden",
        observe=lambda operation, outcome, seconds: tries.append((operation, outcome)),
    )
    with pytest.raises(StoreError) as caught:
        await store.put_object(s3.bucket, "k", [b"x"], PLAIN)
    assert not isinstance(caught.value, StoreUnavailable)
    assert (caught.value.code, caught.value.status) == ("SignatureDoesNotMatch", 403)
    assert "hidden" not in str(caught.value)
    assert "Signature=" not in str(caught.value)
    with pytest.raises(StoreError, match="AccessDenied"):
        await store.head_object(s3.bucket, "k")
    assert tries == [("PutObject", "SignatureDoesNotMatch"), ("HeadObject", "AccessDenied")]
    await store.close()
