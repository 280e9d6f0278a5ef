"""What operators read in the ledger, and a trial of it. All of it blocks: it is for commands, not for the service."""

from __future__ import annotations

import os
import pwd
from collections.abc import Collection, Iterable
from contextlib import suppress
from secrets import token_hex
from typing import Any

from alembic.migration import MigrationContext
from attrs import frozen
from sqlalchemy import Engine, Select, and_, delete, false, func, insert, or_, select, update
from sqlalchemy.exc import DBAPIError

from resumable.database_url import read_database_url
from resumable.ledger.engine import LedgerError, bring_up_to_date, open_engine, prepare
from resumable.ledger.rows import as_upload
from resumable.ledger.schema import metadata, pieces, uploads
from resumable.model import NotFound, Piece, State, Upload
from resumable.quoting import quote_briefly


@frozen
class Filter:
    """Which uploads are wanted. Fields that are None accept every upload.

    :ivar states: in one of these; empty for any.
    :ivar untouched_since: only those that nothing has happened to since then (seconds since the epoch).
    """

    states: Collection[State] = ()
    owner: str | None = None
    untouched_since: float | None = None


class Listing:
    """Reads uploads and pieces.

    :raises LedgerError: the ledger cannot be used, or cannot be read from this process.
    """

    def __init__(self, url: str) -> None:
        parsed = read_database_url(url)
        if parsed.get_backend_name() == "sqlite":
            if parsed.database in (None, "", ":memory:"):
                raise LedgerError("is in the memory of the service, and nobody else can read it")
            # Opening it would create an empty ledger in the wrong place, which would answer that there are no uploads.
            if not os.path.exists(str(parsed.database)):
                raise LedgerError(f"{parsed.database}: no such file in {os.getcwd()}; run this where the service runs")
        self._engine: Engine = open_engine(url)
        prepare(self._engine)
        self._reading = self._engine.execution_options(isolation_level="AUTOCOMMIT")

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def uploads(self, wanted: Filter, *, limit: int, after: Upload | None = None) -> list[Upload]:
        """Return at most `limit` uploads, the newest first; `after` is the last one of the page before."""
        query = select(uploads).order_by(uploads.c.created.desc(), uploads.c.id.desc()).limit(limit)
        if wanted.states:
            query = query.where(uploads.c.state.in_([state.value for state in wanted.states]))
        if wanted.owner is not None:
            query = query.where(uploads.c.owner == wanted.owner)
        if wanted.untouched_since is not None:
            query = query.where(uploads.c.updated <= wanted.untouched_since)
        if after is not None:
            same = and_(uploads.c.created == after.created, uploads.c.id < after.id)
            query = query.where(or_(uploads.c.created < after.created, same))
        return self._uploads(query)

    def upload(self, id_or_beginning: str) -> Upload:
        """Return the one upload whose id is this or begins with it.

        :raises NotFound: there is none, or more than one.
        """
        found = self._uploads(select(uploads).where(uploads.c.id == id_or_beginning))
        if not found:
            # Not LIKE, which ignores case in SQLite.
            beginning = func.substr(uploads.c.id, 1, len(id_or_beginning)) == id_or_beginning
            found = self._uploads(select(uploads).where(beginning).limit(2))
        if not found or not id_or_beginning:
            raise NotFound(f"no upload {quote_briefly(id_or_beginning)}")
        if len(found) > 1:
            raise NotFound(f"more than one upload begins with {quote_briefly(id_or_beginning)}")
        return found[0]

    def _uploads(self, query: Select[Any]) -> list[Upload]:
        with self._reading.connect() as connection:
            return [as_upload(row) for row in connection.execute(query).mappings()]

    def pieces(self, ids: Iterable[str]) -> dict[str, list[Piece]]:
        """Return the pieces of each upload, by its id, ordered by their first byte."""
        found: dict[str, list[Piece]] = {upload_id: [] for upload_id in ids}
        query = select(pieces).where(pieces.c.upload_id.in_(found)).order_by(pieces.c.first, pieces.c.end)
        with self._reading.connect() as connection:
            for row in connection.execute(query).mappings():
                piece = Piece(row["first"], row["end"], row["number"], row["etag"], row["crc32c"])
                found[row["upload_id"]].append(piece)
        return found


def try_out(url: str) -> str:
    """Open the ledger as the service does, and write to each table. Return the tables' version. Nothing stays of it.

    Tables that are missing or old are made and then taken back. A file that is not there yet is tried with another one
    beside it, which is removed.

    :raises LedgerError: it cannot be used; the message says why.
    """
    parsed = read_database_url(url)
    path = _file_of(url)
    if path is None or os.path.exists(path):
        return _try_out(url)
    beside = f"{path}.check-{token_hex(4)}"
    try:
        return _try_out(parsed.set(database=beside).render_as_string(hide_password=False))
    finally:
        for ending in ("", "-wal", "-shm", "-journal"):
            with suppress(OSError):
                os.unlink(beside + ending)


def _try_out(url: str) -> str:
    engine, doing = open_engine(url), "opened"
    try:
        with engine.connect() as connection, connection.begin() as transaction:
            bring_up_to_date(connection)
            doing = "written"
            for table in metadata.sorted_tables:
                none: Any = select(table).where(false())
                connection.execute(insert(table).from_select(list(table.c), none))
                connection.execute(update(table).where(false()).values({column: column for column in table.c}))
                connection.execute(delete(table).where(false()))
            version = MigrationContext.configure(connection).get_current_revision() or "none"
            transaction.rollback()
            return version
    except DBAPIError as error:
        raise LedgerError(f"cannot be {doing}: {error.orig}") from None
    finally:
        engine.dispose()


def _file_of(url: str) -> str | None:
    """Return the path of a ledger in a file; None for any other."""
    parsed = read_database_url(url)
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        return None
    return parsed.database


def owner_of(url: str) -> str | None:
    """Return the user whose file, or whose folder, the ledger is, where that is another one than this process's.

    For root everything can be written, and so nothing is proven.
    """
    path = _file_of(url)
    if path is None:
        return None
    try:
        owner = os.stat(path if os.path.exists(path) else os.path.dirname(os.path.abspath(path))).st_uid
    except OSError:
        return None
    if owner == os.geteuid():
        return None
    try:
        return pwd.getpwuid(owner).pw_name
    except KeyError:
        return str(owner)
