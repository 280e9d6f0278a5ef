"""Keeping track of multipart uploads that are being opened, where the store cannot list those that are left over."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from resumable.clock import now
from resumable.ledger.ledger import Ledger
from resumable.model import ObjectOptions, Unavailable, Upload
from resumable.stores.port import Store, StoreError, StoreUnavailable


class OpeningNotes:
    """Opens multipart uploads. If the store cannot list them, notes each before, until the ledger knows it or it is gone.

    A store that lists them costs nothing here: cleaning finds in the listing what nobody knows of.
    """

    _log = Logger()

    def __init__(self, ledger: Ledger, store: Store, clock: IReactorTime) -> None:
        self._ledger = ledger
        self._store = store
        self._clock = clock

    async def open(
        self, upload: Upload, key: str, options: ObjectOptions, *, overwrite: bool = True, joins: bool = False
    ) -> tuple[str | None, str]:
        """Open a multipart upload for an upload. Options as of `resumable.stores.port.Store.init_multipart_upload`.

        :return: the note, to be given to `close`, and the id of the multipart upload.
        :raises StoreError: the store refused, or was in trouble. If it may have opened one all the same, the note stays.
        """
        note = None
        if not self._store.limits.lists_uploads:
            note = await self._ledger.openings.begin(upload.id, upload.bucket, key, now=now(self._clock))
        try:
            opened = await self._store.init_multipart_upload(
                upload.bucket, key, options, overwrite=overwrite, joins=joins
            )
        except StoreUnavailable:
            raise
        except StoreError:
            await self.close(note)
            raise
        return note, opened

    async def identify(self, note: str | None, multipart_id: str) -> None:
        """Note the id of a multipart upload that the ledger will not know otherwise."""
        if note is not None:
            await self._ledger.openings.note(note, multipart_id)

    async def close(self, note: str | None) -> None:
        """Delete the note: the ledger knows the multipart upload, or it is gone. If that fails, cleaning does it."""
        if note is None:
            return
        try:
            await self._ledger.openings.forget([note])
        except Unavailable as error:
            self._log.info("a note of a multipart upload is not deleted yet: {error}", error=str(error))
