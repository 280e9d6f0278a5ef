"""The statements that every upload needs, each built once: SQLAlchemy takes longer to build one than a database to run it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from sqlalchemy import Connection, and_, bindparam, exists, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from resumable.ledger.schema import events, pieces, uploads
from resumable.model import LIVE, State, Upload

#: Their parameter is ``this``: the upload's id.
UPLOAD = select(uploads).where(uploads.c.id == bindparam("this"))
PIECES = (
    select(*(column for column in pieces.c if column.name != "marks"))
    .where(pieces.c.upload_id == bindparam("this"))
    .order_by(pieces.c.first, pieces.c.end)
)


def state_in(states: Iterable[State]) -> Any:
    """The condition that an upload is in one of the states."""
    return uploads.c.state.in_([state.value for state in states])


#: The newest upload of ``owner``, ``name`` and ``protocol`` that was not given up.
NEWEST = (
    select(uploads)
    .where(
        uploads.c.owner == bindparam("owner"),
        uploads.c.name == bindparam("name"),
        uploads.c.protocol == bindparam("protocol"),
        uploads.c.state.not_in([State.CANCELLED.value, State.EXPIRED.value]),
    )
    .order_by(uploads.c.generation.desc())
    .limit(1)
)


def _anothers(of: Any) -> Any:
    stands = uploads.c.state.in_([*(state.value for state in LIVE), State.FINISHED.value])
    at = (uploads.c.bucket == bindparam("bucket"), uploads.c.key == bindparam("key"))
    return exists().where(*at, of, stands)


#: Whether another than ``owner`` has an upload that stands (live or finished) at ``bucket`` and ``key``. Those before and those
#: after the owner are looked for apart, so that an index has the owner's own left out, however many there are.
ANOTHERS = select(or_(_anothers(uploads.c.owner < bindparam("owner")), _anothers(uploads.c.owner > bindparam("owner"))))
#: In PostgreSQL, until the end of the transaction: nobody else looks whose the key ``at`` is.
LOCK_KEY = select(func.pg_advisory_xact_lock(func.hashtextextended(bindparam("at"), 0)))


def is_anothers(connection: Connection, upload: Upload) -> bool:
    """Whether another owner's upload stands under the key of `upload`.

    In a transaction that enters the upload the answer stays true to its end: SQLite has one that writes at a time.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(LOCK_KEY, {"at": f"{upload.bucket}/{upload.key}"})
    given = {"bucket": upload.bucket, "key": upload.key, "owner": upload.owner}
    return bool(connection.execute(ANOTHERS, given).scalar_one())


def insert_into(dialect: str, table: Any) -> Any:
    """An INSERT that knows ON CONFLICT, as both databases have it."""
    of: Any = postgresql if dialect == "postgresql" else sqlite
    return of.insert(table)


def enter_upload(connection: Connection) -> Any:
    """INSERT an upload, given as its columns but ``generation``, and ``of_owner``, ``of_name``; unless it is there."""
    return _enter_upload(connection.dialect.name)


@cache
def _enter_upload(dialect: str) -> Any:
    former = uploads.alias("former")
    same = (former.c.owner == bindparam("of_owner"), former.c.name == bindparam("of_name"))
    following = select(func.coalesce(func.max(former.c.generation), 0) + 1).where(*same).scalar_subquery()
    entered = insert_into(dialect, uploads).values(generation=following)
    return entered.on_conflict_do_nothing(index_elements=["id"])


def enter_event(connection: Connection) -> Any:
    """INSERT an event, given as its columns, unless it is there."""
    return _enter(connection.dialect.name, events)


@cache
def _enter(dialect: str, table: Any) -> Any:
    return insert_into(dialect, table).on_conflict_do_nothing(index_elements=["id"])


def enter_piece(connection: Connection, *, part: bool) -> Any:
    """INSERT a piece, given as its columns, or replace what is said of the one of the same range, if that has the same bytes.

    :param part: it is one; a fragment replaces no part, which stays one: the fragment of its range, if it was that, is being
        deleted elsewhere.
    """
    return _enter_piece(connection.dialect.name, part)


@cache
def _enter_piece(dialect: str, part: bool) -> Any:
    entered = insert_into(dialect, pieces)
    said = {name: entered.excluded[name] for name in ("number", "etag", "crc32c", "marks")}
    same = or_(pieces.c.crc32c.is_(None), pieces.c.crc32c == entered.excluded.crc32c)
    which = same if part else and_(same, pieces.c.number.is_(None))
    return entered.on_conflict_do_update(index_elements=["upload_id", "first", "end"], set_=said, where=which)


@cache
def change_upload(
    states: tuple[State, ...],
    columns: tuple[str, ...],
    *,
    untouched: bool = False,
    held: bool = False,
    piece: bool = False,
    edition: bool = False,
    tells: bool = False,
) -> Any:
    """UPDATE columns of the upload ``this`` if it is in one of the states; parameters: see `changes`.

    :param untouched: only if nobody has touched it since ``since``.
    :param held: only while its claim is ``held``.
    :param piece: only if a piece of edition ``of_edition`` that ends at ``up_to`` belongs to it.
    :param edition: only in edition ``of_edition``.
    :param tells: the row comes back as it is then.
    """
    which = [uploads.c.id == bindparam("this"), state_in(states)]
    if untouched:
        which.append(uploads.c.updated <= bindparam("since"))
    if held:
        which.append(uploads.c.claim == bindparam("held"))
    if piece:
        fits = or_(uploads.c.length.is_(None), uploads.c.length >= bindparam("up_to"))
        which.append(fits)
    if piece or edition:
        which.append(uploads.c.edition == bindparam("of_edition"))
    change = update(uploads).where(*which).values({name: bindparam(f"new_{name}") for name in columns})
    return change.returning(*uploads.c) if tells else change


def changes(values: dict[str, Any]) -> dict[str, Any]:
    """The parameters of `change_upload` for new values of columns."""
    return {f"new_{name}": value for name, value in values.items()}
