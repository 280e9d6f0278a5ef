"""Partial uploads in the ledger, and the uploads that are made of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from attrs import evolve
from sqlalchemy import Connection, and_, exists, insert, select, update

from resumable.ledger.database import Database
from resumable.ledger.rows import as_upload, stored_pieces
from resumable.ledger.schema import uploads, uses
from resumable.ledger.statements import state_in
from resumable.metrics import Metrics
from resumable.model import LIVE, Invalid, Piece, State, Upload

#: The states of a partial upload that other uploads may still be made of.
USABLE = (*LIVE, State.FINISHED)

#: Writes the event of an upload's new state, in the transaction of the change. Returns whether there was one to write.
Tell = Callable[[Connection, Upload, Sequence[Piece]], bool]

_final = uploads.alias("final")
#: Whether an upload that is made of this one is not finished yet.
IN_USE = exists().where(
    uses.c.source_id == uploads.c.id,
    uses.c.upload_id == _final.c.id,
    _final.c.state.in_([state.value for state in LIVE]),
)
#: Partial uploads whose objects wait to be made part of other uploads.
KEPT = and_(uploads.c.partial, uploads.c.state == State.FINISHED.value)


class Twice(Exception):
    """There is an upload already that is made of the same partial ones for the same owner.

    :ivar upload: that one.
    """

    def __init__(self, upload: Upload) -> None:
        super().__init__(f"upload {upload.id} is the same")
        self.upload = upload


def enter_uses(connection: Connection, upload: Upload) -> None:
    """Note of which partial uploads a new upload is made, in the transaction that enters it.

    :raises Twice: its client has asked for the same before, perhaps on another node in this moment.
    :raises Invalid: one of them is there no more.
    """
    wanted = set(upload.sources)
    # The rows are locked: nobody ends them until the new upload is entered.
    usable = select(uploads.c.id).where(uploads.c.id.in_(wanted), uploads.c.partial, state_in(USABLE))
    # In one order, so that two who lock the same rows never wait for each other.
    found = set(connection.execute(usable.order_by(uploads.c.id).with_for_update()).scalars())
    former = find_same(connection, upload.owner, upload.protocol, upload.sources, upload.remembered, but=upload.id)
    if former is not None:
        raise Twice(former)
    if found != wanted:
        raise Invalid("a partial upload was cancelled, has expired, or is part of another upload already")
    # A repeated transaction finds its own rows.
    if not connection.execute(select(uses.c.source_id).where(uses.c.upload_id == upload.id)).first():
        connection.execute(insert(uses), [{"source_id": one, "upload_id": upload.id} for one in wanted])


def find_same(
    connection: Connection,
    owner: str,
    protocol: str,
    sources: Sequence[str],
    remembered: Mapping[str, str],
    *,
    but: str = "",
) -> Upload | None:
    """Return what `Partials.same` returns, in a transaction.

    :param but: the id of an upload that does not count.
    """
    query = (
        select(uploads)
        .join(uses, uses.c.upload_id == uploads.c.id)
        .where(
            uses.c.source_id == sources[0],
            uploads.c.owner == owner,
            uploads.c.id != but,
            uploads.c.nameless.is_(False),
            state_in(USABLE),
        )
        .order_by(uploads.c.created.desc(), uploads.c.id)
    )
    wanted = (protocol, tuple(sources), dict(remembered))
    for found in map(as_upload, connection.execute(query).mappings()):
        if (found.protocol, found.sources, dict(found.remembered)) == wanted:
            return found
    return None


class Partials:
    """Finds and ends partial uploads.

    :param announced: called when an event has been committed.
    """

    def __init__(self, database: Database, tell: Tell, announced: Callable[[], None], metrics: Metrics) -> None:
        self._database = database
        self._tell = tell
        self._announced = announced
        self._metrics = metrics

    async def of(self, upload: Upload) -> list[Upload]:
        """Return the partial uploads that an upload is made of, in their order. Those that are forgotten are left out."""
        query = select(uploads).where(uploads.c.id.in_(set(upload.sources)))
        rows = await self._database.read(lambda connection: connection.execute(query).mappings().all())
        found = {row["id"]: as_upload(row) for row in rows}
        return [found[one] for one in upload.sources if one in found]

    async def waiting_for(self, source_id: str) -> list[Upload]:
        """Return the open uploads that are made of a partial one."""
        query = (
            select(uploads)
            .join(uses, uses.c.upload_id == uploads.c.id)
            .where(uses.c.source_id == source_id, state_in([State.OPEN]))
        )
        rows = await self._database.read(lambda connection: connection.execute(query).mappings().all())
        return [as_upload(row) for row in rows]

    async def same(
        self, owner: str, protocol: str, sources: Sequence[str], remembered: Mapping[str, str]
    ) -> Upload | None:
        """Return the newest upload that is or was made of the same partial ones for the same owner, if there is one.

        A client whose answer was lost asks for the same once more. One that its client has let go of is not returned.

        :param sources: ids, in order.
        :param remembered: see `Upload.remembered`.
        """
        return await self._database.read(lambda connection: find_same(connection, owner, protocol, sources, remembered))

    async def touch(self, upload_ids: Collection[str], *, now: float) -> None:
        """Note that somebody has gone on with these open uploads, if only with what they are made of."""
        change = update(uploads).where(uploads.c.id.in_(set(upload_ids)), state_in([State.OPEN])).values(updated=now)
        await self._database.write(lambda connection: connection.execute(change) and None)

    async def end(
        self, upload_ids: Collection[str], to: State, *, now: float, untouched_since: float | None = None
    ) -> list[Upload]:
        """End finished partial uploads of which nothing is going to be made any more: their objects are to be deleted.

        :param untouched_since: only those that nobody has touched since then (seconds since the epoch).
        :return: those that were ended, as they were before.
        """
        which = select(uploads).where(uploads.c.id.in_(set(upload_ids)), KEPT).order_by(uploads.c.id)
        if untouched_since is not None:
            which = which.where(uploads.c.updated <= untouched_since)

        def work(connection: Connection) -> tuple[list[Upload], bool]:
            # First the lock, then the look at who uses them: an upload that is entered meanwhile is seen.
            former = [as_upload(row) for row in connection.execute(which.with_for_update()).mappings()]
            ids = [one.id for one in former]
            in_use = set(connection.execute(select(uploads.c.id).where(uploads.c.id.in_(ids), IN_USE)).scalars())
            ended = [one for one in former if one.id not in in_use]
            # What is under the prefix is to be freed.
            changed = {"state": to.value, "updated": now, "fragmented": True, "tries": 0, "due": None}
            connection.execute(update(uploads).where(uploads.c.id.in_([one.id for one in ended])).values(changed))
            told = [
                self._tell(connection, evolve(one, state=to, updated=now), stored_pieces(connection, one.id))
                for one in ended
            ]
            return ended, any(told)

        ended, told = await self._database.write(work)
        for one in ended:
            self._metrics.moved(one.protocol, to)
        if told:
            self._announced()
        return ended

    async def freed(self, upload_ids: Collection[str]) -> None:
        """Note that the store has nothing of these ended uploads any more."""
        ended = uploads.c.state.not_in([state.value for state in USABLE])
        change = update(uploads).where(uploads.c.id.in_(set(upload_ids)), ended)
        await self._database.write(
            lambda connection: connection.execute(change.values(fragmented=False, multipart_id=None)) and None
        )
