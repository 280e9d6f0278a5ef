"""The grid, coverage and checksums: pure properties."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from attrs import evolve
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from resumable.crc32c_text import encode_crc32c
from resumable.model import Piece, TooLarge
from resumable.stores.port import StoreLimits
from resumable.uploads.checksum import combine
from resumable.uploads.coverage import Coverage
from resumable.uploads.grid import MIB, STEP, Bounds, Grid
from resumable.uploads.policy import CreateRequest
from tests.policy import policy

MAX_PART = 5 << 30
lengths = st.integers(min_value=0, max_value=MAX_PART * 10_000)


def bounds(**changes: Any) -> Bounds:
    """What memory and store bear by default."""
    known = Bounds(
        chunk_size=6 * MIB,
        bearable=48 * MIB,
        in_memory=64 * MIB,
        max_parts=10_000,
        largest_part=MAX_PART,
        joins=True,
    )
    return evolve(known, **changes)


@given(
    length=lengths,
    max_parts=st.sampled_from([1, 1000, 10_000]),
    bearable=st.sampled_from([0, 6 * MIB, 50 * MIB]),
    joins=st.booleans(),
)
def test_the_grid_always_fits(length: int, max_parts: int, bearable: int, joins: bool) -> None:
    """However long an object is, it has at most max_parts chunks, of at least the configured size.

    Chunks that do not fit into memory have cells that do.
    """
    try:
        cut = bounds(max_parts=max_parts, bearable=bearable, joins=joins).cut_for(length)
    except TooLarge:
        assert length > (MAX_PART if joins else 64 * MIB) * max_parts
        return
    assert 6 * MIB <= cut.chunk_size <= MAX_PART
    assert cut.chunk_size % MIB == 0
    assert not cut.growth
    assert 6 * MIB <= (cut.cell or cut.chunk_size) <= 64 * MIB
    assert Grid(cut.chunk_size, length).count <= max_parts


GROWTH = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 4)), max_size=4)


def grown(size: int, growth: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Later chunks, each so many numbers further and so many times larger."""
    steps, number = [], 1
    for further, times in growth:
        number, size = number + further, size * times
        steps.append((number, size))
    return tuple(steps)


@given(length=st.integers(1, 10_000), size=st.integers(1, 600), growth=GROWTH, cell=st.integers(0, 700))
def test_chunks_are_the_object(length: int, size: int, growth: list[tuple[int, int]], cell: int) -> None:
    """The chunks follow on each other without gap or overlap from the first byte to the last; so do the cells of each."""
    grid = Grid(size, length, grown(size, growth), cell)
    edges = [(grid.first_of(n), grid.end_of(n)) for n in range(1, grid.count + 1)]
    assert edges[0][0] == 0
    assert edges[-1][1] == length
    assert all(a[1] == b[0] and a[0] < a[1] for a, b in pairwise(edges))
    assert all(grid.number_at(first) == n == grid.number_at(end - 1) for n, (first, end) in enumerate(edges, 1))
    endless = evolve(grid, length=None)
    for number, (first, end) in enumerate(edges, 1):
        position = first
        while position < end:
            begin, stop = grid.cell_at(position)
            assert (begin, stop) == endless.cell_at(position) == grid.cell_at(stop - 1)
            assert begin == position < stop <= endless.end_of(number)
            assert grid.fits(number) == ((begin, stop) == (first, endless.end_of(number)))
            position = stop


def test_an_unknown_length_begins_with_the_configured_chunk() -> None:
    """Nobody knows how many chunks there will be: the first are as configured, later ones twice as large, and so on."""
    cut = bounds().cut_for(None)
    grid = Grid(cut.chunk_size, None, cut.growth, cut.cell)
    with pytest.raises(ValueError, match="length"):
        _ = grid.count
    sizes = [(grid.end_of(number) - grid.first_of(number)) // MIB for number in range(1, 81)]
    assert sizes == [6] * STEP + [12] * STEP + [24] * STEP + [48] * (80 - 3 * STEP)
    assert grid.fits(5000)
    assert not grid.fits(5001)
    assert grid.end_of(5001) - grid.first_of(5001) == 106 * 48 * MIB


@given(size=st.integers(1, 600), bearable=st.integers(0, 20_000), number=st.integers(1, 200), joins=st.booleans())
def test_growing_chunks_are_aligned(size: int, bearable: int, number: int, joins: bool) -> None:
    """What a client sends in ranges of the largest cell begins and ends at edges, whatever the length."""
    cut = bounds(chunk_size=size, bearable=bearable, largest_part=1 << 30, max_parts=150, joins=joins).cut_for(None)
    grid = Grid(cut.chunk_size, None, cut.growth, cut.cell)
    largest = cut.cell or max([size, *(grown for _, grown in cut.growth)])
    assert size <= largest <= max(size, bearable)
    assert grid.cell_at(number * largest)[0] == number * largest


GIB = 1 << 30
TIB = 1 << 40


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("length", "requests"), [(2 * GIB, 80), (50 * 10**9, 1200)])
def test_few_requests_by_default(length: int, requests: int, known: bool) -> None:
    """A part for each chunk, and the two that open and complete the multipart upload; whether the length is known or not."""
    upload = policy().new_upload(CreateRequest("put", "name", length=length if known else None), "id", 0.0)
    assert evolve(Grid.of(upload), length=length).count + 2 <= requests


@pytest.mark.parametrize("length", [None, 2 * GIB])
def test_many_writers_have_small_chunks(length: int | None) -> None:
    """Chunks do not grow beyond what each writer's share of the memory can hold twice."""
    many = policy().new_upload(CreateRequest("put", "name", length=length), "id", 0.0, writing=99)
    assert many.alignment == 6 * MIB
    few = policy().new_upload(CreateRequest("put", "name", length=length), "id", 0.0, writing=2)
    assert few.alignment <= 32 * MIB


def test_a_store_may_want_equal_parts() -> None:
    """Of an unknown length it gets the configured ones, and of a known length large ones."""
    equal = policy(limits=StoreLimits(equal_parts=True))
    assert equal.new_upload(CreateRequest("put", "name"), "id", 0.0).growth == ()
    assert equal.new_upload(CreateRequest("put", "name", length=2 * GIB), "id", 0.0).chunk_size > 6 * MIB


def test_what_a_store_takes_at_most() -> None:
    """S3's 48.8 TiB are taken where the length is known, in cells that memory is for; else half of it."""
    most = policy().limits.largest_object
    upload = policy().new_upload(CreateRequest("put", "name", length=most), "id", 0.0)
    assert (Grid.of(upload).count, upload.cell) == (10_000, 40 * MIB)
    with pytest.raises(TooLarge):
        policy().new_upload(CreateRequest("put", "name", length=most + 1), "id", 0.0)
    assert 24 * TIB < policy().most_bytes(policy().new_upload(CreateRequest("put", "name"), "id", 0.0), None) < most


def test_a_store_that_joins_nothing() -> None:
    """What memory is too small for is refused before its first byte."""
    alone = policy(limits=StoreLimits(joins=False))
    with pytest.raises(TooLarge, match="need parts"):
        alone.new_upload(CreateRequest("put", "name", length=TIB), "id", 0.0)
    assert alone.most_bytes(alone.new_upload(CreateRequest("put", "name"), "id", 0.0), None) < TIB


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
