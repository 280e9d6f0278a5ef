"""Ledgers: on a SQLite file, in memory, and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred

from resumable.ledger.database import Database
from resumable.ledger.ledger import Ledger
from tests.databases import Postgres


@pytest.fixture(params=["file", "memory", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        return server.new()
    return f"sqlite:///{tmp_path}/ledger.sqlite3" if request.param == "file" else "sqlite://"


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = Database(url, reactor)
    opened.prepare()
    opened.start()
    yield opened
    pytest_twisted.blockon(ensureDeferred(opened.close()))


@pytest.fixture
def ledger(database: Database) -> Ledger:
    return Ledger(database)


@pytest.fixture(params=["file", "postgresql"])
def postgres_or_file(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database that several processes may open."""
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        return server.new()
    return f"sqlite:///{tmp_path}/shared.sqlite3"
