"""Room for so many bytes."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred

from resumable.uploads.limiter import ReadBackLimiter


def take(room: ReadBackLimiter, size: int) -> Deferred[None]:
    return Deferred.fromCoroutine(room.take(size))


@pytest.fixture
def room() -> ReadBackLimiter:
    return ReadBackLimiter(10)


def test_first_come_first_served(room: ReadBackLimiter) -> None:
    """Who is in front is not passed by who wants less."""
    takes = [take(room, size) for size in (6, 4, 5, 1)]
    assert [one.called for one in takes] == [True, True, False, False]
    room.give(4)
    assert [one.called for one in takes] == [True, True, False, False]
    room.give(6)
    assert all(one.called for one in takes)


def test_more_than_there_is(room: ReadBackLimiter) -> None:
    """It is had alone."""
    first, large, last = take(room, 1), take(room, 11), take(room, 1)
    assert (first.called, large.called) == (True, False)
    room.give(1)
    assert (large.called, last.called) == (True, False)
    room.give(11)
    assert last.called


def test_one_that_waits_no_more(room: ReadBackLimiter) -> None:
    """Whoever it kept waiting has a turn, and nothing is lent to it."""
    takes = [take(room, size) for size in (6, 5, 4)]
    takes[1].addErrback(lambda failure: failure.trap(CancelledError) and None)
    assert not takes[2].called
    takes[1].cancel()
    assert takes[2].called
    room.give(6)
    assert take(room, 6).called
