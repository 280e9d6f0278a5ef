"""Freeing: uploads that have ended give back what they have in the store, but for their objects.

Nobody waits for that where an upload is finished. So those that were finished meanwhile are freed together, with few requests
to the store and one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from twisted.logger import Logger

from resumable.ledger.ledger import Ledger
from resumable.model import Unavailable, Upload
from resumable.stores.port import Store, StoreError
from resumable.tasks import BackgroundTasks, together
from resumable.uploads.fragments import Fragments
from resumable.uploads.release import release
from resumable.uploads.trouble import of_an_outage

#: How many are freed together at the most.
MOST = 100
#: How many wait for that at the most: some MB. The clock finds those that are left out.
WAITING = 1000
#: How many are freed at a time where something has gone wrong with those that were freed together.
AT_A_TIME = 4


class Freeing:
    """Frees uploads: one at once, or several later. What cannot be freed is tried again by the clock."""

    _log = Logger()

    def __init__(self, ledger: Ledger, store: Store, fragments: Fragments, background: BackgroundTasks) -> None:
        self._ledger = ledger
        self._store = store
        self._fragments = fragments
        self._background = background
        self._waiting: dict[str, Upload] = {}
        self._at_work = False

    async def free(self, upload_id: str) -> None:
        """Free what an upload has in the store, if it has ended."""
        # The row may have changed since the caller has read it.
        upload = await self._ledger.get(upload_id)
        if upload is not None and not upload.live:
            await self._free_alone(upload)

    def later(self, upload: Upload) -> None:
        """Free a finished upload in the background.

        :param upload: as the ledger has it. Nothing more comes to be in the store of one that is finished.
        """
        self._fragments.forget(upload.id)
        if len(self._waiting) >= WAITING:
            return
        self._waiting[upload.id] = upload
        if not self._at_work:
            self._at_work = True
            self._background.run(self._free_waiting)

    async def _free_waiting(self) -> None:
        try:
            while self._waiting:
                # In one order on all nodes: none waits for another's rows while it keeps its own.
                some = [self._waiting.pop(upload_id) for upload_id in sorted(self._waiting)[:MOST]]
                await self._free_together(some)
        finally:
            self._at_work = False

    async def _free_together(self, uploads: Sequence[Upload]) -> None:
        try:
            await self._fragments.sweep(*uploads)
            await self._ledger.freed(*uploads)
        except (StoreError, Unavailable):
            await together([partial(self._free_alone, upload) for upload in uploads], most=AT_A_TIME)

    async def _free_alone(self, upload: Upload) -> None:
        try:
            await release(self._store, self._fragments, upload)
            await self._ledger.freed(upload)
        except (StoreError, Unavailable) as error:
            tell = self._log.info if of_an_outage(error) else self._log.warn
            tell("upload {id} is not freed yet: {error}", id=upload.id, error=str(error))
