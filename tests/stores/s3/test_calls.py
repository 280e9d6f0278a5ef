"""Trying again, giving up, and letting go: the client against stores that misbehave."""

from __future__ import annotations

import gc
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.task import deferLater

from resumable.model import ObjectOptions
from resumable.stores.port import Made, PartRef, StoreError, StoreUnavailable
from resumable.stores.s3.client import S3Store
from tests.stores.fakes import Connection, FakeStore, R, answer, completed, cut, error, nothing, stored

PLAIN = ObjectOptions()
LIMIT = 2**20


@pytest_twisted.async_yield_fixture
async def fake() -> AsyncIterator[FakeStore]:
    server = FakeStore()
    yield server
    await server.close()


async def put(store: S3Store) -> str:
    return (await store.put_object("b", "k", [b"some ", b"bytes"], PLAIN)).etag


@pytest.mark.parametrize(
    ("trouble", "outcome"),
    [
        (error(503, "SlowDown"), "SlowDown"),
        (answer(503), "ServiceUnavailable"),
        (answer(502, "<html>Bad gateway"), "HTTP502"),
        (answer(429), "SlowDown"),
        (error(400, "RequestTimeout"), "RequestTimeout"),
        (error(409, "OperationAborted"), "OperationAborted"),
        (error(409, "ConditionalRequestConflict"), "ConditionalRequestConflict"),
        (cut, "ConnectionLost"),
        (lambda connection: connection.transport.loseConnection(), "ConnectionDone"),
        (answer(200, b"x", {"ETag": "e"}, missing=1), "ConnectionDone"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_may_pass_is_tried_again(
    fake: FakeStore, trouble: Callable[[Connection], None], outcome: str
) -> None:
    fake.answers = [trouble, trouble, stored("e")]
    assert await put(fake.store()) == "e"
    assert [request.body for request in fake.requests] == [b"some bytes"] * 3
    assert fake.tries == [("PutObject", outcome)] * 2 + [("PutObject", "ok")]


@pytest.mark.parametrize(
    ("refusal", "code", "status"),
    [
        (error(403, "AccessDenied"), "AccessDenied", 403),
        (answer(401), "HTTP401", 401),
        (answer(403), "AccessDenied", 403),
        (error(412, "PreconditionFailed"), "PreconditionFailed", 412),
        (answer(301, "<html>Moved"), "HTTP301", 301),
        (answer(307), "HTTP307", 307),
        (error(501, "NotImplemented"), "NotImplemented", 501),
        (error(301, "PermanentRedirect", {"x-amz-bucket-region": "eu-west-1"}), "PermanentRedirect", 301),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_does_not_pass_is_not(
    fake: FakeStore, refusal: Callable[[Connection], None], code: str, status: int
) -> None:
    fake.answers = [refusal]
    with pytest.raises(StoreError) as caught:
        await put(fake.store())
    assert not isinstance(caught.value, StoreUnavailable)
    assert (caught.value.code, caught.value.status) == (code, status)
    assert len(fake.requests) == 1


@pytest_twisted.ensureDeferred
async def test_patience_ends(fake: FakeStore) -> None:
    fake.answers = [error(503, "SlowDown")] * 100
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="SlowDown: so it is") as caught:
        await put(fake.store(patience=0.2, random=lambda: 1.0))
    assert 0.1 < time.monotonic() - began < 0.6
    assert caught.value.status == 503
    assert 5 < len(fake.requests) < 20


@pytest_twisted.ensureDeferred
async def test_nobody_listens(fake: FakeStore) -> None:
    store = fake.store(patience=0.5)
    await fake.port.stopListening()
    with pytest.raises(StoreUnavailable) as caught:
        await put(store)
    assert (caught.value.code, caught.value.status) == ("ConnectionRefusedError", 0)
    assert len(fake.tries) > 1


@pytest_twisted.ensureDeferred
async def test_a_longer_pause_is_granted_where_patience_allows(fake: FakeStore) -> None:
    fake.answers = [error(503, "SlowDown", {"Retry-After": "1"}), stored()]
    began = time.monotonic()
    await put(fake.store())
    assert time.monotonic() - began > 0.9
    fake.answers = [error(503, "SlowDown", {"Retry-After": "1"})]
    with pytest.raises(StoreUnavailable):
        await put(fake.store(patience=0.5))


@pytest.mark.parametrize(
    ("trouble", "outcome"),
    [
        (error(200, "InternalError"), "InternalError"),
        (answer(200, "<Complete"), "MalformedAnswer"),
        (answer(200, ""), "MalformedAnswer"),
        (answer(200, " ", missing=100), "ConnectionDone"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_complete_that_fails_after_its_200_is_tried_again(
    fake: FakeStore, trouble: Callable[[Connection], None], outcome: str
) -> None:
    fake.answers = [trouble, completed("whole-2")]
    parts = [PartRef(1, "one", 1), PartRef(2, 'two"&', 2)]
    assert await fake.store().complete_multipart_upload("b", "k", "u/1", parts, overwrite=False) == Made("whole-2")
    assert [name for _, name in fake.tries] == [outcome, "ok"]
    request = fake.requests[-1]
    assert request.head.startswith("POST /b/k?uploadId=u%2F1 HTTP/1.1")
    assert request.header("if-none-match") == "*"
    first = b'<Part><PartNumber>1</PartNumber><ETag>"one"</ETag><ChecksumCRC32C>AAAAAQ==</ChecksumCRC32C></Part>'
    assert first in request.body
    assert b'<ETag>"two"&amp;"</ETag>' in request.body


@pytest.mark.parametrize("code", ["NoSuchUpload", "InvalidPart"])
@pytest_twisted.ensureDeferred
async def test_complete_that_is_refused_after_its_200(fake: FakeStore, code: str) -> None:
    fake.answers = [error(200, code)]
    with pytest.raises(StoreError) as caught:
        await fake.store().complete_multipart_upload("b", "k", "u", [PartRef(1, "one")])
    assert caught.value.code == code
    assert not isinstance(caught.value, StoreUnavailable)


@pytest_twisted.ensureDeferred
async def test_silence_is_not_waited_out(fake: FakeStore) -> None:
    fake.early = lambda connection: connection.transport.pauseProducing()
    fake.answers = [stored()]
    body = [b"x" * 2**20] * 16
    await fake.store(silence=0.2).upload_part("b", "k", "u", 1, body)
    assert [name for _, name in fake.tries] == ["Silent", "ok"]


@pytest_twisted.ensureDeferred
async def test_silence_in_the_middle_of_an_answer(fake: FakeStore) -> None:
    fake.answers = [
        lambda connection: connection.transport.write(b"HTTP/1.1 200 X\r\nContent-Length: 4\r\n\r\nda"),
        answer(200, "data"),
    ]
    assert b"".join(await fake.store(silence=0.2).get_object("b", "k", limit=LIMIT)) == b"data"
    assert [name for _, name in fake.tries] == ["Silent", "ok"]


@pytest_twisted.ensureDeferred
async def test_an_object_that_only_the_connection_ends_may_have_been_cut(fake: FakeStore) -> None:
    def unbounded(connection: Connection) -> None:
        connection.transport.write(b"HTTP/1.1 200 X\r\n\r\nda")
        connection.transport.loseConnection()

    fake.answers = [unbounded, answer(200, "data")]
    assert b"".join(await fake.store().get_object("b", "k", limit=LIMIT)) == b"data"


@pytest_twisted.ensureDeferred
async def test_an_answer_before_the_body_is_out_ends_the_body(fake: FakeStore) -> None:
    taken = []

    def refuse(connection: Connection) -> None:
        taken.append(connection)
        error(503, "SlowDown")(connection)
        connection.transport.pauseProducing()

    fake.early = refuse
    fake.answers = [stored()]
    began = time.monotonic()
    await fake.store().upload_part("b", "k", "u", 1, [b"x" * 2**20] * 16)
    assert time.monotonic() - began < 1
    assert [name for _, name in fake.tries] == ["SlowDown", "ok"]
    taken[0].transport.resumeProducing()
    await deferLater(R, 0.05)
    # The first connection is closed, the second is kept for the next request.
    assert len(fake.connections) == 1
    assert fake.connections != taken


@pytest.mark.parametrize("end", ["stored", "refused", "given up", "early", "cancelled"])
@pytest_twisted.ensureDeferred
async def test_the_body_is_freed_without_the_garbage_collector(fake: FakeStore, end: str) -> None:
    freed = []

    class Bytes(bytes):
        """Bytes whose end is noticed; there are no weak references to bytes."""

        def __del__(self) -> None:
            freed.append(len(self))

    body = [Bytes(b"x" * 2**18) for _ in range(12)]
    fake.answers = {"stored": [stored()], "refused": [error(403, "AccessDenied")], "early": [stored()]}.get(
        end, [cut] * 100 if end == "given up" else [nothing]
    )
    if end == "early":
        fake.early = error(503, "SlowDown")
    store = fake.store(patience=0.05 if end == "given up" else 5.0)
    gc.collect()
    gc.disable()
    try:
        call = ensureDeferred(store.upload_part("b", "k", "u", 1, body))
        del body
        if end == "cancelled":
            await deferLater(R, 0.1)
            call.cancel()
        outcome: Any = None
        try:
            outcome = await call
        except (StoreError, CancelledError) as caught:
            # Kept, as one would for a log.
            outcome = caught
        del call
        await deferLater(R, 0.02)
        # A connection that was cut off keeps what it had in its own buffer: one chunk.
        assert len(freed) >= (11 if end == "early" else 12)
        assert outcome is not None
    finally:
        gc.enable()


@pytest.mark.parametrize("when", ["waiting for the answer", "reading the answer", "pausing", "sending"])
@pytest_twisted.ensureDeferred
async def test_cancelling(fake: FakeStore, when: str) -> None:
    def half(connection: Connection) -> None:
        connection.transport.write(b"HTTP/1.1 200 X\r\nContent-Length: 4\r\n\r\nda")

    fake.answers = {"reading the answer": [half], "pausing": [error(503, "SlowDown", {"Retry-After": "3"})]}.get(
        when, [nothing]
    )
    if when == "sending":
        fake.early = lambda connection: connection.transport.pauseProducing()
    call: Deferred[Made] = ensureDeferred(fake.store().put_object("b", "k", [b"x" * 2**20] * 16, PLAIN))
    await deferLater(R, 0.3)
    [connection] = fake.connections
    call.cancel()
    with pytest.raises(CancelledError):
        await call
    connection.transport.resumeProducing()
    await deferLater(R, 0.1)
    assert fake.connections == ([connection] if when == "pausing" else [])
    assert len(fake.requests) == (0 if when == "sending" else 1)


@pytest_twisted.ensureDeferred
async def test_connections_are_kept_and_quiet(fake: FakeStore, logged: list[Any]) -> None:
    fake.answers = [stored() for _ in range(5)]
    store = fake.store()
    for _ in range(5):
        await put(store)
        assert len(fake.connections) == 1
    assert {request.header("user-agent") for request in fake.requests} == {"resumable"}
    await store.close()
    await deferLater(R, 0.05)
    assert fake.connections == []
    assert not [event for event in logged if "HTTP11" in str(event)]


@pytest_twisted.ensureDeferred
async def test_checksums(fake: FakeStore) -> None:
    fake.answers = [stored() for _ in range(4)] + [
        answer(200, "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")
    ] * 2
    with_sums, without = fake.store(), fake.store(checksum=False)
    for store in (with_sums, without):
        # CRC32C of "123456789".
        await store.put_object("b", "k", [b"1234", b"56789"], PLAIN, crc32c=0xE3069283)
        await store.upload_part("b", "k", "u", 1, [b"x"], crc32c=1)
    assert [request.header("x-amz-checksum-crc32c") for request in fake.requests] == [
        "4waSgw==",
        "AAAAAQ==",
        None,
        None,
    ]
    for store in (with_sums, without):
        assert await store.init_multipart_upload("b", "k", PLAIN) == "u"
    assert [request.header("x-amz-checksum-algorithm") for request in fake.requests[4:]] == ["CRC32C", None]


@pytest_twisted.ensureDeferred
async def test_pages(fake: FakeStore) -> None:
    fake.answers = [
        answer(
            200,
            "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><EncodingType>url</EncodingType>"
            "<NextKeyMarker>a%2B+b</NextKeyMarker><NextUploadIdMarker>u1</NextUploadIdMarker><Upload><Key>a%2B+b</Key>"
            "<UploadId>u1</UploadId><Initiated>1970-01-01T00:01:00Z</Initiated></Upload></ListMultipartUploadsResult>",
        ),
        answer(200, "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>"),
    ]
    [found] = await fake.store().list_multipart_uploads("b", "a")
    assert (found.key, found.multipart_id, found.initiated) == ("a+ b", "u1", 60.0)
    assert "key-marker=a%2B%20b&prefix=a&upload-id-marker=u1&uploads= " in fake.requests[1].head


@pytest_twisted.ensureDeferred
async def test_a_listing_that_does_not_go_on_is_not_followed_for_ever(fake: FakeStore) -> None:
    page = "<ListPartsResult><IsTruncated>true</IsTruncated><NextPartNumberMarker>1</NextPartNumberMarker></ListPartsResult>"
    fake.answers = [answer(200, page)] * 3
    with pytest.raises(StoreError, match="does not go on"):
        await fake.store().list_parts("b", "k", "u")
    assert len(fake.requests) == 2
