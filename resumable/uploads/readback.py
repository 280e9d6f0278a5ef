"""What is stored of uploads, read back: to be joined, or to be compared with bytes that come for the same place."""

from __future__ import annotations

from collections.abc import Sequence

from resumable.ledger.ledger import Ledger
from resumable.model import Piece, Unavailable, Upload
from resumable.stores.port import NotFound, PreconditionFailed, Store, StoreError, StoreUnavailable
from resumable.uploads.checksum import checksum
from resumable.uploads.chunks import Slice, cut
from resumable.uploads.fragments import Fragments
from resumable.uploads.limiter import ReadBackLimiter
from resumable.uploads.marks import agree, unpack
from resumable.uploads.stream import ChunkBuffer

#: Bytes that what is read back at a time counts as at least: many small fragments are many requests.
LEAST = 1 << 20


class StoredBytes:
    """Reads back, and compares.

    :param reading: room for what is read; the budget does not count it.
    """

    def __init__(self, ledger: Ledger, store: Store, fragments: Fragments, read_back: ReadBackLimiter) -> None:
        self._ledger = ledger
        self._store = store
        self._fragments = fragments
        self._read_back = read_back

    def room(self, upload: Upload, pieces: Sequence[Piece]) -> Lent:
        """Return room for the fragments among these that are not in memory."""
        missing = sum(piece.size for piece in pieces if self._fragments.kept(upload, piece) is None)
        return Lent(self._read_back, max(missing, LEAST) if missing else 0)

    async def fragment(self, upload: Upload, piece: Piece) -> Sequence[bytes]:
        """Return a fragment's bytes. Errors as `Fragments.read`."""
        return self._fragments.kept(upload, piece) or await self._fragments.read(upload, piece)

    async def take(self, upload: Upload, slice_: Slice, buffer: ChunkBuffer | None) -> list[bytes]:
        """Return the bytes that a plan takes of a fragment, or (where it has no ETag) of the run."""
        piece = slice_.piece
        if not piece.etag:
            assert buffer is not None
            found: Sequence[bytes] = buffer.segments
        else:
            found = await self.fragment(upload, piece)
        return cut(found, slice_.first - piece.first, slice_.end - piece.first)

    async def joints(self, upload: Upload, piece: Piece) -> list[int]:
        """Return the offsets within a fragment at which the bytes of one request ended."""
        return [offset for offset, _ in unpack(await self._ledger.marks(upload.id, piece.first, piece.end))]

    async def same(self, upload: Upload, buffer: ChunkBuffer, piece: Piece) -> bool:
        """Return whether a run and a stored piece agree where they meet, as far as they can be compared."""
        first, end = max(buffer.first, piece.first), min(buffer.end, piece.end)
        if first >= end or piece.crc32c is None:
            return True
        if (buffer.first, buffer.end) == (piece.first, piece.end):
            return buffer.crc32c == piece.crc32c
        mine = cut(buffer.segments, first - buffer.first, end - buffer.first)
        if (first, end) == (piece.first, piece.end):
            return checksum(mine) == piece.crc32c
        if piece.number is None:
            async with self.room(upload, [piece]):
                theirs = cut(await self.fragment(upload, piece), first - piece.first, end - piece.first)
                return checksum(mine) == checksum(theirs)
        marks = unpack(await self._ledger.marks(upload.id, piece.first, piece.end))
        return agree(mine, first, piece=(piece.first, piece.end, piece.crc32c), marks=marks) is not False

    async def is_object(self, upload: Upload, etag: str | None, first: int, end: int, crc32c: int) -> bool:
        """Return whether ``[first, end)`` of the object under the key, if it has the ETag, are the bytes with this CRC32C.

        :raises Unavailable: nobody can say.
        """
        if first == end:
            return True
        size = end - first
        async with Lent(self._read_back, max(size, LEAST)):
            try:
                theirs = await self._store.get_object(
                    upload.bucket, upload.key, limit=size, span=(first, end), etag=etag
                )
            except (NotFound, PreconditionFailed):
                return False  # it is there no more, or is another by now
            except StoreUnavailable as error:
                raise Unavailable(f"the store is in trouble: {error.code}") from error
            except StoreError as error:
                raise Unavailable(f"the store refused: {error.code}") from error
            return checksum(theirs) == crc32c


class Lent:
    """Room that is lent for a time."""

    def __init__(self, room: ReadBackLimiter, size: int) -> None:
        self._room = room
        self._size = size

    async def __aenter__(self) -> None:
        if self._size:
            await self._room.take(self._size)

    async def __aexit__(self, *_: object) -> None:
        if self._size:
            self._room.give(self._size)
