"""What is asked of the ledger to watch it: whether it can be written, how many uploads there are, what is still to be told."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Select, delete, func, select

from resumable.ledger.database import Database
from resumable.ledger.queue import DUE
from resumable.ledger.schema import events, leases, uploads
from resumable.ledger.statements import insert_into
from resumable.model import LIVE, State

#: What the rows begin with that are written to see whether one can be.
_ALIVE = "alive "
#: Seconds after which such a row is of a process that is gone.
_GONE = 86400.0


async def alive(database: Database, name: str, *, now: float) -> None:
    """Write a row, in a transaction as every upload has them: a disc that is full shows, and a server that only reads.

    A lock that somebody else holds is waited for, and a server that is away is tried again, as for any writer.

    :param name: the asking process's own. Nobody is to wait for a row that another one, which hangs, has locked.
    :param now: seconds since the epoch.
    :raises Unavailable: the database is in trouble.
    """

    def work(connection: Connection) -> None:
        # Once for each process: those that are gone.
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
    """How many uploads there are in each living state, for each protocol. Ended ones, which are most, are not looked at."""
    return (
        select(uploads.c.state, uploads.c.protocol, func.count())
        .where(uploads.c.state.in_([state.value for state in LIVE]))
        .group_by(uploads.c.state, uploads.c.protocol)
    )


def first_due() -> Select[Any]:
    """When the oldest event was created that is still to be delivered. Those that have come to their end are not looked at."""
    return select(func.min(events.c.created)).where(events.c.state == DUE)


async def count_live(database: Database) -> dict[tuple[State, str], int]:
    """How many uploads are in each living state, for each protocol; none are not named.

    :raises Unavailable: the database is in trouble.
    """
    rows = await database.read(lambda connection: connection.execute(counting()).all())
    return {(State(state), protocol): count for state, protocol, count in rows}


async def oldest_due(database: Database) -> float | None:
    """When the oldest event was created (seconds since the epoch) that is still to be delivered; None: there is none.

    :raises Unavailable: the database is in trouble.
    """
    return await database.read(lambda connection: connection.execute(first_due()).scalar())
