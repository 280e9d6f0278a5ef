"""What is counted of bytes: all that came, and of those each that is acknowledged, once."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import pytest_twisted
from attrs import define, field
from twisted.internet import reactor
from twisted.internet.interfaces import IConsumer, IPushProducer
from zope.interface import implementer

from resumable.ledger.database import Database
from resumable.ledger.ledger import Ledger
from resumable.ledger.maintenance import Maintenance
from resumable.metrics import Metrics
from resumable.model import Interrupted, Unavailable
from resumable.tasks import BackgroundTasks
from resumable.upkeep.recovery import CompletionRecovery
from resumable.uploads.dependencies import Dependencies
from resumable.uploads.fragments import Fragments
from resumable.uploads.limiter import ReadBackLimiter
from resumable.uploads.memory import MemoryBudget
from resumable.uploads.policy import CreateRequest
from resumable.uploads.registry import Span
from resumable.uploads.service import UploadService
from tests.policy import policy
from tests.scraping import Scrape
from tests.uploads.memory_store import Bucket, MemoryStore
from tests.uploads.test_states import certain

R: Any = reactor
CHUNK = 100
DATA = random.Random(1).randbytes(350)


@define
class Counted:
    """An upload service on a store in memory, and what it counts."""

    metrics: Metrics = field(factory=Metrics)
    store: MemoryStore = field(factory=lambda: MemoryStore(Bucket()))
    database: Database = field(factory=lambda: Database("sqlite://", R))
    uploads: UploadService = field(default=None)

    def start(self) -> None:
        self.database.prepare()
        self.database.start()
        budget = MemoryBudget(1 << 20, R)
        deps = Dependencies(
            ledger=Ledger(self.database, metrics=self.metrics),
            store=self.store,
            fragments=Fragments(self.store, budget, ".resumable/", "ledger", alone=True),
            budget=budget,
            read_back=ReadBackLimiter(CHUNK),
            clock=R,
            background=BackgroundTasks(4),
            metrics=self.metrics,
        )
        self.uploads = UploadService(deps, policy("bucket", chunk_size=CHUNK, limits=self.store.limits))

    @property
    def bytes(self) -> tuple[float, float]:
        """Received and durable."""
        scrape = Scrape.of(self.metrics)
        return scrape["resumable_received_bytes_total"], scrape["resumable_durable_bytes_total"]

    @property
    def states(self) -> dict[str, float]:
        counted = Scrape.of(self.metrics).samples("resumable_upload_transitions_total")
        return {labels["state"]: value for _, labels, value in counted if value}


@pytest_twisted.async_yield_fixture
async def counted() -> AsyncIterator[Counted]:
    made = Counted()
    made.start()
    yield made
    await made.database.close()
    assert Scrape.of(made.metrics)["resumable_active_streams"] == 0


@implementer(IPushProducer)
class Body:
    """A body in segments, which may break off after them."""

    def __init__(self, data: bytes, *, breaks: bool = False, segment: int = 7) -> None:
        self._segments = [data[first : first + segment] for first in range(0, len(data), segment)]
        self._breaks = breaks

    async def pour_into(self, consumer: IConsumer) -> None:
        consumer.registerProducer(self, True)
        for segment in self._segments:
            consumer.write(segment)
        consumer.unregisterProducer()
        if self._breaks:
            raise Interrupted("the client went away")

    def pauseProducing(self) -> None: ...

    def resumeProducing(self) -> None: ...

    def stopProducing(self) -> None: ...


async def bring(counted: Counted, size: int, ranges: Sequence[tuple[int, int]]) -> None:
    """Bring an upload in these ranges, all of whose bodies but the last break off."""
    upload = await counted.uploads.create(CreateRequest("tus", "name", length=size))
    for first, end in ranges:
        upload = await counted.uploads.get(upload.id, "")
        try:
            await counted.uploads.receive(
                upload, Body(DATA[first:end], breaks=end < size), Span(first, size), revalidate=certain
            )
        except Interrupted:
            assert end < size


@pytest_twisted.ensureDeferred
async def test_parts(counted: Counted) -> None:
    await bring(counted, 350, [(0, 350)])
    assert counted.bytes == (350, 350)
    assert counted.states == {"open": 1, "finishing": 1, "finished": 1}
    scrape = Scrape.of(counted.metrics)
    assert scrape["resumable_part_duration_seconds_count"] == 4
    assert scrape.get("resumable_complete_duration_seconds_count", outcome="finished") == 1


@pytest_twisted.ensureDeferred
async def test_one_request(counted: Counted) -> None:
    await bring(counted, 70, [(0, 70)])
    assert counted.bytes == (70, 70)
    assert counted.states == {"open": 1, "finished": 1}


@pytest_twisted.ensureDeferred
async def test_fragments_that_are_joined_are_not_counted_again(counted: Counted) -> None:
    await bring(counted, 350, [(0, 30), (30, 60), (60, 160), (160, 350)])
    assert counted.bytes == (350, 350)


@pytest_twisted.ensureDeferred
async def test_fragments_of_a_single_chunk(counted: Counted) -> None:
    await bring(counted, 90, [(0, 30), (30, 90)])
    assert counted.bytes == (90, 90)


@pytest_twisted.ensureDeferred
async def test_what_is_sent_again_is_received_but_not_stored_again(counted: Counted) -> None:
    await bring(counted, 350, [(0, 130), (0, 130), (20, 350)])
    assert counted.bytes == (130 + 130 + 330, 350)


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_stored_is_not_durable(counted: Counted) -> None:
    """And it is no part, nor is the complete that was refused one that finished."""
    counted.store.trouble = [("put_object", "before")]
    with pytest.raises(Unavailable):
        await bring(counted, 70, [(0, 70)])
    assert counted.bytes == (70, 0)
    assert counted.states == {"open": 1}
    assert Scrape.of(counted.metrics)["resumable_part_duration_seconds_count"] == 0


@pytest_twisted.ensureDeferred
async def test_a_complete_that_the_store_refuses(counted: Counted) -> None:
    counted.store.trouble = [("complete_multipart_upload", "before")]
    with pytest.raises(Unavailable):
        await bring(counted, 350, [(0, 350)])
    assert counted.bytes == (350, 350)
    assert counted.states == {"open": 1, "finishing": 1}
    recovery = CompletionRecovery(counted.uploads, Maintenance(counted.database), R, give_up_after=60.0)
    await recovery.round(idle=-1.0)
    assert counted.states == {"open": 1, "finishing": 1, "finished": 1}
    counts = Scrape.of(counted.metrics).samples("resumable_complete_duration_seconds_count")
    assert {labels["outcome"]: n for _, labels, n in counts if n} == {"unavailable": 1, "finished": 1}
