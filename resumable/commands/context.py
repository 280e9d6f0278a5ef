"""What commands work on: the ledger that the service uses, and its own code for what changes an upload."""

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

#: Seconds given at the end to what is still being freed in the store; the service frees the rest.
FREEING = 30.0


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


@asynccontextmanager
async def open_database(settings: Settings, reactor: Any) -> AsyncIterator[Database]:
    """The ledger's database, running.

    :raises Failed: it cannot be used.
    """
    with open_listing(settings):  # which knows what an operator may have got wrong
        database = Database(settings.ledger.reveal(), reactor)
    database.start()
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def open_uploads(settings: Settings, reactor: Any) -> AsyncIterator[tuple[UploadService, Store, Assembly]]:
    """The desk as the service has it, with its store and what made them.

    What happens is told to the application by the service: the events are in the ledger.

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
    """Cancel the upload as the service does; what cannot be freed just now the service frees later.

    Errors as `open_uploads`.

    :raises resumable.model.Unavailable: the ledger was in trouble.
    """
    async with open_uploads(settings, reactor) as (uploads, _, _):
        await uploads.cancel(upload)
