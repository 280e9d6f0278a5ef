"""The queue of events: taken by one at a time, in the order of each upload, and never lost."""

from __future__ import annotations

import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet.defer import ensureDeferred, gatherResults

from resumable.ledger.database import Database
from resumable.ledger.ledger import Ledger
from resumable.ledger.queue import EventQueue
from resumable.model import LIVE, Event, Piece, State, Upload
from tests.ledger.test_ledger import UPLOAD


def tell(upload: Upload, stored: list[Piece] | tuple[Piece, ...]) -> Event:
    return Event(upload.id, f"upload.{upload.state.value}", {"bytes": sum(p.size for p in stored)}, upload.updated)


@pytest.fixture
def queue(database: Database) -> EventQueue:
    return EventQueue(database)


@pytest.fixture
def ledger(database: Database) -> Ledger:
    return Ledger(database, tell)


async def told(queue: EventQueue) -> list[str]:
    return [queued.event.type for queued in reversed(await queue.list())]


@pytest_twisted.ensureDeferred
async def test_a_state_and_its_event_are_one(ledger: Ledger, queue: EventQueue) -> None:
    """Each change of state has one event, also when many try it at once or it is tried again; a change that is none has none."""
    heard: list[int] = []
    ledger.announced = lambda: heard.append(1)
    await ledger.create(UPLOAD)
    await ledger.create(UPLOAD)  # as after an answer that was lost
    await ledger.add_piece(UPLOAD, Piece(0, 7, None, "e"), now=1.0)
    await gatherResults([ensureDeferred(ledger.move(UPLOAD, State.CANCELLED, frm=LIVE, updated=2.0)) for _ in range(5)])
    assert await ledger.move(UPLOAD, State.FINISHED, frm=LIVE) is None
    assert await told(queue) == ["upload.open", "upload.cancelled"]
    newest, oldest = await queue.list()
    assert (newest.event.data, newest.event.created, newest.state, newest.due) == ({"bytes": 7}, 2.0, "due", 2.0)
    assert newest.event.id != oldest.event.id
    assert len(heard) >= 2


@pytest_twisted.ensureDeferred
async def test_one_at_a_time_for_each_upload(ledger: Ledger, queue: EventQueue) -> None:
    """Many take at once: each upload's first event goes to one of them, and the next only when that has ended."""
    for number in range(6):
        upload = evolve(UPLOAD, id=f"u{number}", protocol="tus")
        await ledger.create(upload)
        await ledger.move(upload, State.CANCELLED, frm=LIVE, updated=1001.0)
    takers = [ensureDeferred(queue.take(now=2000.0, until=2060.0, most=4)) for _ in range(4)]
    taken = [queued for found in await gatherResults(takers) for queued in found]
    assert sorted(queued.event.upload_id for queued in taken) == [f"u{number}" for number in range(6)]
    assert {queued.event.type for queued in taken} == {"upload.open"}
    assert await queue.take(now=2001.0, until=2060.0, most=100) == []
    assert await queue.next_due() == 1001.0  # of those that wait for their turn
    for queued in taken[:3]:
        assert await queue.delivered(queued, now=2002.0)
    assert await queue.give_up(taken[3], "410", now=2002.0)
    following = await queue.take(now=2003.0, until=2060.0, most=100)
    assert {queued.event.type for queued in following} == {"upload.cancelled"}
    assert {queued.event.upload_id for queued in following} == {queued.event.upload_id for queued in taken[:4]}


@pytest_twisted.ensureDeferred
async def test_an_abandoned_try(ledger: Ledger, queue: EventQueue) -> None:
    """Who took an event and died loses it when his time is over; what he says later counts no more."""
    await ledger.create(UPLOAD)
    (first,) = await queue.take(now=2000.0, until=2060.0, most=1)
    assert await queue.next_due() == 2060.0
    assert await queue.take(now=2059.0, until=2100.0, most=1) == []
    (second,) = await queue.take(now=2060.0, until=2100.0, most=1)
    assert (first.tries, second.tries) == (1, 2)
    assert second.event.id == first.event.id
    assert not await queue.try_later(first, "too late", due=2500.0)
    assert not await queue.delivered(first, now=2070.0)
    assert await queue.try_later(second, "answered 500", due=2065.0)
    (third,) = await queue.take(now=2065.0, until=2100.0, most=1)
    assert (third.tries, third.problem) == (3, "answered 500")


@pytest_twisted.ensureDeferred
async def test_somebody_waits(ledger: Ledger, queue: EventQueue) -> None:
    """An event that is to be tried later is tried now if a client waits for it, but not while it is being tried."""
    await ledger.create(UPLOAD)
    await ledger.create(evolve(UPLOAD, id="u2", protocol="tus"))
    (queued, _) = await queue.take(now=2000.0, until=2060.0, most=2)
    assert await queue.take(now=2001.0, until=2060.0, most=1, upload_id="u1") == []
    await queue.try_later(queued, "answered 500", due=9000.0)
    (again,) = await queue.take(now=2001.0, until=2060.0, most=1, upload_id="u1")
    assert again.event.upload_id == "u1"
    assert await queue.delivered(again, now=2002.0, answer={"status": 201})
    found = await queue.get(again.event.id)
    assert found is not None
    assert (found.state, found.answer, found.ended) == ("delivered", {"status": 201}, 2002.0)


@pytest_twisted.ensureDeferred
async def test_replayed_listed_and_forgotten(ledger: Ledger, queue: EventQueue) -> None:
    for number in range(5):
        await ledger.create(evolve(UPLOAD, id=f"u{number}", protocol="tus"))
    taken = await queue.take(now=2000.0, until=2060.0, most=3)
    await queue.give_up(taken[0], "gone", now=2001.0)
    await queue.delivered(taken[1], now=2001.0)
    assert [q.event.upload_id for q in await queue.list(states=["dead"])] == ["u0"]
    assert [q.event.upload_id for q in await queue.list(most=2)] == ["u4", "u3"]
    page = await queue.list(most=2)
    assert [q.event.upload_id for q in await queue.list(most=2, before=page[-1].seq)] == ["u2", "u1"]
    assert [q.event.upload_id for q in await queue.list(upload_id="u2")] == ["u2"]
    replayed = await queue.replay(taken[0].event.id, now=3000.0)
    assert replayed is not None
    assert (replayed.state, replayed.tries, replayed.problem, replayed.due) == ("due", 0, None, 3000.0)
    assert await queue.replay("msg_unknown", now=3000.0) is None
    assert await queue.forget(ended_before=2001.0) == 0
    assert await queue.forget(ended_before=2002.0) == 1
    assert len(await queue.list()) == 4


@pytest_twisted.ensureDeferred
async def test_what_was_put_off_is_given_another_time(ledger: Ledger, queue: EventQueue) -> None:
    """The clock was set: who has put it off says anew when it is due. Not where somebody has taken it since."""
    await ledger.create(UPLOAD)
    (taken,) = await queue.take(now=9000.0, until=9010.0, most=5)
    await queue.try_later(taken, "x", due=9005.0)
    await queue.redate({})
    await queue.redate({(taken.seq, taken.tries): 5405.0, (taken.seq, 9): 1.0})
    assert await queue.take(now=5404.0, until=5414.0, most=5) == []
    (again,) = await queue.take(now=5405.0, until=5415.0, most=5)
    await queue.redate({(again.seq, again.tries): 1.0})
    await queue.try_later(again, "x", due=5500.0)
    assert await queue.take(now=5406.0, until=5416.0, most=5) == []


@pytest_twisted.ensureDeferred
async def test_taken_by_a_clock_that_was_wrong(ledger: Ledger, queue: EventQueue) -> None:
    """Who took it may have died; its clock was an hour fast. That is no reason to leave the event for an hour."""
    await ledger.create(UPLOAD)
    assert len(await queue.take(now=9000.0, until=9020.0, most=5)) == 1
    assert await queue.take(now=8990.0, until=9010.0, most=5, upload_id=UPLOAD.id) == []
    assert len(await queue.take(now=5400.0, until=5420.0, most=5, upload_id=UPLOAD.id)) == 1
