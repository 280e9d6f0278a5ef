"""A desk on a real ledger and a store in memory, for tests of what protocols do with uploads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from twisted.internet import reactor

from resumable.ledger.database import Database
from resumable.ledger.ledger import Ledger
from resumable.tasks import Errands
from resumable.uploads.budget import Budget
from resumable.uploads.desk import Desk
from resumable.uploads.fragments import Fragments
from resumable.uploads.intake import Tools
from resumable.uploads.policy import Policy
from resumable.uploads.room import Room
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
    """The desk, and what it works with."""

    def __init__(self, ledger: Any) -> None:
        self.ledger = ledger
        self.bucket = Bucket()
        store = MemoryStore(self.bucket)
        budget = Budget(4096, reactor)  # type: ignore[arg-type]
        tools = Tools(
            ledger=ledger,
            store=store,
            fragments=Fragments(store, budget, ".resumable/", "ledger"),
            budget=budget,
            reading=Room(CHUNK),
            clock=reactor,  # type: ignore[arg-type]
            errands=Errands(4),
        )
        self.desk = Desk(tools, Policy("bucket", chunk_size=CHUNK))
