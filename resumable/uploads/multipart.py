"""The multipart upload of an upload in the store: opened once, when its first part is to be stored."""

from __future__ import annotations

from resumable.model import Ended, Upload
from resumable.single_flight import SingleFlight
from resumable.stores.port import NoSuchUpload
from resumable.uploads.dependencies import Dependencies
from resumable.uploads.openings import OpeningNotes
from resumable.uploads.policy import object_options
from resumable.uploads.state import UploadState


class MultipartOpener:
    """Opens the multipart upload of one upload.

    :param joins: whether parts are made of objects that the store has, besides chunks that are too large for memory.
    """

    def __init__(self, state: UploadState, deps: Dependencies, *, joins: bool = False) -> None:
        self._joins = joins
        self._state = state
        self._ledger = deps.ledger
        self._store = deps.store
        self._notes = OpeningNotes(deps.ledger, deps.store, deps.clock)
        self._opening: SingleFlight[Upload] = SingleFlight()

    async def opened(self) -> Upload:
        """Return the upload with its multipart upload open; the first of several runs opens it, the others wait."""
        if self._state.upload.multipart_id is None:
            opened = await self._opening.join(None, self._open)
            self._state.change(multipart_id=opened.multipart_id, length=opened.length)
        return self._state.upload

    async def is_replaced(self, former: str | None) -> bool:
        """Say whether there is another multipart upload, or may be, because the store does not have this one.

        A process may have died, or an answer may have been lost, after all parts were dropped and the multipart upload was
        aborted, and before the ledger heard of it. Nothing that is acknowledged was in it then.

        :param former: the one that was to be written; None if it was not open yet.
        :raises StoreError: the store would not say what it has.
        """
        upload = self._state.upload
        if upload.multipart_id is None or former not in (None, upload.multipart_id):
            return True
        try:
            await self._store.list_parts(upload.bucket, upload.key, upload.multipart_id)
            # What was opened in between by whoever asks was another, then.
            return former is None
        except NoSuchUpload:
            if not await self._ledger.forget_multipart(upload, upload.multipart_id):
                return False
        if self._state.upload.multipart_id == upload.multipart_id:
            self._state.change(multipart_id=None)
        return True

    async def _open(self) -> Upload:
        upload, store = self._state.upload, self._store
        joins = self._joins or not self._state.grid.in_memory
        note, opened = await self._notes.open(
            upload, upload.key, object_options(upload), overwrite=upload.overwrite, joins=joins
        )
        # If the ledger does not answer, it may have the id all the same: parts are stored there then. Cleaning finds it
        # otherwise.
        try:
            current = await self._ledger.set_once(upload, multipart_id=opened)
        except Ended:
            await store.abort_multipart_upload(upload.bucket, upload.key, opened)
            raise
        if current.multipart_id != opened:
            await store.abort_multipart_upload(upload.bucket, upload.key, opened)
        await self._notes.close(note)
        return current
