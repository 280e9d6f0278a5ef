"""A chunk that is too large for memory: the store joins its fragments, and their bytes do not pass through here again.

The fragments are copied, as the parts of a multipart upload, into an object of the service's own. That object is copied
into the upload's multipart upload as one part, and is deleted then. Fragments that are too short for a part, and those of
which only some bytes are wanted, are read back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial

from twisted.logger import Logger

from resumable.model import Upload
from resumable.stores.port import Damaged, NoSuchUpload, PartRef, Store, StoreError, StoreLimits, StoreUnavailable
from resumable.tasks import together
from resumable.uploads.checksum import checksum, combine
from resumable.uploads.chunks import Slice
from resumable.uploads.concatenation import PartPlan, plan_parts
from resumable.uploads.fragments import MOST, Fragments
from resumable.uploads.marks import Marker
from resumable.uploads.openings import OpeningNotes
from resumable.uploads.readback import StoredBytes

#: The marks that are kept of such a chunk lie at multiples of this, in bytes; and closer behind the edges of fragments.
MARKS_EVERY = 8 << 20


class NotSeen(StoreUnavailable):
    """The store does not have what it was said to have made of fragments. The fragments are still there, or have been joined."""


class StoreJoiner:
    """Has the store make parts of fragments."""

    _log = Logger()

    def __init__(self, store: Store, fragments: Fragments, stored: StoredBytes, notes: OpeningNotes) -> None:
        self._store = store
        self._fragments = fragments
        self._stored = stored
        self._notes = notes

    async def join(
        self, upload: Upload, number: int, slices: Sequence[Slice], certain: Callable[[], Awaitable[None]]
    ) -> tuple[str, Marker]:
        """Store part `number` of the upload's multipart upload, of these slices.

        :param certain: asked right before, for by then minutes may have passed: the part of a former edition must not
            come in the place of the present one's. What it raises comes out here.
        :return: the part's ETag, and what is to be noted of its bytes.
        :raises CannotCopy: the store copies no parts.
        :raises NotFound: a fragment is gone. Somebody else has joined the chunk.
        :raises StoreError: the store refused, or was in trouble.
        """
        assert upload.multipart_id is not None
        marker = await self._marker(upload, slices)
        bucket, key = upload.bucket, self._fragments.new_key(upload, f"part-{number}")
        try:
            etag = await self._stage(upload, key, slices, marker)
            await certain()
            copied = await self._store.upload_part_copy(
                bucket, upload.key, upload.multipart_id, number, source=(bucket, key), etag=etag, crc32c=marker.crc32c
            )
            _check(copied.crc32c, marker.crc32c, number)
            return copied.etag, marker
        finally:
            await self._delete(bucket, key)

    async def _marker(self, upload: Upload, slices: Sequence[Slice]) -> Marker:
        """Return the chunk's checksum, with marks."""
        first = slices[0].first
        marker = Marker(first, first)
        for slice_ in slices:
            for offset, crc32c in _few(await self._checksums(upload, slice_), slice_):
                running = combine([(marker.crc32c, marker.end - first), (crc32c, offset - slice_.first)])
                marker.marks.append((offset, running))
            marker.crc32c, marker.end = running, slice_.end
        return marker

    async def _checksums(self, upload: Upload, slice_: Slice) -> list[tuple[int, int]]:
        """Return offsets in the slice, and at last its end, each with the CRC32C of the slice's bytes up to there."""
        piece = slice_.piece
        if (slice_.first, slice_.end) == (piece.first, piece.end) and piece.crc32c is not None:
            marks = [mark for mark in await self._stored.marks(upload, piece) if mark[0] < piece.end]
            return [*marks, (piece.end, piece.crc32c)]
        async with self._stored.room(upload, [piece]):
            return [(slice_.end, checksum(await self._stored.take(upload, slice_, None)))]

    async def _stage(self, upload: Upload, key: str, slices: Sequence[Slice], marker: Marker) -> str:
        """Make an object of the slices under a key of the service's own. Return its ETag."""
        limits, bucket = self._store.limits, upload.bucket
        options = self._fragments.options(upload.options)
        note, multipart = await self._notes.open(upload, key, options, joins=True)
        try:
            await self._notes.identify(note, multipart)
            plan = _plan(slices, limits)
            works = [partial(self._store_part, upload, key, multipart, part, slices) for part in plan]
            parts = await together(works, most=MOST)
            try:
                made = await self._store.complete_multipart_upload(bucket, key, multipart, parts)
                etag, size = made.etag, marker.end - marker.first if made.confirmed else None
            except NoSuchUpload:
                # An earlier try has made the object, and its answer was lost: nobody else knows the key.
                etag, size = "", None
        except BaseException:
            await self._abort(bucket, key, multipart)
            raise
        await self._notes.close(note)
        if size is None:
            found = await self._store.head_object(bucket, key)
            if found is None:
                raise NotSeen("NotSeen", "the store does not find what it was to make of fragments")
            if found.size != marker.end - marker.first:
                raise Damaged(
                    "OtherBytes", "the object that the store has made of fragments is not as long as they are"
                )
            etag = found.etag
        return etag

    async def _store_part(
        self, upload: Upload, key: str, multipart: str, part: PartPlan, slices: Sequence[Slice]
    ) -> PartRef:
        """Store a part of the object that is made of fragments: copied if it is all of one, else read back."""
        bucket, taken = upload.bucket, [slices[extent.source] for extent in part.extents]
        piece = taken[0].piece
        if len(taken) == 1 and part.size == piece.size:
            source = (bucket, self._fragments.key(upload, piece))
            copied = await self._store.upload_part_copy(
                bucket, key, multipart, part.number, source=source, etag=None, crc32c=piece.crc32c
            )
            _check(copied.crc32c, piece.crc32c, part.number)
            return PartRef(part.number, copied.etag, piece.crc32c)
        segments: list[bytes] = []
        try:
            async with self._stored.room(upload, [slice_.piece for slice_ in taken]):
                for slice_, extent in zip(taken, part.extents, strict=True):
                    wanted = Slice(slice_.piece, slice_.first + extent.first, slice_.first + extent.end)
                    segments += await self._stored.take(upload, wanted, None)
                crc32c = checksum(segments)
                etag = await self._store.upload_part(bucket, key, multipart, part.number, segments, crc32c=crc32c)
            return PartRef(part.number, etag, crc32c)
        finally:
            segments.clear()

    async def _abort(self, bucket: str, key: str, multipart: str) -> None:
        try:
            await self._store.abort_multipart_upload(bucket, key, multipart)
        except StoreError as error:
            self._log.info("the multipart upload of {key} is not aborted yet: {error}", key=key, error=str(error))

    async def _delete(self, bucket: str, key: str) -> None:
        try:
            await self._store.delete_object(bucket, key)
        except StoreError as error:
            self._log.info("{key} is not deleted yet: {error}", key=key, error=str(error))


def _few(marks: Sequence[tuple[int, int]], slice_: Slice) -> Iterator[tuple[int, int]]:
    """Yield few of a slice's marks, and its end.

    Of a range that begins where the slice does, which is where a client goes on, less than half is not compared: each
    mark is at least twice as far behind the slice's first byte as the one before, or at a multiple of `MARKS_EVERY`.
    """
    far = 0
    for offset, crc32c in marks:
        if offset % MARKS_EVERY == 0 or offset == slice_.end or offset - slice_.first >= 2 * far:
            far = offset - slice_.first
            yield offset, crc32c


def _plan(slices: Sequence[Slice], limits: StoreLimits) -> list[PartPlan]:
    sizes = [slice_.end - slice_.first for slice_ in slices]
    return plan_parts(sizes, smallest=limits.smallest_part, largest=limits.largest_part)


def _check(made: int | None, wanted: int | None, number: int) -> None:
    """Check that the store has made a part of the wanted bytes, as far as it tells a checksum.

    :raises Damaged: it has told another one.
    """
    if None not in (made, wanted) and made != wanted:
        raise Damaged("OtherBytes", f"part {number}, which the store has made, has other bytes than was asked for")
