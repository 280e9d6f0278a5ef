"""Blocking work of botocore's (credentials, models, endpoints), kept off the reactor thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

from resumable.single_flight import SingleFlight

T = TypeVar("T")


class ThreadSingleFlight(Generic[T]):
    """A blocking function that runs in a thread, once for all who ask while it runs.

    Who stops waiting (cancels) takes nothing away from the others. What the function raises, each of them gets.
    """

    def __init__(self, reactor: Any, function: Callable[[], T]) -> None:
        self._in_thread = lambda: deferToThreadPool(reactor, reactor.getThreadPool(), function)
        self._flights: SingleFlight[T] = SingleFlight(to_end=True)

    @property
    def running(self) -> bool:
        """Whether the function is at work."""
        return self._flights.running(None)

    def __call__(self) -> Deferred[T]:
        """Return what the function returns, this time."""
        return Deferred.fromCoroutine(self._flights.join(None, self._in_thread))
