"""An upload service on a real ledger and a store in memory, for tests of what protocols do with uploads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from twisted.internet import reactor

from resumable.ledger.database import Database
from resumable.ledger.ledger import Ledger
from resumable.stores.port import Store
from resumable.tasks import BackgroundTasks
from resumable.uploads.dependencies import Dependencies
from resumable.uploads.fragments import Fragments
from resumable.uploads.limiter import ReadBackLimiter
from resumable.uploads.memory import MemoryBudget
from resumable.uploads.service import UploadService
from tests.policy import policy
from tests.uploads.memory_store import Bucket, MemoryStore

CHUNK = 16


@asynccontextmanager
async def ledger_in(directory: Path) -> AsyncIterator[Ledger]:
    """A ledger in a file, running."""
    database = Database(f"sqlite:///{directory / 'ledger.sqlite3'}", reactor)  # type: ignore[arg-type]
    database.prepare()
    database.start()
    try:
        yield Ledger(database)
    finally:
        await database.close()


class House:
    """The upload service, and what it works with.

    :param store: None for one in memory.
    :param rules: what is different from the default policy.
    """

    def __init__(self, ledger: Any, store: Store | None = None, **rules: Any) -> None:
        self.ledger = ledger
        self.bucket = Bucket()
        store = store or MemoryStore(self.bucket)
        budget = MemoryBudget(4096, reactor)  # type: ignore[arg-type]
        deps = Dependencies(
            ledger=ledger,
            store=store,
            fragments=Fragments(store, budget, ".resumable/", "ledger", alone=True),
            budget=budget,
            read_back=ReadBackLimiter(CHUNK),
            clock=reactor,  # type: ignore[arg-type]
            background=BackgroundTasks(4),
        )
        self.uploads = UploadService(deps, policy("bucket", **{"chunk_size": CHUNK, "limits": store.limits, **rules}))
