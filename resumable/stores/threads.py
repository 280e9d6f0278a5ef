"""Keeps botocore's blocking work (credentials, models, endpoints) off the reactor thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

from resumable.single_flight import SingleFlight

T = TypeVar("T")


class ThreadSingleFlight(Generic[T]):
    """Runs a blocking function in a thread, once for all callers that ask while it runs.

    A caller that cancels takes nothing away from the others. If the function raises, each of them gets the error.
    """

    def __init__(self, reactor: Any, function: Callable[[], T]) -> None:
        self._in_thread = lambda: deferToThreadPool(reactor, reactor.getThreadPool(), function)
        self._flights: SingleFlight[T] = SingleFlight(to_end=True)

    @property
    def running(self) -> bool:
        """Whether the function is running."""
        return self._flights.running(None)

    def __call__(self) -> Deferred[T]:
        """Return the result of the run under way, or of a new one."""
        return Deferred.fromCoroutine(self._flights.join(None, self._in_thread))
