"""The queue of events: what the main application has still to hear, and what became of what it was told.

Events of one upload are delivered in the order in which they happened. Events of different uploads may be delivered at
the same time, by any node. A node that takes an event has it for a limited time; after that anybody may take it. The
number of tries tells whether an outcome belongs to the present try or to an abandoned one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import field, frozen
from sqlalchemy import Connection, and_, bindparam, case, delete, exists, func, or_, select, update

from resumable.ledger.database import Database
from resumable.ledger.schema import events
from resumable.model import Event

DUE, DELIVERED, DEAD = "due", "delivered", "dead"

_earlier = events.alias("earlier")
#: Events whose upload has no earlier event that is still to be delivered.
_IN_TURN = ~exists().where(
    _earlier.c.upload_id == events.c.upload_id, _earlier.c.seq < events.c.seq, _earlier.c.state == DUE
)


@frozen
class Queued:
    """An event as it stands in the queue.

    :ivar state: ``due``, ``delivered`` or ``dead`` (given up).
    :ivar since: when it was first tried, or when it was replayed (seconds since the epoch).
    :ivar due: when it is tried next (seconds since the epoch).
    :ivar taken: until when somebody has it (seconds since the epoch); None if nobody is trying it.
    :ivar tries: how often it was tried, including a try under way.
    :ivar problem: what was wrong the last time.
    :ivar answer: what the application said, if that was kept.
    """

    seq: int
    event: Event
    state: str
    since: float | None
    due: float
    taken: float | None
    tries: int
    ended: float | None = None
    problem: str | None = None
    answer: Mapping[str, Any] | None = field(default=None, repr=False)


class EventQueue:
    """Takes events from the queue and notes what became of them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self, *, now: float, until: float, most: int, upload_id: str | None = None) -> list[Queued]:
        """Take events that are due, the oldest first. Nobody else will take them before `until`.

        :param now: seconds since the epoch, as is `until`.
        :param upload_id: only this upload's events, even if they are not due yet: a client is waiting for them.
        """
        wanted = events.c.due <= now if upload_id is None else events.c.upload_id == upload_id
        # Nobody takes an event for twice this long: it was taken by a clock that was wrong.
        wrong = events.c.taken > until + (until - now)
        free = or_(events.c.taken.is_(None), events.c.taken <= now, wrong)
        query = (
            select(events)
            .where(events.c.state == DUE, wanted, free, _IN_TURN)
            .order_by(events.c.due, events.c.seq)
            .limit(most)
        )

        def work(connection: Connection) -> list[Queued]:
            if connection.dialect.name == "postgresql":
                rows = connection.execute(query.with_for_update(of=events, skip_locked=True)).mappings().all()
            else:
                rows = connection.execute(query).mappings().all()
            numbers = [row["seq"] for row in rows]
            change = {"taken": until, "tries": events.c.tries + 1, "since": func.coalesce(events.c.since, now)}
            connection.execute(update(events).where(events.c.seq.in_(numbers)).values(change))
            taken = [{**row, "taken": until, "tries": row["tries"] + 1} for row in rows]
            return [_queued({**row, "since": now if row["since"] is None else row["since"]}) for row in taken]

        return await self._database.write(work)

    async def next_due(self) -> float | None:
        """Return when the next event can be taken (seconds since the epoch), or None if the queue is empty."""
        free = case((events.c.taken > events.c.due, events.c.taken), else_=events.c.due)
        query = select(func.min(free)).where(events.c.state == DUE)
        return await self._database.read(lambda connection: connection.execute(query).scalar())

    async def delivered(self, queued: Queued, *, now: float, answer: Mapping[str, Any] | None = None) -> bool:
        """Note that the application has accepted the event. Return whether the event was still ours."""
        return await self._end(queued, DELIVERED, now, answer=answer, problem=None)

    async def give_up(self, queued: Queued, problem: str, *, now: float) -> bool:
        """Keep the event as a dead letter, which is not tried any more. Return whether the event was still ours."""
        return await self._end(queued, DEAD, now, problem=problem)

    async def _end(self, queued: Queued, state: str, now: float, **values: Any) -> bool:
        return await self._change(queued, state=state, ended=now, **values)

    async def try_later(self, queued: Queued, problem: str, *, due: float) -> bool:
        """Have the event tried again at `due` (seconds since the epoch). Return whether the event was still ours."""
        return await self._change(queued, due=due, problem=problem)

    async def redate(self, dues: Mapping[tuple[int, int], float]) -> None:
        """Change when events that were put off are due, unless somebody has taken them since.

        :param dues: seconds since the epoch, by `Queued.seq` and `Queued.tries`.
        """
        if not dues:
            return
        mine = and_(
            events.c.seq == bindparam("this"),
            events.c.tries == bindparam("tried"),
            events.c.state == DUE,
            events.c.taken.is_(None),
        )
        change = update(events).where(mine).values(due=bindparam("then"))
        given = [{"this": seq, "tried": tries, "then": due} for (seq, tries), due in dues.items()]
        await self._database.write(lambda connection: connection.execute(change, given) and None)

    async def _change(self, queued: Queued, **values: Any) -> bool:
        mine = and_(events.c.seq == queued.seq, events.c.state == DUE, events.c.tries == queued.tries)
        change = update(events).where(mine).values(taken=None, **values)
        return bool(await self._database.write(lambda connection: connection.execute(change).rowcount))

    async def get(self, event_id: str) -> Queued | None:
        """Return the event, or None."""
        query = select(events).where(events.c.id == event_id)
        row = await self._database.read(lambda connection: connection.execute(query).mappings().first())
        return None if row is None else _queued(row)

    async def list(
        self, *, states: Sequence[str] = (), upload_id: str | None = None, most: int = 50, before: int | None = None
    ) -> list[Queued]:
        """Return events, the newest first.

        :param states: only those in one of these states.
        :param before: only those with a lower `Queued.seq`, for the next page.
        """
        query = select(events).order_by(events.c.seq.desc()).limit(most)
        if states:
            query = query.where(events.c.state.in_(states))
        if upload_id is not None:
            query = query.where(events.c.upload_id == upload_id)
        if before is not None:
            query = query.where(events.c.seq < before)
        rows = await self._database.read(lambda connection: connection.execute(query).mappings().all())
        return [_queued(row) for row in rows]

    async def replay(self, event_id: str, *, now: float) -> Queued | None:
        """Have an event delivered (again), whatever became of it. Return it, or None if there is none with this id."""
        change = {
            "state": DUE,
            "since": now,
            "due": now,
            "taken": None,
            "tries": 0,
            "ended": None,
            "problem": None,
            "answer": None,
        }

        def work(connection: Connection) -> Queued | None:
            connection.execute(update(events).where(events.c.id == event_id).values(change))
            row = connection.execute(select(events).where(events.c.id == event_id)).mappings().first()
            return None if row is None else _queued(row)

        return await self._database.write(work)

    async def forget(self, *, ended_before: float, states: Iterable[str] = (DELIVERED, DEAD)) -> int:
        """Delete events that ended (delivered or dead) before `ended_before` (seconds since the epoch).

        Return how many.
        """
        old = and_(events.c.state.in_(list(states)), events.c.ended < ended_before)
        return await self._database.write(lambda connection: connection.execute(delete(events).where(old)).rowcount)


def _queued(row: Any) -> Queued:
    event = Event(row["upload_id"], row["type"], row["data"], row["created"])
    return Queued(
        row["seq"],
        event,
        row["state"],
        row["since"],
        row["due"],
        row["taken"],
        row["tries"],
        row["ended"],
        row["problem"],
        row["answer"],
    )
