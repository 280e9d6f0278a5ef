"""The grid: an object cut in equal chunks, each of which becomes one part.

Pure. Chunk n (from 1) is bytes ``[(n-1)*chunk_size, min(n*chunk_size, length))``. Because a chunk always covers the same
bytes, whoever writes it writes the same part, and no writer has to ask another.
"""

from __future__ import annotations

from attrs import frozen

from resumable.model import TooLarge
from resumable.quoting import quote_briefly

MIB = 1 << 20


def chunk_size_for(length: int | None, *, chunk_size: int, max_parts: int, largest_part: int) -> int:
    """Bytes of each chunk for an object of `length` bytes (None: unknown): as configured, or more where `max_parts` asks for it.

    :param largest_part: bytes of the largest part that the store takes.
    :raises TooLarge: no chunk that the store takes is large enough.
    """
    if length is None:
        return chunk_size
    needed = max(chunk_size, -(-length // max_parts))
    if needed > chunk_size:
        needed = -(-needed // MIB) * MIB
    if needed > largest_part:
        raise TooLarge(
            f"{quote_briefly(length)} bytes do not fit into {max_parts} parts of at most {largest_part} bytes"
        )
    return needed


@frozen
class Grid:
    """The chunks of one object; ``length`` is None while unknown."""

    chunk_size: int
    length: int | None

    def number_at(self, offset: int) -> int:
        """Return the number, from 1, of the chunk that holds the byte at `offset`."""
        return offset // self.chunk_size + 1

    def first_of(self, number: int) -> int:
        """Return the offset of the chunk's first byte."""
        return (number - 1) * self.chunk_size

    def end_of(self, number: int) -> int:
        """Return the offset behind the chunk's last byte, as far as is known."""
        end = number * self.chunk_size
        return end if self.length is None else min(end, self.length)

    @property
    def count(self) -> int:
        """How many chunks the object has; an empty object has none.

        :raises ValueError: the length is not known yet.
        """
        if self.length is None:
            raise ValueError("a grid without a length has no last chunk")
        return -(-self.length // self.chunk_size)
