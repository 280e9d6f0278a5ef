"""What goes straight to the driver does, returns and raises what SQLAlchemy's own execution would."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred
from sqlalchemy import Connection, Engine, bindparam, func, insert, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidRequestError

from resumable.ledger.database import Database
from resumable.ledger.direct import run
from resumable.ledger.engine import open_engine, prepare
from resumable.ledger.rows import as_row
from resumable.ledger.schema import pieces, uploads
from resumable.ledger.statements import UPLOAD as BY_THIS
from resumable.ledger.statements import change_upload, changes, enter_upload
from resumable.model import ObjectOptions, State, Upload

UPLOAD = Upload(
    "id",
    "put",
    "ann",
    "film",
    "bucket",
    "key",
    None,
    8 << 20,
    1.5,
    2.5,
    options=ObjectOptions(content_type="video/mp4", metadata={"größe": "1"}, tags={"a": "b"}),
    remembered={"upload-length": "7"},
    sources=("one", "two"),
    growth=((2, 1 << 40),),
    writers=(1, 2),
    swarm=True,
    crc32c=0xFFFFFFFF,
)
ENTER = insert(uploads)
BY_ID = select(uploads).where(uploads.c.id == bindparam("this"))
IN_STATES = select(uploads.c.id, uploads.c.options).where(
    uploads.c.state.in_([State.OPEN.value, State.FINISHED.value]), uploads.c.owner == bindparam("who")
)
CHANGE = update(uploads).where(uploads.c.id == bindparam("this")).values(remembered=bindparam("new"), length=7)
TELL = CHANGE.returning(uploads.c.length, uploads.c.remembered, uploads.c.swarm)


def row_of(upload: Upload) -> dict[str, Any]:
    return {**as_row(upload), "generation": 1}


def both(connection: Connection, statement: Any, given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What it returns, which is what SQLAlchemy returns."""
    mine = run(connection, statement, given).rows
    assert mine == [dict(row) for row in connection.execute(statement, dict(given)).mappings()]
    return mine


@ensureDeferred
async def test_every_type_comes_back_as_sqlalchemy_gives_it(database: Database) -> None:
    def work(connection: Connection) -> None:
        assert run(connection, ENTER, row_of(UPLOAD)).count == 1
        (row,) = both(connection, BY_ID, {"this": "id"})
        assert row["options"]["metadata"] == {"größe": "1"}
        assert (row["length"], row["swarm"], row["crc32c"], row["created"]) == (None, True, 0xFFFFFFFF, 1.5)
        plain = evolve(UPLOAD, id="plain", name="n", remembered={}, sources=(), growth=(), writers=(), swarm=False)
        run(connection, ENTER, row_of(plain))
        (row,) = both(connection, BY_ID, {"this": "plain"})
        assert (row["remembered"], row["sources"], row["swarm"]) == (None, None, False)
        # The two kinds of NULL are those that SQLAlchemy writes.
        nulls = select(uploads.c.id).where(uploads.c.sources.is_(None), uploads.c.id == "plain")
        assert connection.execute(nulls).scalar() == "plain"
        connection.execute(ENTER, row_of(evolve(plain, id="theirs", name="m")))
        same = select(func.count()).select_from(uploads).where(uploads.c.remembered.is_(None))
        assert connection.execute(same).scalar() in (0, 2)

    await database.write(work)


@ensureDeferred
async def test_what_the_statement_has_and_what_is_given(database: Database) -> None:
    """Lists and values of its own stay its own; what it does not have is ignored, and what it lacks is missed."""

    def work(connection: Connection) -> None:
        run(connection, ENTER, row_of(UPLOAD))
        run(connection, ENTER, row_of(evolve(UPLOAD, id="other", name="n", owner="ben", state=State.FAILED)))
        for who, found in (("ann", ["id"]), ("ben", []), ("ann", ["id"])):
            assert [row["id"] for row in run(connection, IN_STATES, {"who": who}).rows] == found
            assert [row["id"] for row in run(connection, IN_STATES, {"who": who, "more": 1}).rows] == found
        with pytest.raises(InvalidRequestError, match="who"):
            run(connection, IN_STATES, {"more": 1})
        assert run(connection, CHANGE, {"this": "id", "new": {"a": "b"}}).count == 1
        assert run(connection, CHANGE, {"this": "nobody", "new": None}).count == 0
        assert run(connection, TELL, {"this": "nobody", "new": None}).first() is None
        told = run(connection, TELL, {"this": "id", "new": {"c": ["d"]}}).first()
        assert told == {"length": 7, "remembered": {"c": ["d"]}, "swarm": True}

    await database.write(work)


@ensureDeferred
async def test_errors_are_sqlalchemys(database: Database) -> None:
    def twice(connection: Connection) -> None:
        run(connection, ENTER, row_of(UPLOAD))
        run(connection, ENTER, row_of(UPLOAD))

    with pytest.raises(IntegrityError):
        await database.write(twice)
    assert await database.read(lambda connection: run(connection, BY_ID, {"this": "id"}).first()) is None

    def foreign(connection: Connection) -> None:
        lost = {"upload_id": "nobody", "first": 0, "end": 1, "number": None, "etag": "e", "crc32c": 1, "marks": b"m"}
        run(connection, insert(pieces), lost)

    with pytest.raises(IntegrityError):
        await database.write(foreign)


@ensureDeferred
async def test_an_error_does_not_show_what_was_given(database: Database) -> None:
    """The statement may hold a name, or a token."""
    missing = select(uploads.c.id).where(func.no_such_function(uploads.c.name) == bindparam("this"))

    def work(connection: Connection) -> str:
        with pytest.raises(DBAPIError) as caught:
            run(connection, missing, {"this": "a secret"})
        return str(caught.value)

    assert "a secret" not in await database.write(work)


STATES = tuple(State)
UPLOADED = Upload("this", "put", "o", "n", "b", "k", None, 100, 1.0, 1.0)


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    opened = open_engine(url)
    prepare(opened)
    with opened.begin() as connection:
        assert enter_upload(connection, as_row(UPLOADED), chosen=True)
    yield opened
    opened.dispose()


def change(connection: Connection, how: Any, values: dict[str, Any]) -> Any:
    statement = change_upload(STATES, tuple(values), tells=True)
    given = {"this": "this", **changes(values)}
    if how is run:
        return run(connection, statement, given).first()
    found = connection.execute(statement, given).mappings().first()
    assert found is not None
    return dict(found)


@pytest.mark.parametrize(
    "values",
    [
        {"remembered": None, "sources": None, "writers": None, "growth": None, "claim": None},
        {
            "remembered": {"a": "\ud800\0ü", "b": [1, {"c": None}]},
            "sources": ["x"],
            "writers": [],
            "growth": [[1, 2**33]],
        },
        {"swarm": True, "refused": False, "length": 2**63 - 1, "finished": 1e-9, "crc32c": 0},
        {"reason": "100 % %(this)s :this ? \\ ' \" ü", "etag": ""},
    ],
)
def test_values_come_and_go_as_ever(engine: Engine, values: dict[str, Any]) -> None:
    with engine.begin() as connection:
        through = change(connection, None, values)
        # JSON's null is not SQL's.
        nulls = select(*(uploads.c[name].is_(None) for name in values)).where(uploads.c.id == "this")
        stored = connection.execute(nulls).all()
        assert change(connection, run, values) == through
        assert connection.execute(nulls).all() == stored
        row = run(connection, BY_THIS, {"this": "this"}).first()
        assert row == dict(connection.execute(BY_THIS, {"this": "this"}).mappings().one())
        assert row is not None
        assert {name: row[name] for name in values} == values


@pytest.mark.parametrize("values", [{"reason": "a\ud800"}, {"length": 2**63}, {"length": 10**30}, {"owner": None}])
def test_errors_are_as_ever(engine: Engine, values: dict[str, Any]) -> None:
    said = []
    for how in (None, run):
        with pytest.raises((UnicodeEncodeError, OverflowError, DBAPIError)) as caught, engine.begin() as connection:
            change(connection, how, values)
        said.append((type(caught.value), str(getattr(caught.value, "orig", caught.value)).split("\n")[0]))
    assert said[0] == said[1]
    with engine.begin() as connection:
        assert change(connection, run, {"owner": "o"})["owner"] == "o"


class _Short(sqlite3.Cursor):
    """The memory is used up after the first row."""

    def fetchall(self) -> list[Any]:
        self.fetchone()
        raise MemoryError


class _Interrupted(sqlite3.Cursor):
    def execute(self, *given: Any) -> sqlite3.Cursor:
        super().execute(*given)
        raise MemoryError


@pytest.mark.parametrize("kind", [_Short, _Interrupted])
def test_no_cursor_stays_open_whatever_is_raised(tmp_path: Path, kind: type[sqlite3.Cursor]) -> None:
    """As long as one is, SQLite reads what was there when it was opened, also in the statements that follow."""
    file = tmp_path / "ledger.sqlite3"
    engine = open_engine(f"sqlite:///{file}")
    prepare(engine)
    ids = select(uploads.c.id).order_by(uploads.c.id)
    kinds = [sqlite3.Cursor, kind, sqlite3.Cursor]

    class Driver(sqlite3.Connection):
        def cursor(self, *_: Any) -> Any:
            return super().cursor(kinds.pop(0))

    with engine.begin() as connection:
        for name in ("a", "b"):
            run(connection, ENTER, row_of(evolve(UPLOAD, id=name, name=name)))
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        driver = sqlite3.connect(file, factory=Driver, isolation_level=None)
        connection.connection.dbapi_connection = driver  # type: ignore[misc]
        assert len(run(connection, ids, {}).rows) == 2
        with pytest.raises(MemoryError) as caught:
            run(connection, ids, {})
        with engine.begin() as other:
            run(other, ENTER, row_of(evolve(UPLOAD, id="c", name="c")))
        assert len(run(connection, ids, {}).rows) == 3
        assert caught.value.__traceback__ is not None  # somebody still has it, and with it all that was at work
        driver.close()
    engine.dispose()


def test_a_connection_that_is_closed_is_dropped(engine: Engine) -> None:
    """The driver says so before there is a cursor."""
    if engine.url.database in (None, "", ":memory:"):
        pytest.skip("its only connection is the database")
    connection = engine.connect()
    connection.begin()
    driver: Any = connection.connection.driver_connection
    driver.close()
    with pytest.raises(DBAPIError) as caught:
        run(connection, BY_THIS, {"this": "this"})
    assert caught.value.connection_invalidated
    connection.close()
    with engine.begin() as connection:
        assert run(connection, BY_THIS, {"this": "this"}).rows
