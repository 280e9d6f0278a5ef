"""Watching the ledger: what is counted, what that costs, and whether it can be written."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from sqlalchemy.dialects import sqlite
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import deferLater

from resumable.ledger.ledger import Ledger
from resumable.ledger.watch import alive, count_live, counting
from resumable.metrics import Metrics
from resumable.model import LIVE, State, Unavailable, Upload
from tests.scraping import Scrape

R: Any = reactor
UPLOAD = Upload("u", "tus", "o", "n", "b", "k", None, 100, 1.0, 1.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite3"


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def ledger(path: Path, metrics: Metrics) -> Iterator[Ledger]:
    opened = Ledger(f"sqlite:///{path}", R, metrics=metrics)
    opened.prepare()
    opened.start()
    yield opened
    pytest_twisted.blockon(ensureDeferred(opened.close()))


@pytest_twisted.ensureDeferred
async def test_the_living_are_counted(ledger: Ledger) -> None:
    assert await count_live(ledger) == {}
    states = [State.OPEN, State.OPEN, State.FINISHING, State.FINISHED, State.CANCELLED, State.EXPIRED, State.FAILED]
    for number, state in enumerate(states):
        await ledger.create(evolve(UPLOAD, id=f"u{number}", state=state))
    await ledger.create(evolve(UPLOAD, id="s", protocol="seed"))
    assert await count_live(ledger) == {(State.OPEN, "tus"): 2, (State.FINISHING, "tus"): 1, (State.OPEN, "seed"): 1}


def test_counting_goes_by_the_index(ledger: Ledger, path: Path) -> None:
    """Ended uploads, which are most, cost nothing."""
    query = counting().compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})
    with sqlite3.connect(path) as connection:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}")]
    assert "SEARCH uploads USING INDEX uploads_by_state (state=?)" in plan[0]


@pytest_twisted.ensureDeferred
async def test_what_the_ledger_confirms_is_counted(ledger: Ledger, metrics: Metrics) -> None:
    """A move counts for the one who made it, not for those who came too late."""
    await ledger.create(UPLOAD)
    assert await ledger.move(UPLOAD, State.CANCELLED, frm=LIVE) is not None
    assert await ledger.move(UPLOAD, State.CANCELLED, frm=LIVE) is None
    assert await ledger.move(UPLOAD, State.EXPIRED, frm=LIVE) is None
    counted = Scrape.of(metrics).samples("resumable_upload_transitions_total")
    assert {(x["state"], x["protocol"]): n for _, x, n in counted if n} == {("open", "tus"): 1, ("cancelled", "tus"): 1}


@pytest_twisted.ensureDeferred
async def test_alive_waits_for_the_lock_and_changes_nothing(ledger: Ledger, path: Path) -> None:
    """It is as a writer: while somebody holds the lock there is no answer, and afterwards there is."""
    await ledger.create(UPLOAD)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    asked: Deferred[None] = Deferred.fromCoroutine(alive(ledger))
    await deferLater(R, 0.3)
    assert not asked.called
    other.execute("ROLLBACK")
    await asked
    other.close()
    assert await ledger.get("u") == UPLOAD


@pytest_twisted.ensureDeferred
async def test_a_ledger_that_is_broken_is_not_alive(ledger: Ledger, path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE resumable_schema")
    with pytest.raises(Unavailable, match="the ledger did not answer"):
        await alive(ledger)
