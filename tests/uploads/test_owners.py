"""The keys of two owners do not meet, whatever their names are and whoever comes when."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from time import perf_counter

import pytest
import pytest_twisted
from attrs import evolve
from pytest_twisted import async_yield_fixture
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList, ensureDeferred

from resumable.ledger.database import Database
from resumable.ledger.ledger import Ledger
from resumable.model import LIVE, KeyTaken, State, Upload
from resumable.uploads.policy import CreateRequest
from tests.databases import Postgres
from tests.uploads.wiring import House, ledger_in

WANTED = CreateRequest("put", "b/c", owner="alice", length=5)
UPLOAD = Upload("u0", "tus", "alice", "x", "bucket", "alice/x", 5, 16, created=1.0, updated=1.0)


@async_yield_fixture
async def wiring(tmp_path: Path) -> AsyncIterator[House]:
    async with ledger_in(tmp_path) as ledger:
        yield House(ledger)


@pytest.mark.parametrize(
    ("owner", "name"),
    [("alice/b", "c"), ("", "alice/b/c"), ("..", "alice/b/c"), ("alice%2Fb", "c"), ("alice/b/c", "c")],
)
@pytest_twisted.ensureDeferred
async def test_no_other_owner_gets_the_key(wiring: House, owner: str, name: str) -> None:
    """By another key, or by none."""
    first = await wiring.uploads.create(WANTED)
    try:
        other = await wiring.uploads.create(evolve(WANTED, owner=owner, name=name))
    except KeyTaken as error:
        assert "alice/b/c" in str(error)
        return
    assert other.key != first.key


@pytest.mark.parametrize("state", State)
@pytest_twisted.ensureDeferred
async def test_a_key_is_somebodys_while_an_upload_stands_there(wiring: House, state: State) -> None:
    """Live or finished; what was given up frees it. Its own owner may always come again."""
    first = await wiring.uploads.create(WANTED)
    if state is not State.OPEN:
        assert await wiring.ledger.move(first, state, frm=LIVE) is not None
    wanted = evolve(WANTED, owner="", name="alice/b/c")
    if state in (*LIVE, State.FINISHED):
        with pytest.raises(KeyTaken):
            await wiring.uploads.create(wanted)
        assert await wiring.ledger.find("", wanted.name, "put") is None
    else:
        assert (await wiring.uploads.create(wanted)).key == first.key
    if state is State.FINISHED:
        assert (await wiring.uploads.create(WANTED)).key == first.key


@pytest_twisted.ensureDeferred
async def test_a_key_that_the_application_chose(wiring: House) -> None:
    """That is its word, whoever's upload stands there; but what comes to such a key by itself is refused."""
    await wiring.uploads.create(evolve(WANTED, key="shared"))
    assert (await wiring.uploads.create(evolve(WANTED, owner="bob", key="shared"))).key == "shared"
    with pytest.raises(KeyTaken):
        await wiring.uploads.create(evolve(WANTED, owner="", name="shared"))


@pytest_twisted.ensureDeferred
async def test_a_key_that_is_refused_ends_nothing(wiring: House) -> None:
    """An unfinished upload of the same owner and name, at another key, goes on."""
    mine = await wiring.uploads.create(evolve(WANTED, owner="bob", name="n", key="elsewhere"))
    await wiring.uploads.create(evolve(WANTED, key="bob/n"))
    with pytest.raises(KeyTaken):
        await wiring.uploads.create(evolve(WANTED, owner="bob", name="n"))
    assert (await wiring.uploads.get(mine.id, "bob")).live


@pytest.fixture(params=["file", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        return server.new()
    return f"sqlite:///{tmp_path}/ledger.sqlite3"


@pytest_twisted.ensureDeferred
async def test_two_owners_at_once(url: str) -> None:
    """On two nodes, again and again: one gets the key."""
    nodes = [Database(url, reactor) for _ in range(2)]  # type: ignore[arg-type]
    nodes[0].prepare()
    for node in nodes:
        node.start()
    ledgers = [Ledger(node) for node in nodes]
    for number in range(20):
        both: list[Deferred[None]] = [
            ensureDeferred(
                ledger.create(evolve(UPLOAD, id=f"{owner}{number}", owner=owner, key=f"k{number}"), chosen=False)
            )
            for ledger, owner in zip(ledgers, ("alice", "bob"), strict=True)
        ]
        outcomes = await DeferredList(both, consumeErrors=True)
        refused = [outcome for went_well, outcome in outcomes if not went_well]
        assert [outcome.type for outcome in refused] == [KeyTaken]  # type: ignore[attr-defined]
    for node in nodes:
        await node.close()


@pytest_twisted.ensureDeferred
async def test_an_owner_who_came_a_thousand_times_waits_no_longer(wiring: House) -> None:
    """The index leaves the owner's own out: the database says so itself, and the clock says it too, with much to spare."""
    ended = [evolve(UPLOAD, id=f"u{number}", state=State.FINISHED) for number in range(2000)]
    begun = perf_counter()
    for upload in ended[:200]:
        await wiring.ledger.create(upload, chosen=False)
    first = perf_counter() - begun
    for upload in ended[200:-200]:
        await wiring.ledger.create(upload)
    begun = perf_counter()
    for upload in ended[-200:]:
        await wiring.ledger.create(upload, chosen=False)
    assert perf_counter() - begun < 10 * first + 1
    plan = (
        "EXPLAIN QUERY PLAN SELECT 1 FROM uploads WHERE bucket = 'b' AND key = 'k' AND owner < 'o' AND state = 'open'"
    )
    said = await wiring.ledger._database.read(lambda connection: connection.exec_driver_sql(plan).all())
    assert "uploads_by_object (bucket=? AND key=? AND owner<?)" in said[0][-1]
