"""Bytes that come in pieces of any size, held in few objects."""

from __future__ import annotations

#: Pieces of so many bytes or more are kept as the objects they are. A smaller one is copied: an object of its own takes
#: some fifty bytes more than it holds, and a read from the socket that did not fill its buffer leaves a hole in memory.
LARGE = 16 * 1024
#: Bytes of small pieces that are put together in one block.
BLOCK = 64 * 1024


class Blocks:
    """Bytes in order, first in, first out. A small piece costs little more memory than its bytes.

    :ivar whole: the blocks, oldest first. Small pieces that came last are in no block yet (see `seal`).
    :ivar size: bytes held, those in no block included.
    """

    __slots__ = ("_tail", "size", "whole")

    def __init__(self) -> None:
        self.whole: list[bytes] = []
        self.size = 0
        self._tail = bytearray()

    def __bool__(self) -> bool:
        """Say whether anything is held."""
        return self.size > 0

    def add(self, data: bytes) -> None:
        """Add `data` at the end."""
        self.size += len(data)
        if len(data) < LARGE:
            self._tail += data
            if len(self._tail) >= BLOCK:
                self.seal()
        else:
            self.seal()
            self.whole.append(data)

    def seal(self) -> list[bytes]:
        """Make a block of the small pieces that came last; return all blocks."""
        if self._tail:
            self.whole.append(bytes(self._tail))
            self._tail = bytearray()
        return self.whole

    def take(self) -> bytes:
        """Remove the oldest block, and return it."""
        block = (self.whole or self.seal()).pop(0)
        self.size -= len(block)
        return block

    def clear(self) -> None:
        """Drop everything."""
        self.whole.clear()
        self._tail = bytearray()
        self.size = 0
