"""What cleans up behind uploads in a test, as if a long time had passed."""

from __future__ import annotations

from twisted.internet import reactor

from resumable.ledger.database import Database
from resumable.ledger.maintenance import Maintenance
from resumable.ledger.queue import EventQueue
from resumable.upkeep.janitor import Janitor
from resumable.uploads.service import UploadService


def janitor_of(
    uploads: UploadService, database: Database, *, after: float, every: float = 1.0, keep: float = 1e6
) -> Janitor:
    """A janitor of the bucket ``bucket``; its times are in seconds, and may be less than 0."""
    return Janitor(
        uploads,
        Maintenance(database),
        EventQueue(database),
        uploads._store,
        reactor,  # type: ignore[arg-type]
        after=after,
        every=every,
        keep=keep,
        bucket="bucket",
        prefix=".resumable/",
    )
