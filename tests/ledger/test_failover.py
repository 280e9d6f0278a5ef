"""The server that could be written is another one now: real servers, of which one becomes read-only and the other is promoted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from sqlalchemy import make_url, text
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from resumable.ledger import engine, listening
from resumable.ledger.database import Database
from resumable.ledger.engine import open_engine
from resumable.ledger.ledger import Ledger
from resumable.ledger.notifier import PostgresNotifier
from resumable.ledger.watch import alive
from resumable.model import Unavailable
from tests.databases import Postgres
from tests.ledger.test_ledger import UPLOAD
from tests.ledger.test_notifier import until

pytestmark = pytest.mark.process

R: Any = reactor


@pytest.fixture
def primary() -> Iterator[Postgres]:
    """One of the test's own: others go on using theirs."""
    with Postgres() as server:
        yield server


async def opened(url: str, patience: float = 45.0) -> Database:
    database = Database(url, R, patience=patience)
    database.prepare()
    database.start()
    return database


async def server_of(database: Database) -> str:
    """The directory of the server's sockets, which tells one from the other."""
    return await database.read(lambda connection: str(connection.execute(text("SHOW data_directory")).scalar()))


@pytest.mark.soak
@pytest_twisted.ensureDeferred
async def test_a_former_primary_is_left(primary: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not hang up, it only refuses to write: what is written, read and heard goes by the new one soon."""
    monkeypatch.setattr(listening, "LOOK", 0.2)
    url = primary.new()
    with primary.standby() as standby:
        database = await opened(standby.beside(url))
        await Ledger(database).create(UPLOAD)
        node = PostgresNotifier(database, R)
        node.start()
        await until(lambda: node._listener.listening)
        ear = node._listener._ear
        # Connections of both kinds, which are kept.
        former = await server_of(database)
        await until(lambda: standby.psql(f"SELECT 1 FROM uploads WHERE id = '{UPLOAD.id}'", url))
        primary.only_read()
        standby.promote()
        await Ledger(database).create(evolve(UPLOAD, id="u2", name="next"))
        await alive(database, "one", now=1000.0)
        assert await server_of(database) != former
        assert await Ledger(database).get(UPLOAD.id) == UPLOAD
        await until(lambda: node._listener._ear not in (None, ear))
        node.stop()
        await database.close()


@pytest.mark.soak
@pytest_twisted.ensureDeferred
async def test_a_server_that_only_reads_for_a_while(primary: Postgres) -> None:
    """The only one there is: what is to be written waits; /readyz does not say that all is well; it goes on by itself."""
    database = await opened(primary.new(), patience=0.5)
    await alive(database, "one", now=1000.0)
    primary.only_read()
    with pytest.raises(Unavailable):
        await alive(database, "one", now=1001.0)
    waiting = Database(str(database._engine.url.render_as_string(hide_password=False)), R)
    waiting.start()
    written: Deferred[None] = Deferred.fromCoroutine(Ledger(waiting).create(UPLOAD))
    await deferLater(R, 0.3)
    assert not written.called
    primary.only_read(False)
    await written
    await alive(database, "one", now=1002.0)
    await waiting.close()
    await database.close()


@pytest.mark.soak
@pytest_twisted.ensureDeferred
async def test_the_ear_of_a_server_that_hangs(primary: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is there, and says nothing to what it is asked: it is left as one that has hung up."""
    monkeypatch.setattr(listening, "LOOK", 0.2)
    database = await opened(primary.new())
    node = PostgresNotifier(database, R)
    node.start()
    await until(lambda: node._listener.listening)
    ear = node._listener._ear
    assert ear is not None
    # What the server says does not reach us.
    R.removeReader(ear)
    await until(lambda: node._listener._ear not in (None, ear))
    node.stop()
    await database.close()


@pytest.mark.soak
@pytest.mark.parametrize(("idle", "tries"), [(0.0, 1), (60.0, 2)])
@pytest_twisted.ensureDeferred
async def test_connections_that_were_cut(
    primary: Postgres, monkeypatch: pytest.MonkeyPatch, idle: float, tries: int
) -> None:
    """One that lay idle is tried before it is used. One that did not is noticed by the transaction, which is done again."""
    monkeypatch.setattr(engine, "IDLE", idle)
    database = await opened(primary.new())
    begun = []

    def work(connection: Any) -> Any:
        begun.append(connection)
        return connection.execute(text("SELECT 7")).scalar()

    assert await database.write(work) == 7
    primary.cut()
    begun.clear()
    assert await database.write(work) == 7
    assert len(begun) == tries
    await database.close()


@pytest.mark.parametrize(
    ("url", "host", "port", "attributes"),
    [
        ("postgresql://u@h1,h2/db", "h1,h2", "5432,5432", "read-write"),
        ("postgresql://u:p%40@h1:1,[::1]:2/db?target_session_attrs=any", "h1,::1", "1,2", "any"),
        ("postgresql+psycopg://h1,h2:7/db?sslmode=require", "h1,h2", "5432,7", "read-write"),
        ("postgresql://u@/db?host=h1:1&host=h2:2", "h1,h2", "1,2", "read-write"),
        ("postgresql://u@h1/db", "h1", None, "read-write"),
    ],
)
def test_urls_of_several_hosts(url: str, host: str, port: str | None, attributes: str) -> None:
    asked: list[dict[str, Any]] = []

    def connect(*_: Any, **given: Any) -> Any:
        asked.append(given)
        raise Stop

    engine = open_engine(url)
    engine.dialect.connect = connect  # type: ignore[method-assign]
    with pytest.raises(Stop):
        engine.connect()
    assert (asked[0]["host"], asked[0].get("port"), asked[0]["target_session_attrs"]) == (host, port, attributes)
    assert asked[0]["dbname"] == "db"
    assert make_url(str(engine.url)).get_backend_name() == "postgresql"


class Stop(Exception):
    """Nobody is connected to."""
