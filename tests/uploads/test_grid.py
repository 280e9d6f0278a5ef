"""The grid, coverage and checksums: pure properties."""

from __future__ import annotations

from itertools import pairwise

import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from resumable.crc32c_text import encode_crc32c
from resumable.model import Piece, TooLarge
from resumable.uploads.checksum import combine
from resumable.uploads.coverage import Coverage
from resumable.uploads.grid import MIB, Grid, chunk_size_for

MAX_PART = 5 << 30
lengths = st.integers(min_value=0, max_value=MAX_PART * 10_000)


@given(length=lengths, max_parts=st.sampled_from([1, 1000, 10_000]))
def test_the_grid_always_fits(length: int, max_parts: int) -> None:
    """However long an object is, it has at most max_parts chunks, of at least the configured size, in whole MiB."""
    try:
        size = chunk_size_for(length, chunk_size=6 * MIB, max_parts=max_parts, largest_part=MAX_PART)
    except TooLarge:
        assert length > (MAX_PART - MIB) * max_parts
        return
    assert 6 * MIB <= size <= MAX_PART
    assert size % MIB == 0
    assert Grid(size, length).count <= max_parts


@given(length=st.integers(1, 10_000), size=st.integers(1, 600))
def test_chunks_are_the_object(length: int, size: int) -> None:
    """The chunks follow on each other without gap or overlap from the first byte to the last."""
    grid = Grid(size, length)
    edges = [(grid.first_of(n), grid.end_of(n)) for n in range(1, grid.count + 1)]
    assert edges[0][0] == 0
    assert edges[-1][1] == length
    assert all(a[1] == b[0] and a[0] < a[1] for a, b in pairwise(edges))
    assert all(grid.number_at(first) == n == grid.number_at(end - 1) for n, (first, end) in enumerate(edges, 1))


def test_an_unknown_length_keeps_the_configured_chunk() -> None:
    """Nobody knows how many chunks there will be: the grid is the configured one, and has no count."""
    assert chunk_size_for(None, chunk_size=6 * MIB, max_parts=10_000, largest_part=MAX_PART) == 6 * MIB
    with pytest.raises(ValueError, match="length"):
        _ = Grid(6 * MIB, None).count


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=12))
def test_coverage_is_the_union(ranges: list[tuple[int, int]]) -> None:
    """Coverage says of each byte what the pieces say together; the offset is the first byte that is missing."""
    pieces = [Piece(first, first + size, None, "e") for first, size in ranges]
    there = {byte for first, size in ranges for byte in range(first, first + size)}
    coverage = Coverage.of(pieces)
    assert {byte for first, end in coverage.ranges for byte in range(first, end)} == there
    assert all(a[1] < b[0] for a, b in pairwise(coverage.ranges))
    assert coverage.offset == next(byte for byte in range(100) if byte not in there)
    for first, end in ((0, 10), (5, 7), (30, 55), (7, 7)):
        assert coverage.covers(first, end) == all(byte in there for byte in range(first, end))


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_checksums_combine(parts: list[bytes]) -> None:
    """The CRC32C of the whole follows from the parts'."""
    assert combine((crc32c(part), len(part)) for part in parts) == crc32c(b"".join(parts))


def test_checksum_on_the_wire() -> None:
    """The check value of CRC32C (RFC 3720, B.4: 32 bytes of zeroes), as S3 writes it."""
    assert encode_crc32c(crc32c(bytes(32))) == "ipE2qg=="
