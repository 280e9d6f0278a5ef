"""Watching the ledger: what is counted, what that costs, and whether it can be written."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from sqlalchemy import Select
from sqlalchemy.dialects import sqlite
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from resumable.ledger.database import Database
from resumable.ledger.ledger import Ledger
from resumable.ledger.queue import EventQueue
from resumable.ledger.watch import alive, count_live, counting, first_due, oldest_due
from resumable.metrics import Metrics
from resumable.model import LIVE, Event, State, Unavailable, Upload
from tests.scraping import Scrape

R: Any = reactor
UPLOAD = Upload("u", "tus", "o", "n", "b", "k", None, 100, 1.0, 1.0)


@pytest_twisted.ensureDeferred
async def test_the_living_are_counted(ledger: Ledger, database: Database) -> None:
    assert await count_live(database) == {}
    states = [State.OPEN, State.OPEN, State.FINISHING, State.FINISHED, State.CANCELLED, State.EXPIRED, State.FAILED]
    for number, state in enumerate(states):
        await ledger.create(evolve(UPLOAD, id=f"u{number}", state=state))
    await ledger.create(evolve(UPLOAD, id="s", protocol="put"))
    assert await count_live(database) == {(State.OPEN, "tus"): 2, (State.FINISHING, "tus"): 1, (State.OPEN, "put"): 1}


@pytest_twisted.ensureDeferred
async def test_the_oldest_event_that_is_due(database: Database) -> None:
    """The oldest by its birth, not the one that is tried next; those that have come to their end are none."""
    assert await oldest_due(database) is None
    ledger = Ledger(database, lambda upload, pieces: Event(upload.id, "upload.created", {}, upload.created))
    for number in (5.0, 3.0, 9.0):
        await ledger.create(evolve(UPLOAD, id=f"u{number}", created=number))
    assert await oldest_due(database) == 3.0
    queue = EventQueue(database)
    for queued in await queue.take(now=4.0, until=10.0, most=5):
        await queue.try_later(queued, "x", due=100.0)
    assert await oldest_due(database) == 3.0
    for queued in await queue.take(now=1000.0, until=2000.0, most=5):
        await queue.delivered(queued, now=1000.0)
    assert await oldest_due(database) is None


@pytest.mark.parametrize(
    ("query", "index"), [(counting(), "uploads USING INDEX uploads_by_state"), (first_due(), "events_by_state")]
)
def test_watching_goes_by_the_index(tmp_path: Path, query: Select[Any], index: str) -> None:
    """Ended uploads and delivered events, which are most, cost nothing."""
    Database(f"sqlite:///{tmp_path}/ledger.sqlite3", R).prepare()
    said = query.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})
    with sqlite3.connect(tmp_path / "ledger.sqlite3") as connection:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {said}")]
    assert plan[0].startswith("SEARCH")
    assert f"{index} (state=?)" in plan[0]


@pytest_twisted.ensureDeferred
async def test_what_the_ledger_confirms_is_counted(database: Database) -> None:
    """A move counts for the one who made it, not for those who came too late."""
    metrics = Metrics()
    ledger = Ledger(database, metrics=metrics)
    await ledger.create(UPLOAD)
    assert await ledger.move(UPLOAD, State.CANCELLED, frm=LIVE) is not None
    assert await ledger.move(UPLOAD, State.CANCELLED, frm=LIVE) is None
    assert await ledger.move(UPLOAD, State.EXPIRED, frm=LIVE) is None
    counted = Scrape.of(metrics).samples("resumable_upload_transitions_total")
    assert {(x["state"], x["protocol"]): n for _, x, n in counted if n} == {("open", "tus"): 1, ("cancelled", "tus"): 1}


@pytest_twisted.ensureDeferred
async def test_alive_leaves_uploads_alone(ledger: Ledger, database: Database) -> None:
    await ledger.create(UPLOAD)
    await alive(database, "one", now=1000.0)
    assert await ledger.get("u") == UPLOAD


@pytest_twisted.ensureDeferred
async def test_alive_waits_for_the_lock(tmp_path: Path) -> None:
    """It is as a writer: while somebody holds the lock there is no answer, and afterwards there is."""
    database = Database(f"sqlite:///{tmp_path}/ledger.sqlite3", R)
    database.prepare()
    database.start()
    other = sqlite3.connect(tmp_path / "ledger.sqlite3", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    asked: Deferred[None] = Deferred.fromCoroutine(alive(database, "one", now=1000.0))
    await deferLater(R, 0.3)
    waited = not asked.called
    other.execute("ROLLBACK")
    await asked
    other.close()
    await database.close()
    assert waited


@pytest_twisted.ensureDeferred
async def test_a_ledger_that_is_broken_is_not_alive(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/ledger.sqlite3", R)
    database.prepare()
    database.start()
    with sqlite3.connect(tmp_path / "ledger.sqlite3") as connection:
        connection.execute("DROP TABLE leases")
    with pytest.raises(Unavailable, match="the ledger did not answer"):
        await alive(database, "one", now=1000.0)
    await database.close()
