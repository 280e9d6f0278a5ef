"""Finishing: from stored parts to the object, so that it can be repeated after any accident."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from attrs import evolve
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from resumable.clock import now
from resumable.crc32c_text import encode_crc32c
from resumable.ledger.ledger import Ledger
from resumable.model import LIVE, READ_BACK, Ended, Exists, Piece, Rejected, State, Superseded, Unavailable, Upload
from resumable.quoting import quote_briefly
from resumable.stores.faults import OperatorFaults
from resumable.stores.port import (
    CannotCopy,
    Damaged,
    Made,
    NoSuchUpload,
    NotFound,
    PartMismatch,
    PartRef,
    PreconditionFailed,
    Refused,
    Store,
    StoredObject,
    StoreError,
    StoreUnavailable,
)
from resumable.uploads.checksum import combine
from resumable.uploads.claims import Claim, Claims, new_claim
from resumable.uploads.expected import check_expected, fail, read_and_compare
from resumable.uploads.grid import Grid
from resumable.uploads.limiter import ReadBackLimiter
from resumable.uploads.release import delete_own_object, is_own
from resumable.uploads.trouble import in_trouble


class Completer:
    """Makes objects of uploads whose chunks are all parts: ``open -> finishing -> finished``.

    :ivar claims: to the keys of the objects that are made in this process.
    """

    _log = Logger()

    def __init__(
        self,
        ledger: Ledger,
        store: Store,
        clock: IReactorTime,
        faults: OperatorFaults,
        read_back: ReadBackLimiter,
    ) -> None:
        """:param read_back: limits the bytes that are read at a time to compare objects with their digests."""
        self._faults = faults
        self._read_back = read_back
        self._ledger = ledger
        self._store = store
        self._clock = clock
        self.claims = Claims(ledger, clock, self._settle)

    async def finish(self, upload: Upload, claim: Claim | None = None) -> tuple[Upload, bool]:
        """Complete the upload. Asking again, here or elsewhere, ends in the same object.

        :param claim: to its key, if that has come with the last byte.
        :return: the upload, finished, and whether that was done here.
        :raises Unavailable: the store was in trouble for too long; the upload stays ``finishing``.
        :raises Ended: the upload was cancelled, or has failed for good.
        :raises Exists: the key is taken and may not be overwritten.
        :raises NotAsExpected: what is stored is not what the client has said it is; the upload has failed.
        """
        if upload.state is State.OPEN:
            time, begun = now(self._clock), self._clock.seconds()
            moved = await self._ledger.move(
                upload,
                State.FINISHING,
                frm=(State.OPEN,),
                edition=upload.edition,
                updated=time,
                received=time,
                claim=new_claim(),
            )
            if moved is not None:
                claim = self.claims.of(moved, begun)
            upload = moved or await self._current(upload)
            if upload.state is State.OPEN:
                raise Superseded("the client has begun anew with other bytes")
        if upload.state is State.FINISHING and claim is None:
            try:
                claim = await self.claims.take(upload, (State.FINISHING,))
            except Ended:
                upload = await self._current(upload)
        if claim is None:
            if upload.state is State.FINISHED:
                return upload, False
            raise Ended("the upload has ended")
        try:
            return await self._make(upload, claim), True
        finally:
            await self.claims.drop(claim)

    async def _current(self, upload: Upload) -> Upload:
        current = await self._ledger.get(upload.id)
        if current is None:
            raise Ended("the upload is gone")
        return current

    async def _make(self, upload: Upload, claim: Claim) -> Upload:
        found = await self._ledger.whole(upload.id)
        try:
            parts = whole_parts(upload, [] if found is None else found[1])
        except ValueError as error:
            self._log.error("{error}", error=str(error))
            raise Unavailable("the ledger lacks parts of the upload") from None
        # The checksum may have been said on another node, after this one has read the upload.
        if found is not None:
            upload = evolve(upload, expected_crc32c=found[0].expected_crc32c, remembered=found[0].remembered)
        await self.check_expected(upload, combined(parts))
        made = await self._complete(upload, parts, claim)
        crc32c = combined(parts)
        if crc32c is None and upload.sources:
            crc32c = combined_objects(await self._ledger.partials.of(upload))
        return await self.conclude(upload, made, claim, crc32c=crc32c)

    async def conclude(self, upload: Upload, made: Made | StoredObject, claim: Claim, *, crc32c: int | None) -> Upload:
        """Note that the object was made under the claim, and return the upload, finished.

        :raises Ended: the upload was ended meanwhile; the object is removed again.
        :raises Superseded: somebody has begun anew meanwhile, on another node; the object is removed again.
        :raises NotAsExpected: it is not what the client has said it is; it is removed again, and the upload has failed.
        :raises Unavailable: the claim was lost, or the object cannot be read just now, as it has to be.
        """
        try:
            while True:
                if READ_BACK in upload.remembered:
                    await self._compare(upload, made.etag, claim)
                current = await self._conclude(upload, made, claim, crc32c)
                if current.state is State.FINISHED:
                    return current
                # While the object was made its client has said more of it, and was told that this counts.
                upload = evolve(upload, expected_crc32c=current.expected_crc32c, remembered=current.remembered)
                await self._check_late(upload, claim, crc32c)
        except Unavailable:
            claim.doubt()  # so that whoever has the key next looks what is there
            raise

    async def _conclude(self, upload: Upload, made: Made | StoredObject, claim: Claim, crc32c: int | None) -> Upload:
        """Note that the object was made, and return the upload, finished.

        It is returned as it is if its client has said more of the whole object meanwhile. Errors as `conclude`.
        """
        await claim.quiet()
        time = now(self._clock)
        moved = await self._ledger.move(
            upload,
            State.FINISHED,
            frm=(State.OPEN, State.FINISHING),
            held=claim.word,
            # Bytes of a former edition do not count. Of an upload that is finishing there is no other any more.
            edition=upload.edition if upload.state is State.OPEN else None,
            said=upload,
            claim=claim.left,
            etag=made.etag,
            object_generation=made.generation,
            crc32c=crc32c,
            finished=time,
            updated=time,
        )
        if moved is not None:
            claim.given_up = True
            return moved
        current = await self._current(upload)
        if current.state is State.FINISHED:
            return current
        anew = upload.state is State.OPEN and current.edition != upload.edition
        if current.live and current.claim == claim.word and not anew and _says_more(current, upload):
            return current
        if current.live and not anew:
            raise Unavailable("the claim to the object's key was lost")
        if current.claim == claim.word:
            claim.tidy_up()
            try:
                await claim.run(delete_own_object(self._store, upload, claim))
            except StoreError as error:
                claim.doubt()  # so that whoever has the key next looks again
                self._log.warn("object of {id} not removed yet: {error}", id=upload.id, error=str(error))
        raise (
            Superseded("the client has begun anew with other bytes") if current.live else Ended("the upload has ended")
        )

    async def _check_late(self, upload: Upload, claim: Claim, crc32c: int | None) -> None:
        """Compare the CRC32C of an object that was made with what was said of it meanwhile. Errors as `conclude`."""
        if upload.expected_crc32c in (None, crc32c):
            return
        claim.tidy_up()
        try:
            await claim.run(delete_own_object(self._store, upload, claim))
        except StoreError as error:
            raise in_trouble(error) from error
        await self.check_expected(upload, crc32c)

    async def _compare(self, upload: Upload, etag: str, claim: Claim) -> None:
        """Compare the object that was made under the claim with its digests: see `resumable.uploads.expected`.

        Errors as `conclude`.
        """
        try:
            wrong = await claim.run(read_and_compare(self._store, self._read_back, upload, etag))
            if wrong is None:
                return
            claim.tidy_up()
            await claim.run(delete_own_object(self._store, upload, claim))
        except Ended:
            return  # `_conclude` removes the object of an upload that has ended
        except StoreError as error:
            raise in_trouble(error) from error
        await fail(self._ledger, self._clock, upload, str(wrong))
        raise wrong

    async def check_expected(self, upload: Upload, crc32c: int | None) -> None:
        """See `resumable.uploads.expected.check_expected`."""
        await check_expected(self._ledger, self._clock, upload, crc32c)

    async def check(self, upload: Upload, made: Made, claim: Claim, crc32c: int | None) -> Made | StoredObject:
        """Return what is known of an object that was made under the claim, once it is certain that it is what was sent.

        :param crc32c: of the bytes that were sent; None if nobody knows.
        :raises Damaged: the store itself tells another one. The object is deleted.
        :raises StoreUnavailable: it is not what was sent, or nobody can say.
        """
        await self._check_told(upload, made.crc32c, claim, crc32c)
        if made.confirmed or None not in (made.crc32c, crc32c):
            return made
        try:
            found = await self._store.head_object(upload.bucket, upload.key)
        except StoreError:
            claim.doubt()
            raise
        if not is_own(found, upload) or found.size != upload.length:
            claim.doubt()
            size = "no object of ours" if found is None else f"{found.size} bytes"
            raise StoreUnavailable("NotStored", f"the store said that {upload.length} bytes are stored, and has {size}")
        await self._check_told(upload, found.crc32c, claim, crc32c)
        return found

    async def _check_told(self, upload: Upload, told: int | None, claim: Claim, crc32c: int | None) -> None:
        """Compare what the store tells of the object with what was sent. Errors as `check`."""
        if told is None or crc32c is None or told == crc32c:
            return
        claim.tidy_up()
        try:
            await claim.run(delete_own_object(self._store, upload, claim))
        except StoreError:
            claim.doubt()
            raise
        what = f"an object with the CRC32C {encode_crc32c(told)}, not {encode_crc32c(crc32c)}"
        raise Damaged("ObjectDamaged", f"it has made {what}")

    async def _settle(self, former: Upload, claim: Claim) -> None:
        """Settle what an upload whose claim was abandoned may have left under its key: see `Claims`."""
        if former.state is State.FINISHED:
            return
        try:
            if not former.live:
                await delete_own_object(self._store, former, claim)
                return
            found = await self._store.head_object(former.bucket, former.key)
            # Of several editions nobody can say whose it is; but of a multipart upload there is one object.
            sure = former.edition == 0 or former.multipart_id is not None
            if sure and is_own(found, former) and found.size == former.length:
                crc32c = combined(await self._ledger.pieces(former.id))
                wrong = await self._wrong(former, found, crc32c)
                if wrong is not None:
                    await delete_own_object(self._store, former, claim)
                    await fail(self._ledger, self._clock, former, wrong)
                    return
                time = now(self._clock)
                how: dict[str, Any] = {"etag": found.etag, "object_generation": found.generation}
                how |= {"crc32c": crc32c, "finished": time, "updated": time}
                await self._ledger.move(former, State.FINISHED, frm=(State.OPEN, State.FINISHING), **how)
        except StoreError as error:
            raise in_trouble(error) from error

    async def _wrong(self, upload: Upload, found: StoredObject, crc32c: int | None) -> str | None:
        """Return what is wrong with an upload's object that was found under its key; None: nothing, as far as is known.

        :param crc32c: of the bytes that were sent; None if nobody knows.
        """
        if None not in (found.crc32c, crc32c) and found.crc32c != crc32c:
            return "the store holds other bytes than it had confirmed"
        if READ_BACK in upload.remembered:
            wrong = await read_and_compare(self._store, self._read_back, upload, found.etag)
            return None if wrong is None else str(wrong)
        return None

    async def tidy_up(self, upload: Upload) -> None:
        """Wait for the claim of an upload that has ended, and remove an object that it has left under its key.

        :raises Unavailable: the store or the ledger was in trouble, or somebody else is at work there.
        :raises Ended: the upload has not ended.
        """
        claim = await self.claims.take(upload, tuple(state for state in State if state not in LIVE))
        try:
            await claim.run(self._settle(upload, claim))
        finally:
            await self.claims.drop(claim)

    # Complete

    async def _complete(self, upload: Upload, parts: Sequence[Piece], claim: Claim) -> Made | StoredObject:
        """Complete the multipart upload, make of refusals what they are, and return what is known of the object."""
        try:
            try:
                return await self._ask(upload, parts, claim)
            except PartMismatch:
                # The ledger's ETag is not the store's: two have written the part.
                return await self._ask(upload, await self._refreshed(upload, parts), claim)
        except StoreUnavailable as error:
            raise in_trouble(error) from error
        except StoreError as error:
            if isinstance(error, (NoSuchUpload, PreconditionFailed)):
                found = await self.own_object(upload)
                if found is not None:
                    claim.doubtful = claim.doubtful and not isinstance(error, NoSuchUpload)
                    try:
                        await self._check_told(upload, found.crc32c, claim, combined(parts))
                    except StoreUnavailable as trouble:
                        raise in_trouble(trouble) from trouble
                    except StoreError as damaged:
                        return await self.refused(upload, damaged)
                    return found
            return await self.refused(upload, error)

    async def _ask(self, upload: Upload, parts: Sequence[Piece], claim: Claim) -> Made | StoredObject:
        assert upload.multipart_id is not None
        refs = [PartRef(part.number or 0, part.etag, part.crc32c) for part in parts]
        made = await claim.run(
            self._store.complete_multipart_upload(
                upload.bucket, upload.key, upload.multipart_id, refs, overwrite=upload.overwrite, fence=claim
            )
        )
        there = await self.check(upload, made, claim, combined(parts))
        # Of a multipart upload an object is made once: whatever else was asked comes to nothing.
        claim.doubtful = False
        return there

    async def _refreshed(self, upload: Upload, parts: Sequence[Piece]) -> list[Piece]:
        """Return the parts with the ETags that the store has.

        :raises Damaged: what the store has is not what was acknowledged.
        """
        assert upload.multipart_id is not None
        stored = {p.number: p for p in await self._store.list_parts(upload.bucket, upload.key, upload.multipart_id)}
        fresh = []
        for part in parts:
            found = stored.get(part.number or 0)
            same = found is not None and found.size == part.size
            if found is not None and found.etag != part.etag:
                # What somebody else brought of another file may have come late: only a checksum tells.
                same = same and found.crc32c is not None and found.crc32c == part.crc32c
            if found is None or not same:
                raise Damaged("PartLost", f"part {part.number} is not what was stored")
            fresh.append(evolve(part, etag=found.etag))
        return fresh

    async def refused(self, upload: Upload, error: StoreError) -> NoReturn:
        """End an upload that can never succeed after this refusal; leave any other to be tried again.

        :raises Exists: the key is taken and may not be overwritten.
        :raises Rejected: the client has asked for what the store never takes.
        :raises Ended: the upload can never succeed, or has ended before.
        :raises Unavailable: it may pass, or the operator may mend it, or nobody can say.
        """
        reason = await self._final_reason(upload, error)
        if reason is None:
            self._faults.refused(upload.bucket, error, upload.id)
            raise Unavailable(f"the store refused: {error.code}") from error
        current = await self._current(upload)
        if current.live and (current.edition, current.multipart_id) != (upload.edition, upload.multipart_id):
            raise Superseded("the client has begun anew with other bytes") from error
        time, edition = now(self._clock), upload.edition
        how: dict[str, Any] = {"reason": reason, "updated": time}
        moved = None
        if upload.live:  # one that has ended otherwise meanwhile stays as it is
            moved = await self._ledger.move(upload, State.FAILED, frm=(upload.state,), edition=edition, **how)
        if moved is not None:
            self._log.error("upload failed id={id}: {reason}", id=upload.id, reason=reason)
        elif (await self._current(upload)).state in (*LIVE, State.FINISHED):
            raise Unavailable("the upload has gone on elsewhere") from error
        if isinstance(error, PreconditionFailed):
            raise Exists(f"there is an object {quote_briefly(upload.key)} already") from error
        if isinstance(error, Refused) and error.field is not None:
            raise Rejected(error.field, reason) from error
        raise Ended(reason) from error

    async def own_object(self, upload: Upload) -> StoredObject | None:
        """Return the upload's object, whole, if it was made already, by a call whose answer was lost.

        :raises Unavailable: nobody can say.
        """
        try:
            found = await self._store.head_object(upload.bucket, upload.key)
        except StoreError as trouble:
            raise in_trouble(trouble) from trouble
        return found if is_own(found, upload) and found.size == upload.length else None

    async def _final_reason(self, upload: Upload, error: StoreError) -> str | None:
        """Return why the upload can never succeed, if a refusal says so; None: it may pass, or be mended.

        Few refusals are final, and only as the store's own word, which is asked for twice where it can be.

        :raises Unavailable: nobody can say.
        """
        if isinstance(error, NoSuchUpload) and await self._gone(upload):
            # Dropped by the store's own rules; or by whoever has cancelled the upload, which then is no news.
            return "the store has dropped the multipart upload"
        if isinstance(error, PreconditionFailed) and await self._taken(upload):
            return "the key is taken"
        if isinstance(error, CannotCopy) and error.sure:
            return "its parts are larger than limits.memory allows, and the store cannot join them"
        if isinstance(error, Refused) and error.field is not None:
            return f"the store never takes its {error.field}: {error.code}"
        if isinstance(error, Refused):
            return f"the store refused to complete: {error}"
        if isinstance(error, NotFound):
            return "the store has lost bytes that it had confirmed"
        if isinstance(error, Damaged):
            return f"the store holds other bytes than it had confirmed: {error}"
        return None

    async def _gone(self, upload: Upload) -> bool:
        """Ask the store once more whether the multipart upload is gone."""
        if upload.multipart_id is None:
            return False
        try:
            await self._store.list_parts(upload.bucket, upload.key, upload.multipart_id)
        except NoSuchUpload:
            return True
        except StoreError as error:
            raise in_trouble(error) from error
        return False

    async def _taken(self, upload: Upload) -> bool:
        """Ask the store once more whether there is an object under the key."""
        try:
            return await self._store.head_object(upload.bucket, upload.key) is not None
        except StoreError as error:
            raise in_trouble(error) from error


def combined(parts: Sequence[Piece]) -> int | None:
    """Return the CRC32C of the object that the parts make, if all of theirs are known."""
    if not parts or any(part.crc32c is None or part.number is None for part in parts):
        return None
    return combine((part.crc32c or 0, part.size) for part in parts)


def combined_objects(sources: Sequence[Upload]) -> int | None:
    """Return the CRC32C of the bytes of finished uploads, one after the other, if all of theirs are known."""
    if any(source.crc32c is None or source.length is None for source in sources):
        return None
    return combine((source.crc32c or 0, source.length or 0) for source in sources)


def _says_more(current: Upload, former: Upload) -> bool:
    """Say whether more is said of the whole object than was known before."""
    said = [(one.expected_crc32c, one.remembered.get(READ_BACK)) for one in (current, former)]
    return said[0] != said[1]


def whole_parts(upload: Upload, pieces: Sequence[Piece]) -> list[Piece]:
    """Return the parts 1..n of the upload, in order: of its grid, unless it is made of others, whose parts may have any size.

    :raises ValueError: they are not all there. Completing then would make an object that is not what the client sent.
    """
    if upload.sources:
        return _unbroken_parts(upload, pieces)
    grid = Grid.of(upload)
    parts = {piece.number: piece for piece in pieces if piece.number is not None}
    run = []
    for number in range(1, grid.count + 1):
        part = parts.get(number)
        if part is None or (part.first, part.end) != (grid.first_of(number), grid.end_of(number)):
            raise ValueError(f"upload {upload.id} cannot be completed: part {number} is missing or not whole")
        run.append(part)
    return run


def _unbroken_parts(upload: Upload, pieces: Sequence[Piece]) -> list[Piece]:
    parts = sorted((piece for piece in pieces if piece.number is not None), key=lambda piece: piece.number or 0)
    position = 0
    for number, part in enumerate(parts, 1):
        if (part.number, part.first) != (number, position):
            raise ValueError(f"upload {upload.id} cannot be completed: part {number} does not begin at byte {position}")
        position = part.end
    if position != upload.length:
        raise ValueError(f"upload {upload.id} cannot be completed: its parts end at byte {position}")
    return parts
