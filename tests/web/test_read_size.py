"""How much is asked of a socket at a time."""

from __future__ import annotations

from resumable.malloc import OWN
from resumable.web.read_size import FIRST, LARGEST, SMALLEST, ReadSize


def test_grows_while_reads_are_filled() -> None:
    """A fast client is read in the largest pieces after a few."""
    reading = ReadSize()
    sizes = []
    for _ in range(6):
        reading.learn(reading.size, reading.size)
        sizes.append(reading.size)
    assert sizes == [2 * FIRST, 4 * FIRST, 8 * FIRST, LARGEST, LARGEST, LARGEST]


def test_the_largest_comes_from_the_heap() -> None:
    """A block that is mapped by itself costs a page fault for every 4 KiB of it."""
    assert LARGEST < OWN


def test_shrinks_while_little_arrives() -> None:
    """A slow client is not given memory that it does not fill."""
    reading = ReadSize()
    for _ in range(10):
        reading.learn(reading.size, 1000)
    assert reading.size == SMALLEST


def test_stays_where_reads_are_half_full() -> None:
    """There is a size at which it rests."""
    reading = ReadSize()
    reading.learn(FIRST, FIRST // 2)
    assert reading.size == FIRST


def test_a_read_up_to_an_edge_tells_of_no_slowness() -> None:
    """Few bytes were asked for, and all of them came."""
    reading = ReadSize()
    reading.learn(100, 100)
    assert reading.size == 2 * FIRST
