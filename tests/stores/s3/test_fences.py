"""Calls that are not made again without leave, and the doubt that they leave."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.task import deferLater

from resumable.model import ObjectOptions
from resumable.stores.port import Made, PartRef, StoreError, StoreUnavailable
from resumable.stores.s3.client import S3Store
from tests.stores.fakes import Connection, FakeStore, R, answer, completed, cut, error, nothing, stored

PLAIN = ObjectOptions()
CRC = 0xE3069283
Send = Callable[[Connection], None]


class Closed(Exception):
    """Nothing may be tried again."""


class Recorder:
    """A fence that notes what it is asked, and closes after so many tries."""

    def __init__(self, most: int = 100) -> None:
        self.asked: list[str] = []
        self.most = most

    async def proceed(self) -> None:
        self.asked.append("proceed")
        self.most -= 1
        if self.most < 0:
            raise Closed

    async def pause(self, seconds: float) -> None:
        self.asked.append("pause")
        await deferLater(R, seconds)

    def doubt(self) -> None:
        self.asked.append("doubt")

    @property
    def doubts(self) -> int:
        return self.asked.count("doubt")


@pytest_twisted.async_yield_fixture
async def fake() -> AsyncIterator[FakeStore]:
    server = FakeStore()
    yield server
    await server.close()


async def put(store: S3Store, fence: Recorder) -> object:
    return await store.put_object("b", "k", [b"123456789"], PLAIN, crc32c=CRC, fence=fence)


async def complete(store: S3Store, fence: Recorder) -> object:
    return await store.complete_multipart_upload("b", "k", "u", [PartRef(1, "e")], fence=fence)


async def delete(store: S3Store, fence: Recorder) -> object:
    return await store.delete_object("b", "k", etag="e", fence=fence)


CALLS = [put, complete, delete]
SUCCESS: dict[object, Send] = {put: stored(), complete: completed(), delete: answer(204)}


@pytest.mark.parametrize("call", CALLS)
@pytest_twisted.ensureDeferred
async def test_the_fence_is_asked_before_each_try_but_the_first(
    fake: FakeStore, call: Callable[[S3Store, Recorder], Deferred[object]]
) -> None:
    fake.answers = [error(503, "SlowDown"), error(503, "ServiceUnavailable"), SUCCESS[call]]
    fence = Recorder()
    await call(fake.store(), fence)
    assert fence.asked == ["pause", "proceed"] * 2


@pytest.mark.parametrize("call", CALLS)
@pytest_twisted.ensureDeferred
async def test_a_closed_fence_ends_the_call(
    fake: FakeStore, call: Callable[[S3Store, Recorder], Deferred[object]]
) -> None:
    fake.answers = [error(503, "SlowDown")] * 9
    with pytest.raises(Closed):
        await call(fake.store(), Recorder(most=1))
    assert len(fake.requests) == 2


@pytest_twisted.ensureDeferred
async def test_a_delete_without_its_condition_is_another_try(fake: FakeStore) -> None:
    fake.answers = [error(501, "NotImplemented")]
    with pytest.raises(Closed):
        await delete(fake.store(), Recorder(most=0))
    assert len(fake.requests) == 1


DOUBTFUL: dict[str, Send] = {
    "broken": cut,
    "half an answer": answer(200, "x", missing=1),
    "an error of its own": error(500, "InternalError"),
    "a gateway": answer(504),
    "no word of the store's": answer(503, "<html>"),
    "a stranger": answer(404, "<html>"),
    "an endless head": lambda connection: connection.transport.write(b"HTTP/1.1 200 X\r\n" + b"a: b\r\n" * 20000),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("trouble", DOUBTFUL)
@pytest_twisted.ensureDeferred
async def test_what_may_still_take_effect_is_doubted(
    fake: FakeStore, call: Callable[[S3Store, Recorder], Deferred[object]], trouble: str
) -> None:
    fake.answers = [DOUBTFUL[trouble], SUCCESS[call]]
    fence = Recorder()
    await call(fake.store(), fence)
    assert fence.asked == ["doubt", "pause", "proceed"]
    # The last try counts like the others.
    fake.answers, last = [DOUBTFUL[trouble]], Recorder()
    with pytest.raises(StoreUnavailable):
        await call(fake.store(patience=0.0), last)
    assert last.asked == ["doubt"]


@pytest.mark.parametrize(
    "trouble", [answer(200), answer(200, headers={"ETag": "e", "x-amz-checksum-crc32c": "AAAAAA=="})]
)
@pytest_twisted.ensureDeferred
async def test_a_success_that_is_none_is_doubted(fake: FakeStore, trouble: Send) -> None:
    fake.answers = [trouble, stored()]
    fence = Recorder()
    await put(fake.store(), fence)
    assert fence.doubts == 1


@pytest.mark.parametrize("trouble", [answer(200, "<html>"), error(200, "InternalError"), answer(200)])
@pytest_twisted.ensureDeferred
async def test_a_complete_that_cannot_be_read_is_doubted(fake: FakeStore, trouble: Send) -> None:
    fake.answers = [trouble, completed()]
    fence = Recorder()
    await complete(fake.store(), fence)
    assert fence.doubts == 1


@pytest_twisted.ensureDeferred
async def test_silence_is_doubted(fake: FakeStore) -> None:
    fake.answers = [lambda connection: connection.transport.write(b"HTTP/1.1 200 X\r\nContent-Length: 4\r\n\r\nda")]
    fence = Recorder()
    with pytest.raises(StoreUnavailable, match="Silent"):
        await put(fake.store(silence=0.1, patience=0.0), fence)
    assert fence.asked == ["doubt"]


@pytest.mark.parametrize("code", ["PreconditionFailed", "AccessDenied", "RequestTimeout", "OperationAborted"])
@pytest_twisted.ensureDeferred
async def test_a_refusal_of_the_stores_own_leaves_no_doubt(fake: FakeStore, code: str) -> None:
    fake.answers = [error(409, code)]
    fence = Recorder()
    with pytest.raises(StoreError):
        await put(fake.store(patience=0.0), fence)
    assert fence.asked == []


@pytest_twisted.ensureDeferred
async def test_what_was_not_sent_leaves_no_doubt(fake: FakeStore) -> None:
    """Nobody there, or a body that was cut short: nothing can come of that."""
    store, fence = fake.store(patience=0.0), Recorder()
    fake.early = cut
    with pytest.raises(StoreUnavailable):
        await store.put_object("b", "k", [b"x" * 2**20] * 16, PLAIN, fence=fence)
    fake.early = error(500, "InternalError")
    with pytest.raises(StoreUnavailable):
        await store.put_object("b", "k", [b"x" * 2**20] * 16, PLAIN, fence=fence)
    await store.close()
    await fake.port.stopListening()
    with pytest.raises(StoreUnavailable, match="ConnectionRefused"):
        await put(store, fence)
    assert fence.asked == []


@pytest_twisted.ensureDeferred
async def test_cancelled_while_the_store_has_it(fake: FakeStore) -> None:
    fake.answers = [nothing]
    fence = Recorder()
    call = ensureDeferred(put(fake.store(), fence))
    while not fake.requests:
        await deferLater(R, 0.005)
    call.cancel()
    with pytest.raises(CancelledError):
        await call
    assert fence.asked == ["doubt"]


@pytest_twisted.ensureDeferred
async def test_cancelled_in_the_middle_of_the_body(fake: FakeStore) -> None:
    fake.early = lambda connection: connection.transport.pauseProducing()
    fence = Recorder()
    call: Deferred[Made] = ensureDeferred(fake.store().put_object("b", "k", [b"x" * 2**20] * 16, PLAIN, fence=fence))
    while fake.early is not None:
        await deferLater(R, 0.005)
    call.cancel()
    with pytest.raises(CancelledError):
        await call
    assert fence.asked == []


@pytest_twisted.ensureDeferred
async def test_cancelled_between_two_tries(fake: FakeStore) -> None:
    fake.answers = [error(503, "SlowDown", {"Retry-After": "3"})]
    fence = Recorder()
    call = ensureDeferred(put(fake.store(), fence))
    while not fence.asked:
        await deferLater(R, 0.005)
    call.cancel()
    with pytest.raises(CancelledError):
        await call
    assert fence.asked == ["pause"]
