"""What writes a SQLite ledger at the same time shares a transaction, and nothing else. What reads it shares a thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import IntegrityError, OperationalError
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.threads import deferToThread

from resumable.ledger.engine import open_engine
from resumable.ledger.threads import MOST, Reader, Writer


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite3"


@pytest.fixture
def engine(file: Path) -> Engine:
    engine = open_engine(f"sqlite:///{file}")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE numbers (number INTEGER PRIMARY KEY)"))
    return engine


@pytest.fixture
def commits(engine: Engine) -> list[str]:
    counted: list[str] = []
    event.listen(engine, "commit", lambda _: counted.append("commit"))
    return counted


@pytest.fixture
def writer(engine: Engine) -> Iterator[Writer]:
    """Not started: what it is asked before that has to wait."""
    made = Writer(engine, reactor)
    yield made
    made.stop()


def insert(number: int) -> Callable[[Connection], int]:
    def work(connection: Connection) -> int:
        connection.execute(text("INSERT INTO numbers VALUES (:number)"), {"number": number})
        return number

    return work


def stored(file: Path) -> list[int]:
    """As another process sees it."""
    with sqlite3.connect(file) as connection:
        return [number for (number,) in connection.execute("SELECT number FROM numbers ORDER BY number")]


async def outcomes(deferreds: list[Deferred[Any]]) -> list[Any]:
    """What came of each: its result, or the class of its error."""
    results = await DeferredList(deferreds, consumeErrors=True)
    return [result if well else result.type for well, result in results]


@pytest_twisted.ensureDeferred
async def test_what_waits_is_committed_together(writer: Writer, commits: list[str], file: Path) -> None:
    waiting = [writer.run(insert(number)) for number in range(10)]
    writer.start()
    assert await outcomes(waiting) == list(range(10))
    assert stored(file) == list(range(10))
    assert commits == ["commit"]


@pytest_twisted.ensureDeferred
async def test_a_transaction_has_an_end(writer: Writer, commits: list[str], file: Path) -> None:
    """Other processes wait for it."""
    waiting = [writer.run(insert(number)) for number in range(2 * MOST + 1)]
    writer.start()
    await outcomes(waiting)
    assert len(stored(file)) == 2 * MOST + 1
    assert len(commits) == 3


@pytest_twisted.ensureDeferred
async def test_a_result_is_told_when_it_is_committed(writer: Writer, file: Path) -> None:
    seen: list[list[int]] = []
    waiting = [writer.run(insert(number)).addCallback(lambda _: seen.append(stored(file))) for number in range(3)]
    writer.start()
    await outcomes(waiting)
    assert seen == [[0, 1, 2]] * 3


@pytest_twisted.ensureDeferred
async def test_nobody_fails_for_what_another_did(writer: Writer, commits: list[str], file: Path) -> None:
    def fault(connection: Connection) -> None:
        raise ZeroDivisionError

    works = [insert(1), insert(2), insert(1), fault, insert(3)]
    waiting = [writer.run(work) for work in works]
    writer.start()
    assert await outcomes(waiting) == [1, 2, IntegrityError, ZeroDivisionError, 3]
    assert stored(file) == [1, 2, 3]
    assert commits == ["commit"]


@pytest_twisted.ensureDeferred
async def test_a_lock_is_waited_for_once(writer: Writer, engine: Engine, file: Path) -> None:
    """All that waited fail with it; after it all goes on."""
    tries: list[str] = []

    def impatient(connection: sqlite3.Connection, *_: object) -> None:
        connection.execute("PRAGMA busy_timeout = 100")
        tries.append("transaction")

    event.listen(engine, "checkout", impatient)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waiting = [writer.run(insert(number)) for number in range(5)]
    writer.start()
    assert await outcomes(waiting) == [OperationalError] * 5
    assert tries == ["transaction"]
    other.close()
    assert await writer.run(insert(1)) == 1


@pytest_twisted.ensureDeferred
async def test_a_commit_that_fails_fails_for_all(writer: Writer, engine: Engine, file: Path) -> None:
    failing = True

    def commit(connection: Connection) -> None:
        if failing:
            raise OperationalError("COMMIT", {}, sqlite3.OperationalError("disk I/O error"))

    waiting = [writer.run(insert(number)) for number in range(3)]
    event.listen(engine, "commit", commit)
    writer.start()
    assert await outcomes(waiting) == [OperationalError] * 3
    assert stored(file) == []
    failing = False
    assert await writer.run(insert(7)) == 7
    assert stored(file) == [7]


@pytest_twisted.ensureDeferred
async def test_stopping_does_what_was_asked_for(writer: Writer, file: Path) -> None:
    waiting = [writer.run(insert(number)) for number in range(2 * MOST)]
    writer.start()
    await deferToThread(writer.stop)
    assert stored(file) == list(range(2 * MOST))
    assert await outcomes(waiting) == list(range(2 * MOST))


@pytest_twisted.ensureDeferred
async def test_a_database_that_cannot_be_opened(writer: Writer, engine: Engine, file: Path) -> None:
    """Who waits is told, and the next may find it open."""
    refusing = [True]

    def refuse(*_: object) -> None:
        if refusing:
            refusing.pop()
            raise sqlite3.OperationalError("unable to open database file")

    engine.dispose()
    event.listen(engine, "do_connect", refuse)
    waiting = [writer.run(insert(number)) for number in range(2)]
    writer.start()
    assert await outcomes(waiting) == [OperationalError] * 2
    assert await outcomes([writer.run(insert(3))]) == [3]
    assert stored(file) == [3]


@pytest_twisted.ensureDeferred
async def test_one_connection_for_all(writer: Writer, engine: Engine) -> None:
    taken: list[str] = []
    event.listen(engine, "checkout", lambda *_: taken.append("checkout"))
    writer.start()
    for number in range(3):
        assert await writer.run(insert(number)) == number
    assert taken == ["checkout"]


@pytest.fixture
def reader(engine: Engine) -> Iterator[Reader]:
    made = Reader(engine.execution_options(isolation_level="AUTOCOMMIT"), reactor)
    made.start()
    yield made
    made.stop()


def count(connection: Connection) -> int:
    return int(connection.execute(text("SELECT count(*) FROM numbers")).scalar() or 0)


@pytest_twisted.ensureDeferred
async def test_each_look_sees_what_is_committed_by_then(writer: Writer, reader: Reader) -> None:
    writer.start()
    for number in range(5):
        await writer.run(insert(number))
        assert await reader.run(count) == number + 1


@pytest_twisted.ensureDeferred
async def test_a_reader_keeps_nobody_from_writing(reader: Reader, file: Path) -> None:
    """It has no transaction when its work is done."""
    assert await reader.run(count) == 0
    with sqlite3.connect(file, timeout=0.1) as other:
        other.execute("INSERT INTO numbers VALUES (1)")
        other.commit()
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert await reader.run(count) == 1


@pytest_twisted.ensureDeferred
async def test_a_look_that_fails_fails_alone(reader: Reader) -> None:
    def fail(connection: Connection) -> None:
        raise ValueError("as the test wants it")

    looks = [reader.run(work) for work in (count, fail, lambda c: c.execute(text("SELECT nothing")), count)]
    outcomes = await DeferredList(looks, consumeErrors=True)
    assert [succeeded for succeeded, _ in outcomes] == [True, False, False, True]
    assert [type(failure.value) for _, failure in outcomes[1:3]] == [ValueError, OperationalError]
