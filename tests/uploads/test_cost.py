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
from resumable.ledger.notifier import NullNotifier, PostgresNotifier
from resumable.tasks import BackgroundTasks
from resumable.uploads.dependencies import Dependencies
from resumable.uploads.fragments import Fragments
from resumable.uploads.limiter import ReadBackLimiter
from resumable.uploads.memory import MemoryBudget
from resumable.uploads.policy import CreateRequest
from resumable.uploads.registry import Span
from resumable.uploads.service import UploadService
from tests.databases import Postgres
from tests.policy import policy
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
def uploads(database: Database) -> UploadService:
    store = MemoryStore(Bucket())
    budget = MemoryBudget(1 << 20, reactor)  # type: ignore[arg-type]
    deps: dict[str, Any] = {
        "clock": reactor,
        "peers": PostgresNotifier(database, reactor) if database.on_server else NullNotifier(),
    }
    fragments = Fragments(store, budget, ".resumable/", "ledger")
    return UploadService(
        Dependencies(
            Ledger(database), store, fragments, budget, ReadBackLimiter(CHUNK), background=BackgroundTasks(4), **deps
        ),
        policy("bucket", chunk_size=CHUNK, memory=0),
    )


async def receive(uploads: UploadService, first: int, end: int, *, step: int = 1000) -> Any:
    upload = await uploads.find("", "name", "put")
    return await uploads.receive(
        upload,
        Body(DATA[first:end], step, drop=False, stall=False),
        Span(first, end),
        revalidate=certain,
        new=first == 0,
    )


@pytest_twisted.ensureDeferred
async def test_a_gib_in_one_body(uploads: UploadService, database: Database, commits: list[str]) -> None:
    """Pieces, and three: it is entered, its multipart upload is opened, it is finished.

    One more where the last two pieces were entered at once, so that neither was known to be the last. On a server what
    finishes it is one statement, which commits by itself.
    """
    await uploads.create(CreateRequest("put", "name", length=len(DATA)))
    assert (await receive(uploads, 0, len(DATA))).finished
    assert len(commits) <= CHUNKS + 4
    if database.on_server:
        assert len(commits) >= CHUNKS + 2


@pytest_twisted.ensureDeferred
async def test_a_gib_in_many_bodies(uploads: UploadService, commits: list[str]) -> None:
    """Bodies that end within a chunk: a piece for each end more, and one note that there are fragments."""
    await uploads.create(CreateRequest("put", "name", length=len(DATA)))
    ends = [*range(10 * CHUNK + 9, len(DATA), 10 * CHUNK), len(DATA)]
    for first, end in zip([0, *ends], ends, strict=False):
        report = await receive(uploads, first, end)
    assert report.finished
    assert len(commits) <= CHUNKS + len(ends) + 5


@pytest_twisted.ensureDeferred
async def test_looking_costs_no_commit(uploads: UploadService, commits: list[str]) -> None:
    await uploads.create(CreateRequest("put", "name", length=len(DATA)))
    await receive(uploads, 0, 3 * CHUNK)
    del commits[:]
    report = await uploads.report(await uploads.find("", "name", "put"))
    assert report.offset == 3 * CHUNK
    assert commits == []
