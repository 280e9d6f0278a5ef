"""What an upload costs in the ledger: one commit for each piece, and a few besides; in SQLite less, which makes one of many."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from sqlalchemy import Connection, event
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred

from resumable.ledger.database import Database
from resumable.ledger.ledger import Ledger
from resumable.ledger.notices import Alone, Nodes
from resumable.tasks import Errands
from resumable.uploads.budget import Budget
from resumable.uploads.desk import Desk
from resumable.uploads.fragments import Fragments
from resumable.uploads.intake import Tools
from resumable.uploads.policy import Policy, Wish
from resumable.uploads.room import Room
from resumable.uploads.writing import Span
from tests.databases import Postgres
from tests.uploads.memory_store import Bucket, MemoryStore
from tests.uploads.test_states import Body, certain

#: A GiB in chunks of 6 MiB, scaled down: what is counted are chunks.
CHUNKS = 171
CHUNK = 64
DATA = bytes(CHUNKS * CHUNK - 7)


@pytest.fixture(params=["file", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    url = f"sqlite:///{tmp_path}/ledger.sqlite3"
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        url = server.new()
    opened = Database(url, reactor)
    opened.prepare()
    opened.start()
    yield opened
    pytest_twisted.blockon(ensureDeferred(opened.close()))


@pytest.fixture
def commits(database: Database) -> list[str]:
    """The transactions that were committed, reads (which are none) left out."""
    counted: list[str] = []

    def committed(connection: Connection) -> None:
        if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
            counted.append("commit")

    event.listen(database._engine, "commit", committed)
    return counted


@pytest.fixture
def desk(database: Database) -> Desk:
    store = MemoryStore(Bucket())
    budget = Budget(1 << 20, reactor)  # type: ignore[arg-type]
    tools: dict[str, Any] = {"clock": reactor, "notices": Nodes(database, reactor) if database.on_server else Alone()}
    fragments = Fragments(store, budget, ".resumable/", "ledger")
    return Desk(
        Tools(Ledger(database), store, fragments, budget, Room(CHUNK), errands=Errands(4), **tools),
        Policy("bucket", chunk_size=CHUNK),
    )


async def receive(desk: Desk, first: int, end: int, *, step: int = 1000) -> Any:
    upload = await desk.find("", "name", "seed")
    return await desk.receive(
        upload, Body(DATA[first:end], step, drop=False, stall=False), Span(first, end), confirm=certain, new=first == 0
    )


@pytest_twisted.ensureDeferred
async def test_a_gib_in_one_body(desk: Desk, database: Database, commits: list[str]) -> None:
    """Pieces, and three: it is entered, its multipart upload is opened, it is finished.

    One more where the last two pieces were entered at once, so that neither was known to be the last.
    """
    await desk.create(Wish("seed", "name", length=len(DATA)))
    assert (await receive(desk, 0, len(DATA))).finished
    assert len(commits) <= CHUNKS + 4
    if database.on_server:
        assert len(commits) >= CHUNKS + 3


@pytest_twisted.ensureDeferred
async def test_a_gib_in_many_bodies(desk: Desk, commits: list[str]) -> None:
    """Bodies that end within a chunk: a piece for each end more, and one note that there are fragments."""
    await desk.create(Wish("seed", "name", length=len(DATA)))
    ends = [*range(10 * CHUNK + 9, len(DATA), 10 * CHUNK), len(DATA)]
    for first, end in zip([0, *ends], ends, strict=False):
        report = await receive(desk, first, end)
    assert report.finished
    assert len(commits) <= CHUNKS + len(ends) + 5


@pytest_twisted.ensureDeferred
async def test_looking_costs_no_commit(desk: Desk, commits: list[str]) -> None:
    await desk.create(Wish("seed", "name", length=len(DATA)))
    await receive(desk, 0, 3 * CHUNK)
    del commits[:]
    report = await desk.report(await desk.find("", "name", "seed"))
    assert report.offset == 3 * CHUNK
    assert commits == []
