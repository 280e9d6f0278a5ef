"""One piece of work at a time for each key, its outcome shared by all who ask meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


@define(eq=False)
class _Flight(Generic[T]):
    """Work that is under way, and those who wait for it.

    :ivar abandoned: whether it was cancelled because nobody waited any more; it is about to end.
    """

    waiters: list[Deferred[T]] = field(factory=list)
    running: Deferred[None] | None = None
    abandoned: bool = False


class SingleFlight(Generic[T]):
    """Shares running work. What has ended, well or not, is forgotten: the next who asks starts anew.

    Who stops waiting (is cancelled) takes nothing away from the others.

    :param to_end: whether work goes on when nobody waits for it any more, as a thread does, which cannot be stopped.
        Otherwise it is cancelled then.
    """

    def __init__(self, *, to_end: bool = False) -> None:
        self._to_end = to_end
        self._flights: dict[Hashable, _Flight[T]] = {}

    def running(self, key: Hashable) -> bool:
        """Say whether work under the key is under way."""
        return key in self._flights

    async def join(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        """Return the result of `work`, started here unless work under the same key is under way.

        What the work raises, each who waits gets.
        """
        while (flight := self._flights.get(key)) is not None and flight.abandoned:
            try:
                await self._wait(flight)
            except Exception:
                # Its outcome is its former askers' affair; a cancelled caller, however, has to end.
                if self._flights.get(key) is flight:
                    raise
        mine: Deferred[T] = Deferred()
        if flight is None:
            flight = self._flights[key] = _Flight([mine])
            flight.running = Deferred.fromCoroutine(self._fly(key, flight, work))
        else:
            flight.waiters.append(mine)
        try:
            return await mine
        except CancelledError:
            if self._flights.get(key) is not flight:
                raise  # it is the work that was cancelled
            flight.waiters.remove(mine)
            if flight.waiters or self._to_end:
                raise
        return await self._abandon(flight)

    async def _abandon(self, flight: _Flight[T]) -> T:
        """Cancel the work, and wait for how it ends."""
        flight.abandoned = True
        waiting = self._wait(flight)
        assert flight.running is not None, "who has waited was waiting for something"
        flight.running.cancel()
        return await waiting

    def _wait(self, flight: _Flight[T]) -> Deferred[T]:
        waiter: Deferred[T] = Deferred()
        flight.waiters.append(waiter)
        return waiter

    async def _fly(self, key: Hashable, flight: _Flight[T], work: Callable[[], Awaitable[T]]) -> None:
        try:
            result = await work()
        except Exception as error:
            del self._flights[key]
            for waiter in flight.waiters:
                # A failure of its own for each: a Failure that is raised again collects the frames of who raised it.
                waiter.errback(Failure(error))
        else:
            del self._flights[key]
            for waiter in flight.waiters:
                waiter.callback(result)
