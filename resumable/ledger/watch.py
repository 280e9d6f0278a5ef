"""Watching the ledger: whether it can be written, how many uploads are live, and how old the oldest due event is."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Select, delete, func, select

from resumable.ledger.database import Database
from resumable.ledger.queue import DUE
from resumable.ledger.schema import events, leases, uploads
from resumable.ledger.statements import insert_into
from resumable.model import LIVE, State

#: The prefix of rows that are written only to see whether the ledger can be written.
_ALIVE = "alive "
#: Seconds after which such a row belongs to a process that is gone.
_GONE = 86400.0


async def alive(database: Database, name: str, *, now: float) -> None:
    """Write a row as an upload would, to find out whether the ledger can be written.

    It cannot if the disc is full, for example, or the server is read-only.

    As for any writer, locks are waited for, and a server that is away is tried again.

    :param name: of the calling process alone, so that it never waits for a row that a hanging process has locked.
    :param now: seconds since the epoch.
    :raises Unavailable: the database is in trouble.
    """

    def work(connection: Connection) -> None:
        # A process that writes for the first time deletes the rows of those that are gone.
        mine = connection.execute(select(leases.c.name).where(leases.c.name == _ALIVE + name)).first()
        if mine is None:
            gone = leases.c.name.startswith(_ALIVE, autoescape=True), leases.c.until < now
            connection.execute(delete(leases).where(*gone))
        written = insert_into(connection.dialect.name, leases).values(name=_ALIVE + name, until=now + _GONE)
        connection.execute(
            written.on_conflict_do_update(index_elements=["name"], set_={"until": written.excluded.until})
        )

    await database.write(work)


def counting() -> Select[Any]:
    """Return a query that counts live uploads by state and protocol. It does not read ended ones, which are most."""
    return (
        select(uploads.c.state, uploads.c.protocol, func.count())
        .where(uploads.c.state.in_([state.value for state in LIVE]))
        .group_by(uploads.c.state, uploads.c.protocol)
    )


def first_due() -> Select[Any]:
    """Return a query for when the oldest event that is still to be delivered was created.

    It does not read ended ones.
    """
    return select(func.min(events.c.created)).where(events.c.state == DUE)


async def count_live(database: Database) -> dict[tuple[State, str], int]:
    """Return how many live uploads there are, by state and protocol. Pairs without uploads are left out.

    :raises Unavailable: the database is in trouble.
    """
    rows = await database.read(lambda connection: connection.execute(counting()).all())
    return {(State(state), protocol): count for state, protocol, count in rows}


async def oldest_due(database: Database) -> float | None:
    """Return when the oldest event that is still to be delivered was created, or None if there is none.

    :return: seconds since the epoch.
    :raises Unavailable: the database is in trouble.
    """
    return await database.read(lambda connection: connection.execute(first_due()).scalar())
