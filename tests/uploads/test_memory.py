"""The memory budget: who may read, who waits, and what is spilled."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from resumable.uploads.memory import PATIENCE, MemoryBudget

MIB = 1 << 20


class Stream:
    """Brings bytes when it may; what it holds is stored when the test, or the budget, says so."""

    def __init__(self, budget: MemoryBudget) -> None:
        self.budget = budget
        self.partial = 0
        self.behind = 0
        self.storing = 0
        self.held = False
        self.silent = False
        budget.join(self)

    def hold(self) -> None:
        self.held = True

    def release(self) -> None:
        self.held = False
        self.take_what_lies_there()

    def take_what_lies_there(self) -> None:
        """As a request goes on that was paused: block by block, until it is paused again."""
        while self.behind and not self.held:
            self.behind -= MIB // 16
            self.budget.wait(-MIB // 16)
            self.bring(MIB // 16)

    def bring(self, size: int) -> None:
        self.partial += size
        self.budget.take(size, by=self)

    def spill(self) -> None:
        size, self.partial = self.partial, 0
        self.storing += size
        self.budget.move(size)

    def stored(self) -> None:
        size, self.storing = self.storing, 0
        self.budget.give(size)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def budget(clock: Clock) -> MemoryBudget:
    return MemoryBudget(16 * MIB, clock)


def test_all_wait_at_the_limit(budget: MemoryBudget) -> None:
    """The read that reaches the limit is the last, and who comes then has to wait."""
    streams = [Stream(budget) for _ in range(3)]
    streams[0].bring(15 * MIB)
    assert not any(stream.held for stream in streams)
    streams[1].bring(2 * MIB)
    assert all(stream.held for stream in streams)
    assert Stream(budget).held


def test_let_in_as_there_is_room(budget: MemoryBudget) -> None:
    """Room for three expected reads lets three in, not everybody; those who have begun a chunk come first."""
    streams = [Stream(budget) for _ in range(100)]
    streams[60].bring(10 * MIB)
    streams[60].spill()
    streams[70].bring(3 * MIB)
    streams[80].bring(3 * MIB)
    assert all(stream.held for stream in streams)
    budget.give(4 * MIB)  # 12 are held, and they open up to 14
    assert [number for number, stream in enumerate(streams) if not stream.held] == [0, 70, 80]


def test_the_silent_keep_nobody_waiting(budget: MemoryBudget, clock: Clock) -> None:
    """Those who are let in and bring nothing are passed by after a moment, until the last of the line is in."""
    streams = [Stream(budget) for _ in range(50)]
    streams[49].bring(16 * MIB)
    streams[49].stored()
    admitted = sum(not stream.held for stream in streams)
    assert 0 < admitted < 50
    for _ in range(50):
        clock.advance(PATIENCE)
    assert not any(stream.held for stream in streams)
    assert not clock.getDelayedCalls()


def test_something_always_moves(budget: MemoryBudget, clock: Clock) -> None:
    """With the budget full of chunks begun, a quarter of it is spilled, one by one: the silent first, then the largest."""
    streams = [Stream(budget) for _ in range(8)]
    streams[3].silent = True
    for number, stream in enumerate(streams[:6]):
        stream.bring((2 if number else 1) * MIB)
    streams[6].bring(5 * MIB)
    assert [number for number, stream in enumerate(streams) if stream.storing] == [3]
    clock.advance(PATIENCE)
    assert [number for number, stream in enumerate(streams) if stream.storing] == [3, 6]
    clock.advance(10 * PATIENCE)
    assert [number for number, stream in enumerate(streams) if stream.storing] == [3, 6]
    assert all(stream.held for stream in streams)
    streams[6].stored()
    assert not streams[0].held


def test_what_is_kept_goes_first(budget: MemoryBudget) -> None:
    """Bytes kept to save a read make room before anybody has to wait, and are given back once."""
    kept = {"a": 4 * MIB, "b": 4 * MIB}
    assert budget.keep("a", kept["a"], lambda: kept.pop("a"))
    assert budget.keep("b", kept["b"], lambda: kept.pop("b"))
    assert not budget.keep("c", 1, lambda: 1)
    stream = Stream(budget)
    stream.bring(9 * MIB)
    assert not stream.held
    assert list(kept) == ["b"]
    budget.forget("a")
    budget.forget("b")
    assert budget.held == 9 * MIB


def test_leaving_the_line(budget: MemoryBudget, clock: Clock) -> None:
    """A stream that ends while it waits is not waited for."""
    first, second, third = (Stream(budget) for _ in range(3))
    first.bring(16 * MIB)
    budget.leave(second)
    first.spill()
    first.stored()
    clock.advance(PATIENCE)
    assert second.held
    assert not third.held
    clock.advance(PATIENCE)
    assert not clock.getDelayedCalls()


def test_what_lies_with_those_who_wait_is_held_and_holds_nobody_up(budget: MemoryBudget, clock: Clock) -> None:
    """It fills the budget alone: somebody takes it, so that it can be stored."""
    streams = [Stream(budget) for _ in range(4)]
    for stream in streams:
        stream.behind = 4 * MIB
        budget.wait(4 * MIB)
    assert budget.held == budget.limit
    late = Stream(budget)
    assert late.held
    for stream in streams:
        stream.held = True
    budget._close()
    clock.advance(PATIENCE)
    assert budget.held == budget.limit
    for _ in range(1000):
        for stream in streams:
            stream.stored()
        clock.advance(PATIENCE)
    assert not any(stream.behind for stream in streams)
    assert budget.held == sum(stream.partial for stream in streams) < budget.limit
    assert not late.held
