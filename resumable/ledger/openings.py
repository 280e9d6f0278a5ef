"""Multipart uploads that are being opened, noted before they are: for stores that cannot list those that are left over.

A row is there while it is not certain that the ledger knows the multipart upload. After a crash, or an answer that was
lost, it stays, and says under which key to look.
"""

from __future__ import annotations

from collections.abc import Collection
from secrets import token_hex

from attrs import frozen
from sqlalchemy import delete, insert, select, tuple_, update

from resumable.ledger.database import Database
from resumable.ledger.schema import openings


@frozen
class Opening:
    """A multipart upload that was to be opened.

    :ivar id: of the row.
    :ivar upload_id: for which upload.
    :ivar multipart_id: None where the store's answer is not known.
    :ivar begun: seconds since the epoch.
    """

    id: str
    upload_id: str
    bucket: str
    key: str
    multipart_id: str | None
    begun: float


class Openings:
    """The rows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, upload_id: str, bucket: str, key: str, *, now: float) -> str:
        """Note that a multipart upload is about to be opened. Return the row's id."""
        row = {"id": token_hex(8), "upload_id": upload_id, "bucket": bucket, "key": key, "begun": now}
        await self._database.write(lambda connection: connection.execute(insert(openings), row) and None)
        return str(row["id"])

    async def note(self, opening_id: str, multipart_id: str) -> None:
        """Note the id that the store has given to it."""
        change = update(openings).where(openings.c.id == opening_id).values(multipart_id=multipart_id)
        await self._database.write(lambda connection: connection.execute(change) and None)

    async def forget(self, opening_ids: Collection[str]) -> None:
        """Delete rows: nothing is left in the store that the ledger does not know of."""
        rows = delete(openings).where(openings.c.id.in_(opening_ids))
        await self._database.write(lambda connection: connection.execute(rows) and None)

    async def forget_before(self, begun: float) -> None:
        """Delete rows older than that (seconds since the epoch): what they are about could never be found."""
        rows = delete(openings).where(openings.c.begun < begun)
        await self._database.write(lambda connection: connection.execute(rows) and None)

    async def old(self, *, begun_before: float, most: int, after: Opening | None = None) -> list[Opening]:
        """Return the rows that have been there for long, the oldest first.

        :param begun_before: seconds since the epoch.
        :param after: only rows that follow this one in the order.
        """
        order = (openings.c.begun, openings.c.id)
        query = select(openings).where(openings.c.begun <= begun_before).order_by(*order).limit(most)
        if after is not None:
            query = query.where(tuple_(*order) > tuple_(after.begun, after.id))
        rows = await self._database.read(lambda connection: connection.execute(query).mappings().all())
        return [Opening(**row) for row in rows]
