"""Uploads that are made of other uploads: their bytes are copied within the store, and do not pass through here.

A partial upload becomes an object under the service's prefix. When all that an upload is made of are there, it gets a
multipart upload whose parts the store copies; only what is too short for a part is read back and joined in memory. A
store that cannot copy, or that wants all parts to have one size, has all of it read back, through the same writer as
any body. What was copied is in the ledger like every piece, so that any node goes on where the work has stopped.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.logger import Logger

from resumable.clock import cancel_if_active, now
from resumable.ledger.partials import Twice
from resumable.model import Ended, Exists, Invalid, NotAsExpected, Piece, State, Unavailable, Upload, UploadError
from resumable.quoting import quote_briefly
from resumable.single_flight import SingleFlight
from resumable.stores.port import CannotCopy, Damaged, PreconditionFailed, StoreError, StoreUnavailable
from resumable.tasks import BackgroundTasks, together
from resumable.uploads.checksum import checksum
from resumable.uploads.completer import Completer, combined, combined_objects
from resumable.uploads.concatenation import PartPlan, plan_parts
from resumable.uploads.coverage import Coverage
from resumable.uploads.dependencies import Dependencies
from resumable.uploads.grid import Grid
from resumable.uploads.multipart import MultipartOpener
from resumable.uploads.policy import CreateRequest, Policy
from resumable.uploads.readback import LEAST, Lent
from resumable.uploads.release import release_late
from resumable.uploads.result import Report
from resumable.uploads.state import UploadState
from resumable.uploads.stored_body import StoredBody, other_object, read_extent
from resumable.uploads.trouble import in_trouble

#: Bytes of a part that is copied, unless the object has too many of them: enough to need few requests, and few enough to be
#: done in seconds, so that what a break-off costs is little.
PART = 1 << 30
#: Uploads that are made at a time.
AT_ONCE = 8

#: Enters an upload, and returns it.
Create = Callable[[CreateRequest], Awaitable[Upload]]
#: Streams a body into an upload from an offset on, and finishes it. Returns how far it is then.
Receive = Callable[[Upload, StoredBody, int], Awaitable[Report]]
#: Makes the object of an upload whose parts are all stored.
Finish = Callable[[Upload], Awaitable[Report]]
#: Frees what an upload that has ended, by its id, has in the store.
Free = Callable[[str], Awaitable[None]]

T = TypeVar("T")


class _Elsewhere(Exception):
    """The upload is not open any more: somebody else has gone on with it."""


class Concatenations:
    """Creates uploads that are made of partial ones, and makes their objects."""

    _log = Logger()

    def __init__(
        self,
        deps: Dependencies,
        policy: Policy,
        completer: Completer,
        *,
        create: Create,
        receive: Receive,
        finish: Finish,
        free: Free,
    ) -> None:
        self._deps = deps
        self._ledger = deps.ledger
        self._store = deps.store
        self._policy = policy
        self._completer = completer
        self._create = create
        self._receive = receive
        self._make_object = finish
        self._free = free
        self._flights: SingleFlight[Report] = SingleFlight()
        self._turns = DeferredSemaphore(AT_ONCE)
        self._background = BackgroundTasks(sys.maxsize)
        #: Whether the store can copy parts in a bucket, as far as that is known.
        self._copies: dict[str, bool] = {}
        #: Ids of uploads that are worked on, and of which there has been news since that has begun.
        self._news: set[str] = set()
        self._closed = False

    # Creating

    async def create(self, wanted: CreateRequest) -> Report:
        """Enter an upload that is made of partial ones, and wait for its object for as long as a client can be made to wait.

        The same client that asks for the same once more is given the same upload: its answer was lost.

        :param wanted: its `sources` are the ids of the partial uploads, of the same owner; some may not be finished yet.
        :return: how far it is. What is left is done in the background.
        :raises Invalid: one of the partial uploads is not there, or is not partial, or was used up.
        :raises TooLarge: all of them together are longer than allowed.
        :raises UploadError: as when any upload is created, or finished.
        """
        lengths = [one.length for one in await self._sources(wanted)]
        length = None if None in lengths else sum(length or 0 for length in lengths)
        if length is None and wanted.max_size is not None:
            raise Invalid("the length of a partial upload is not known yet, and there is a limit for all of them")
        upload = await self._ledger.partials.same(wanted.owner, wanted.protocol, wanted.sources, wanted.remembered)
        if upload is None:
            try:
                upload = await self._create(evolve(wanted, length=length))
            except Twice as twice:
                upload = twice.upload
        return await self.wait_for(upload)

    async def _sources(self, wanted: CreateRequest) -> list[Upload]:
        found = {}
        for upload_id in dict.fromkeys(wanted.sources):
            one = await self._ledger.get(upload_id)
            if one is None or one.owner != wanted.owner or not one.partial:
                raise Invalid(f"there is no partial upload {quote_briefly(upload_id)}")
            found[upload_id] = one
        return [found[upload_id] for upload_id in wanted.sources]

    async def wait_for(self, upload: Upload) -> Report:
        """Make the object, and wait for it for as long as a client can be made to wait. Errors as `make`.

        :return: how far it is then. What is left is done in the background.
        """
        making = Deferred.fromCoroutine(self.make(upload))
        self._go_on(upload)
        late = self._deps.clock.callLater(self._policy.answer_within, making.cancel)
        try:
            return await making
        except CancelledError:
            if late.active():
                raise
            return await self._report(upload)
        finally:
            cancel_if_active(late)

    async def _report(self, upload: Upload) -> Report:
        current, pieces = await self._known(upload)
        return Report.of(current, pieces, self._policy.expires(current))

    async def _known(self, upload: Upload) -> tuple[Upload, list[Piece]]:
        """Return the upload and its pieces as the ledger has them now."""
        found = await self._ledger.whole(upload.id)
        if found is None:
            raise Ended("the upload is gone")
        return found

    # In the background

    def begin(self, upload: Upload) -> None:
        """Make the upload's object in the background. If that is under way, see to it that it looks once more what is there."""
        if self._flights.running(upload.id):
            self._news.add(upload.id)
        else:
            self._go_on(upload)

    def _go_on(self, upload: Upload) -> None:
        """Have the work on an upload go on though nobody waits for it."""
        if not self._closed:
            self._background.run(partial(self._quietly, upload))

    async def _quietly(self, upload: Upload) -> None:
        try:
            await self.make(upload)
        except Unavailable as error:
            self._log.warn("upload {id} is not made of its parts yet: {error}", id=upload.id, error=str(error))
        except UploadError as error:
            self._log.info("upload {id} is not made of its parts: {error}", id=upload.id, error=str(error))

    async def source_finished(self, source: Upload) -> None:
        """Make the objects of uploads that have waited for a partial one."""
        waiting = await self._ledger.partials.waiting_for(source.id)
        if waiting:
            # Its client has gone on with it, as far as that can be: it has not been left alone until now.
            await self._ledger.partials.touch([upload.id for upload in waiting], now=now(self._deps.clock))
        for upload in waiting:
            self.begin(upload)

    async def close(self) -> None:
        """Stop what is under way, and begin nothing more. Another process, or the next one, goes on with it."""
        self._closed = True
        await self._background.close(self._deps.clock, 0)

    # Making

    async def make(self, upload: Upload) -> Report:
        """Make the object of an upload if all that it is made of is there. Asking again does no harm.

        :return: how far it is.
        :raises Unavailable: the store or the ledger was in trouble for too long; asking again is right.
        :raises Ended: it can never be made, or has ended.
        """
        return await self._flights.join(upload.id, lambda: self._turns.run(partial(self._make, upload)))

    async def _make(self, upload: Upload) -> Report:
        try:
            while True:
                self._news.discard(upload.id)
                try:
                    report = await self._look_and_make(upload)
                except _Elsewhere:
                    continue
                if report.finished or upload.id not in self._news:
                    return report
        except (Ended, Exists):
            await self._free(upload.id)
            raise
        finally:
            self._news.discard(upload.id)

    async def _look_and_make(self, upload: Upload) -> Report:
        """Make the object of an upload if all that it is made of is there now.

        :raises _Elsewhere: somebody else has changed the upload's state; it has to be looked at again.
        """
        upload, pieces = await self._known(upload)
        if upload.state is State.FINISHED:
            return Report.of_finished(upload)
        if upload.state is not State.OPEN:
            return await self._make_object(upload)
        sources = await self._ledger.partials.of(upload)
        if len(sources) < len(upload.sources) or any(
            not one.live and one.state is not State.FINISHED for one in sources
        ):
            raise await self._fail(upload, "a partial upload that it is made of has ended")
        if any(one.live for one in sources):
            return await self._report(upload)
        upload = await self._declared(upload, sources)
        return await self._of_sources(upload, sources, pieces)

    async def _asking(self, upload: Upload, work: Awaitable[T]) -> T:
        """Do what needs the store, and make of its refusals what they are.

        :param upload: in the edition, and with the multipart upload, that the work is about.
        :raises CannotCopy: the store copies no parts.
        """
        try:
            return await work
        except CannotCopy:
            raise
        except StoreUnavailable as error:
            raise in_trouble(error) from error
        except StoreError as error:
            return await self._completer.refused(upload, error)

    async def _declared(self, upload: Upload, sources: Sequence[Upload]) -> Upload:
        if upload.length is not None:
            return upload
        length = sum(one.length or 0 for one in sources)
        if length > self._policy.max_size:
            raise await self._fail(upload, f"its parts have {length} bytes, more than are allowed")
        return await self._ledger.declare(upload, length)

    async def _fail(self, upload: Upload, reason: str) -> Exception:
        """End an upload that can never be made. Return what its client is to be told, or that it is not open any more."""
        time = now(self._deps.clock)
        moved = await self._ledger.move(upload, State.FAILED, frm=(State.OPEN,), reason=reason, updated=time)
        # Its partial uploads have ended also if another node has finished it in this moment.
        return _Elsewhere() if moved is None else Ended(reason)

    async def _of_sources(self, upload: Upload, sources: Sequence[Upload], pieces: Sequence[Piece]) -> Report:
        bucket, copies = upload.bucket, self._policy.limits.copies_freely
        if copies and (upload.length or 0) > upload.chunk_size and self._copies.get(bucket) is not False:
            try:
                await self._copy(upload, sources, pieces)
                return await self._make_object(upload)
            except CannotCopy as error:
                self._log.info("bucket {bucket}: {error}: they are joined here", bucket=bucket, error=str(error))
                self._copies[bucket] = False
                upload, pieces = await self._known(upload)
        return await self._read_back(upload, sources, pieces)

    async def _anew(self, upload: Upload) -> Upload:
        """Begin anew, for the pieces that are there have other edges."""
        return await self._ledger.begin_anew(upload, 0, now=now(self._deps.clock))

    # By the store

    async def _copy(self, upload: Upload, sources: Sequence[Upload], pieces: Sequence[Piece]) -> None:
        """Have all parts stored that are missing.

        :raises CannotCopy: the store copies no parts.
        """
        plan = self._plan(upload, sources)
        if len(plan) > self._policy.max_parts:
            raise await self._fail(
                upload, f"it would need {len(plan)} parts, and the store takes {self._policy.max_parts}"
            )
        there = {(piece.number, piece.first, piece.end) for piece in pieces}
        if not there <= {(part.number, part.first, part.end) for part in plan}:
            upload, there = await self._anew(upload), set()
        missing = [part for part in plan if (part.number, part.first, part.end) not in there]
        opener = MultipartOpener(UploadState(upload, (), self._ledger), self._deps, joins=True)
        upload = await self._asking(upload, opener.opened())
        await self._asking(upload, self._store_parts(upload, missing, sources))

    async def _store_parts(self, upload: Upload, missing: Sequence[PartPlan], sources: Sequence[Upload]) -> None:
        works = [partial(self._store_part, upload, part, sources) for part in missing]
        while works and upload.bucket not in self._copies:  # one alone, to see whether the store can
            await works.pop(0)()
        await together(works, most=self._policy.parts_in_flight)
        await self._check(upload, sources)

    def _plan(self, upload: Upload, sources: Sequence[Upload]) -> list[PartPlan]:
        limits, sizes = self._policy.limits, [one.length or 0 for one in sources]
        if limits.joins_whole:
            return plan_parts(sizes, smallest=1, largest=limits.largest_object)
        least = max(PART, 2 * limits.smallest_part, -(-2 * (upload.length or 0) // self._policy.max_parts))
        return plan_parts(sizes, smallest=limits.smallest_part, largest=min(least, limits.largest_part))

    async def _store_part(self, upload: Upload, part: PartPlan, sources: Sequence[Upload]) -> None:
        make = self._copied if len(part.extents) == 1 else self._joined
        etag, crc32c = await make(upload, part, sources)
        piece = Piece(part.first, part.end, part.number, etag, crc32c)
        try:
            await self._ledger.add_piece(upload, piece, now=now(self._deps.clock), stored_in=upload.multipart_id)
        except Ended:
            multipart_ids = [] if upload.multipart_id is None else [upload.multipart_id]
            await release_late(self._ledger, self._store, self._deps.fragments, upload, piece, multipart_ids)
            raise

    async def _copied(self, upload: Upload, part: PartPlan, sources: Sequence[Upload]) -> tuple[str, int | None]:
        (extent,) = part.extents
        source = sources[extent.source]
        whole = extent.size == source.length
        known = source.crc32c if whole else None
        assert upload.multipart_id is not None
        assert source.etag is not None
        try:
            copied = await self._store.upload_part_copy(
                upload.bucket,
                upload.key,
                upload.multipart_id,
                part.number,
                source=(source.bucket, source.key),
                etag=source.etag,
                span=None if whole else (extent.first, extent.end),
                crc32c=known,
            )
        except PreconditionFailed as error:
            raise other_object() from error
        self._copies[upload.bucket] = True
        return copied.etag, copied.crc32c if known is None else known

    async def _joined(self, upload: Upload, part: PartPlan, sources: Sequence[Upload]) -> tuple[str, int | None]:
        assert upload.multipart_id is not None
        segments: list[bytes] = []
        try:
            async with Lent(self._deps.read_back, max(part.size, LEAST)):
                for extent in part.extents:
                    segments += await read_extent(self._store, sources[extent.source], extent.first, extent.end)
                crc32c = checksum(segments)
                etag = await self._store.upload_part(
                    upload.bucket, upload.key, upload.multipart_id, part.number, segments, crc32c=crc32c
                )
            return etag, crc32c
        finally:
            segments.clear()

    async def _check(self, upload: Upload, sources: Sequence[Upload]) -> None:
        """See to it that the parts are the sources' bytes, as far as checksums are known.

        Where the store has not told the checksum of a part, the parts have at least the right sizes. A store that does not
        know ranges would have copied all of a source.

        :raises Damaged: they are not.
        """
        parts = await self._ledger.pieces(upload.id)
        made, wanted = combined(parts), combined_objects(sources)
        if made is None and upload.multipart_id is not None:
            stored = await self._store.list_parts(upload.bucket, upload.key, upload.multipart_id)
            sizes = {part.number: part.size for part in stored}
            if any(sizes.get(part.number or 0) != part.size for part in parts):
                raise Damaged("OtherBytes", "the parts that the store has made have other sizes than was asked for")
        if made is not None and wanted is not None and made != wanted:
            raise Damaged("OtherBytes", "the parts that the store has made have other bytes than the partial uploads")

    # Through here

    async def _read_back(self, upload: Upload, sources: Sequence[Upload], pieces: Sequence[Piece]) -> Report:
        """Read the sources back, and store their bytes as those of any body."""
        if upload.chunk_size > max(self._policy.max_chunk, self._policy.chunk_size):
            raise await self._fail(upload, "the store cannot copy, and its parts are larger than limits.memory allows")
        grid = Grid.of(upload)
        for piece in pieces:
            number = piece.number
            if number is not None and (piece.first, piece.end) != (grid.first_of(number), grid.end_of(number)):
                upload, pieces = await self._anew(upload), []
                break
        expected = combined_objects(sources)
        if expected is not None:
            # What is read back may be damaged on the way: no object is made of other bytes.
            upload = await self._ledger.set_once(upload, expected_crc32c=expected)
        offset = Coverage.of(pieces).offset
        body = StoredBody(self._store, self._deps.read_back, sources, offset)
        try:
            return await self._receive(upload, body, offset)
        except NotAsExpected as error:
            raise Ended("what was read back has other bytes than the partial uploads") from error
        except StoreUnavailable as error:
            raise in_trouble(error) from error
        except StoreError as error:
            # It is about a partial upload's object, which is the same in every edition.
            current = await self._ledger.get(upload.id)
            if current is None or current.state is not State.OPEN:
                raise _Elsewhere from error
            return await self._completer.refused(current, error)
