"""The statements that every upload needs.

Each is built once, and goes through `resumable.ledger.direct.run`: to build one takes SQLAlchemy longer than the database
needs for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from sqlalchemy import Connection, and_, bindparam, case, delete, exists, func, not_, or_, select, true, update
from sqlalchemy.dialects import postgresql, sqlite

from resumable.ledger.direct import run
from resumable.ledger.schema import events, pieces, uploads
from resumable.model import LIVE, READ_BACK, State

#: The upload with the id ``this``, a parameter of the next statements.
THIS = uploads.c.id == bindparam("this")
UPLOAD = select(uploads).where(THIS)
#: The same, and no other transaction changes it before this one has ended.
UPLOAD_LOCKED = UPLOAD.with_for_update()
PIECES = (
    select(*(column for column in pieces.c if column.name != "marks"))
    .where(pieces.c.upload_id == bindparam("this"))
    .order_by(pieces.c.first, pieces.c.end)
)
#: The piece that `piece_at` names.
_PIECE = (
    pieces.c.upload_id == bindparam("this"),
    pieces.c.first == bindparam("at_first"),
    pieces.c.end == bindparam("at_end"),
)
MARKS = select(pieces.c.marks).where(*_PIECE)
CRC32C = select(pieces.c.crc32c).where(*_PIECE)
DELETE_PIECE = delete(pieces).where(*_PIECE)


def state_in(states: Iterable[State]) -> Any:
    """Return the condition that an upload is in one of the states."""
    return uploads.c.state.in_([state.value for state in states])


#: Mark the upload fragmented, and take the claim ``given_up`` from it.
FRAGMENT_UPLOAD = (
    update(uploads)
    .where(THIS, state_in(LIVE))
    .values(fragmented=True, claim=case((uploads.c.claim == bindparam("given_up"), None), else_=uploads.c.claim))
)
#: The same, if it is not marked yet.
FRAGMENT_FIRST = FRAGMENT_UPLOAD.where(uploads.c.fragmented.is_(False))


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
#: The newest one whose object was made.
NEWEST_FINISHED = NEWEST.where(uploads.c.state == State.FINISHED.value)


def _anothers(of: Any) -> Any:
    stands = uploads.c.state.in_([*(state.value for state in LIVE), State.FINISHED.value])
    at = (uploads.c.bucket == bindparam("bucket"), uploads.c.key == bindparam("key"))
    return exists().where(*at, of, stands)


#: Whether another owner than ``of_owner`` has a live or finished upload at ``bucket`` and ``key``. Owners that sort before
#: and after this one are looked for separately. So the index skips the owner's own uploads, however many there are.
ANOTHERS = or_(_anothers(uploads.c.owner < bindparam("of_owner")), _anothers(uploads.c.owner > bindparam("of_owner")))
#: PostgreSQL: lock the key ``at`` until the end of the transaction, so that nobody else checks its owner meanwhile. (SQLite
#: has one writer at a time.)
LOCK_KEY = select(func.pg_advisory_xact_lock(func.hashtextextended(bindparam("at"), 0)))


def insert_into(dialect: str, table: Any) -> Any:
    """Return an INSERT with support for ON CONFLICT, in the database's dialect."""
    of: Any = postgresql if dialect == "postgresql" else sqlite
    return of.insert(table)


def enter_upload(connection: Connection, values: Mapping[str, Any], *, chosen: bool) -> bool:
    """Enter an upload, unless it is there. Return whether the key is free for it: if not, it is not entered.

    :param values: of all columns but ``generation``.
    :param chosen: whether it may have a key that another owner has.
    """
    if not chosen and connection.dialect.name == "postgresql":
        run(connection, LOCK_KEY, {"at": f"{values['bucket']}/{values['key']}"})
    enter = _enter_upload(connection.dialect.name, tuple(values), chosen)
    given = {**values, "of_owner": values["owner"], "of_name": values["name"]}
    if run(connection, enter, given).rows or chosen:
        return True
    # A repeated transaction finds its own row.
    return bool(run(connection, UPLOAD, {"this": values["id"]}).rows)


@cache
def _enter_upload(dialect: str, columns: tuple[str, ...], chosen: bool) -> Any:
    former = uploads.alias("former")
    same = (former.c.owner == bindparam("of_owner"), former.c.name == bindparam("of_name"))
    following = select(func.coalesce(func.max(former.c.generation), 0) + 1).where(*same).scalar_subquery()
    row = select(*(bindparam(name, type_=uploads.c[name].type) for name in columns), following)
    # (SQLite does not understand ON CONFLICT after a SELECT without WHERE.)
    row = row.where(true() if chosen else not_(ANOTHERS))
    entered = insert_into(dialect, uploads).from_select([*columns, "generation"], row)
    # (Of an INSERT ... SELECT not every driver tells how many rows there were.)
    return entered.on_conflict_do_nothing(index_elements=["id"]).returning(uploads.c.id)


def enter_event(connection: Connection) -> Any:
    """Return an INSERT of an event, unless it is there. Its parameters are the columns."""
    return _enter(connection.dialect.name, events)


@cache
def _enter(dialect: str, table: Any) -> Any:
    return insert_into(dialect, table).on_conflict_do_nothing(index_elements=["id"])


def enter_piece(connection: Connection, *, part: bool) -> Any:
    """Return an INSERT of a piece, or an UPDATE of the piece of the same range if that has the same bytes.

    Its parameters are the columns.

    :param part: whether the piece is a part. A fragment never replaces a part of the same range, because the fragment
        that the part was made of may be on its way to being deleted.
    """
    return _enter_piece(connection.dialect.name, part)


@cache
def _enter_piece(dialect: str, part: bool) -> Any:
    entered = insert_into(dialect, pieces)
    said = {name: entered.excluded[name] for name in ("number", "etag", "crc32c", "marks")}
    same = or_(pieces.c.crc32c.is_(None), pieces.c.crc32c == entered.excluded.crc32c)
    which = same if part else and_(same, pieces.c.number.is_(None))
    return entered.on_conflict_do_update(index_elements=["upload_id", "first", "end"], set_=said, where=which)


def piece_at(upload_id: str, first: int, end: int) -> dict[str, Any]:
    """Return the parameters of `MARKS`, `CRC32C` and `DELETE_PIECE` for the piece ``[first, end)``."""
    return {"this": upload_id, "at_first": first, "at_end": end}


@cache
def change_upload(
    states: tuple[State, ...],
    columns: tuple[str, ...],
    *,
    untouched: bool = False,
    held: bool = False,
    piece: bool = False,
    part: bool = False,
    edition: bool = False,
    said: bool = False,
    tells: bool = False,
) -> Any:
    """Return an UPDATE of columns of the upload ``this``, if it is in one of the states.

    `changes` makes the new values.

    :param untouched: only if nobody has touched it since ``since``.
    :param held: only if its claim is ``held``.
    :param piece: only if it takes a piece of edition ``of_edition`` that ends at ``up_to`` (exclusive).
    :param part: only if it has the multipart upload ``stored_in``.
    :param edition: only in edition ``of_edition``.
    :param said: only if of the whole object nothing else is said than ``said_crc32c`` (-1: none) and ``said_digests`` (empty:
        none).
    :param tells: whether the statement returns the changed row.
    """
    which = [THIS, state_in(states)]
    if untouched:
        which.append(uploads.c.updated <= bindparam("since"))
    if held:
        which.append(uploads.c.claim == bindparam("held"))
    if piece:
        fits = or_(uploads.c.length.is_(None), uploads.c.length >= bindparam("up_to"))
        which.append(fits)
    if part:
        which.append(uploads.c.multipart_id == bindparam("stored_in"))
    if piece or edition:
        which.append(uploads.c.edition == bindparam("of_edition"))
    if said:
        which.append(func.coalesce(uploads.c.expected_crc32c, -1) == bindparam("said_crc32c"))
        which.append(func.coalesce(uploads.c.remembered[READ_BACK].as_string(), "") == bindparam("said_digests"))
    change = update(uploads).where(*which).values({name: bindparam(f"new_{name}") for name in columns})
    return change.returning(*uploads.c) if tells else change


def changes(values: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of `change_upload` for new values of columns."""
    return {f"new_{name}": value for name, value in values.items()}
