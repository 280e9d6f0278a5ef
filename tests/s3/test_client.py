"""Every call of the client, against a server that was not written for it."""

from __future__ import annotations

import random
from io import BytesIO
from typing import Any

import pytest
from crc32c import crc32c
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IConsumer
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.client import FileBodyProducer, ResponseDone
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface import implementer

from resumable.model import ObjectOptions
from resumable.s3 import (
    AWSCredentials,
    NotFound,
    S3Client,
    S3Error,
    Stopped,
    StoreUnavailable,
    WrongLength,
    receiving,
    sending,
)
from resumable.s3.sending import Sender, composite_etag, part_size
from resumable.stores.port import StoreLimits
from resumable.stores.profiles import PROFILES
from tests.protocols.harness import until
from tests.s3.conftest import BUCKET
from tests.stores.fakes import FakeStore, answer, error, stored
from tests.uploads.memory_store import Bucket, MemoryStore

MIB = 1 << 20
#: Two parts and a bit.
DATA = random.Random(3).randbytes(17 * MIB + 12_345)


@implementer(IBodyProducer)
class Writer:
    """Writes when it may, at most so much at a time; counts how often it was paused, and can fail at the end."""

    def __init__(self, data: bytes, length: Any = UNKNOWN_LENGTH, *, step: int = 1 << 18, fails: bool = False) -> None:
        self.length = length
        self.left = memoryview(data)
        self.step = step
        self.fails = fails
        self.pauses = 0
        self.stopped = self.paused = self.scheduled = False

    def startProducing(self, consumer: Any) -> Deferred[None]:
        self.consumer, self.done = consumer, Deferred[None]()
        self.go_on()
        return self.done

    def go_on(self) -> None:
        self.scheduled = False
        if self.paused or self.stopped:
            return
        if not self.left:
            if self.fails:
                self.done.errback(RuntimeError("the disc is broken"))
            else:
                self.done.callback(None)
            return
        data, self.left = bytes(self.left[: self.step]), self.left[self.step :]
        self.consumer.write(data)
        self.soon()

    def soon(self) -> None:
        if not self.scheduled:
            self.scheduled = True
            reactor.callLater(0, self.go_on)  # type: ignore[attr-defined]

    def pauseProducing(self) -> None:
        self.paused, self.pauses = True, self.pauses + 1

    def resumeProducing(self) -> None:
        self.paused = False
        self.soon()

    def stopProducing(self) -> None:
        self.stopped = True


def read(boto: Any, key: str) -> bytes:
    return bytes(boto.get_object(Bucket=BUCKET, Key=key)["Body"].read())


def nothing_open(boto: Any) -> bool:
    return not boto.list_multipart_uploads(Bucket=BUCKET).get("Uploads")


@ensureDeferred
async def test_an_object(client: S3Client, boto: Any) -> None:
    etag = await client.put_object(
        BUCKET, "an/object", b"some bytes", "text/x", {"k": "v"}, {"storage-class": "STANDARD_IA"}
    )
    assert read(boto, "an/object") == b"some bytes"
    headers = await client.head_object(BUCKET, "an/object")
    assert (headers["Content-Type"], headers["Content-Length"]) == ("text/x", "10")
    assert headers["ETag"] == f'"{etag}"'
    assert {name.lower(): value for name, value in headers.items()}["x-amz-meta-k"] == "v"
    assert boto.head_object(Bucket=BUCKET, Key="an/object")["StorageClass"] == "STANDARD_IA"
    assert await client.get_object(BUCKET, "an/object") == b"some bytes"
    assert await client.get_object(BUCKET, "an/object", first=2, end=6) == b"me b"
    assert await client.get_object(BUCKET, "an/object", first=5, end=99) == b"bytes"
    for _ in range(2):
        await client.delete_object(BUCKET, "an/object")
    for call in (client.head_object, client.get_object):
        with pytest.raises(NotFound) as caught:
            await call(BUCKET, "an/object")
        assert (caught.value.status, caught.value.code) == (404, "NoSuchKey")
    await client.put_object(BUCKET, "empty")
    assert await client.get_object(BUCKET, "empty") == b""


@ensureDeferred
async def test_a_listing(client: S3Client) -> None:
    keys = [f"listed/{n} ü" for n in range(5)]
    for key in keys:
        await client.put_object(BUCKET, key, b"xy")
    found = await client.get_bucket(BUCKET, prefix="listed/", max_keys=2)
    assert ([one.key for one in found.contents], found.is_truncated, found.max_keys) == (keys[:2], True, 2)
    assert (found.contents[0].size, found.contents[0].modification_date.utcoffset().total_seconds()) == (2, 0)
    rest = await client.get_bucket(BUCKET, prefix="listed/", marker=keys[1])
    assert ([one.key for one in rest.contents], rest.is_truncated) == (keys[2:], False)
    assert (await client.get_bucket(BUCKET, prefix="none")).contents == []


@ensureDeferred
async def test_a_multipart_upload(client: S3Client, boto: Any) -> None:
    """As programs for txAWS do it, with what each call gives to the next."""
    opened = await client.init_multipart_upload(BUCKET, "parts", content_type="a/b", metadata={"k": "v"})
    assert (opened.bucket, opened.object_name) == (BUCKET, "parts")
    assert [one.key for one in await client.list_multipart_uploads(BUCKET, "par")] == ["parts"]
    halves = DATA[: 6 * MIB], DATA[6 * MIB :]
    second = await client.upload_part(
        BUCKET, "parts", opened.upload_id, 2, body_producer=FileBodyProducer(BytesIO(halves[1]))
    )
    first = await client.upload_part(BUCKET, "parts", opened.upload_id, 1, halves[0])
    listed = await client.list_parts(BUCKET, "parts", opened.upload_id)
    assert [(one.number, one.size) for one in listed] == [(1, len(halves[0])), (2, len(halves[1]))]
    made = await client.complete_multipart_upload(
        BUCKET, "parts", opened.upload_id, [(2, second["ETag"]), (1, first["ETag"])]
    )
    assert read(boto, "parts") == DATA
    assert made.etag == composite_etag([first["ETag"].strip('"'), second["ETag"].strip('"')])
    assert boto.head_object(Bucket=BUCKET, Key="parts")["ContentType"] == "a/b"
    other = await client.init_multipart_upload(BUCKET, "parts")
    for _ in range(2):
        await client.abort_multipart_upload(BUCKET, "parts", other.upload_id)
    assert nothing_open(boto)


@pytest.mark.parametrize(
    ("size", "known"),
    [
        (0, True),
        (1, False),
        (8 * MIB, True),
        (8 * MIB, False),
        (8 * MIB + 1, True),
        (16 * MIB, False),
        (len(DATA), True),
    ],
)
@ensureDeferred
async def test_a_body_from_a_producer(client: S3Client, boto: Any, size: int, known: bool) -> None:
    """Of any length, known or not. It waits while enough of it is in memory."""
    writer = Writer(DATA[:size], size if known else UNKNOWN_LENGTH)
    etag = await client.put_object(BUCKET, "produced", content_type="a/b", body_producer=writer)
    head = boto.head_object(Bucket=BUCKET, Key="produced")
    assert (read(boto, "produced") == DATA[:size], head["ContentType"], head["ETag"]) == (True, "a/b", f'"{etag}"')
    assert ("-" in etag) == (size > 8 * MIB)
    assert bool(writer.pauses) == (size >= 8 * MIB)


@ensureDeferred
async def test_a_file(client: S3Client, boto: Any) -> None:
    await client.put_object(BUCKET, "file", body_producer=FileBodyProducer(BytesIO(DATA)))
    assert read(boto, "file") == DATA


@pytest.mark.parametrize("length", [len(DATA) - 1, len(DATA) + 1])
@ensureDeferred
async def test_a_body_of_another_length(client: S3Client, boto: Any, length: int) -> None:
    writer = Writer(DATA, length)
    with pytest.raises(WrongLength):
        await client.put_object(BUCKET, "wrong length", body_producer=writer)
    assert nothing_open(boto)
    assert "wrong length" not in [one.key for one in (await client.get_bucket(BUCKET)).contents]


@ensureDeferred
async def test_a_body_that_fails(client: S3Client, boto: Any) -> None:
    for size in (10, len(DATA)):
        with pytest.raises(RuntimeError, match="the disc is broken"):
            await client.put_object(BUCKET, "failed", body_producer=Writer(DATA[:size], fails=True))
    assert nothing_open(boto)
    with pytest.raises(NotFound):
        await client.head_object(BUCKET, "failed")


@ensureDeferred
async def test_one_that_is_cancelled(client: S3Client, boto: Any) -> None:
    writer = Writer(DATA, len(DATA))
    putting = client.put_object(BUCKET, "cancelled", body_producer=writer)
    while len(writer.left) > len(DATA) - 16 * MIB:
        await deferLater(reactor, 0)  # type: ignore[arg-type]
    putting.cancel()
    with pytest.raises(CancelledError):
        await putting
    assert writer.stopped
    while not nothing_open(boto):
        await deferLater(reactor, 0.01)  # type: ignore[arg-type]


class Receiver(Protocol):
    """Pauses after each piece, and stops after so many bytes."""

    def __init__(self, most: int = 1 << 40) -> None:
        self.got = bytearray()
        self.most = most
        self.reason: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        transport: Any = self.transport
        self.got += data
        if len(self.got) >= self.most:
            transport.stopProducing()
            return
        transport.pauseProducing()
        reactor.callLater(0, transport.resumeProducing)  # type: ignore[attr-defined]

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        self.reason = reason


@ensureDeferred
async def test_a_protocol_gets_the_bytes(client: S3Client, boto: Any) -> None:
    boto.put_object(Bucket=BUCKET, Key="large", Body=DATA)
    receiver = Receiver()
    found = await client.get_object(BUCKET, "large", receiver=receiver)
    assert (bytes(receiver.got) == DATA, found.size) == (True, len(DATA))
    assert receiver.reason is not None
    assert receiver.reason.check(ResponseDone)
    some = Receiver(most=100)
    with pytest.raises(Stopped):
        await client.get_object(BUCKET, "large", receiver=some)
    assert len(some.got) < receiving.RANGE
    assert some.reason is not None
    assert some.reason.check(Stopped)


@implementer(IConsumer)
class Sink:
    def __init__(self, then: Any = lambda _: None) -> None:
        self.got = bytearray()
        self.producer: Any = None
        self.then = then

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def write(self, data: bytes) -> None:
        self.got += data
        self.then(self)


@ensureDeferred
async def test_a_consumer_gets_the_bytes(client: S3Client, boto: Any) -> None:
    boto.put_object(Bucket=BUCKET, Key="large", Body=DATA)
    sink = Sink()
    await client.get_object(BUCKET, "large", consumer=sink, first=5, end=12 * MIB)
    assert (bytes(sink.got) == DATA[5 : 12 * MIB], sink.producer) == (True, None)


@ensureDeferred
async def test_an_object_that_is_replaced_while_it_is_read(client: S3Client, boto: Any) -> None:
    """The rest of another object is not the rest of this one."""
    boto.put_object(Bucket=BUCKET, Key="large", Body=DATA)
    sizes: list[int] = []

    def replace(sink: Sink) -> None:
        if not sizes:
            boto.put_object(Bucket=BUCKET, Key="large", Body=bytes(len(DATA)))
        sizes.append(len(sink.got))

    sink = Sink(replace)
    with pytest.raises(S3Error, match="PreconditionFailed"):
        await client.get_object(BUCKET, "large", consumer=sink)
    assert DATA.startswith(bytes(sink.got))
    assert sink.producer is None


@ensureDeferred
async def test_what_cannot_be_asked(client: S3Client) -> None:
    for call in (
        lambda: client.put_object(BUCKET, "k", b"x", body_producer=Writer(b"")),
        lambda: client.upload_part(BUCKET, "k", "u", 1, b"x", body_producer=Writer(b"")),
        lambda: client.put_object(BUCKET, "k", b"x", amz_headers={"acll": "private"}),
        lambda: client.get_object(BUCKET, "k", receiver=Receiver(), consumer=Sink()),
        lambda: client.get_object(BUCKET, "k", first=-1),
        lambda: client.get_object(BUCKET, "k", first=5, end=-1),
        lambda: S3Client(profile="r3"),
    ):
        with pytest.raises(ValueError, match=r"exclusive|not known|either|cannot be -1"):
            call()
    with pytest.raises(WrongLength, match="at most"):
        await client.put_object(BUCKET, "k", body_producer=Writer(b"", 1 << 60))


@ensureDeferred
async def test_a_store_in_trouble(fake: FakeStore) -> None:
    """A range that breaks off is asked for again, and nothing comes twice; trouble that stays becomes an error."""
    client = S3Client(store=fake.store(patience=1.0))
    fake.answers += [head(6), answer(206, b"abc", missing=3), error(503, "SlowDown"), answer(206, b"abcdef")]
    sink = Sink()
    await client.get_object("b", "k", consumer=sink)
    assert bytes(sink.got) == b"abcdef"
    fake.answers += [error(503, "SlowDown"), stored()]
    assert await client.put_object("b", "k", b"x") == "e"
    assert fake.requests[-1].header("x-amz-checksum-crc32c") is not None
    hasty = S3Client(store=fake.store(patience=0.0), checksum=False)
    fake.answers += [error(503, "SlowDown")]
    with pytest.raises(StoreUnavailable):
        await hasty.put_object("b", "k", b"x")
    assert fake.requests[-1].header("x-amz-checksum-crc32c") is None


def head(size: int, etag: str | None = "e") -> Any:
    """The answer to a HEAD: it has a length, and no body."""

    def send(connection: Any) -> None:
        connection.transport.write(f'HTTP/1.1 200 OK\r\nETag: "{etag}"\r\nContent-Length: {size}\r\n\r\n'.encode())

    return send


@ensureDeferred
async def test_a_completion_whose_answer_is_lost(fake: FakeStore) -> None:
    """The object's ETag says whether it is made of these parts."""
    client = S3Client(store=fake.store())
    etags = ["0" * 32, "1" * 32]
    etag = composite_etag(etags)
    fake.answers += [error(404, "NoSuchUpload"), head(5, etag)]
    made = await client.complete_multipart_upload("b", "k", "u", list(enumerate(etags, 1)))
    assert made.etag == etag
    fake.answers += [error(404, "NoSuchUpload"), head(5, etag)]
    with pytest.raises(S3Error, match="NoSuchUpload"):
        await client.complete_multipart_upload("b", "k", "u", [(1, etags[0])])
    fake.answers += [error(404, "NoSuchUpload")]
    with pytest.raises(S3Error, match="NoSuchUpload"):
        await client.complete_multipart_upload("b", "k", "u", [(1, "not-an-md5")])


def test_the_sizes_of_parts() -> None:
    """Together they hold the largest object, whether its length is known or not."""
    limits = StoreLimits()
    assert part_size(1, limits.parts * 8 * MIB, limits) == 8 * MIB
    assert part_size(1, limits.largest_object, limits) == limits.largest_part
    sizes = [part_size(number, None, limits) for number in range(1, limits.parts + 1)]
    assert (sizes[0], sizes[-1] <= limits.largest_part) == (8 * MIB, True)
    assert sum(sizes) > 5 << 40
    few = PROFILES["scaleway"].limits
    sizes = [part_size(number, None, few) for number in range(1, few.parts + 1)]
    assert (sizes[0], sizes[-1] <= few.largest_part, sum(sizes) > 500 << 30) == (8 * MIB, True, True)
    assert part_size(1, few.largest_object, few) * few.parts >= few.largest_object
    equal = PROFILES["r2"].limits
    assert {part_size(number, None, equal) for number in range(1, equal.parts + 1)} == {8 * MIB}


@pytest.mark.parametrize(
    ("endpoint", "said", "expected"),
    [
        (None, {}, ("us-east-1", True, 10_000, False)),
        ("https://0123.r2.cloudflarestorage.com", {}, ("auto", True, 10_000, True)),
        ("https://s3.fr-par.scw.cloud", {}, ("fr-par", False, 1000, False)),
        ("https://s3.fr-par.scw.cloud", {"region": "nl-ams", "checksum": True}, ("nl-ams", True, 1000, False)),
        ("https://objects.example.org", {"profile": "r2"}, ("auto", True, 10_000, True)),
        ("http://127.0.0.1:9000", {"checksum": False}, ("us-east-1", False, 10_000, False)),
    ],
)
def test_what_the_store_is_taken_to_do(endpoint: str | None, said: dict[str, Any], expected: tuple[Any, ...]) -> None:
    """By the endpoint's host; what the program says of it wins."""
    client = S3Client(AWSCredentials("key", "secret"), endpoint, **said)
    store, limits = client._store, client._store.limits
    assert (store._region, store._checksum, limits.parts, limits.equal_parts) == expected
    assert client._sender.checksum([b"x"]) == (crc32c(b"x") if expected[1] else None)


@ensureDeferred
async def test_more_parts_than_the_store_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as it takes are an object; of one more nothing stays."""
    monkeypatch.setattr(sending, "PART", 10)
    for size, known, right in ((30, True, True), (30, False, True), (31, True, True), (31, False, False)):
        bucket = Bucket()
        store = MemoryStore(bucket)
        store.limits = StoreLimits(smallest_part=1, parts=3, equal_parts=True)
        putting = Sender(store, checksum=True).put(
            "bucket", "k", ObjectOptions(), Writer(DATA[:size], size if known else UNKNOWN_LENGTH, step=7)
        )
        if right:
            await putting
            assert bucket.objects["k"][0] == DATA[:size]
        else:
            with pytest.raises(WrongLength, match="more than 3 parts"):
                await putting
            assert bucket.objects == {}
        assert bucket.multiparts == {}


class Lagging(MemoryStore):
    """Its answers come when the test says so. A part whose request is cancelled had reached it, and is stored all the same.

    :ivar late: how many parts are stored only after an abort.
    """

    def __init__(self) -> None:
        super().__init__(Bucket())
        self.limits = StoreLimits(smallest_part=1)
        self.told: list[str] = []
        self.opening: Deferred[None] | None = None
        self.parts: list[Deferred[None]] = []
        self.late = 0

    async def init_multipart_upload(self, *args: Any, **how: Any) -> str:
        opened = await super().init_multipart_upload(*args, **how)
        if self.opening is not None:
            await self.opening
        return opened

    async def upload_part(self, bucket: str, key: str, multipart_id: str, number: int, *args: Any, **how: Any) -> str:
        self.parts.append(Deferred())
        try:
            await self.parts[-1]
        finally:
            etag = await super().upload_part(bucket, key, multipart_id, number, *args, **how)
            self.told.append(f"part {number}")
        return etag

    async def abort_multipart_upload(self, bucket: str, key: str, multipart_id: str) -> None:
        self.told.append("abort")
        if self.late:
            self.late -= 1
        else:
            await super().abort_multipart_upload(bucket, key, multipart_id)

    def put(self) -> Deferred[Any]:
        """An object that is being stored, in parts."""
        return Deferred.fromCoroutine(
            Sender(self, checksum=True).put("bucket", "k", ObjectOptions(), Writer(DATA[:100], step=10))
        )


@pytest.mark.parametrize("late", [0, 1, 9])
@ensureDeferred
async def test_cancelled_while_parts_are_under_way(
    monkeypatch: pytest.MonkeyPatch, logged: list[Any], late: int
) -> None:
    """They end first, then all are freed; and once more where one has been stored after that. There is an end to it."""
    monkeypatch.setattr(sending, "PART", 10)
    store = Lagging()
    store.late = late
    putting = store.put()
    await until(lambda: len(store.parts) == 2)
    putting.cancel()
    with pytest.raises(CancelledError):
        await putting
    assert sorted(store.told[:2]) == ["part 1", "part 2"]
    assert store.told[2:] == ["abort"] * min(1 + late, sending.ABORTS)
    left = late >= sending.ABORTS
    assert bool(store._bucket.multiparts) == left
    assert any("may be left" in event.get("log_format", "") for event in logged) == left


@pytest.mark.parametrize("opens", [True, False])
@ensureDeferred
async def test_cancelled_while_it_is_opened(monkeypatch: pytest.MonkeyPatch, opens: bool) -> None:
    """The answer, which has the id, is waited for, and what was opened is aborted."""
    monkeypatch.setattr(sending, "PART", 10)
    store = Lagging()
    opening = store.opening = Deferred[None]()
    putting = store.put()
    await until(lambda: store._bucket.multiparts)
    putting.cancel()
    if opens:
        opening.callback(None)
    else:
        store._bucket.multiparts.clear()
        opening.errback(StoreUnavailable("SlowDown", "", 503))
    with pytest.raises(CancelledError):
        await putting
    assert store.told == ["abort"] * opens
    assert store._bucket.multiparts == {}
