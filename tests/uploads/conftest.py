"""Two nodes, one ledger, one store: what one knows of an upload is not all there is to know. They cannot tell each other."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import deferLater

from resumable.ledger.database import Database
from resumable.ledger.ledger import Ledger
from resumable.model import Event, State, Upload
from resumable.tasks import BackgroundTasks
from resumable.uploads.dependencies import Dependencies
from resumable.uploads.fragments import Fragments
from resumable.uploads.limiter import ReadBackLimiter
from resumable.uploads.memory import MemoryBudget
from resumable.uploads.registry import Span
from resumable.uploads.service import UploadService
from resumable.uploads.stream import ChunkedStream
from tests.policy import policy
from tests.uploads.memory_store import Bucket, MemoryStore
from tests.uploads.test_states import Body, certain

CHUNK = 16
DATA = random.Random(5).randbytes(3 * CHUNK + 5)


@pytest.fixture
def database() -> Iterator[Database]:
    opened = Database("sqlite://", reactor)
    opened.prepare()
    opened.start()
    yield opened
    pytest_twisted.blockon(ensureDeferred(opened.close()))


@pytest.fixture
def told() -> list[str]:
    """The states that were announced."""
    return []


@pytest.fixture
def ledger(database: Database, told: list[str]) -> Ledger:
    def announce(upload: Upload, pieces: Any) -> Event | None:
        if upload.state is State.FINISHED:
            told.append(upload.state.value)
        return None

    return Ledger(database, announce)


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


class Node:
    """A service in a process of its own, as far as it knows."""

    def __init__(self, ledger: Ledger, bucket: Bucket) -> None:
        self.store = MemoryStore(bucket)
        budget = MemoryBudget(4096, reactor)  # type: ignore[arg-type]
        self.deps = Dependencies(
            ledger=ledger,
            store=self.store,
            fragments=Fragments(self.store, budget, ".resumable/", "ledger"),
            budget=budget,
            read_back=ReadBackLimiter(CHUNK),
            clock=reactor,  # type: ignore[arg-type]
            background=BackgroundTasks(4),
        )
        self.uploads = UploadService(self.deps, policy("bucket", chunk_size=CHUNK, limits=self.store.limits))

    def begin(
        self, upload: Upload, first: int, sent: int, end: int | None = len(DATA), **how: Any
    ) -> tuple[Body, Deferred[Any]]:
        """A body that has brought bytes up to `sent`, and then is silent: it looks as if it were to end at `end`."""
        body = Body(DATA[first:sent], 7, drop=False, stall=True)
        receiving = self.uploads.receive(upload, body, Span(first, end), revalidate=certain, **how)
        return body, Deferred.fromCoroutine(receiving)

    async def settle(self) -> None:
        """Wait until it has done what nobody waits for."""
        await self.deps.joins.settle()
        await self.deps.background.settle()

    async def streams(self, upload: Upload) -> list[ChunkedStream]:
        """Wait until somebody writes the upload here; returns the streams."""
        while True:
            writer = self.uploads.writing._writers.get(upload.id)
            if writer is not None and writer.streams:
                return writer.streams
            await deferLater(reactor, 0.002)  # type: ignore[arg-type]

    async def send(self, upload: Upload, first: int, end: int = len(DATA), **how: Any) -> Any:
        """A body with the bytes ``[first, end)`` of the file; a test may have it break off, bring others, or go another way."""
        data, drop = how.pop("data", DATA[first:end]), how.pop("drop", False)
        span = Span(first, end, last=how.pop("last", False))
        body = Body(data, 7, drop=drop, stall=False)
        return await self.uploads.receive(upload, body, span, revalidate=certain, **how)


@pytest.fixture
def nodes(ledger: Ledger, bucket: Bucket) -> tuple[Node, Node]:
    return Node(ledger, bucket), Node(ledger, bucket)


async def nothing_left(bucket: Bucket, nodes: Iterable[Node]) -> None:
    """When the nodes have done what nobody waits for."""
    for node in nodes:
        await node.settle()
    assert [key for key in bucket.objects if key.startswith(".resumable/")] == []
    assert bucket.multiparts == {}
