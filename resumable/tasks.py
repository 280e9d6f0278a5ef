"""Coroutines at the same time: those that are waited for together, and background tasks, which nobody waits for."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredList, DeferredSemaphore
from twisted.logger import Logger

from resumable.clock import cancel_if_active

T = TypeVar("T")


async def together(works: Iterable[Callable[[], Coroutine[Any, Any, T]]], *, most: int) -> list[T]:
    """Do all of it, `most` at a time; returns the results in the order of the works.

    What fails stops nothing: when all have ended, the first failure is raised. Cancelled, all end, and that is what is
    raised: who tries again after a failure is not to do so then.
    """
    turns = DeferredSemaphore(most)
    doing = [turns.run(work) for work in works]
    # Cancelled from the last to the first, or those that wait would have their turn.
    outcomes: list[tuple[bool, Any]] = await DeferredList(doing[::-1], consumeErrors=True)
    outcomes.reverse()
    failures = [failure for succeeded, failure in outcomes if not succeeded]
    if failures:
        cancelled = [failure for failure in failures if failure.check(CancelledError)]
        (*cancelled, *failures)[0].raiseException()
    return [result for _, result in outcomes]


class BackgroundTasks:
    """Work that nobody waits for, begun in the order in which it was given."""

    _log = Logger()

    def __init__(self, most: int) -> None:
        """
        :param most: how much of it is done at a time.
        """
        self._turns = DeferredSemaphore(most)
        #: In their order.
        self._running: dict[Deferred[None], None] = {}

    def run(self, work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Do it when it is its turn. What goes wrong is logged."""
        running = Deferred.fromCoroutine(self._safely(work))
        self._running[running] = None
        running.addBoth(lambda _: self._running.pop(running))

    async def _safely(self, work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        try:
            await self._turns.run(work)
        except CancelledError:
            pass
        except Exception:
            self._log.failure("a background task failed")

    @property
    def count(self) -> int:
        """How much is under way or waits for its turn."""
        return len(self._running)

    async def settle(self) -> None:
        """Wait until nothing is left to do."""
        while self._running:
            await DeferredList(list(self._running))

    async def close(self, clock: Any, seconds: float) -> None:
        """Wait so long until nothing is left to do, then give up what is."""
        late = clock.callLater(seconds, self._cancel)
        await self.settle()
        cancel_if_active(late)

    def _cancel(self) -> None:
        # From the last to the first, or those that wait would have their turn.
        for running in list(self._running)[::-1]:
            running.cancel()
