"""The bytes that are uploaded: every offset has its own, so that a byte out of place is seen."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator

#: A prime, so that no grid of chunks falls into step with it.
PERIOD = 1048583
_BLOCK = memoryview(random.Random(1).randbytes(PERIOD))


def pieces(first: int, end: int) -> Iterator[memoryview]:
    """The bytes from `first` to `end`, in views of at most `PERIOD`."""
    while first < end:
        at = first % PERIOD
        view = _BLOCK[at : min(PERIOD, at + end - first)]
        yield view
        first += len(view)


def digest(size: int) -> str:
    """What the sink says about a whole object of `size` bytes."""
    crc = 0
    for view in pieces(0, size):
        crc = zlib.crc32(view, crc)
    return f"{size} {crc}"
