"""An upload of one chunk: one request makes its object."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve

from resumable.metrics import Metrics
from resumable.model import State, Unavailable
from resumable.stores.port import PreconditionFailed, Store, StoreError
from resumable.uploads.claims import Claim
from resumable.uploads.completer import Completer
from resumable.uploads.marks import Marker
from resumable.uploads.policy import object_options
from resumable.uploads.readback import StoredBytes
from resumable.uploads.release import delete_own_object
from resumable.uploads.state import UploadState


class WholeObject:
    """Makes the object of an upload with one request.

    :ivar claim: to the upload's key, where that is had already: it was entered with the upload, or came with the last byte.
    """

    def __init__(
        self,
        state: UploadState,
        store: Store,
        stored: StoredBytes,
        completer: Completer,
        metrics: Metrics,
        claim: Claim | None,
    ) -> None:
        self._state = state
        self._store = store
        self._stored = stored
        self._completer = completer
        self._metrics = metrics
        self.claim = claim

    def is_all(self, number: int) -> bool:
        """Say whether the chunk is all of the object, so that one request makes it.

        A multipart upload that was opened while nobody knew the length would stay behind if it was not used.
        """
        upload = self._state.upload
        grid = self._state.grid
        return number == 1 and grid.end_of(1) == upload.length and grid.fits(1) and upload.multipart_id is None

    async def put(self, segments: Sequence[bytes], marker: Marker, edition: int) -> None:
        """Make the object of an upload of one chunk: one request, and it is finished.

        :param segments: all of the object's bytes.
        :param edition: of these bytes.
        :raises Superseded: somebody has begun anew meanwhile.
        """
        store, completer = self._store, self._completer
        upload = evolve(self._state.upload, edition=edition)
        await completer.check_expected(upload, marker.crc32c)
        claim = await self.claim_key()
        try:
            if claim.word != upload.claim:
                # It was not entered with the upload: the client knows the URL, and may have come to another node meanwhile.
                await self._state.learn_expected(claim.found)
                upload = evolve(self._state.upload, edition=edition)
                await completer.check_expected(upload, marker.crc32c)
            try:
                made = await claim.run(
                    store.put_object(
                        upload.bucket,
                        upload.key,
                        segments,
                        object_options(upload),
                        crc32c=marker.crc32c,
                        overwrite=upload.overwrite,
                        fence=claim,
                    )
                )
                there = await completer.check(upload, made, claim, marker.crc32c)
            except StoreError as error:
                # It may be our own, whose answer was lost; of these bytes, or of those that were there before them.
                taken = isinstance(error, PreconditionFailed)
                found = await completer.own_object(upload) if taken else None
                if found is None:
                    raise
                if not await self._stored.is_object(upload, found.etag, 0, marker.end, marker.crc32c):
                    await claim.run(delete_own_object(store, upload, claim))
                    raise Unavailable("an earlier object of the upload was in the way") from error
                there = found
            self._state.became(await completer.conclude(upload, there, claim, crc32c=marker.crc32c))
            self._metrics.durable(marker.end - self._state.coverage.overlap(0, marker.end))
        finally:
            await completer.claims.drop(claim)

    async def claim_ahead(self) -> None:
        """Claim the upload's key before the bytes are together."""
        self.claim = await self.claim_key()
        self.claim.found = None

    async def claim_key(self) -> Claim:
        """Claim the upload's key: by the claim that it was entered with, if nobody can have taken that."""
        claim, claims = self.take_claim(), self._completer.claims
        if claim is not None and claim.fresh:
            return claim
        await claims.drop(claim)
        return await claims.take(self._state.upload, (State.OPEN,))

    def take_claim(self) -> Claim | None:
        """Return the claim to the upload's key that came with the last byte, if there was one; once."""
        claim, self.claim = self.claim, None
        return claim
