"""Many slow clients at once, more than memory can hold a chunk of: what large chunks cost, in requests and memory.

Everything is a thousandth of its size: a KiB stands for a MiB.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted
from attrs import frozen
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.internet.task import deferLater
from zope.interface import implementer

from resumable.tasks import BackgroundTasks
from resumable.uploads.dependencies import Dependencies
from resumable.uploads.fragments import Fragments
from resumable.uploads.limiter import ReadBackLimiter
from resumable.uploads.memory import MemoryBudget
from resumable.uploads.policy import CreateRequest
from resumable.uploads.registry import Span
from resumable.uploads.service import UploadService
from tests.policy import policy
from tests.uploads.memory_store import Bucket, MemoryStore
from tests.uploads.test_states import certain
from tests.uploads.wiring import ledger_in

KIB = 1024
CLIENTS = 60
LENGTH = 512 * KIB
#: For each client as many bytes as a hundred have by default.
MEMORY = 115 * KIB
SEGMENT = KIB


@implementer(IPushProducer)
class SlowBody:
    """A body of which a segment comes whenever the test says so, unless it is paused."""

    def __init__(self) -> None:
        self.left = LENGTH
        self._paused = False
        self._consumer: IConsumer | None = None
        self._done: Deferred[None] = Deferred()

    async def pour_into(self, consumer: IConsumer) -> None:
        self._consumer = consumer
        consumer.registerProducer(self, True)
        await self._done
        consumer.unregisterProducer()

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False

    def stopProducing(self) -> None:
        self.left = 0

    def bring(self) -> None:
        if self._consumer is None or self._paused or not self.left:
            return
        size = min(SEGMENT, self.left)
        self.left -= size
        self._consumer.write(bytes(size))
        if not self.left:
            self._done.callback(None)


@frozen
class Cost:
    """What the uploads have cost: requests for each, and the most bytes of bodies in memory."""

    requests: float
    memory: int


async def cost_of(directory: Path, grows: bool, early: bool) -> Cost:
    """Have all clients write at once.

    :param early: whether all uploads are entered before anybody writes, so that each looks as if it were alone.
    """
    directory.mkdir()
    bucket = Bucket()
    store = MemoryStore(bucket)
    budget = MemoryBudget(MEMORY, reactor)  # type: ignore[arg-type]
    most = 0
    async with ledger_in(directory) as ledger:
        deps = Dependencies(
            ledger=ledger,
            store=store,
            fragments=Fragments(store, budget, ".resumable/", "ledger", alone=True),
            budget=budget,
            read_back=ReadBackLimiter(MEMORY // 3),
            clock=reactor,  # type: ignore[arg-type]
            background=BackgroundTasks(4),
        )
        uploads = UploadService(deps, policy("bucket", chunk_size=6 * KIB, memory=MEMORY if grows else 0))
        bodies = [SlowBody() for _ in range(CLIENTS)]
        wanted = [CreateRequest("put", f"{number}", length=LENGTH) for number in range(CLIENTS)]
        entered = [await uploads.create(one) for one in wanted] if early else []
        receiving = []
        for number, body in enumerate(bodies):
            upload = entered[number] if early else await uploads.create(wanted[number])
            receiving.append(
                Deferred.fromCoroutine(
                    uploads.receive(upload, body, Span(0, LENGTH), revalidate=certain, new=True)  # type: ignore[arg-type]
                )
            )
            await deferLater(reactor, 0)  # type: ignore[arg-type]
        while any(body.left for body in bodies):
            for body in bodies:
                body.bring()
                most = max(most, budget.held)
            await deferLater(reactor, 0)  # type: ignore[arg-type]
        assert all(report.finished for report in await gatherResults(receiving))
    return Cost(len(bucket.calls) / CLIENTS, most)


@pytest.mark.soak
@pytest.mark.parametrize("early", [False, True])
@pytest_twisted.ensureDeferred
async def test_large_chunks_cost_slow_clients_nothing(tmp_path: Path, early: bool) -> None:
    """With chunks that grow there are no more requests than with the smallest, and no more memory is held."""
    small = await cost_of(tmp_path / "small", grows=False, early=early)
    grown = await cost_of(tmp_path / "grown", grows=True, early=early)
    print(f"smallest chunks: {small}; growing ones: {grown}")
    # (How many deletions share a request is a matter of time.)
    assert grown.requests <= 1.03 * small.requests
    assert grown.memory <= small.memory + SEGMENT
