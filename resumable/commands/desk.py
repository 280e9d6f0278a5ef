"""What commands work on: the ledger that the service uses, and its own code for what changes an upload."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from resumable.commands.frame import Failed, one_line
from resumable.ledger.chores import Chores
from resumable.ledger.database import Database
from resumable.ledger.engine import LedgerError
from resumable.ledger.ledger import Ledger
from resumable.ledger.listing import Listing
from resumable.model import Upload
from resumable.service import make_policy, make_store, make_tools
from resumable.settings import Settings
from resumable.uploads.desk import Desk
from resumable.uploads.events import Announcer


@contextmanager
def open_listing(settings: Settings) -> Iterator[Listing]:
    """The ledger, for reading.

    :raises Failed: it cannot be read.
    """
    try:
        listing = Listing(settings.ledger.reveal())
    except LedgerError as error:
        raise Failed(f"ledger {settings.ledger}: {one_line(str(error))}") from None
    try:
        yield listing
    finally:
        listing.close()


async def cancel(settings: Settings, upload: Upload, reactor: Any) -> None:
    """Cancel the upload as the service does; what cannot be freed just now the service frees later.

    The application hears of it, if it wants to, from the service: the event is in the ledger.

    :raises resumable.stores.store.StoreUnavailable: there are no credentials for the store; nothing was done.
    :raises resumable.model.Unavailable: the ledger was in trouble.
    """
    store = make_store(settings.store, reactor)
    database = Database(settings.ledger.reveal(), reactor)
    database.start()
    try:
        await store.start()
        ledger = Ledger(database, Announcer(settings.events.types if settings.events is not None else ()))
        tools = make_tools(settings, ledger, store, reactor, await Chores(database).identity())
        await Desk(tools, make_policy(settings)).cancel(upload)
    finally:
        await store.close()
        await database.close()
