"""Coroutines at the same time."""

from __future__ import annotations

from functools import partial

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher

from resumable.tasks import BackgroundTasks, together


class Work:
    """Pieces of work that end when the test says so; what has begun is noted."""

    def __init__(self) -> None:
        self.begun: dict[str, Deferred[str]] = {}
        self.cancelled: list[str] = []

    async def do(self, name: str) -> str:
        self.begun[name] = Deferred(lambda _: self.cancelled.append(name))
        return await self.begun[name]

    def end(self, name: str) -> None:
        self.begun[name].callback(name.upper())


@pytest.fixture
def work() -> Work:
    return Work()


@ensureDeferred
async def test_results_in_order(work: Work) -> None:
    """So many at a time, the results in the order of what was asked for and not of what ended first."""
    done = Deferred.fromCoroutine(together([partial(work.do, name) for name in "abcd"], most=2))
    assert list(work.begun) == ["a", "b"]
    for name in "bcda":
        work.end(name)
    assert await done == ["A", "B", "C", "D"]


@ensureDeferred
async def test_a_failure_waits_for_the_others(work: Work) -> None:
    """It stops nothing; the first of several is raised."""
    done = Deferred.fromCoroutine(together([partial(work.do, name) for name in "abc"], most=3))
    work.begun["c"].errback(ValueError("c"))
    work.begun["b"].errback(ValueError("b"))
    assert not done.called
    work.end("a")
    with pytest.raises(ValueError, match="b"):
        await done


@ensureDeferred
async def test_cancelled_together(work: Work) -> None:
    """All end, those that have not begun too."""
    done = Deferred.fromCoroutine(together([partial(work.do, name) for name in "abc"], most=2))
    done.cancel()
    with pytest.raises(CancelledError):
        await done
    assert (list(work.begun), sorted(work.cancelled)) == (["a", "b"], ["a", "b"])


@ensureDeferred
async def test_cancelled_together_after_a_failure(work: Work) -> None:
    """Whoever waits is told of the cancellation, and not of the failure, after which one may try again."""
    done = Deferred.fromCoroutine(together([partial(work.do, name) for name in "abc"], most=2))
    work.begun["a"].errback(ValueError("a"))
    done.cancel()
    with pytest.raises(CancelledError):
        await done
    assert sorted(work.cancelled) == ["b", "c"]


@ensureDeferred
async def test_nothing_to_do() -> None:
    nothing: list[partial[Deferred[str]]] = []
    assert await together(nothing, most=2) == []


@ensureDeferred
async def test_background_tasks(work: Work) -> None:
    """They are run in their order, so many at a time; one that fails is logged, and the next has its turn."""
    said: list[str] = []
    globalLogPublisher.addObserver(observer := lambda event: said.append(formatEvent(event)))
    background = BackgroundTasks(2)
    for name in "abc":
        background.run(partial(work.do, name))
    assert (list(work.begun), background.count) == (["a", "b"], 3)
    work.begun["b"].errback(ValueError("b"))
    globalLogPublisher.removeObserver(observer)
    assert (list(work.begun), background.count) == (["a", "b", "c"], 2)
    assert said == ["a background task failed"]
    settled = Deferred.fromCoroutine(background.settle())
    work.end("a")
    assert not settled.called
    background.run(partial(work.do, "d"))
    work.end("c")
    assert not settled.called
    work.end("d")
    await settled
    assert background.count == 0


@ensureDeferred
async def test_background_tasks_that_take_too_long(work: Work) -> None:
    """They are given up when the time is over, those that wait too."""
    clock, background = Clock(), BackgroundTasks(1)
    for name in "ab":
        background.run(partial(work.do, name))
    closed = Deferred.fromCoroutine(background.close(clock, 5.0))
    clock.advance(4.9)
    assert not closed.called
    clock.advance(0.2)
    assert closed.called
    await closed
    assert (list(work.begun), work.cancelled, background.count) == (["a"], ["a"], 0)


@ensureDeferred
async def test_background_tasks_that_are_done_in_time(work: Work) -> None:
    clock, background = Clock(), BackgroundTasks(1)
    background.run(partial(work.do, "a"))
    closed = Deferred.fromCoroutine(background.close(clock, 5.0))
    work.end("a")
    await closed
    assert clock.getDelayedCalls() == []
