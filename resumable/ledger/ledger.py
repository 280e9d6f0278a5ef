"""The ledger: which uploads and pieces exist. SQLAlchemy Core.

Every call is done in one transaction, which in SQLite it may share with others. A call that returned has been committed; one
that raised `Unavailable` may or may not have been, and all of them may be repeated. A change of state and the event that tells
of it are done in the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from attrs import asdict
from sqlalchemy import Connection, delete, or_, update
from sqlalchemy.exc import IntegrityError

from resumable.ledger import statements
from resumable.ledger.database import Database
from resumable.ledger.schema import pieces, uploads
from resumable.ledger.statements import NEWEST, PIECES, UPLOAD, state_in
from resumable.metrics import Metrics
from resumable.model import LIVE, Ended, Event, KeyTaken, ObjectOptions, Piece, State, Upload

#: What there is to tell of an upload that has just come into its state, with the pieces it has; None: nothing.
Announce = Callable[[Upload, Sequence[Piece]], "Event | None"]


class Taken(Exception):
    """There is a live upload of this owner and name already."""


class Ledger:
    """Uploads and pieces in SQL.

    :param announce: makes the event that is written with each change of an upload's state.
    :param metrics: counts the uploads that come into a state by `create` and `move`.
    :ivar announced: called when such an event has been committed.
    """

    def __init__(
        self,
        database: Database,
        announce: Announce = lambda upload, pieces: None,
        *,
        metrics: Metrics | None = None,
    ) -> None:
        self._database = database
        self._announce = announce
        self._metrics = metrics or Metrics()
        self.announced: Callable[[], None] = lambda: None

    async def create(self, upload: Upload, *, chosen: bool = True) -> None:
        """Enter a new upload.

        :param chosen: the main application has chosen its key itself: whoever's upload stands there.
        :raises KeyTaken: another owner's upload stands under its key, live or finished.
        :raises Taken: a live upload of the same owner and name, of the seed's protocol, is there already.
        """
        values = {**asdict(upload), "state": upload.state.value}

        def work(connection: Connection) -> bool:
            if not chosen and statements.is_anothers(connection, upload):
                raise KeyTaken(f"the key {upload.key!r} is another owner's")
            # Who repeats this finds its own row there.
            connection.execute(statements.enter_upload(connection), values)
            return self._tell(connection, upload, ())

        try:
            told = await self._database.write(work)
        except IntegrityError:
            raise Taken(f"{upload.owner!r} has a live upload {upload.name!r}") from None
        self._metrics.moved(upload.protocol, upload.state)
        if told:
            self.announced()

    def _tell(self, connection: Connection, upload: Upload, stored: Sequence[Piece]) -> bool:
        """Write the event of the upload's state, in the transaction that brought it there; whether there was one."""
        event = self._announce(upload, stored)
        if event is not None:
            values = {"id": event.id, **asdict(event), "state": "due", "due": event.created, "tries": 0}
            connection.execute(statements.enter_event(connection), values)
        return event is not None

    async def get(self, upload_id: str) -> Upload | None:
        """The upload, or None."""
        return await self._one(UPLOAD, this=upload_id)

    async def find(self, owner: str, name: str, protocol: str) -> Upload | None:
        """The newest upload of this owner and name that was not given up (cancelled or expired), or None."""
        return await self._one(NEWEST, owner=owner, name=name, protocol=protocol)

    async def newest(self, owner: str, name: str, protocol: str) -> tuple[Upload, list[Piece]] | None:
        """As `find`, and its pieces, unless it is finished."""

        def work(connection: Connection) -> tuple[Upload, list[Piece]] | None:
            row = connection.execute(NEWEST, {"owner": owner, "name": name, "protocol": protocol}).mappings().first()
            if row is None:
                return None
            upload = as_upload(row)
            return upload, [] if upload.state is State.FINISHED else _pieces(connection, upload.id)

        return await self._database.read(work)

    async def _one(self, query: Any, **given: Any) -> Upload | None:
        row = await self._database.read(lambda connection: connection.execute(query, given).mappings().first())
        return None if row is None else as_upload(row)

    async def whole(self, upload_id: str) -> tuple[Upload, list[Piece]] | None:
        """The upload and its pieces, or None."""

        def work(connection: Connection) -> tuple[Upload, list[Piece]] | None:
            # The pieces first: where there is more to see by now, the row is what is newer.
            stored = _pieces(connection, upload_id)
            row = connection.execute(UPLOAD, {"this": upload_id}).mappings().first()
            return None if row is None else (as_upload(row), stored)

        return await self._database.read(work)

    async def pieces(self, upload_id: str) -> list[Piece]:
        """The upload's pieces, by their first byte."""
        return await self._database.read(lambda connection: _pieces(connection, upload_id))

    async def add_piece(
        self,
        upload_id: str,
        piece: Piece,
        *,
        now: float,
        replaces: Iterable[Piece] = (),
        completing: float | None = None,
    ) -> bool:
        """Enter a stored piece, or replace the one of the same range; from here on it is acknowledged.

        :param replaces: pieces that it covers and that are struck out.
        :param completing: it was the last one missing: the upload becomes ``finishing``.
        :return: whether it became so, and until `completing` (seconds since the epoch) it is the caller's to make its object.

        :raises Ended: the upload takes no more pieces.
        """
        values = {"upload_id": upload_id, **asdict(piece)}
        touched = {"this": upload_id, "new_updated": now}
        finishing = {"state": State.FINISHING.value, "received": now, "completing": completing}

        def work(connection: Connection) -> tuple[bool, bool]:
            # First the upload's row: on every database this makes a cancel and a piece wait for each other.
            ours = completing is not None and bool(
                connection.execute(
                    statements.change_upload((State.OPEN,), ("updated", *finishing)),
                    {**touched, **statements.changes(finishing)},
                ).rowcount
            )
            alive = ours or bool(connection.execute(statements.change_upload(LIVE, ("updated",)), touched).rowcount)
            # Before the new one is entered: it may have the range of one that it replaces.
            for old in replaces if alive else ():
                connection.execute(
                    delete(pieces).where(
                        pieces.c.upload_id == upload_id, pieces.c.first == old.first, pieces.c.end == old.end
                    )
                )
            if alive:
                connection.execute(statements.enter_piece(connection, part=piece.number is not None), values)
            return alive, ours

        alive, ours = await self._database.write(work)
        if not alive:
            raise Ended("the upload has ended")
        return ours

    async def move(
        self,
        upload: Upload,
        to: State,
        *,
        frm: Iterable[State],
        untouched_since: float | None = None,
        **changes: Any,
    ) -> Upload | None:
        """Compare-and-set of the state, and the event that tells of it.

        :param untouched_since: only if nobody has touched the upload since then.
        :return: the upload in state `to` with `changes`, as the ledger has it now; None if its state was none of `frm`.
        """
        values = {"state": to.value, "tries": 0, "due": None, **changes}
        change = statements.change_upload(tuple(frm), tuple(values), untouched=untouched_since is not None, tells=True)
        given = {"this": upload.id, **statements.changes(values)}
        if untouched_since is not None:
            given["since"] = untouched_since

        def work(connection: Connection) -> tuple[Upload | None, bool]:
            row = connection.execute(change, given).mappings().first()
            if row is None:
                return None, False
            moved = as_upload(row)
            # There may be ten thousand: only what has ended without an object is told with what there was of it.
            stored = [] if to in (State.FINISHING, State.FINISHED) else _pieces(connection, upload.id)
            return moved, self._tell(connection, moved, stored)

        moved, told = await self._database.write(work)
        if moved is not None:
            self._metrics.moved(moved.protocol, to)
        if told:
            self.announced()
        return moved

    async def mark_fragmented(self, upload_id: str) -> None:
        """Note, before the first fragment is stored, that there may be some.

        :raises Ended: the upload has ended.
        """
        if not await self._set(upload_id, LIVE, fragmented=True):
            raise Ended("the upload has ended")

    async def _set(self, upload_id: str, states: Iterable[State], **values: Any) -> bool:
        """Set columns of an upload, whatever was in them, if it is in one of the states; whether it was."""
        change = statements.change_upload(tuple(states), tuple(values))
        given = {"this": upload_id, **statements.changes(values)}
        return bool(await self._database.write(lambda connection: connection.execute(change, given).rowcount))

    async def open_to_many(self, upload_id: str) -> None:
        """Note that many connections may write the upload at once."""
        await self._set(upload_id, State, swarm=True)

    async def claim(self, upload: Upload, *, now: float, until: float) -> bool:
        """Whether it is ours to make the upload's object, until then (seconds since the epoch); it must be ``finishing``.

        Who made it ``finishing`` has it already if its `Upload.completing` says so.
        """
        free = or_(uploads.c.completing.is_(None), uploads.c.completing <= now)
        change = (
            update(uploads).where(uploads.c.id == upload.id, state_in([State.FINISHING]), free).values(completing=until)
        )
        return bool(await self._database.write(lambda connection: connection.execute(change).rowcount))

    async def unclaim(self, upload: Upload) -> None:
        """Somebody else may make the upload's object."""
        await self._set(upload.id, State, completing=None)

    async def freed(self, upload: Upload) -> None:
        """Nothing of the ended upload is in the store any more, but for its object if it is finished."""
        await self._set(upload.id, State, fragmented=False, multipart_id=None)

    async def set_once(self, upload: Upload, **change: Any) -> Upload:
        """Set a column that nobody has set yet (``length``, ``multipart_id``); returns the upload as it stands then.

        Where somebody was first, theirs stays: the caller looks at what came back.

        :raises Ended: the upload has ended.
        """
        ((column, value),) = change.items()

        def work(connection: Connection) -> Upload:
            connection.execute(
                update(uploads)
                .where(uploads.c.id == upload.id, uploads.c[column].is_(None), state_in(LIVE))
                .values({column: value})
            )
            return as_upload(connection.execute(UPLOAD, {"this": upload.id}).mappings().one())

        current = await self._database.write(work)
        if not current.live:
            raise Ended("the upload has ended")
        return current


def as_upload(row: Any) -> Upload:
    """The upload in a row of the table."""
    values = {**row, "state": State(row["state"]), "options": ObjectOptions.from_stored(row["options"])}
    return Upload(**{**values, "writers": tuple(row["writers"] or ())})


def _pieces(connection: Connection, upload_id: str) -> list[Piece]:
    rows = connection.execute(PIECES, {"this": upload_id}).mappings()
    return [Piece(row["first"], row["end"], row["number"], row["etag"], row["crc32c"]) for row in rows]
