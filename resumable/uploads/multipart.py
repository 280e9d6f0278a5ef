"""The multipart upload of an upload in the store: opened once, when its first part is to be stored."""

from __future__ import annotations

from resumable.model import Ended, Upload
from resumable.single_flight import SingleFlight
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
