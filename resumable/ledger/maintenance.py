"""What upkeep asks of the ledger: abandoned uploads, rows that are not needed any more, and which node does the work.

Several nodes ask. What one node takes, the others do not get until its time is over.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, exists, or_, select, tuple_, update

from resumable.ledger.database import Database
from resumable.ledger.openings import Openings
from resumable.ledger.partials import IN_USE, KEPT
from resumable.ledger.queue import DUE
from resumable.ledger.rows import as_upload
from resumable.ledger.schema import events, identity, leases, uploads, uses
from resumable.ledger.statements import insert_into, state_in
from resumable.model import LIVE, State, Upload

#: Given how often an upload was taken up (from 1), returns the seconds until it may be taken up again.
Pause = Callable[[int], float]

#: Seconds by which nodes' clocks may differ.
SKEW = 60.0

_ENDED = uploads.c.state.not_in([state.value for state in LIVE])
#: Uploads that may have something in the store besides the finished object.
_UNFREED = or_(
    uploads.c.fragmented,
    uploads.c.claim.is_not(None),
    and_(uploads.c.state != State.FINISHED.value, uploads.c.multipart_id.is_not(None)),
)
_source = uploads.alias("source")
#: Whether a partial upload that this one is made of is not finished.
_WAITS = exists().where(
    uses.c.upload_id == uploads.c.id, uses.c.source_id == _source.c.id, _source.c.state.in_([s.value for s in LIVE])
)


class Maintenance:
    """Finds work for upkeep."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.openings = Openings(database)

    async def take_finishing(self, *, now: float, idle: float, pause: Pause, most: int) -> list[Upload]:
        """Take uploads whose bytes are all there but whose object is not, the longest untouched first.

        :param idle: seconds for which nobody has touched them.
        """
        return await self._take(state_in([State.FINISHING]), now, idle, pause, most)

    async def take_unfreed(self, *, now: float, idle: float, pause: Pause, most: int) -> list[Upload]:
        """Take ended uploads that may still have something in the store.

        The parameters are those of `take_finishing`.
        """
        return await self._take(and_(_ENDED, _UNFREED), now, idle, pause, most)

    async def take_concatenations(self, *, now: float, idle: float, pause: Pause, most: int) -> list[Upload]:
        """Take uploads that are made of partial ones, all of which are there, and that nobody has gone on with.

        The parameters are those of `take_finishing`.
        """
        which = and_(state_in([State.OPEN]), uploads.c.sources.is_not(None), ~_WAITS, uploads.c.updated <= now - idle)
        return await self._take(which, now, idle, pause, most)

    async def _take(self, which: Any, now: float, idle: float, pause: Pause, most: int) -> list[Upload]:
        # A time in the future comes from a clock that has been set back since. Nobody knows how long that upload has
        # waited.
        untouched = or_(uploads.c.updated <= now - idle, uploads.c.updated > now + SKEW)
        at_rest = or_(uploads.c.due <= now, and_(uploads.c.due.is_(None), untouched))
        query = select(uploads).where(which, at_rest).order_by(uploads.c.updated).limit(most)

        def work(connection: Connection) -> list[Upload]:
            if connection.dialect.name == "postgresql":
                found = connection.execute(query.with_for_update(skip_locked=True)).mappings().all()
            else:
                found = connection.execute(query).mappings().all()
            taken = []
            for row in found:
                tries = row["tries"] + 1
                again = {"tries": tries, "due": now + pause(tries)}
                connection.execute(update(uploads).where(uploads.c.id == row["id"]).values(again))
                taken.append(as_upload({**row, **again}))
            return taken

        return await self._database.write(work)

    async def redate(self, dues: Mapping[tuple[str, int], float]) -> None:
        """Change when uploads that were taken up are due again, unless somebody has taken them up since.

        :param dues: seconds since the epoch, by the upload's id and the number of its tries.
        """
        if not dues:
            return
        mine = and_(
            uploads.c.id == bindparam("this"), uploads.c.tries == bindparam("tried"), uploads.c.due.is_not(None)
        )
        change = update(uploads).where(mine).values(due=bindparam("then"))
        given = [{"this": upload_id, "tried": tries, "then": due} for (upload_id, tries), due in dues.items()]
        await self._database.write(lambda connection: connection.execute(change, given) and None)

    async def identity(self) -> str:
        """Return the id that tells this ledger from others. It never changes."""
        return await self._database.read(lambda connection: connection.execute(select(identity.c.id)).scalar_one())

    async def stale(self, *, untouched_since: float, most: int, after: Upload | None = None) -> list[Upload]:
        """Return open uploads that nobody has touched for long, the longest untouched first.

        One that is made of others is waited for with those: it is not meant while one of them is not finished yet.

        :param untouched_since: seconds since the epoch.
        :param after: only uploads that follow this one in the order.
        """
        query = (
            select(uploads)
            .where(
                uploads.c.state == State.OPEN.value,
                uploads.c.updated <= untouched_since,
                or_(uploads.c.sources.is_(None), ~_WAITS),
            )
            .order_by(uploads.c.updated, uploads.c.id)
            .limit(most)
        )
        if after is not None:
            query = query.where(tuple_(uploads.c.updated, uploads.c.id) > tuple_(after.updated, after.id))
        rows = await self._database.read(lambda connection: connection.execute(query).mappings().all())
        return [as_upload(row) for row in rows]

    async def stale_partials(self, *, untouched_since: float, most: int) -> list[Upload]:
        """Return finished partial uploads that nobody has touched for long, and of which nothing is being made.

        :param untouched_since: seconds since the epoch.
        """
        which = (KEPT, ~IN_USE, uploads.c.updated <= untouched_since)
        query = select(uploads).where(*which).order_by(uploads.c.updated, uploads.c.id).limit(most)
        rows = await self._database.read(lambda connection: connection.execute(query).mappings().all())
        return [as_upload(row) for row in rows]

    async def forget(self, *, ended_before: float, most: int) -> int:
        """Delete the rows of uploads that ended long ago.

        Keep those with something in the store, or with an event to deliver.

        :param ended_before: seconds since the epoch.
        :return: how many were deleted.
        """
        untold = exists().where(events.c.upload_id == uploads.c.id, events.c.state == DUE)
        old = (
            select(uploads.c.id).where(_ENDED, ~_UNFREED, ~KEPT, uploads.c.updated < ended_before, ~untold).limit(most)
        ).scalar_subquery()
        forgotten = delete(uploads).where(uploads.c.id.in_(old))
        return await self._database.write(lambda connection: connection.execute(forgotten).rowcount)

    async def buckets(self) -> set[str]:
        """Return all buckets that uploads go or went to."""
        query = select(uploads.c.bucket).distinct()
        return set(await self._database.read(lambda connection: connection.execute(query).scalars().all()))

    async def at(self, bucket: str, key: str) -> list[Upload]:
        """Return all uploads whose object has this key."""
        query = select(uploads).where(uploads.c.bucket == bucket, uploads.c.key == key)
        rows = await self._database.read(lambda connection: connection.execute(query).mappings().all())
        return [as_upload(row) for row in rows]

    async def not_done_with(self, upload_ids: Collection[str]) -> set[str]:
        """Return those of the uploads that are live, or that `take_unfreed` will still give to somebody."""
        query = select(uploads.c.id).where(uploads.c.id.in_(upload_ids), or_(~_ENDED, _UNFREED, KEPT))
        return set(await self._database.read(lambda connection: connection.execute(query).scalars().all()))

    async def done_with(self, upload_ids: Collection[str]) -> set[str]:
        """Return those of the uploads that are known and have ended, with nothing in the store that somebody will free."""
        query = select(uploads.c.id).where(uploads.c.id.in_(upload_ids), _ENDED, ~_UNFREED, ~KEPT)
        return set(await self._database.read(lambda connection: connection.execute(query).scalars().all()))

    async def lease(self, name: str, *, now: float, until: float) -> bool:
        """Take the lease of the work called `name`, and return whether it is ours. Nobody else gets it before `until`.

        :param now: seconds since the epoch, as is `until`.
        """

        # Nobody takes a lease for twice this long: it was taken by a clock that was wrong.
        wrong = leases.c.until > until + (until - now)

        def work(connection: Connection) -> bool:
            taken = insert_into(connection.dialect.name, leases).values(name=name, until=until)
            taken = taken.on_conflict_do_update(
                index_elements=["name"], set_={"until": until}, where=or_(leases.c.until <= now, wrong)
            )
            return connection.execute(taken.returning(leases.c.name)).first() is not None

        return await self._database.write(work)
