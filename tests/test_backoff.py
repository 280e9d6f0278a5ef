"""Pauses between tries."""

from __future__ import annotations

import pytest

from resumable.backoff import Backoff


def test_they_grow_up_to_the_longest() -> None:
    backoff = Backoff(0.5, 3.0)
    assert [backoff.pause(tries) for tries in (1, 2, 3, 4, 5, 100_000)] == [0.5, 1.0, 2.0, 3.0, 3.0, 3.0]


def test_the_factor() -> None:
    assert [Backoff(1.0, 100.0, factor=5.0).pause(tries) for tries in (1, 2, 3, 4)] == [1.0, 5.0, 25.0, 100.0]


def test_one_that_does_not_grow() -> None:
    assert [Backoff(1.0, 1.0).pause(tries) for tries in (1, 2, 3)] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(("drawn", "expected"), [(0.0, 1.5), (0.5, 1.75), (1.0, 2.0)])
def test_chance(drawn: float, expected: float) -> None:
    """It picks from the range, and the longest pause is what it picks from too."""
    backoff = Backoff(1.0, 2.0, jitter=(0.75, 1.0), random=lambda: drawn)
    assert backoff.pause(9) == expected
    assert backoff.bound(9) == 2.0
