"""One piece of work at a time for each key, its outcome shared by all who ask meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Shares running work. What has ended, well or not, is forgotten: the next who asks starts anew."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, list[Deferred[T]]] = {}

    async def join(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        """The result of `work`, started here unless work under the same key is under way."""
        waiting = self._waiting.get(key)
        if waiting is not None:
            mine: Deferred[T] = Deferred()
            waiting.append(mine)
            return await mine
        self._waiting[key] = []
        try:
            result = await work()
        except Exception as error:
            failure = Failure(error)
            for deferred in self._waiting.pop(key):
                deferred.errback(failure)
            raise
        for deferred in self._waiting.pop(key):
            deferred.callback(result)
        return result
