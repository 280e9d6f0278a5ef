"""The ledger: which uploads and pieces exist. SQLAlchemy Core.

Every call is one transaction; in SQLite several calls may share one. A call that returned has been committed. A call
that raised `Unavailable` may or may not have been committed. Every call may be repeated. A change of state and the
event that reports it are written in the same transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any

from attrs import asdict, evolve
from sqlalchemy import Connection, delete, func, select, update
from sqlalchemy.exc import IntegrityError

from resumable.ledger import claims, statements
from resumable.ledger.claims import Holder
from resumable.ledger.database import Database
from resumable.ledger.direct import run
from resumable.ledger.openings import Openings
from resumable.ledger.partials import Partials, enter_uses
from resumable.ledger.rows import as_piece, as_row, as_upload, check_same, stored_pieces, violated_index
from resumable.ledger.schema import pieces, uploads
from resumable.ledger.statements import NEWEST, NEWEST_FINISHED, PIECES, UPLOAD, UPLOAD_LOCKED, state_in
from resumable.metrics import Metrics
from resumable.model import (
    ANNOUNCED,
    LIVE,
    READ_BACK,
    Ended,
    Event,
    Invalid,
    KeyTaken,
    Piece,
    Replaced,
    State,
    Superseded,
    Upload,
)
from resumable.quoting import quote_briefly

#: Returns the event for an upload that has just come into its state, given its pieces; None if there is nothing to
#: report.
Announce = Callable[[Upload, Sequence[Piece]], "Event | None"]


class Taken(Exception):
    """There is a live upload of this owner and name already."""


class Ledger:
    """Uploads and pieces in SQL.

    :param announce: makes the event that is written with each change of an upload's state; None if nobody wants to hear.
    :param metrics: counts the uploads that come into a state by `create` and `move`.
    :ivar announced: called when such an event has been committed.
    :ivar partials: the partial uploads in it.
    """

    def __init__(
        self,
        database: Database,
        announce: Announce | None = None,
        *,
        metrics: Metrics | None = None,
    ) -> None:
        self._database = database
        self._announce = announce
        self._metrics = metrics or Metrics()
        self.announced: Callable[[], None] = lambda: None
        self.openings = Openings(database)
        self.partials = Partials(database, self._tell, lambda: self.announced(), self._metrics)

    async def create(self, upload: Upload, *, chosen: bool = True) -> Upload:
        """Enter a new upload, and return it as it was entered.

        :param upload: if it has a claim, that is left out where somebody else has a claim to its key.
        :param chosen: whether the main application has chosen the key. Then it may be one that another owner's upload
            has.
        :raises Invalid: one of the partial uploads that it is made of is there no more.
        :raises Twice: its client has asked for the same, made of partial uploads, before.
        :raises KeyTaken: another owner's upload stands under its key, live or finished.
        :raises Taken: the protocol is `put` or `segments`, and there is a live upload of the same owner and name already.
        """
        values = as_row(upload)

        def work(connection: Connection) -> bool:
            if not statements.enter_upload(connection, values, chosen=chosen):
                raise KeyTaken(f"the key {quote_briefly(upload.key)} is another owner's")
            if upload.sources:
                enter_uses(connection, upload)
            return self._tell(connection, upload, ())

        while True:
            try:
                told = await self._database.write(work)
                break
            except IntegrityError as error:
                index = violated_index(error)
                if "generation" in index or index == "uploads_in_order":
                    continue  # another upload of this name was entered at this moment
                if "uploads.bucket" in index or index == "uploads_one_claim":
                    return await self.create(evolve(upload, claim=None), chosen=chosen)
                raise Taken(f"{quote_briefly(upload.owner)} has a live upload {quote_briefly(upload.name)}") from None
        self._metrics.moved(upload.protocol, upload.state)
        if told:
            self.announced()
        return upload

    def _tell(self, connection: Connection, upload: Upload, stored: Sequence[Piece]) -> bool:
        """Write the event of the upload's new state, in the same transaction. Return whether there was one to write."""
        event = None if self._announce is None else self._announce(upload, stored)
        if event is not None:
            values = {"id": event.id, **asdict(event), "state": "due", "due": event.created, "tries": 0}
            run(connection, statements.enter_event(connection), values)
        return event is not None

    async def get(self, upload_id: str) -> Upload | None:
        """Return the upload, or None."""
        return await self._one(UPLOAD, this=upload_id)

    async def find(self, owner: str, name: str, protocol: str, *, finished: bool = False) -> Upload | None:
        """Return the newest upload of this owner and name that was not given up (cancelled or expired), or None.

        If the newest one's name was freed, the result is None: it hides those before it.

        :param finished: only those count whose object was made.
        """
        found = await self._one(NEWEST_FINISHED if finished else NEWEST, owner=owner, name=name, protocol=protocol)
        return None if found is None or found.nameless else found

    async def newest(self, owner: str, name: str, protocol: str) -> tuple[Upload, list[Piece]] | None:
        """Return what `find` returns, with the pieces (none if the upload is finished)."""

        def work(connection: Connection) -> tuple[Upload, list[Piece]] | None:
            row = run(connection, NEWEST, {"owner": owner, "name": name, "protocol": protocol}).first()
            if row is None:
                return None
            upload = as_upload(row)
            if upload.nameless:
                return None
            return upload, [] if upload.state is State.FINISHED else stored_pieces(connection, upload.id)

        return await self._database.read(work, quick=True)

    async def _one(self, query: Any, **given: Any) -> Upload | None:
        row = await self._database.read(lambda connection: run(connection, query, given).first(), quick=True)
        return None if row is None else as_upload(row)

    async def whole(self, upload_id: str) -> tuple[Upload, list[Piece]] | None:
        """Return the upload and its pieces, or None."""

        def work(connection: Connection) -> tuple[Upload, list[Piece]] | None:
            # The pieces first: if something changes between the two queries, the row is the newer of both.
            stored = stored_pieces(connection, upload_id)
            row = run(connection, UPLOAD, {"this": upload_id}).first()
            return None if row is None else (as_upload(row), stored)

        return await self._database.read(work, quick=True)

    async def pieces(self, upload_id: str) -> list[Piece]:
        """Return the upload's pieces, ordered by their first byte."""
        return await self._database.read(lambda connection: stored_pieces(connection, upload_id), quick=True)

    async def pieces_within(self, upload_id: str, first: int, end: int) -> list[Piece]:
        """Return the upload's pieces that begin in ``[first, end)``."""
        query = PIECES.where(pieces.c.first >= first, pieces.c.first < end)
        rows = await self._database.read(lambda c: c.execute(query, {"this": upload_id}).mappings().all())
        return [as_piece(row) for row in rows]

    async def add_piece(
        self,
        upload: Upload,
        piece: Piece,
        *,
        now: float,
        replaces: Iterable[Piece] = (),
        marks: bytes | None = None,
        claim: str | None = None,
        stored_in: str | None = None,
    ) -> str | None:
        """Enter a stored piece, or replace the one of the same range. From then on its bytes may be acknowledged.

        :param upload: the upload in the edition that the piece belongs to.
        :param replaces: pieces that the new one covers; they are deleted from the ledger.
        :param marks: see `resumable.uploads.marks`.
        :param claim: given with the last missing piece: the upload becomes ``finishing``, and the caller is to make its
            object.
        :param stored_in: the multipart upload that a part was stored in: it has to be the upload's still.
        :return: the claim, if this call has made the upload ``finishing`` and nobody else had a claim to the key.
        :raises Ended: the upload takes no more pieces.
        :raises Superseded: the upload's bytes were begun anew, in a later edition.
        :raises Replaced: the upload has another multipart upload by now, or none.
        :raises Conflict: other bytes of the same range are stored.
        :raises Invalid: the piece ends beyond the upload's length.
        """
        values = {"upload_id": upload.id, **asdict(piece), "marks": marks}
        touched = {
            "this": upload.id,
            "of_edition": upload.edition,
            "up_to": piece.end,
            "stored_in": stored_in,
            "new_updated": now,
        }
        only = {"piece": True, "part": stored_in is not None}
        completer: dict[str, Any] = {"state": State.FINISHING.value, "received": now, "claim": claim}
        enter = partial(statements.enter_piece, part=piece.number is not None)

        def work(connection: Connection) -> tuple[bool, bool]:
            # The upload's row comes first: with that, a cancel and a new piece wait for each other on every database.
            alive = ours = False
            if claim is not None:
                finish = statements.change_upload((State.OPEN,), ("updated", *completer), **only)
                alive = ours = run(connection, finish, {**touched, **statements.changes(completer)}).count > 0
            if not alive:
                alive = run(connection, statements.change_upload(LIVE, ("updated",), **only), touched).count > 0
            # Delete before the new piece is entered: it may have the same range as one that it replaces.
            for old in replaces if alive else ():
                run(connection, statements.DELETE_PIECE, statements.piece_at(upload.id, old.first, old.end))
            if alive and not run(connection, enter(connection), values).count:
                check_same(connection, upload.id, piece)
            return alive, ours

        try:
            alive, ours = await self._database.write(work)
        except IntegrityError:
            if claim is None:
                raise
            # Another upload's object is being made under the key. This upload becomes finishing all the same, without a
            # claim.
            completer["claim"] = None
            alive, ours = await self._database.write(work)
        if not alive:
            raise await self._why_not(upload, piece, stored_in)
        return str(completer["claim"]) if ours and completer["claim"] else None

    async def _why_not(self, upload: Upload, piece: Piece, stored_in: str | None) -> Exception:
        """Return why a piece was not entered."""
        current = await self.get(upload.id)
        if current is None or not current.live:
            return Ended("the upload has ended")
        if current.edition != upload.edition:
            return Superseded("the client has begun anew with other bytes")
        if stored_in is not None and current.multipart_id != stored_in:
            return Replaced("the multipart upload that a part was stored in is gone")
        return Invalid(f"the upload has {current.length} bytes, fewer than {quote_briefly(piece.end)}")

    async def begin_anew(
        self,
        upload: Upload,
        cut: int,
        *,
        now: float,
        only: Collection[Piece] | None = None,
        multipart_gone: bool = False,
    ) -> Upload:
        """Begin the upload's bytes anew from offset `cut` on: pieces that end beyond it are deleted from the ledger.

        :param only: of the pieces beyond it these alone are deleted.
        :param multipart_gone: its multipart upload has been aborted.
        :return: the upload in its new edition. Nothing more can be added to the former one.
        :raises Superseded: somebody else has begun it anew, or all its bytes have come.
        """
        change = (
            update(uploads)
            .where(
                uploads.c.id == upload.id,
                uploads.c.edition == upload.edition,
                state_in([State.OPEN]),
                uploads.c.swarm.is_(False),
            )
            .values(edition=upload.edition + 1, updated=now, **({"multipart_id": None} if multipart_gone else {}))
            .returning(*uploads.c)
        )

        def work(connection: Connection) -> Upload | None:
            row = connection.execute(change).mappings().first()
            beyond = delete(pieces).where(pieces.c.upload_id == upload.id, pieces.c.end > cut)
            if row is not None and only is None:
                connection.execute(beyond)
            for old in only or () if row is not None else ():
                this = (pieces.c.first == old.first, pieces.c.end == old.end, pieces.c.etag == old.etag)
                connection.execute(beyond.where(*this))
            return None if row is None else as_upload(row)

        begun = await self._database.write(work)
        if begun is None:
            raise Superseded("somebody else is writing the upload")
        return begun

    async def marks(self, upload_id: str, first: int, end: int) -> bytes | None:
        """Return the marks of the piece ``[first, end)``; None if it has none, or there is no such piece."""
        which = statements.piece_at(upload_id, first, end)
        row = await self._database.read(lambda connection: run(connection, statements.MARKS, which).first(), quick=True)
        return None if row is None else row["marks"]

    async def move(
        self,
        upload: Upload,
        to: State,
        *,
        frm: Iterable[State],
        untouched_since: float | None = None,
        held: str | None = None,
        edition: int | None = None,
        said: Upload | None = None,
        **changes: Any,
    ) -> Upload | None:
        """Change the state by compare-and-set, and write the event that reports it.

        :param untouched_since: only if nobody has touched the upload since then.
        :param held: only if the upload has this claim.
        :param edition: only if the upload is in this edition.
        :param said: only if of the whole object nothing else is said than of this one: the CRC32C that it has to have, and the
            digests that it is read back for.
        :param changes: other columns to set. A ``claim`` is left out if another upload has a claim to the key.
        :return: the upload as the ledger has it now; None if its state was not in `frm`, or another condition did not
            hold.
        """
        values = {"state": to.value, "tries": 0, "due": None, **changes}
        change = statements.change_upload(
            tuple(frm),
            tuple(values),
            untouched=untouched_since is not None,
            held=held is not None,
            edition=edition is not None,
            said=said is not None,
            tells=True,
        )
        given = {"this": upload.id, "since": untouched_since, "held": held, "of_edition": edition}
        if said is not None:
            crc32c, digests = said.expected_crc32c, said.remembered.get(READ_BACK)
            given |= {"said_crc32c": -1 if crc32c is None else crc32c, "said_digests": digests or ""}

        def work(connection: Connection) -> tuple[Upload | None, bool]:
            row = run(connection, change, {**given, **statements.changes(values)}).first()
            if row is None:
                return None, False
            moved = as_upload(row)
            if self._announce is None:
                return moved, False
            # There may be ten thousand pieces. Only the event of an upload that ended without an object needs them.
            stored = [] if to in (State.FINISHING, State.FINISHED) else stored_pieces(connection, upload.id)
            return moved, self._tell(connection, moved, stored)

        try:
            moved, told = await self._database.write(work, single=self._announce is None)
        except IntegrityError:
            if values.get("claim") is None:
                raise
            values["claim"] = None
            moved, told = await self._database.write(work, single=self._announce is None)
        if moved is not None:
            self._metrics.moved(moved.protocol, to)
        if told:
            self.announced()
        return moved

    async def mark_fragmented(self, upload: Upload, *, claim: str | None) -> bool:
        """Note that the upload may have fragments. Has to come before the first is stored.

        :param claim: the caller's claim to the upload's key. It is given up, since the object is not made yet.
        :return: whether it is certain that this was not noted before, and there are none.
        :raises Ended: the upload has ended.
        """
        given = {"this": upload.id, "given_up": claim}

        def work(connection: Connection) -> tuple[bool, bool]:
            # (A repeated transaction finds its own note, and takes it for somebody else's.)
            first = run(connection, statements.FRAGMENT_FIRST, given).count > 0
            return first, first or run(connection, statements.FRAGMENT_UPLOAD, given).count > 0

        first, noted = await self._database.write(work, single=True)
        if not noted:
            raise Ended("the upload has ended")
        return first

    async def _set(self, upload_id: str, states: Iterable[State], **values: Any) -> bool:
        """Set columns of an upload if it is in one of the states. Return whether it was."""
        change = statements.change_upload(tuple(states), tuple(values))
        given = {"this": upload_id, **statements.changes(values)}
        return bool(await self._database.write(lambda connection: run(connection, change, given).count, single=True))

    async def open_to_many(self, upload_id: str) -> None:
        """Note that many connections may write the upload at once."""
        await self._set(upload_id, State, swarm=True)

    async def forget_name(self, upload_id: str) -> None:
        """Note that the name of the finished upload was freed: it is not found by that name any more."""
        await self._set(upload_id, (State.FINISHED,), nameless=True)

    async def refuse(self, upload_id: str) -> None:
        """Note that the client may not finish the upload, so that the service does not finish it by itself either."""
        await self._set(upload_id, (State.OPEN,), refused=True)

    async def claim(
        self, upload: Upload, claim: str, *, states: Iterable[State], stale: Holder | None = None
    ) -> Upload | Holder:
        """Claim the object under the upload's key, for the upload.

        :param claim: a word that was never used before.
        :param states: the upload has to be in one of these.
        :param stale: the holder that has given no sign of life for too long, and loses the claim.
        :return: the upload as it stands then if the claim is ours now, otherwise who has it.
        :raises Ended: the upload is in none of the states.
        """
        work = partial(claims.take, upload=upload, claim=claim, states=tuple(states), stale=stale)
        try:
            found = await self._database.write(work)
        except IntegrityError:
            return Holder(upload.id, "")  # somebody else was faster by a hair
        if isinstance(found, Holder) and not found.upload_id:
            raise Ended("the upload has ended")
        return found

    async def renew_claim(self, upload: Upload, former: str, claim: str) -> State | None:
        """Give a sign of life: replace the claim `former` with `claim`.

        :return: the upload's state, or None if the claim was lost.
        """
        work = partial(claims.renew, upload=upload, former=former, claim=claim)
        state = await self._database.write(work)
        return None if state is None else State(state)

    async def hand_claim_on(self, upload: Upload, claim: str, to: str, word: str) -> None:
        """Pass the claim, as `word`, to the upload `to` of the same key. Nobody renews it there."""
        await self._database.write(partial(claims.hand_on, upload=upload, claim=claim, to=to, word=word))

    async def unclaim(self, upload: Upload, claim: str) -> None:
        """Give the claim up. Nothing may be made or removed under it any more."""
        await self._database.write(partial(claims.give_up, upload_id=upload.id, claim=claim))

    async def freed(self, *ended: Upload) -> None:
        """Note that the store has nothing of these ended uploads any more, except the objects of those that are finished."""
        values = {"fragmented": False, "multipart_id": None}

        def work(connection: Connection) -> None:
            for upload in ended:
                # A partial upload may have come to its end while what is beside its object was freed: then its object is left.
                change = statements.change_upload((upload.state,), tuple(values))
                run(connection, change, {"this": upload.id, **statements.changes(values)})

        await self._database.write(work, single=len(ended) == 1)

    async def set_once(self, upload: Upload, **change: Any) -> Upload:
        """Set a column that nobody has set yet (``multipart_id``), and return the upload as it stands then.

        If somebody else was faster, their value stays: the caller has to look at what is returned.

        :raises Ended: the upload has ended.
        """
        ((column, value),) = change.items()

        def work(connection: Connection) -> Upload:
            connection.execute(
                update(uploads)
                .where(uploads.c.id == upload.id, uploads.c[column].is_(None), state_in(LIVE))
                .values({column: value})
            )
            (row,) = run(connection, UPLOAD, {"this": upload.id}).rows
            return as_upload(row)

        current = await self._database.write(work)
        if not current.live:
            raise Ended("the upload has ended")
        return current

    async def forget_multipart(self, upload: Upload, multipart_id: str) -> bool:
        """Forget a multipart upload that the store does not have any more. Say whether the open upload has another, or none.

        It is not forgotten if parts are acknowledged: they were in it.

        :raises Ended: the upload is gone.
        """

        def work(connection: Connection) -> bool:
            # The row is locked, so that no part is entered meanwhile.
            current = self._locked(connection, upload.id)
            if current.state is not State.OPEN:
                return False
            if current.multipart_id != multipart_id:
                return True
            parts = select(pieces.c.number).where(pieces.c.upload_id == upload.id, pieces.c.number.is_not(None))
            if connection.execute(parts.limit(1)).first() is not None:
                return False
            connection.execute(update(uploads).where(uploads.c.id == upload.id).values(multipart_id=None))
            return True

        return await self._database.write(work)

    async def declare(self, upload: Upload, length: int) -> Upload:
        """Set the upload's length (bytes) unless it is set, and return the upload as it stands then.

        :raises Invalid: bytes beyond it are stored, or another length was announced.
        :raises Ended: the upload has ended.
        """

        def work(connection: Connection) -> tuple[Upload, int]:
            # The row is locked: a piece entered at the same time either comes before and is seen here, or comes after
            # and is checked against the new length.
            current, end = self._locked(connection, upload.id), 0
            if current.length is None and current.live and current.announced in (None, length):
                end = self._stored_end(connection, upload.id)
                if end <= length:
                    connection.execute(update(uploads).where(uploads.c.id == upload.id).values(length=length))
                    current = evolve(current, length=length)
            return current, end

        current, end = await self._database.write(work)
        if not current.live:
            raise Ended("the upload has ended")
        if end > length:
            raise Invalid(f"more than {quote_briefly(length)} bytes are stored already")
        if current.length is None:
            raise Invalid(f"the upload was said to have {current.announced} bytes, not {quote_briefly(length)}")
        return current

    async def announce(self, upload: Upload, length: int) -> Upload:
        """Remember the upload's length (bytes) unless one was said before, and return the upload as it stands then.

        It does not end there yet: that is for `declare`.

        :raises Invalid: bytes beyond it are stored.
        :raises Ended: the upload has ended.
        """

        def work(connection: Connection) -> tuple[Upload, int]:
            current, end = self._locked(connection, upload.id), 0
            if current.announced is None and current.live:
                end = self._stored_end(connection, upload.id)
                if end <= length:
                    current = self._only_announced(connection, current, length)
            return current, end

        current, end = await self._database.write(work)
        if not current.live:
            raise Ended("the upload has ended")
        if end > length:
            raise Invalid(f"more than {quote_briefly(length)} bytes are stored already")
        return current

    async def hold(self, upload: Upload) -> Upload:
        """Take it back that the upload ends at its length, which is only announced from then on. Return it as it stands.

        One that is not open any more stays as it is: its last byte is stored.

        :raises Ended: the upload has ended.
        """

        def work(connection: Connection) -> Upload:
            current = self._locked(connection, upload.id)
            if current.length is None or current.state is not State.OPEN:
                return current
            return self._only_announced(connection, current, current.length)

        current = await self._database.write(work)
        if not (current.live or current.stored):
            raise Ended("the upload has ended")
        return current

    async def remember(self, upload: Upload, name: str, text: str) -> Upload:
        """Remember something of an upload (see `Upload.remembered`), unless something is remembered under that name already.

        :return: the upload as it stands then. The caller has to look which of the two it is.
        :raises Ended: the upload has ended.
        """

        def work(connection: Connection) -> Upload:
            current = self._locked(connection, upload.id)
            if name in current.remembered or not current.live:
                return current
            return self._remember(connection, current, name, text)

        current = await self._database.write(work)
        if not current.live:
            raise Ended("the upload has ended")
        return current

    @staticmethod
    def _locked(connection: Connection, upload_id: str) -> Upload:
        row = run(connection, UPLOAD_LOCKED, {"this": upload_id}).first()
        if row is None:
            raise Ended("the upload is gone")
        return as_upload(row)

    @staticmethod
    def _stored_end(connection: Connection, upload_id: str) -> int:
        """Return the end of the furthest piece, in bytes."""
        furthest = select(func.max(pieces.c.end)).where(pieces.c.upload_id == upload_id)
        return connection.execute(furthest).scalar() or 0

    def _only_announced(self, connection: Connection, upload: Upload, length: int) -> Upload:
        """Note the length as one that is only announced, and return the upload."""
        return self._remember(connection, upload, ANNOUNCED, str(length), length=None)

    @staticmethod
    def _remember(connection: Connection, upload: Upload, name: str, text: str, **changes: Any) -> Upload:
        """Note something of an upload, with other changes of its row. Return the upload."""
        changes["remembered"] = {**upload.remembered, name: text}
        connection.execute(update(uploads).where(uploads.c.id == upload.id).values(changes))
        return evolve(upload, **changes)
