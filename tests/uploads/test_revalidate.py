"""Whoever brings the last byte is asked about once more before the upload is finished; a no keeps it open."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import async_yield_fixture, ensureDeferred
from twisted.internet.interfaces import IConsumer, IPushProducer
from zope.interface import implementer

from resumable.ledger.ledger import Ledger
from resumable.model import Interrupted, State, Upload, UploadError
from resumable.uploads.policy import CreateRequest
from resumable.uploads.registry import Span
from resumable.uploads.result import Report
from tests.uploads.wiring import CHUNK, House, ledger_in

DATA = random.Random(7).randbytes(3 * CHUNK + 5)


class No(UploadError):
    """What the application says."""


@implementer(IPushProducer)
class Body:
    """Bytes that come all at once, so that all their chunks are on their way together."""

    def __init__(self, data: bytes, *, broken: bool = False) -> None:
        self._data = data
        self._broken = broken

    async def pour_into(self, consumer: IConsumer) -> None:
        consumer.registerProducer(self, True)
        consumer.write(self._data)
        consumer.unregisterProducer()
        if self._broken:
            raise Interrupted("the client went away")

    def pauseProducing(self) -> None:
        pass

    def resumeProducing(self) -> None:
        pass

    def stopProducing(self) -> None:
        pass


class Writers(House):
    """Those who bring bytes, and are asked about."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        #: How much was acknowledged each time that somebody was asked about, and whether there was an object.
        self.asked: list[tuple[int, bool]] = []

    async def create(self, length: int | None) -> Upload:
        return await self.uploads.create(CreateRequest("put", "film", length=length))

    async def now(self, upload: Upload) -> Report:
        current = await self.ledger.get(upload.id)
        assert current is not None
        return await self.uploads.report(current)

    async def bring(self, upload: Upload, data: bytes, first: int, *, may: bool, broken: bool = False) -> Report:
        """Bring all of `data` from `first` on, as one who `may` finish the upload or may not."""

        async def revalidate() -> None:
            self.asked.append(((await self.now(upload)).offset, "film" in self.bucket.objects))
            if not may:
                raise No

        current = (await self.now(upload)).upload
        span = Span(first, len(data), last=not broken)
        return await self.uploads.receive(current, Body(data[first:], broken=broken), span, revalidate=revalidate)


@async_yield_fixture
async def wiring(tmp_path: Path) -> AsyncIterator[Writers]:
    async with ledger_in(tmp_path) as ledger:
        yield Writers(ledger)


SIZES = pytest.mark.parametrize("size", [0, 5, CHUNK, CHUNK + 1, 2 * CHUNK, len(DATA)])
KNOWN = pytest.mark.parametrize("known", [True, False])


@SIZES
@KNOWN
@ensureDeferred
async def test_a_no_keeps_the_upload_open(wiring: Writers, size: int, known: bool) -> None:
    """Nothing is finished, what was acknowledged stays; one who may goes on from there and finishes."""
    data = DATA[:size]
    upload = await wiring.create(size if known else None)
    with pytest.raises(No):
        await wiring.bring(upload, data, 0, may=False)
    assert len(wiring.asked) == 1
    refused = await wiring.now(upload)
    assert refused.upload.state is State.OPEN
    assert refused.offset >= wiring.asked[0][0]
    assert "film" not in wiring.bucket.objects
    with pytest.raises(No):
        await wiring.bring(upload, data, refused.offset, may=False)
    assert (await wiring.now(upload)).offset >= refused.offset
    done = await wiring.bring(upload, data, (await wiring.now(upload)).offset, may=True)
    assert done.finished
    assert wiring.bucket.objects["film"][0] == data
    assert wiring.bucket.multiparts == {}


@SIZES
@KNOWN
@ensureDeferred
async def test_asked_once_and_before_anything_is_finished(wiring: Writers, size: int, known: bool) -> None:
    upload = await wiring.create(size if known else None)
    assert (await wiring.bring(upload, DATA[:size], 0, may=True)).finished
    assert len(wiring.asked) == 1
    assert not wiring.asked[0][1]


@pytest.mark.parametrize("cut", [3, CHUNK, CHUNK + 3, 3 * CHUNK + 2])
@ensureDeferred
async def test_only_who_finishes_is_asked_about(wiring: Writers, cut: int) -> None:
    """Bytes that leave some missing are stored without a question; a chunk that is joined of two bodies is no way round."""
    upload = await wiring.create(len(DATA))

    async def never() -> None:
        pytest.fail("nothing is finished")

    await wiring.uploads.receive(upload, Body(DATA[:cut]), Span(0, cut), revalidate=never)
    with pytest.raises(No):
        await wiring.bring(upload, DATA, cut, may=False)
    assert cut <= (await wiring.now(upload)).offset
    assert (await wiring.now(upload)).upload.state is State.OPEN
    assert (await wiring.bring(upload, DATA, (await wiring.now(upload)).offset, may=True)).finished
    assert wiring.bucket.objects["film"][0] == DATA


@ensureDeferred
async def test_one_who_vanishes_after_the_last_byte(wiring: Writers) -> None:
    """The body had no end, but its bytes are all there: a no is only noted, the upload stays open."""
    upload = await wiring.create(CHUNK)
    with pytest.raises(Interrupted):
        await wiring.bring(upload, DATA[:CHUNK], 0, may=False, broken=True)
    assert len(wiring.asked) == 1
    assert (await wiring.now(upload)).upload.state is State.OPEN


@ensureDeferred
async def test_an_upload_that_is_cancelled_while_somebody_is_asked(wiring: Writers) -> None:
    """A yes that comes too late makes no object, and leaves nothing in the store."""
    upload = await wiring.create(len(DATA))

    async def revalidate() -> None:
        await wiring.uploads.cancel((await wiring.now(upload)).upload)

    with pytest.raises(UploadError):
        await wiring.uploads.receive(upload, Body(DATA), Span(0, len(DATA)), revalidate=revalidate)
    assert (await wiring.now(upload)).upload.state is State.CANCELLED
    left: Any = (wiring.bucket.objects, [parts for _, _, parts in wiring.bucket.multiparts.values() if parts])
    assert left == ({}, [])
