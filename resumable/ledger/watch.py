"""What is asked of the ledger to watch it: whether it can be written, how many uploads there are, what is still to be told."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Select, delete, false, func, select

from resumable.ledger.database import Database
from resumable.ledger.queue import DUE
from resumable.ledger.schema import events, leases, uploads
from resumable.model import LIVE, State


async def alive(database: Database) -> None:
    """Write what changes nothing, in a transaction as every upload has them.

    A lock that somebody else holds is waited for, and a server that is away is tried again, as for any writer.

    :raises Unavailable: the database is in trouble.
    """

    def work(connection: Connection) -> None:
        connection.execute(delete(leases).where(false()))

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
