"""What commands work with: the ledger of the service, and the service's own code for changing uploads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from resumable.assembly import Assembly
from resumable.commands.cli_common import Failed, one_line
from resumable.ledger.database import Database
from resumable.ledger.engine import LedgerError
from resumable.ledger.listing import Listing
from resumable.metrics import Metrics
from resumable.model import Upload
from resumable.settings import Settings
from resumable.stores.port import Store
from resumable.uploads.service import UploadService

#: Seconds that a command waits at its end for what is being freed in the store; the service frees the rest.
FREEING = 30.0


@contextmanager
def open_listing(settings: Settings) -> Iterator[Listing]:
    """Open the ledger for reading.

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


@asynccontextmanager
async def open_database(settings: Settings, reactor: Any) -> AsyncIterator[Database]:
    """Open and start the ledger's database.

    :raises Failed: it cannot be used.
    """
    with open_listing(settings):  # it explains what an operator may have got wrong
        database = Database(settings.ledger.reveal(), reactor)
    database.start()
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def open_uploads(settings: Settings, reactor: Any) -> AsyncIterator[tuple[UploadService, Store, Assembly]]:
    """Open the upload service, with its store and the assembly that made them.

    The application is told of changes by the running service, which finds the events in the ledger.

    :raises Failed: the ledger cannot be used.
    :raises resumable.stores.port.StoreUnavailable: there are no credentials for the store.
    """
    async with open_database(settings, reactor) as database:
        make = Assembly(settings, database, reactor, Metrics())
        store = make.store()
        try:
            await store.start()
            uploads = await make.uploads(make.ledger(), store)
            yield uploads, store, make
            await uploads.close(FREEING)
        finally:
            await store.close()


async def cancel(settings: Settings, upload: Upload, reactor: Any) -> None:
    """Cancel the upload as the service does. What cannot be freed now, the running service frees later.

    Errors as `open_uploads`.

    :raises resumable.model.Unavailable: the ledger could not be used just now.
    """
    async with open_uploads(settings, reactor) as (uploads, _, _):
        await uploads.cancel(upload)
