"""The bytes that are uploaded. They differ from offset to offset, so that a misplaced byte is noticed."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator

#: Bytes after which the data repeats. A prime, so that no grid of chunks has the same period.
PERIOD = 1048583
_BLOCK = memoryview(random.Random(1).randbytes(PERIOD))


def pieces(first: int, end: int) -> Iterator[memoryview]:
    """Yield the bytes from `first` (inclusive) to `end` (exclusive), in views of at most `PERIOD` bytes."""
    while first < end:
        at = first % PERIOD
        view = _BLOCK[at : min(PERIOD, at + end - first)]
        yield view
        first += len(view)


def digest(size: int) -> str:
    """Return the sink's digest of an intact object of `size` bytes."""
    crc = 0
    for view in pieces(0, size):
        crc = zlib.crc32(view, crc)
    return f"{size} {crc}"
