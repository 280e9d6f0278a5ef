"""What nodes on one PostgreSQL tell each other."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import pytest_twisted
from attrs import evolve
from sqlalchemy import create_engine, event, make_url, text
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from resumable.ledger.database import Database
from resumable.ledger.ledger import Ledger
from resumable.ledger.listening import LOCKS
from resumable.ledger.notifier import _LISTENING, PostgresNotifier
from resumable.model import LIVE, State, Upload
from tests.databases import Postgres
from tests.ledger.test_ledger import UPLOAD


class Here:
    """Those who write on a node; notes what is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, int | None]] = []
        self.over: list[tuple[str, State]] = []
        self.before: Callable[[], Awaitable[object]] | None = None
        self.still = False

    async def let_go(self, upload_id: str, first: int, end: int | None) -> bool:
        self.asked.append((upload_id, first, end))
        if self.before is not None:
            await self.before()
        return self.still

    def ended(self, upload_id: str, state: State) -> None:
        self.over.append((upload_id, state))


class Node:
    def __init__(self, database: Database, wait: float) -> None:
        self.nodes = PostgresNotifier(database, reactor, wait=wait)
        self.here = Here()
        self.nodes.speak_for(self.here)


def sleep(seconds: float) -> Deferred[None]:
    return deferLater(reactor, seconds)  # type: ignore[arg-type]


async def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + 15
    while not true():
        assert time.monotonic() < end, "it did not happen"
        await sleep(0.01)


@asynccontextmanager
async def listening(url: str, count: int = 2, wait: float = 10.0) -> AsyncIterator[tuple[Database, list[Node]]]:
    """Nodes that hear each other."""
    database = Database(url, reactor)
    database.prepare()
    database.start()
    found = [Node(database, wait) for _ in range(count)]
    for node in found:
        node.nodes.start()
    await until(lambda: all(node.nodes._listener.listening for node in found))
    try:
        yield database, found
    finally:
        for node in found:
            node.nodes.stop()
        await database.close()


@pytest.fixture
def url(postgres: Postgres) -> str:
    return postgres.new()


async def created(database: Database, by: Node) -> Upload:
    upload = evolve(UPLOAD, writers=by.nodes.writers)
    await Ledger(database).create(upload)
    return upload


async def row(database: Database) -> Upload:
    found = await Ledger(database).get(UPLOAD.id)
    assert found is not None
    return found


@pytest_twisted.ensureDeferred
async def test_whoever_writes_is_told_and_waited_for(url: str) -> None:
    """The new node goes on when the old one has stored what it holds, and is the one that writes."""
    async with listening(url, 3) as (database, (old, new, other)):
        upload = await created(database, old)
        old.here.before = lambda: sleep(0.3)
        began = time.monotonic()
        assert await new.nodes.take_over(upload, 5, 10)
        assert time.monotonic() - began > 0.3
        assert old.here.asked == [("u1", 5, 10)]
        assert other.here.asked == new.here.asked == []
        assert (await row(database)).writers == new.nodes.writers
        assert await old.nodes.take_over(await row(database), 0, None)
        assert new.here.asked == [("u1", 0, None)]


@pytest_twisted.ensureDeferred
async def test_nobody_else_writes(url: str) -> None:
    """The ordinary case costs nothing: no transaction at all."""
    async with listening(url) as (database, (one, _)):
        upload = await created(database, one)
        begun: list[object] = []
        event.listen(database._engine, "begin", begun.append)
        assert not await one.nodes.take_over(upload, 0, None)
        await one.nodes.ended(upload)
        assert begun == []


@pytest_twisted.ensureDeferred
async def test_a_node_that_is_gone_is_not_waited_for(url: str) -> None:
    async with listening(url) as (database, (gone, new)):
        upload = await created(database, gone)
        gone.nodes.stop()

        async def deaf() -> bool:
            found = await database.read(
                lambda connection: connection.execute(_LISTENING, {"locks": LOCKS}).scalars().all()
            )
            return gone.nodes.node not in found

        # The server takes its time to notice.
        while not await deaf():
            await sleep(0.01)
        began = time.monotonic()
        assert not await new.nodes.take_over(upload, 0, None)
        assert time.monotonic() - began < 5
        assert (await row(database)).writers == new.nodes.writers


@pytest_twisted.ensureDeferred
async def test_one_that_does_not_answer_is_not_waited_for_long(url: str) -> None:
    async with listening(url, wait=0.5) as (database, (stuck, new)):
        upload = await created(database, stuck)
        stuck.here.before = lambda: sleep(3)
        began = time.monotonic()
        assert await new.nodes.take_over(upload, 0, None)
        assert 0.5 <= time.monotonic() - began < 2.5
        await sleep(3)


@pytest_twisted.ensureDeferred
async def test_who_writes_on_elsewhere_in_the_upload_is_asked_again(url: str) -> None:
    """The old node ends what overlaps, and goes on with what does not: both are writers from then on."""
    async with listening(url, 3) as (database, (old, new, third)):
        upload = await created(database, old)
        old.here.still = True
        assert await new.nodes.take_over(upload, 0, 10)
        assert set((await row(database)).writers) == {old.nodes.node, new.nodes.node}
        assert await third.nodes.take_over(await row(database), 20, 30)
        assert old.here.asked == [("u1", 0, 10), ("u1", 20, 30)]
        assert new.here.asked == [("u1", 20, 30)]


@pytest_twisted.ensureDeferred
async def test_the_end_is_told(url: str) -> None:
    async with listening(url) as (database, (writer, other)):
        upload = await created(database, writer)
        ended = await Ledger(database).move(upload, State.CANCELLED, frm=LIVE)
        assert ended is not None
        await other.nodes.ended(ended)
        await until(lambda: writer.here.over)
        assert writer.here.over == [("u1", State.CANCELLED)]
        assert other.here.over == []


@pytest_twisted.ensureDeferred
async def test_listening_goes_on_after_a_failover(url: str) -> None:
    """All connections are ended by the server: the nodes hear each other again soon."""
    async with listening(url) as (database, (old, new)):
        upload = await created(database, old)
        former = [(node, node.nodes._listener._ear) for node in (old, new)]
        engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
        with engine.begin() as connection:
            others = "datname = current_database() AND pid <> pg_backend_pid()"
            connection.execute(text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}"))
        engine.dispose()
        await until(lambda: all(node.nodes._listener._ear not in (None, ear) for node, ear in former))
        assert await new.nodes.take_over(upload, 0, None)
        assert old.here.asked == [("u1", 0, None)]
