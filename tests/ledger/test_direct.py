"""Statements that go straight to the driver do what they do through SQLAlchemy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import DBAPIError, InvalidRequestError

from resumable.ledger.direct import run
from resumable.ledger.engine import open_engine, prepare
from resumable.ledger.rows import as_row
from resumable.ledger.schema import uploads
from resumable.ledger.statements import UPLOAD, change_upload, changes, enter_upload
from resumable.model import State, Upload

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
        row = run(connection, UPLOAD, {"this": "this"}).first()
        assert row == dict(connection.execute(UPLOAD, {"this": "this"}).mappings().one())
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


def test_each_parameter_has_to_be_given(engine: Engine) -> None:
    with engine.begin() as connection, pytest.raises(InvalidRequestError, match="'this'"):
        run(connection, UPLOAD, {})


def test_a_connection_that_is_closed_is_dropped(engine: Engine) -> None:
    """The driver says so before there is a cursor."""
    if engine.url.database in (None, "", ":memory:"):
        pytest.skip("its only connection is the database")
    connection = engine.connect()
    connection.begin()
    driver: Any = connection.connection.driver_connection
    driver.close()
    with pytest.raises(DBAPIError) as caught:
        run(connection, UPLOAD, {"this": "this"})
    assert caught.value.connection_invalidated
    connection.close()
    with engine.begin() as connection:
        assert run(connection, UPLOAD, {"this": "this"}).rows
