"""Finishing: from stored parts to the object, so that it can be repeated after any accident."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from attrs import evolve
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from resumable.clock import now
from resumable.ledger.ledger import Ledger
from resumable.model import Ended, Exists, Piece, State, Unavailable, Upload
from resumable.stores.store import PartRef, Store, StoreError, StoreUnavailable
from resumable.uploads.checksum import combine
from resumable.uploads.fragments import Fragments
from resumable.uploads.grid import Grid
from resumable.uploads.release import delete_own_object, own_object

#: Seconds for which it is one node's to make an object, for which another waits for that, and between its looks. A node that
#: takes longer goes on: that two do it is a call too many, and no harm.
CLAIM = 5.0
WAIT = 60.0
LOOK = 0.2


class Finishing:
    """Makes objects of uploads whose chunks are all parts: ``open -> finishing -> finished``."""

    _log = Logger()

    def __init__(self, ledger: Ledger, store: Store, fragments: Fragments, clock: IReactorTime) -> None:
        self._ledger = ledger
        self._store = store
        self._fragments = fragments
        self._clock = clock

    async def finish(self, upload: Upload, *, ours: bool = False) -> tuple[Upload, bool]:
        """Complete the upload. Asking again, here or elsewhere, ends in the same object.

        :param ours: we have stored the last byte, and with that taken it upon us.
        :return: the upload, finished, and whether that was done here.
        :raises Unavailable: the store was in trouble for too long; the upload stays ``finishing``.
        :raises Ended: the upload was cancelled, or has failed for good.
        :raises Exists: the key is taken and may not be overwritten.
        """
        if upload.state is State.OPEN:
            present = now(self._clock)
            moved = await self._ledger.move(
                upload,
                State.FINISHING,
                frm=(State.OPEN,),
                updated=present,
                received=present,
                completing=present + CLAIM,
            )
            upload, ours = moved or await self._current(upload), moved is not None
        if not ours:
            upload = await self._our_turn(upload)
        if upload.state is State.FINISHED:
            return upload, False
        if upload.state is not State.FINISHING:
            raise Ended("the upload has ended")
        try:
            return await self._make(upload), True
        except Unavailable:
            with suppress(Unavailable):
                await self._ledger.unclaim(upload)
            raise

    async def _our_turn(self, upload: Upload) -> Upload:
        """Wait while another node makes the object; returns the upload as it stands when that is over, or falls to us."""
        deadline = self._clock.seconds() + WAIT
        while upload.state is State.FINISHING:
            present = now(self._clock)
            if await self._ledger.claim(upload, now=present, until=present + CLAIM):
                break
            if self._clock.seconds() > deadline:
                raise Unavailable("another node is making the object")
            await deferLater(self._clock, LOOK)
            upload = await self._current(upload)
        return upload

    async def _make(self, upload: Upload) -> Upload:
        parts = whole_parts(upload, await self._ledger.pieces(upload.id))
        etag = await self._complete(upload, parts)
        present = now(self._clock)
        crc = None if any(p.crc32c is None for p in parts) else combine((p.crc32c or 0, p.size) for p in parts)
        moved = await self._ledger.move(
            upload, State.FINISHED, frm=(State.FINISHING,), etag=etag, crc32c=crc, finished=present, updated=present
        )
        return moved or await self._beaten(upload)

    async def _current(self, upload: Upload) -> Upload:
        current = await self._ledger.get(upload.id)
        if current is None:
            raise Ended("the upload is gone")
        return current

    async def _beaten(self, upload: Upload) -> Upload:
        """Somebody else moved the upload on while it was being completed."""
        current = await self._current(upload)
        if current.state is not State.FINISHED:
            await delete_own_object(self._store, upload)
            raise Ended("the upload has ended")
        return current

    async def _complete(self, upload: Upload, parts: Sequence[Piece]) -> str:
        """CompleteMultipartUpload, and what to make of its refusals; returns the ETag."""
        try:
            try:
                return await self._ask(upload, parts)
            except StoreError as error:
                if error.code != "InvalidPart":
                    raise
                # The ledger's ETag is not the store's: two have written the part. The bytes are the same.
                return await self._ask(upload, await self._refreshed(upload, parts))
        except StoreUnavailable as error:
            raise Unavailable(f"the store is in trouble: {error.code}") from error
        except StoreError as error:
            return await self._refused(upload, error)

    async def _ask(self, upload: Upload, parts: Sequence[Piece]) -> str:
        assert upload.multipart_id is not None
        refs = [PartRef(part.number or 0, part.etag, part.crc32c) for part in parts]
        return await self._store.complete_multipart_upload(
            upload.bucket, upload.key, upload.multipart_id, refs, overwrite=upload.overwrite
        )

    async def _refreshed(self, upload: Upload, parts: Sequence[Piece]) -> list[Piece]:
        """The parts with the ETags that the store has."""
        assert upload.multipart_id is not None
        stored = {p.number: p for p in await self._store.list_parts(upload.bucket, upload.key, upload.multipart_id)}
        fresh = []
        for part in parts:
            found = stored.get(part.number or 0)
            if found is None or found.size != part.size:
                raise StoreError("InvalidPart", f"part {part.number} is not what was stored")
            fresh.append(evolve(part, etag=found.etag))
        return fresh

    async def _refused(self, upload: Upload, error: StoreError) -> str:
        """The store will not complete. If that is because it has done so already, the object's ETag."""
        if error.code in ("NoSuchUpload", "PreconditionFailed"):
            try:
                found = await own_object(self._store, upload)
            except StoreError as trouble:
                raise Unavailable(f"the store is in trouble: {trouble.code}") from trouble
            if found is not None and found.size == upload.length:
                return found.etag
        if error.status in (401, 403):
            # A matter of credentials or policy, which the operator mends; the parts are there.
            self._log.error("store refused: {error} (upload {id})", error=str(error), id=upload.id)
            raise Unavailable(f"the store refused: {error.code}") from error
        reason = "the key is taken" if error.code == "PreconditionFailed" else f"the store refused to complete: {error}"
        present = now(self._clock)
        if (
            await self._ledger.move(upload, State.FAILED, frm=(State.FINISHING,), reason=reason, updated=present)
            is None
        ):
            return (await self._beaten(upload)).etag or ""
        self._log.error("upload failed id={id}: {reason}", id=upload.id, reason=reason)
        if error.code == "PreconditionFailed":
            raise Exists(f"there is an object {upload.key!r} already") from error
        raise Ended(reason) from error


def whole_parts(upload: Upload, pieces: Sequence[Piece]) -> list[Piece]:
    """The parts 1..n of the upload's grid, in order.

    :raises ValueError: they are not all there. Completing then would make an object that is not what the client sent.
    """
    grid = Grid(upload.chunk_size, upload.length)
    parts = {piece.number: piece for piece in pieces if piece.number is not None}
    run = []
    for number in range(1, grid.count + 1):
        part = parts.get(number)
        if part is None or (part.first, part.end) != (grid.first_of(number), grid.end_of(number)):
            raise ValueError(f"upload {upload.id} cannot be completed: part {number} is missing or not whole")
        run.append(part)
    return run
