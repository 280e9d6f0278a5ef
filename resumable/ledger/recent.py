"""The uploads that were finished last."""

from __future__ import annotations

from sqlalchemy import Connection, select

from resumable.ledger.database import Database
from resumable.ledger.rows import as_upload
from resumable.ledger.schema import uploads
from resumable.model import State, Upload


async def newest_finished(database: Database, limit: int) -> list[Upload]:
    """Return the finished uploads, the newest first; of those that have the same object the newest alone.

    :param limit: the most of them.
    :raises Unavailable: the database is in trouble.
    """
    # Every row is looked at: no index has this order, and the one who asks has a small ledger in memory.
    query = (
        select(uploads)
        .where(uploads.c.state == State.FINISHED.value)
        .order_by(uploads.c.finished.desc(), uploads.c.id.desc())
        .limit(4 * limit)
    )

    def work(connection: Connection) -> list[Upload]:
        return [as_upload(row) for row in connection.execute(query).mappings()]

    found: dict[tuple[str, str], Upload] = {}
    for upload in await database.read(work):
        found.setdefault((upload.bucket, upload.key), upload)
    return list(found.values())[:limit]
