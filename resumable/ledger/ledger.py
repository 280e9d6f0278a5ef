"""The ledger: which uploads and pieces exist. SQLAlchemy Core, run in a thread pool of its own.

Every call is one transaction. A call that returned has been committed; one that raised `Unavailable` may or may not have
been, and all of them may be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Thread
from typing import Any, TypeVar

from attrs import asdict, evolve
from sqlalchemy import Connection, Engine, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import StaticPool
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from resumable.ledger.engine import open_engine, prepare
from resumable.ledger.schema import pieces, uploads
from resumable.model import LIVE, Ended, ObjectOptions, Piece, State, Unavailable, Upload

T = TypeVar("T")


class Taken(Exception):
    """There is a live upload of this owner and name already."""


class Ledger:
    """Uploads and pieces in SQL.

    :param url: SQLAlchemy database URL; ``sqlite://`` keeps it in memory.
    :param threads: how many statements run at a time (in memory: always one).
    """

    _log = Logger()

    def __init__(self, url: str, reactor: IReactorFromThreads, *, threads: int = 4) -> None:
        self._reactor = reactor
        self._engine: Engine = open_engine(url)
        self._reading = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        #: A database in memory is the one connection to it.
        self._in_memory = isinstance(self._engine.pool, StaticPool)
        if self._in_memory:
            threads = 1
        self._pool = ThreadPool(minthreads=0, maxthreads=threads, name="ledger")

    def prepare(self) -> None:
        """Create or check the tables; blocks, for the time before the reactor runs.

        :raises LedgerError: see `resumable.ledger.engine.prepare`.
        """
        prepare(self._engine)

    def release(self) -> None:
        """Give up open connections (a process about to fork must not hold any); the next call opens new ones."""
        if not self._in_memory:
            self._engine.dispose()

    def start(self) -> None:
        """Start the threads."""
        self._pool.start()

    async def close(self) -> None:
        """Wait for what runs, then close all connections."""
        # Joining threads blocks, so another thread has to do it.
        waiting: Deferred[None] = Deferred()

        def stop() -> None:
            self._pool.stop()
            self._engine.dispose()
            self._reactor.callFromThread(waiting.callback, None)

        Thread(target=stop, name="ledger-close").start()
        await waiting

    async def _run(self, engine: Engine, work: Callable[[Connection], T]) -> T:
        def in_thread() -> T:
            with engine.begin() as connection:
                return work(connection)

        try:
            return await deferToThreadPool(self._reactor, self._pool, in_thread)
        except IntegrityError:
            raise
        except DBAPIError as error:
            self._log.error("ledger: {error}", error=str(error.orig))
            raise Unavailable("the ledger did not answer") from None

    async def create(self, upload: Upload) -> None:
        """Enter a new upload.

        :raises Taken: a live upload of the same owner and name, of the seed's protocol, is there already.
        """
        values = {**asdict(upload), "state": upload.state.value}
        try:
            await self._run(
                self._engine, lambda connection: connection.execute(insert(uploads).values(values)) and None
            )
        except IntegrityError:
            raise Taken(f"{upload.owner!r} has a live upload {upload.name!r}") from None

    async def get(self, upload_id: str) -> Upload | None:
        """The upload, or None."""
        query = select(uploads).where(uploads.c.id == upload_id)
        return await self._one(query)

    async def find(self, owner: str, name: str, protocol: str) -> Upload | None:
        """The newest upload of this owner and name that was not given up (cancelled or expired), or None."""
        query = (
            select(uploads)
            .where(uploads.c.owner == owner, uploads.c.name == name, uploads.c.protocol == protocol)
            .where(uploads.c.state.not_in([State.CANCELLED.value, State.EXPIRED.value]))
            .order_by(uploads.c.created.desc())
            .limit(1)
        )
        return await self._one(query)

    async def _one(self, query: Any) -> Upload | None:
        row = await self._run(self._reading, lambda connection: connection.execute(query).mappings().first())
        return None if row is None else _upload(dict(row))

    async def pieces(self, upload_id: str) -> list[Piece]:
        """The upload's pieces, by their first byte."""
        query = select(pieces).where(pieces.c.upload_id == upload_id).order_by(pieces.c.first, pieces.c.end)
        rows = await self._run(self._reading, lambda connection: connection.execute(query).mappings().all())
        return [Piece(row["first"], row["end"], row["number"], row["etag"], row["crc32c"]) for row in rows]

    async def add_piece(
        self, upload_id: str, piece: Piece, *, now: float, replaces: Iterable[Piece] = (), complete: bool = False
    ) -> None:
        """Enter a stored piece, or replace the one of the same range; from here on it is acknowledged.

        :param replaces: pieces that it covers and that are struck out.
        :param complete: it was the last one missing: the upload becomes ``finishing``.

        :raises Ended: the upload takes no more pieces.
        """
        values = {"upload_id": upload_id, **asdict(piece)}
        change = {"updated": now, "state": State.FINISHING.value} if complete else {"updated": now}

        def work(connection: Connection) -> bool:
            # First the upload's row: on every database this makes a cancel and a piece wait for each other.
            alive = connection.execute(
                update(uploads).where(uploads.c.id == upload_id, _state_in(LIVE)).values(change)
            ).rowcount
            # Before the new one is entered: it may have the range of one that it replaces.
            for old in replaces if alive else ():
                connection.execute(
                    delete(pieces).where(
                        pieces.c.upload_id == upload_id, pieces.c.first == old.first, pieces.c.end == old.end
                    )
                )
            if alive:
                dialect: Any = postgresql if connection.dialect.name == "postgresql" else sqlite
                connection.execute(
                    dialect.insert(pieces)
                    .values(values)
                    .on_conflict_do_update(
                        index_elements=["upload_id", "first", "end"],
                        set_={"number": piece.number, "etag": piece.etag, "crc32c": piece.crc32c},
                    )
                )
            return bool(alive)

        if not await self._run(self._engine, work):
            raise Ended("the upload has ended")

    async def move(self, upload: Upload, to: State, *, frm: Iterable[State], **changes: Any) -> Upload | None:
        """Compare-and-set of the state: `upload` in state `to` with `changes`, or None if its state was none of `frm`."""
        statement = update(uploads).where(uploads.c.id == upload.id, _state_in(frm)).values(state=to.value, **changes)
        moved = await self._run(self._engine, lambda connection: connection.execute(statement).rowcount)
        return evolve(upload, state=to, **changes) if moved else None

    async def mark_fragmented(self, upload: Upload) -> Upload:
        """Note, before the first fragment is stored, that there may be some.

        :raises Ended: the upload has ended.
        """
        marked = await self._run(
            self._engine,
            lambda connection: (
                connection.execute(
                    update(uploads).where(uploads.c.id == upload.id, _state_in(LIVE)).values(fragmented=True)
                ).rowcount
            ),
        )
        if not marked:
            raise Ended("the upload has ended")
        return evolve(upload, fragmented=True)

    async def in_state(self, state: State, *, untouched_since: float) -> list[Upload]:
        """The uploads in a state that nobody has touched since then (seconds since the epoch), oldest first."""
        query = (
            select(uploads)
            .where(uploads.c.state == state.value, uploads.c.updated <= untouched_since)
            .order_by(uploads.c.updated)
        )
        rows = await self._run(self._reading, lambda connection: connection.execute(query).mappings().all())
        return [_upload(dict(row)) for row in rows]

    async def not_freed(self, *, untouched_since: float) -> list[Upload]:
        """Ended uploads that may still have something in the store, untouched since then (seconds since the epoch)."""
        ended = uploads.c.state.not_in([state.value for state in LIVE])
        parts = (uploads.c.state != State.FINISHED.value) & uploads.c.multipart_id.is_not(None)
        query = (
            select(uploads)
            .where(ended, parts | uploads.c.fragmented, uploads.c.updated <= untouched_since)
            .order_by(uploads.c.updated)
        )
        rows = await self._run(self._reading, lambda connection: connection.execute(query).mappings().all())
        return [_upload(dict(row)) for row in rows]

    async def freed(self, upload: Upload) -> None:
        """Nothing of the ended upload is in the store any more, but for its object if it is finished."""

        def work(connection: Connection) -> None:
            connection.execute(
                update(uploads).where(uploads.c.id == upload.id).values(fragmented=False, multipart_id=None)
            )

        await self._run(self._engine, work)

    async def set_once(self, upload: Upload, **change: Any) -> Upload:
        """Set a column that nobody has set yet (``length``, ``multipart_id``); returns the upload as it stands then.

        Where somebody was first, theirs stays: the caller looks at what came back.

        :raises Ended: the upload has ended.
        """
        ((column, value),) = change.items()

        def work(connection: Connection) -> Upload:
            connection.execute(
                update(uploads)
                .where(uploads.c.id == upload.id, uploads.c[column].is_(None), _state_in(LIVE))
                .values({column: value})
            )
            row = connection.execute(select(uploads).where(uploads.c.id == upload.id)).mappings().one()
            return _upload(dict(row))

        current = await self._run(self._engine, work)
        if not current.live:
            raise Ended("the upload has ended")
        return current


def _state_in(states: Iterable[State]) -> Any:
    return uploads.c.state.in_([state.value for state in states])


def _upload(row: dict[str, Any]) -> Upload:
    row["state"] = State(row["state"])
    row["options"] = ObjectOptions(**row["options"])
    return Upload(**row)
