"""The grid: an object cut in chunks, each of which becomes one part.

Pure. Where a chunk begins and ends follows from the upload's `chunk_size` and `largest_chunk` alone. Because a chunk
always covers the same bytes, whoever writes it writes the same part, and no writer has to ask another.

Large chunks take few requests, and small ones little memory. So the chunks of a long object are large. Where the length
is not known, the first ones are small, and every `STEP` chunks their size doubles.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from resumable.model import TooLarge, Upload
from resumable.quoting import quote_briefly

MIB = 1 << 20
#: Chunks of one size before the size doubles. Never change it: the edges of uploads that are under way depend on it.
STEP = 16
#: Chunks that an object of a known length has at most, as long as they are not larger than memory bears.
FEW = 64


def chunk_size_for(length: int | None, *, chunk_size: int, bearable: int, max_parts: int, largest_part: int) -> int:
    """Bytes of each chunk for an object of `length` bytes (None: unknown; then of the first chunks).

    :param chunk_size: as configured: the fewest.
    :param bearable: up to so many, chunks grow with the length to save requests. Beyond it they grow only where
        `max_parts` asks for it.
    :param largest_part: bytes of the largest part that the store takes.
    :raises TooLarge: no chunk that the store takes is large enough.
    """
    if length is None:
        return chunk_size
    few = -(-length // (FEW * chunk_size)) * chunk_size
    wanted = max(chunk_size, min(few, bearable // chunk_size * chunk_size))
    needed = -(-length // max_parts)
    if needed > wanted:
        wanted = -(-needed // MIB) * MIB
    if wanted > largest_part:
        raise TooLarge(
            f"{quote_briefly(length)} bytes do not fit into {max_parts} parts of at most {largest_part} bytes"
        )
    return wanted


def largest_chunk_for(*, chunk_size: int, bearable: int) -> int:
    """Bytes that the chunks of an object of unknown length grow to: `chunk_size`, doubled as often as memory bears.

    All edges lie at multiples of it: it is at most `STEP` times `chunk_size`.
    """
    largest = chunk_size
    while 2 * largest <= min(bearable, STEP * chunk_size):
        largest *= 2
    return largest


@frozen
class Grid:
    """The chunks of one object.

    :ivar chunk_size: bytes of each of the first chunks.
    :ivar length: None while unknown.
    :ivar largest_chunk: up to so many bytes the size doubles every `STEP` chunks. If it is not above `chunk_size`, all
        chunks but the last have one size.
    """

    chunk_size: int
    length: int | None
    largest_chunk: int = 0

    @classmethod
    def of(cls, upload: Upload) -> Grid:
        """Return the upload's grid, as far as its length is known."""
        return cls(upload.chunk_size, upload.length, upload.largest_chunk)

    def _steps(self) -> Iterator[tuple[int, int, int]]:
        """Yield where each size begins: the first chunk's number, its first byte's offset, and the size in bytes."""
        number, first, size = 1, 0, self.chunk_size
        yield number, first, size
        while 2 * size <= self.largest_chunk:
            number, first, size = number + STEP, first + STEP * size, 2 * size
            yield number, first, size

    def _from(self, number: int) -> int:
        """Return the offset at which the chunk begins, wherever the object ends."""
        found = 0
        for base, first, size in self._steps():
            if base > number:
                break
            found = first + (number - base) * size
        return found

    def number_at(self, offset: int) -> int:
        """Return the number, from 1, of the chunk that holds the byte at `offset`."""
        found = 1
        for base, first, size in self._steps():
            if first > offset:
                break
            found = base + (offset - first) // size
        return found

    def first_of(self, number: int) -> int:
        """Return the offset of the chunk's first byte."""
        return self._from(number)

    def end_of(self, number: int) -> int:
        """Return the offset behind the chunk's last byte, as far as is known."""
        end = self._from(number + 1)
        return end if self.length is None else min(end, self.length)

    def size_of(self, number: int) -> int:
        """Return the bytes of the chunk, wherever the object ends."""
        return self._from(number + 1) - self._from(number)

    def edge_after(self, offset: int) -> int:
        """Return where the chunk that holds the byte at `offset` ends, wherever the object ends."""
        return self._from(self.number_at(offset) + 1)

    @property
    def count(self) -> int:
        """How many chunks the object has; an empty object has none.

        :raises ValueError: the length is not known yet.
        """
        if self.length is None:
            raise ValueError("a grid without a length has no last chunk")
        return self.number_at(self.length - 1) if self.length else 0
