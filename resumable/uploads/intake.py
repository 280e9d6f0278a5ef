"""Intake: what becomes of each run of bytes of one upload, until it is stored and the ledger has it."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from resumable.ledger.ledger import Ledger
from resumable.model import Ended, Exists, Piece, State, Unavailable, Upload
from resumable.stores.store import Store, StoreError, StoreUnavailable
from resumable.uploads.flights import Flights
from resumable.uploads.grid import Grid
from resumable.uploads.policy import object_options
from resumable.uploads.release import delete_own_object, release
from resumable.uploads.stream import Run


class Intake:
    """Stores the runs of one upload, several at once, in any order.

    :ivar upload: the upload as it stands now.
    """

    _log = Logger()

    def __init__(self, upload: Upload, ledger: Ledger, store: Store, clock: IReactorTime) -> None:
        self.upload = upload
        self._ledger = ledger
        self._store = store
        self._clock = clock
        self._opening: Flights[Upload] = Flights()

    @property
    def grid(self) -> Grid:
        """The upload's grid, as far as its length is known."""
        return Grid(self.upload.chunk_size, self.upload.length)

    async def store(self, run: Run) -> None:
        """Store a run. When this returns, its bytes are acknowledged (a piece of a chunk is not kept yet).

        :raises Ended: the upload was cancelled meanwhile, or the store has lost it.
        :raises Exists: the key is taken and may not be overwritten.
        :raises Unavailable: the store or the ledger was in trouble for too long.
        """
        try:
            if run.first == 0 and run.end == self.upload.length:
                await self._put_whole(run)
            elif run.first == self.grid.first_of(run.number) and run.end == self.grid.end_of(run.number):
                await self._put_part(run)
        except StoreUnavailable as error:
            raise Unavailable(f"the store is in trouble: {error.code}") from error
        except StoreError as error:
            await self._refused(error)

    async def _put_whole(self, run: Run) -> None:
        """An upload of one chunk: one request, and it is finished."""
        upload = self.upload
        etag = await self._store.put_object(
            upload.bucket,
            upload.key,
            run.segments,
            object_options(upload),
            crc32c=run.crc32c,
            overwrite=upload.overwrite,
        )
        now = self._clock.seconds()
        moved = await self._ledger.move(
            upload, State.FINISHED, frm=(State.OPEN,), etag=etag, crc32c=run.crc32c, finished=now, updated=now
        )
        self.upload = moved or await self._beaten()

    async def _beaten(self) -> Upload:
        """Somebody else ended the upload while its object was being stored."""
        current = await self._ledger.get(self.upload.id)
        if current is not None and current.state is State.FINISHED:
            return current
        await delete_own_object(self._store, self.upload)
        raise Ended("the upload has ended")

    async def _put_part(self, run: Run) -> None:
        upload = await self._multipart()
        assert upload.multipart_id is not None
        etag = await self._store.upload_part(
            upload.bucket, upload.key, upload.multipart_id, run.number, run.segments, crc32c=run.crc32c
        )
        piece = Piece(run.first, run.end, run.number, etag, run.crc32c)
        try:
            await self._ledger.add_piece(upload.id, piece, now=self._clock.seconds())
        except Ended:
            # A part that arrives while its multipart upload is being aborted may survive: abort once more.
            await release(self._store, upload)
            raise

    async def _multipart(self) -> Upload:
        """The upload with its multipart upload open; the first of several runs opens it, the others wait."""
        if self.upload.multipart_id is None:
            self.upload = await self._opening.join(self.upload.id, self._open_multipart)
        return self.upload

    async def _open_multipart(self) -> Upload:
        upload = self.upload
        opened = await self._store.init_multipart_upload(upload.bucket, upload.key, object_options(upload))
        current = None
        try:
            current = await self._ledger.set_once(upload, multipart_id=opened)
        finally:
            if current is None or current.multipart_id != opened:
                await self._store.abort_multipart_upload(upload.bucket, upload.key, opened)
        return current

    async def _refused(self, error: StoreError) -> None:
        """The store said no for good: find out what that means for the upload."""
        upload = self.upload
        now = self._clock.seconds()
        if error.code == "PreconditionFailed":
            await self._ledger.move(upload, State.FAILED, frm=(State.OPEN,), reason="the key is taken", updated=now)
            raise Exists(f"there is an object {upload.key!r} already") from error
        if error.code == "NoSuchUpload":
            # Cancelled by somebody, or dropped by the store's own rules.
            reason = "the store has dropped the multipart upload"
            await self._ledger.move(upload, State.FAILED, frm=(State.OPEN,), reason=reason, updated=now)
            raise Ended("the upload has ended") from error
        self._log.error("store refused: {error} (upload {id})", error=str(error), id=upload.id)
        raise Unavailable(f"the store refused: {error.code}") from error
