"""The grid: an object cut in chunks, each of which becomes one part.

Pure. Where a chunk begins and ends follows from the upload alone. Because a chunk always covers the same bytes, whoever
writes it writes the same part, and no writer has to ask another.

Large chunks take few requests, and small ones little memory. So the chunks of a long object are large. Where the length
is not known, the first ones are small, and later ones larger. A chunk that is too large for memory is cut in cells: its
bytes are stored as fragments of a cell at most, which the store joins.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from attrs import frozen

from resumable.model import TooLarge, Upload
from resumable.quoting import quote_briefly

MIB = 1 << 20
#: Chunks of one size before the size doubles, where the length is not known.
STEP = 16
#: Chunks that an object of a known length has at most, as long as they are not larger than memory bears.
FEW = 64


@frozen
class Cut:
    """How an object is cut in chunks.

    :ivar chunk_size: bytes of each of the first chunks.
    :ivar growth: from which chunk on (its number) chunks have how many bytes, ascending. Empty: all have one size.
    :ivar cell: bytes of a chunk that are in memory at a time. 0: all chunks fit.
    """

    chunk_size: int
    growth: tuple[tuple[int, int], ...] = ()
    cell: int = 0


@frozen(kw_only=True)
class Bounds:
    """What an object can be cut in; sizes in bytes.

    :ivar chunk_size: as configured: the fewest bytes of a chunk.
    :ivar bearable: up to so many, chunks grow with the length to save requests.
    :ivar in_memory: up to so many, they grow where `max_parts` asks for it.
    :ivar largest_part: what the store takes at most.
    :ivar joins: whether the store can make a chunk of fragments, so that it may be larger than memory.
    :ivar equal: whether the store wants all parts but the last to have one size.
    """

    chunk_size: int
    bearable: int
    in_memory: int
    max_parts: int
    largest_part: int
    joins: bool
    equal: bool = False

    def cut_for(self, length: int | None) -> Cut:
        """Return how an object of `length` bytes (None: unknown) is cut.

        :raises TooLarge: it cannot be cut in so few parts.
        """
        if length is None:
            return self._growing()
        few = -(-length // (FEW * self.chunk_size)) * self.chunk_size
        wanted = max(self.chunk_size, min(few, self.bearable // self.chunk_size * self.chunk_size))
        needed = -(-length // self.max_parts)
        if needed <= wanted:
            return Cut(min(wanted, self.largest_part))
        rounded = -(-needed // MIB) * MIB
        if rounded <= min(max(self.in_memory, self.chunk_size), self.largest_part):
            return Cut(rounded)
        if needed > self.largest_part:
            raise TooLarge(
                f"{quote_briefly(length)} bytes do not fit into {self.max_parts} parts of at most {self.largest_part} bytes"
            )
        if not self.joins:
            raise TooLarge(
                f"{quote_briefly(length)} bytes would need parts of {rounded}; limits.memory allows {self.in_memory}"
            )
        return Cut(self.largest_part, cell=self._cell())

    def _cell(self) -> int:
        """Return the bytes of a cell: such that cells make up the largest part, if whole MiB can do that."""
        most = max(self.bearable, self.chunk_size)
        fewest = -(-self.largest_part // most)
        whole = (count for count in range(fewest, 2 * fewest) if self.largest_part % (count * MIB) == 0)
        return max(self.chunk_size, -(-self.largest_part // next(whole, fewest)))

    def _growing(self) -> Cut:
        """Return the cut of an object of unknown length.

        The size doubles as often as memory bears, up to `STEP` times. So all edges lie at multiples of the largest. The
        last half of the parts are as large as the store takes them.
        """
        if self.equal:
            return Cut(self.chunk_size)
        growth, number, size = [], 1, self.chunk_size
        while 2 * size <= min(self.bearable, STEP * self.chunk_size, self.largest_part):
            number, size = number + STEP, 2 * size
            growth.append((number, size))
        half = self.max_parts // 2 + 1
        if not self.joins or half <= number:
            return Cut(self.chunk_size, tuple(growth))
        growth.append((half, self.largest_part // size * size))
        return Cut(self.chunk_size, tuple(growth), cell=size)


@frozen
class Grid:
    """The chunks of one object.

    :ivar length: None while unknown.
    """

    chunk_size: int
    length: int | None
    growth: Sequence[tuple[int, int]] = ()
    cell: int = 0

    @classmethod
    def of(cls, upload: Upload) -> Grid:
        """Return the upload's grid, as far as its length is known."""
        return cls(upload.chunk_size, upload.length, upload.growth, upload.cell)

    def _steps(self) -> Iterator[tuple[int, int, int]]:
        """Yield where each size begins: the first chunk's number, its first byte's offset, and the size in bytes."""
        number, first, size = 1, 0, self.chunk_size
        yield number, first, size
        for following, grown in self.growth:
            first += (following - number) * size
            number, size = following, grown
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

    def fits(self, number: int) -> bool:
        """Say whether the chunk is stored as a whole, and not cell by cell."""
        return not self.cell or self._from(number + 1) - self._from(number) <= self.cell

    @property
    def in_memory(self) -> bool:
        """Whether every chunk fits, as far as is known."""
        return not self.cell or (
            self.length is not None and all(self.fits(n) for n in (1, self.number_at(self.length)))
        )

    def cell_at(self, offset: int) -> tuple[int, int]:
        """Return what is in memory at a time of the chunk that holds the byte at `offset`: all of it, or a cell.

        :return: the offsets of its first byte, and behind its last, wherever the object ends.
        """
        number = self.number_at(offset)
        first, end = self._from(number), self._from(number + 1)
        if not self.cell:
            return first, end
        first += (offset - first) // self.cell * self.cell
        return first, min(first + self.cell, end)

    @property
    def count(self) -> int:
        """How many chunks the object has; an empty object has none.

        :raises ValueError: the length is not known yet.
        """
        if self.length is None:
            raise ValueError("a grid without a length has no last chunk")
        return self.number_at(self.length - 1) if self.length else 0
