"""Stored bytes of uploads, read back to be joined, or to be compared with new bytes of the same range."""

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
from resumable.uploads.trouble import in_trouble

#: The fewest bytes that a read counts as in the limiter, since many small fragments take many requests.
LEAST = 1 << 20


class StoredBytes:
    """Reads stored bytes back, and compares them with others.

    :param read_back: limits the bytes that are read at a time. The memory budget does not count them.
    """

    def __init__(self, ledger: Ledger, store: Store, fragments: Fragments, read_back: ReadBackLimiter) -> None:
        self._ledger = ledger
        self._store = store
        self._fragments = fragments
        self._read_back = read_back

    def room(self, upload: Upload, pieces: Sequence[Piece]) -> Lent:
        """Return the room, not taken yet, for those of the fragments that are not in memory."""
        missing = sum(piece.size for piece in pieces if self._fragments.kept(upload, piece) is None)
        return Lent(self._read_back, max(missing, LEAST) if missing else 0)

    async def fragment(self, upload: Upload, piece: Piece) -> Sequence[bytes]:
        """Return a fragment's bytes, from memory or the store. Raise as `Fragments.read` does."""
        return self._fragments.kept(upload, piece) or await self._fragments.read(upload, piece)

    async def take(self, upload: Upload, slice_: Slice, buffer: ChunkBuffer | None) -> list[bytes]:
        """Return the bytes of a slice: of its stored fragment, or of `buffer` if its piece has no ETag."""
        piece = slice_.piece
        if not piece.etag:
            assert buffer is not None
            found: Sequence[bytes] = buffer.segments
        else:
            found = await self.fragment(upload, piece)
        return cut(found, slice_.first - piece.first, slice_.end - piece.first)

    async def marks(self, upload: Upload, piece: Piece) -> list[tuple[int, int]]:
        """Return a piece's marks: see `resumable.uploads.marks`."""
        return unpack(await self._ledger.marks(upload.id, piece.first, piece.end))

    async def joints(self, upload: Upload, piece: Piece) -> list[int]:
        """Return the offsets of a fragment's marks, among them those where the bytes of one request ended."""
        return [offset for offset, _ in await self.marks(upload, piece)]

    async def same(self, upload: Upload, buffer: ChunkBuffer, piece: Piece) -> bool:
        """Return whether a buffer and a stored piece agree where they overlap, as far as they can be compared."""
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
        marks = await self.marks(upload, piece)
        return agree(mine, first, piece=(piece.first, piece.end, piece.crc32c), marks=marks) is not False

    async def is_object(self, upload: Upload, etag: str | None, first: int, end: int, crc32c: int) -> bool:
        """Return whether the object under the key has the ETag, and its bytes ``[first, end)`` have this CRC32C.

        :raises Unavailable: the store did not answer, or refused.
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
                return False  # it is gone, or another object is there now
            except StoreUnavailable as error:
                raise in_trouble(error) from error
            except StoreError as error:
                raise Unavailable(f"the store refused: {error.code}") from error
            return checksum(theirs) == crc32c


class Lent:
    """Room in the limiter, which is taken for as long as the ``async with`` block runs."""

    def __init__(self, room: ReadBackLimiter, size: int) -> None:
        self._room = room
        self._size = size

    async def __aenter__(self) -> None:
        if self._size:
            await self._room.take(self._size)

    async def __aexit__(self, *_: object) -> None:
        if self._size:
            self._room.give(self._size)
