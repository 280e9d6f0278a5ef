"""Work for upkeep: each piece of it goes to one node."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet.defer import ensureDeferred, gatherResults

from resumable.ledger.database import Database
from resumable.ledger.ledger import Ledger
from resumable.ledger.maintenance import Maintenance
from resumable.ledger.queue import EventQueue
from resumable.model import LIVE, Piece, State
from tests.ledger.test_ledger import UPLOAD
from tests.ledger.test_queue import tell


@pytest.fixture
def maintenance(database: Database) -> Maintenance:
    return Maintenance(database)


async def enter(ledger: Ledger, name: str, state: State, **values: object) -> None:
    await ledger.create(evolve(UPLOAD, id=name, protocol="tus", state=state, **values))


@pytest_twisted.ensureDeferred
async def test_what_is_taken_is_nobody_elses(ledger: Ledger, maintenance: Maintenance) -> None:
    """Many nodes look at once: each upload is taken once, and comes back when its pause is over, a longer one each time."""
    for number in range(9):
        await enter(ledger, f"u{number}", State.FINISHING, updated=1000.0 + number)
    await enter(ledger, "open", State.OPEN)
    await enter(ledger, "young", State.FINISHING, updated=1995.0)

    async def take(now: float) -> list[str]:
        takers = [
            ensureDeferred(maintenance.take_finishing(now=now, idle=10.0, pause=lambda tries: tries * 100.0, most=4))
            for _ in range(4)
        ]
        return sorted(upload.id for found in await gatherResults(takers) for upload in found)

    assert await take(2000.0) == [f"u{number}" for number in range(9)]
    assert await take(2099.0) == ["young"]
    assert len(await take(2100.0)) == 9
    assert await take(2299.0) == ["young"]
    assert len(await take(2300.0)) == 9


@pytest_twisted.ensureDeferred
async def test_what_is_freed_by_upkeep(ledger: Ledger, maintenance: Maintenance) -> None:
    """Ended uploads with parts or fragments; not live ones, and not finished ones that have but their object."""
    await enter(ledger, "parts", State.CANCELLED, multipart_id="m")
    await enter(ledger, "fragments", State.FINISHED, multipart_id="m", fragmented=True)
    await enter(ledger, "finished", State.FINISHED, multipart_id="m")
    await enter(ledger, "open", State.OPEN, multipart_id="m", fragmented=True)
    await enter(ledger, "nothing", State.FAILED)
    found = await maintenance.take_unfreed(now=2000.0, idle=10.0, pause=lambda _: 60.0, most=10)
    assert {upload.id for upload in found} == {"parts", "fragments"}
    assert await maintenance.not_done_with(["parts", "fragments", "finished", "open", "nothing", "?"]) == {
        "parts",
        "fragments",
        "open",
    }


@pytest_twisted.ensureDeferred
async def test_stale_uploads(ledger: Ledger, maintenance: Maintenance) -> None:
    """Only open ones; one that is touched after the look is not ended."""
    await enter(ledger, "old", State.OPEN, updated=1000.0)
    await enter(ledger, "new", State.OPEN, updated=2000.0)
    await enter(ledger, "finishing", State.FINISHING, updated=1000.0)
    (stale,) = await maintenance.stale(untouched_since=1500.0, most=10)
    assert stale.id == "old"
    await ledger.add_piece(evolve(UPLOAD, id="old"), Piece(0, 5, None, "e"), now=2500.0)
    assert await ledger.move(stale, State.EXPIRED, frm=LIVE, untouched_since=1500.0) is None
    assert await ledger.move(stale, State.EXPIRED, frm=LIVE, untouched_since=2500.0) is not None


@pytest_twisted.ensureDeferred
async def test_rows_of_no_use(database: Database, maintenance: Maintenance) -> None:
    """Rows of uploads that ended long ago go, with their pieces; not if something is in the store or to be told."""
    quiet, ledger = Ledger(database), Ledger(database, tell)
    await enter(quiet, "old", State.FINISHED, updated=1000.0)
    await enter(quiet, "unfreed", State.EXPIRED, updated=1000.0, fragmented=True)
    await enter(quiet, "open", State.OPEN, updated=1000.0)
    await enter(quiet, "new", State.FINISHED, updated=3000.0)
    await enter(ledger, "untold", State.FINISHED, updated=1000.0)
    await enter(quiet, "pieced", State.OPEN, updated=1000.0)
    await ledger.add_piece(evolve(UPLOAD, id="pieced"), Piece(0, 5, 1, "e"), now=1001.0)
    await quiet.move(evolve(UPLOAD, id="pieced"), State.CANCELLED, frm=LIVE)
    assert await maintenance.forget(ended_before=2000.0, most=1) == 1
    assert await maintenance.forget(ended_before=2000.0, most=10) == 1
    assert await ledger.get("old") is None
    assert await ledger.get("pieced") is None
    assert await ledger.pieces("pieced") == []
    queue = EventQueue(database)
    (queued,) = await queue.take(now=5000.0, until=5060.0, most=1)
    await queue.delivered(queued, now=5001.0)
    assert await maintenance.forget(ended_before=2000.0, most=10) == 1
    assert await ledger.get("untold") is None


@pytest_twisted.ensureDeferred
async def test_leases(maintenance: Maintenance) -> None:
    """One node at a time does what is done for all."""
    tries = [ensureDeferred(maintenance.lease("cleaning", now=100.0, until=200.0)) for _ in range(6)]
    assert sorted(await gatherResults(tries)) == [False] * 5 + [True]
    assert await maintenance.lease("something else", now=100.0, until=200.0)
    assert not await maintenance.lease("cleaning", now=199.0, until=300.0)
    assert await maintenance.lease("cleaning", now=200.0, until=300.0)


@pytest_twisted.ensureDeferred
async def test_a_lease_from_a_clock_that_was_wrong_is_none(database: Database) -> None:
    """Whoever took it had a clock that was an hour fast, or has been set back since: the work is not left undone that long."""
    maintenance = Maintenance(database)
    assert await maintenance.lease("cleaning", now=5000.0, until=5100.0)
    # A clock that is a little behind is not enough.
    assert not await maintenance.lease("cleaning", now=4950.0, until=5050.0)
    assert await maintenance.lease("cleaning", now=1000.0, until=1100.0)


@pytest_twisted.ensureDeferred
async def test_what_was_touched_in_times_to_come_is_taken_up(ledger: Ledger, database: Database) -> None:
    await ledger.create(evolve(UPLOAD, state=State.FINISHING, updated=9000.0))
    maintenance = Maintenance(database)
    asked: dict[str, Any] = {"idle": 10.0, "pause": lambda tries: 60.0 * tries, "most": 10}
    assert await maintenance.take_finishing(now=8990.0, **asked) == []
    (taken,) = await maintenance.take_finishing(now=5400.0, **asked)
    # As it stands then.
    assert (taken.tries, taken.due) == (1, 5460.0)
    assert await maintenance.take_finishing(now=5459.0, **asked) == []


@pytest_twisted.ensureDeferred
async def test_what_was_put_off_is_given_another_time(ledger: Ledger, database: Database) -> None:
    """Unless somebody has taken it up meanwhile."""
    await ledger.create(evolve(UPLOAD, state=State.FINISHING, updated=1000.0))
    maintenance = Maintenance(database)
    asked: dict[str, Any] = {"idle": 10.0, "pause": lambda tries: 60.0, "most": 10}
    (taken,) = await maintenance.take_finishing(now=9000.0, **asked)
    await maintenance.redate({})
    await maintenance.redate({(taken.id, taken.tries): 5430.0, (taken.id, 7): 1.0})
    assert await maintenance.take_finishing(now=5429.0, **asked) == []
    (again,) = await maintenance.take_finishing(now=5430.0, **asked)
    await maintenance.redate({(taken.id, taken.tries): 1.0})
    assert await maintenance.take_finishing(now=5431.0, **asked) == []
    assert again.tries == 2
