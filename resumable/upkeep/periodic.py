"""Periodic tasks: work that is done again and again, also after a failure."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from resumable.clock import cancel_if_active
from resumable.model import Unavailable, UploadError


class PeriodicTask:
    """Calls `work` every `seconds`, for the first time after `first` seconds; never twice at a time."""

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, seconds: float, work: Callable[[], Awaitable[None]], *, first: float = 0.0
    ) -> None:
        self._work = work
        self._running: Deferred[None] | None = None
        self._loop = LoopingCall(self._once)
        self._loop.clock = clock
        self._beginning = clock.callLater(first, self._loop.start, seconds)

    def _once(self) -> Deferred[None]:
        self._running = ensureDeferred(self._safely())
        return self._running

    async def _safely(self) -> None:
        try:
            await self._work()
        except CancelledError:
            pass
        except UploadError as error:
            # An outage is told of once, and not by each of those that run into it.
            outage = isinstance(error, Unavailable) and error.part
            tell = self._log.debug if outage else self._log.warn
            tell("{error}; trying again later", error=str(error))
        except Exception:
            self._log.failure("a periodic task failed")

    def stop(self) -> None:
        """Stop calling `work`, and cancel the call under way."""
        cancel_if_active(self._beginning)
        if self._loop.running:
            self._loop.stop()
        if self._running is not None:
            self._running.cancel()
