"""Parts that the store makes of objects it has, and many objects that are deleted at once."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_twisted
from crc32c import crc32c as crc32c_of

from resumable.crc32c_text import encode_crc32c
from resumable.stores.port import (
    CannotCopy,
    CopiedPart,
    Misconfigured,
    NoSuchUpload,
    NotFound,
    PartRef,
    PreconditionFailed,
    StoreError,
)
from resumable.stores.s3.client import S3Store
from tests.s3servers import S3Server
from tests.stores.fakes import Connection, FakeStore, answer, error, stored
from tests.stores.s3.test_client import LIMIT, PLAIN, store

__all__ = ["store"]

MIB = 1 << 20
DATA = random.Random(1).randbytes(6 * MIB)


@pytest_twisted.async_yield_fixture
async def opened(s3: S3Server, store: S3Store) -> AsyncIterator[tuple[str, str]]:
    """The ETag of an object ``a source``, and a multipart upload ``a copy``."""
    etag = (await store.put_object(s3.bucket, "a source", [DATA], PLAIN)).etag
    multipart_id = await store.init_multipart_upload(s3.bucket, "a copy", PLAIN)
    yield etag, multipart_id
    await store.abort_multipart_upload(s3.bucket, "a copy", multipart_id)


@pytest_twisted.ensureDeferred
async def test_a_part_is_copied(s3: S3Server, store: S3Store, opened: tuple[str, str]) -> None:
    etag, multipart_id = opened
    source = (s3.bucket, "a source")
    try:
        one = await store.upload_part_copy(
            s3.bucket, "a copy", multipart_id, 1, source=source, etag=etag, crc32c=crc32c_of(DATA)
        )
    except CannotCopy:
        assert s3.name == "rclone"
        return
    assert s3.name == "moto"
    two = await store.upload_part_copy(
        s3.bucket, "a copy", multipart_id, 2, source=source, etag=etag, span=(1, MIB + 1)
    )
    assert {one.crc32c, crc32c_of(DATA)} <= {None, crc32c_of(DATA)}
    parts = [PartRef(1, one.etag, one.crc32c), PartRef(2, two.etag, two.crc32c)]
    await store.complete_multipart_upload(s3.bucket, "a copy", multipart_id, parts)
    found = b"".join(await store.get_object(s3.bucket, "a copy", limit=LIMIT))
    assert found == DATA + DATA[1 : MIB + 1]


COPIED = "<CopyPartResult><ETag>&quot;e&quot;</ETag>%s</CopyPartResult>"
TOLD, DAMAGED = (f"<ChecksumCRC32C>{encode_crc32c(crc32c)}</ChecksumCRC32C>" for crc32c in (5, 6))


@pytest_twisted.async_yield_fixture
async def fake() -> AsyncIterator[FakeStore]:
    server = FakeStore()
    yield server
    await server.close()


async def copied(fake: FakeStore, **options: Any) -> CopiedPart:
    return await fake.store(patience=0.5).upload_part_copy(
        "b", "k", "id", 3, source=("c", "a b/ü"), etag="s", **options
    )


@pytest_twisted.ensureDeferred
async def test_what_is_said(fake: FakeStore) -> None:
    fake.answers = [answer(200, COPIED % TOLD), answer(200, COPIED % "")]
    assert await copied(fake, span=(5, 10), crc32c=5) == CopiedPart("e", 5)
    assert await copied(fake) == CopiedPart("e", None)
    one, two = fake.requests
    assert one.head.startswith("PUT /b/k?partNumber=3&uploadId=id HTTP/1.1\r\n")
    assert one.header("x-amz-copy-source") == "c/a%20b/%C3%BC"
    assert one.header("x-amz-copy-source-if-match") == '"s"'
    assert one.header("x-amz-copy-source-range") == "bytes=5-9"
    assert two.header("x-amz-copy-source-range") is None


@pytest_twisted.ensureDeferred
async def test_answers_that_cannot_be_believed(fake: FakeStore) -> None:
    busy = "<Error><Code>SlowDown</Code></Error>"
    fake.answers = [
        answer(200, busy),
        answer(200, COPIED % DAMAGED),
        answer(200, "<CopyPartResult/>"),
        error(503, "SlowDown"),
    ]
    fake.answers.append(answer(200, COPIED % TOLD))
    assert await copied(fake, crc32c=5) == CopiedPart("e", 5)
    assert len(fake.requests) == 5


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (error(501, "NotImplemented"), CannotCopy),
        # It has stored a part without bytes.
        (stored(), CannotCopy),
        (error(404, "NoSuchKey"), NotFound),
        (error(412, "PreconditionFailed"), PreconditionFailed),
        (error(404, "NoSuchUpload"), NoSuchUpload),
    ],
)
@pytest_twisted.ensureDeferred
async def test_refusals(fake: FakeStore, said: Callable[[Connection], None], kind: type[StoreError]) -> None:
    fake.answers = [said]
    with pytest.raises(kind):
        await copied(fake)
    assert len(fake.requests) == 1


@pytest_twisted.ensureDeferred
async def test_deletions_that_are_refused(fake: FakeStore) -> None:
    refused = "<DeleteResult><Deleted><Key>a</Key></Deleted><Error><Key>b</Key><Code>%s</Code></Error></DeleteResult>"
    fake.answers = [
        answer(200, refused % "InternalError"),
        answer(200, "<DeleteResult><Deleted><Key>a</Key></Deleted></DeleteResult>"),
    ]
    fake.answers.append(answer(200, refused % "AccessDenied"))
    store = fake.store(patience=0.5)
    await store.delete_objects("b", ["a", "b"])
    with pytest.raises(Misconfigured):
        await store.delete_objects("b", ["a", "b"])
    assert len(fake.requests) == 3


@pytest_twisted.ensureDeferred
async def test_what_is_not_there_is_deleted(fake: FakeStore) -> None:
    """Some stores call that an error. After a lost answer it would stay one for ever, and hide what is really refused."""
    gone = "<Error><Key>%s</Key><Code>NoSuchKey</Code></Error>"
    fake.answers = [answer(200, f"<DeleteResult>{gone % 'a'}{gone % 'b'}</DeleteResult>")]
    refused = "<Error><Key>b</Key><Code>AccessDenied</Code></Error>"
    fake.answers.append(answer(200, f"<DeleteResult>{gone % 'a'}{refused}</DeleteResult>"))
    store = fake.store(patience=0.5)
    await store.delete_objects("b", ["a", "b"])
    with pytest.raises(Misconfigured):
        await store.delete_objects("b", ["a", "b"])
    assert len(fake.requests) == 2


@pytest_twisted.ensureDeferred
async def test_who_deletes_one_by_one(fake: FakeStore) -> None:
    """A store that cannot delete many at once is asked for that once."""
    fake.answers = [error(501, "NotImplemented"), *[answer(204)] * 4]
    store = fake.store()
    await store.delete_objects("b", ["a", "b"])
    await store.delete_objects("b", ["c", "d"])
    assert sorted(one.head.split(" ")[:2] for one in fake.requests[1:]) == [["DELETE", f"/b/{key}"] for key in "abcd"]


@pytest_twisted.ensureDeferred
async def test_more_than_fit_into_a_request(fake: FakeStore) -> None:
    done = answer(200, "<DeleteResult><Deleted><Key>a</Key></Deleted></DeleteResult>")
    fake.answers = [done, done]
    await fake.store().delete_objects("b", [f"k{n}" for n in range(1001)])
    assert [one.body.count(b"<Key>") for one in fake.requests] == [1000, 1]


@pytest_twisted.ensureDeferred
async def test_many_are_deleted(s3: S3Server, store: S3Store) -> None:
    keys = [f"many/{number} & <ü> +" for number in range(5)]
    for key in keys:
        await store.put_object(s3.bucket, key, [b"x"], PLAIN)
    await store.delete_objects(s3.bucket, [*keys, "many/that is not there"])
    assert await store.list_objects(s3.bucket, "many/") == []
    await store.delete_objects(s3.bucket, [])


@pytest_twisted.ensureDeferred
async def test_a_bucket_that_is_not_there(s3: S3Server, store: S3Store) -> None:
    with pytest.raises(StoreError):
        await store.delete_objects("no-such-bucket", ["a"])
