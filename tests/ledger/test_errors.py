"""What goes wrong in a database: what passes is tried again, what the client gave is refused, all else is said at once."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
import pytest_twisted
from attrs import evolve
from psycopg import errors
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError
from twisted.internet import reactor
from twisted.logger import LogEvent, globalLogPublisher

from resumable.ledger.database import Database
from resumable.ledger.errors import Kind, kind_of
from resumable.ledger.ledger import Ledger
from resumable.ledger.watch import alive
from resumable.model import Invalid, ObjectOptions, Unavailable
from tests.databases import Postgres
from tests.ledger.test_ledger import UPLOAD

R: Any = reactor


def wrapped(error: Exception, module: Any = psycopg) -> DBAPIError:
    """As SQLAlchemy has it."""
    made = DBAPIError.instance("SELECT", {}, error, module.Error)
    assert isinstance(made, DBAPIError)
    return made


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("25006", Kind.PASSING),
        ("57P01", Kind.PASSING),
        ("57P03", Kind.PASSING),
        ("08006", Kind.PASSING),
        ("08P01", Kind.PASSING),
        ("40001", Kind.PASSING),
        ("40P01", Kind.PASSING),
        ("53300", Kind.PASSING),
        ("54000", Kind.VALUE),
        ("22021", Kind.VALUE),
        ("22P05", Kind.VALUE),
        ("22003", Kind.VALUE),
        ("53100", Kind.TROUBLE),
        ("58030", Kind.TROUBLE),
        ("57P04", Kind.TROUBLE),
        ("54001", Kind.TROUBLE),
        ("42P01", Kind.TROUBLE),
        ("42501", Kind.TROUBLE),
        ("XX001", Kind.TROUBLE),
    ],
)
def test_sorted_by_sqlstate(state: str, kind: Kind) -> None:
    """Not by the driver's classes: most of these are an OperationalError."""
    assert kind_of(wrapped(errors.lookup(state)("x"))) is kind


def test_what_has_no_sqlstate() -> None:
    assert kind_of(wrapped(psycopg.OperationalError("connection failed"))) is Kind.PASSING
    assert kind_of(wrapped(psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes"))) is Kind.VALUE
    assert kind_of(wrapped(psycopg.ProgrammingError("x"))) is Kind.TROUBLE
    assert kind_of(wrapped(sqlite3.OperationalError("database is locked"), sqlite3)) is Kind.TROUBLE
    assert kind_of(wrapped(sqlite3.DataError("string or blob too big"), sqlite3)) is Kind.VALUE


@pytest.mark.parametrize(
    "change",
    [
        {"name": "".join(chr(0x4E00 + number * 7919 % 20000) for number in range(3000))},
        {"owner": "".join(chr(0x4E00 + number * 7919 % 20000) for number in range(3000))},
        {"name": "a\0b"},
        {"name": "a\ud800b"},
        {"length": 2**80},
        {"options": ObjectOptions(metadata={"a": "b" * 100}), "etag": "\udfff"},
    ],
    ids=["long name", "long owner", "NUL", "surrogate", "number", "other column"],
)
@pytest_twisted.ensureDeferred
async def test_what_cannot_be_kept_is_refused_at_once(postgres: Postgres, change: dict[str, Any]) -> None:
    """It is the client's: nobody waits for a server that is there, and the ledger goes on."""
    database = Database(postgres.new(), R)
    database.prepare()
    database.start()
    began = time.monotonic()
    with pytest.raises(Invalid):
        await Ledger(database).create(evolve(UPLOAD, **change))
    assert time.monotonic() - began < 20
    with_nul = change.get("name", "")
    if (with_nul and "\0" in with_nul) or "\ud800" in with_nul:
        with pytest.raises(Invalid):
            await Ledger(database).find("o", with_nul, "put")
    await Ledger(database).create(UPLOAD)
    await database.close()


@pytest.mark.parametrize("change", [{"name": "a\ud800b"}, {"length": 2**80}, {"etag": "\udfff"}])
@pytest_twisted.ensureDeferred
async def test_what_a_file_cannot_keep(tmp_path: Path, change: dict[str, Any]) -> None:
    database = Database(f"sqlite:///{tmp_path}/ledger.sqlite3", R)
    database.prepare()
    database.start()
    with pytest.raises(Invalid):
        await Ledger(database).create(evolve(UPLOAD, **change))
    await Ledger(database).create(UPLOAD)
    await database.close()


@pytest_twisted.ensureDeferred
async def test_what_is_wrong_is_said_at_once(postgres: Postgres) -> None:
    """A table that is not there is no server that is being restarted."""
    database = Database(postgres.new(), R)
    database.prepare()
    database.start()
    with database._engine.begin() as connection:
        connection.execute(text("DROP TABLE leases"))
    began = time.monotonic()
    with pytest.raises(Unavailable):
        await alive(database, "one", now=1.0)
    assert time.monotonic() - began < 20
    await database.close()


class Heard:
    """What the ledger has to say, by level."""

    def __init__(self) -> None:
        self.events: list[LogEvent] = []

    def __enter__(self) -> Heard:
        globalLogPublisher.addObserver(self.events.append)
        return self

    def __exit__(self, *_: object) -> None:
        globalLogPublisher.removeObserver(self.events.append)

    def said(self, level: str) -> list[str]:
        found = [one for one in self.events if one["log_namespace"].startswith("resumable.ledger")]
        return [one.get("error", one["log_format"]) for one in found if one["log_level"].name == level]


@pytest_twisted.ensureDeferred
async def test_a_disc_that_is_full(tmp_path: Path) -> None:
    """One line, not one for everybody; and it goes on by itself when there is room."""
    database = Database(f"sqlite:///{tmp_path}/ledger.sqlite3", R)
    database.prepare()
    database.start()
    ledger = Ledger(database)
    await alive(database, "one", now=1.0)
    room: list[int] = []

    def bound(connection: Any) -> None:
        # As many pages as there are: the database's own word for a full disc.
        connection.exec_driver_sql(f"PRAGMA max_page_count={room[-1] if room else 1}")

    event.listen(database._engine, "begin", bound)
    large = evolve(UPLOAD, options=ObjectOptions(metadata={"a": "b" * 100_000}))
    with Heard() as heard:
        for number in range(3):
            with pytest.raises(Unavailable):
                await ledger.create(evolve(large, id=str(number), name=str(number)))
        assert heard.said("error") == ["database or disk is full"]
        room.append(1_000_000)
        await ledger.create(large)
        assert heard.said("info") == ["ledger: written again"]
    await database.close()


@pytest_twisted.ensureDeferred
async def test_a_file_that_could_only_be_read(tmp_path: Path) -> None:
    """A connection that was opened then is not kept: when the file can be written, it is."""
    file = tmp_path / "ledger.sqlite3"
    database = Database(f"sqlite:///{file}", R)
    database.prepare()
    database.release()
    database.start()

    def only_read(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA query_only=ON")

    event.listen(database._engine, "connect", only_read)
    with Heard() as heard:
        for _ in range(3):
            with pytest.raises(Unavailable):
                await alive(database, "one", now=1.0)
        assert heard.said("error") == ["attempt to write a readonly database"]
    event.remove(database._engine, "connect", only_read)
    # The connection at hand has been found to be of no use.
    await alive(database, "one", now=1.0)
    await database.close()


@pytest_twisted.ensureDeferred
async def test_alive_writes_really(database: Database) -> None:
    """A row for each process, the last of which ends those of processes that are gone."""

    async def rows() -> list[str]:
        query = text("SELECT name FROM leases ORDER BY name")
        return list(await database.read(lambda connection: connection.execute(query).scalars().all()))

    for _ in range(2):
        await alive(database, "a", now=1000.0)
        await alive(database, "b", now=5000.0)
    assert await rows() == ["alive a", "alive b"]
    await alive(database, "c", now=1001.0 + 86400)
    assert await rows() == ["alive b", "alive c"]
