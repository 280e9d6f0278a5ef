"""The parts of an object that is made of others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from resumable.uploads.concatenation import Extent, PartPlan, plan_parts

MIB = 1 << 20


@given(st.lists(st.integers(0, 70), max_size=12), st.integers(1, 12), st.integers(2, 5))
def test_every_byte_once(sizes: list[int], smallest: int, times: int) -> None:
    largest = smallest * times
    parts = plan_parts(sizes, smallest=smallest, largest=largest)
    flat = [(e.source, at) for part in parts for e in part.extents for at in range(e.first, e.end)]
    assert flat == [(source, at) for source, size in enumerate(sizes) for at in range(size)]
    position = 0
    for number, part in enumerate(parts, 1):
        assert (part.number, part.first, part.end) == (number, position, position + part.size)
        position = part.end
        assert part.size > 0
        assert all(extent.size for extent in part.extents)
        assert part.size >= smallest or part is parts[-1]
        assert part.size <= largest if len(part.extents) == 1 else part.size < 2 * smallest


def test_large_ones_are_copied_as_they_are() -> None:
    sizes = [25_000_000] * 4
    parts = plan_parts(sizes, smallest=5 * MIB, largest=1024 * MIB)
    assert parts == [PartPlan(n + 1, n * 25_000_000, (Extent(n, 0, 25_000_000),)) for n in range(4)]


def test_a_short_one_borrows_from_the_next() -> None:
    parts = plan_parts([2, 20, 3], smallest=5, largest=10)
    assert [part.extents for part in parts] == [
        (Extent(0, 0, 2), Extent(1, 0, 3)),
        (Extent(1, 3, 11),),
        (Extent(1, 11, 20),),
        (Extent(2, 0, 3),),
    ]


def test_nothing() -> None:
    assert plan_parts([0, 0], smallest=5, largest=10) == []
