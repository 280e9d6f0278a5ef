"""Blocking work of botocore's (credentials, models, endpoints), kept off the reactor thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

T = TypeVar("T")


class ThreadSingleFlight(Generic[T]):
    """A blocking function that runs in a thread, once for all who ask while it runs.

    Who stops waiting (cancels) takes nothing away from the others. What the function raises, each of them gets.
    """

    def __init__(self, reactor: Any, function: Callable[[], T]) -> None:
        self._reactor = reactor
        self._function = function
        self._waiters: list[Deferred[T]] = []

    @property
    def running(self) -> bool:
        """Whether the function is at work."""
        return bool(self._waiters)

    def __call__(self) -> Deferred[T]:
        """Run the function, or wait for the run under way; fires with what it returns."""
        waiter: Deferred[T] = Deferred()
        self._waiters.append(waiter)
        if len(self._waiters) == 1:
            pool = self._reactor.getThreadPool()
            deferToThreadPool(self._reactor, pool, self._function).addCallbacks(self._done, self._failed)
        return waiter

    def _done(self, result: T) -> None:
        for waiter in self._take():
            waiter.callback(result)

    def _failed(self, failure: Failure) -> None:
        for waiter in self._take():
            # A failure of its own for each: a Failure that is raised again collects the frames of who raised it.
            waiter.errback(Failure(failure.value))

    def _take(self) -> list[Deferred[T]]:
        waiters, self._waiters = self._waiters, []
        return waiters
