"""Telling the main application how uploads get on: the event ``upload.progress``, as it happens or not at all.

It is not in the ledger's queue, is never told again, and nothing waits for it. What is told is always the newest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from secrets import token_hex
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from resumable.callbacks.webhooks import NotDelivered, Webhooks
from resumable.clock import cancel_if_active, now
from resumable.metrics import Metrics
from resumable.model import PROGRESS, Event
from resumable.uploads.events import data_of
from resumable.uploads.result import Report

#: Seconds between the beginnings of two calls about one upload.
EVERY = 1.0
#: Seconds of rest for an upload after a call that has failed, and the most that ``Retry-After`` can make of them.
REST, LONGEST_REST = 10.0, 60.0
#: Calls under way, of all uploads.
PARALLEL = 16
#: Uploads that wait for their turn while so many calls are under way. Of others nothing is told then.
MOST_WAITING = 10_000


@frozen
class ProgressEvent(Event):
    """How far an upload is. Each has an id of its own, since it is sent once."""

    number: str = field(factory=lambda: token_hex(16))

    @property
    def id(self) -> str:
        """An id that no other event has."""
        return f"msg_{self.number}"


@frozen
class _News:
    """What there is to tell: see `resumable.uploads.events.ProgressObserver.moved`."""

    report: Callable[[], Report | None]
    end: Callable[[str], None]


@define(eq=False)
class _Watched:
    """An upload of which something is told, or was told a moment ago."""

    #: What is to be told when the call under way has ended and the rest is over. Newer news replace it.
    news: _News | None = None
    calling: bool = False
    rest: IDelayedCall | None = None


class ProgressTeller:
    """Tells of each upload at most once a second, one call at a time.

    :param clock: the reactor.
    :param partials: whether partial uploads are told of, too.
    """

    _log = Logger()

    def __init__(
        self, webhooks: Webhooks, clock: Any, *, partials: bool = False, metrics: Metrics | None = None
    ) -> None:
        self._webhooks = webhooks
        self._partials = partials
        self._clock = clock
        self._metrics = metrics or Metrics()
        self._watched: dict[str, _Watched] = {}
        #: Ids of uploads that may be told of but for the calls of others, in their order.
        self._queue: dict[str, None] = {}
        self._calls: set[Deferred[None]] = set()
        #: Ids of uploads whose calls have ended, for which `_called` has something to do.
        self._done: deque[str] = deque()
        self._turning = False
        self._stopped = False

    def moved(self, upload_id: str, report: Callable[[], Report | None], end: Callable[[str], None]) -> None:
        """See `resumable.uploads.events.ProgressObserver`."""
        if self._stopped:
            return
        self._watched.setdefault(upload_id, _Watched()).news = _News(report, end)
        self._go_on(upload_id)

    def ended(self, upload_id: str) -> None:
        """See `resumable.uploads.events.ProgressObserver`. A call under way goes on."""
        self._queue.pop(upload_id, None)
        watched = self._watched.pop(upload_id, None)
        if watched is not None and watched.rest is not None:
            cancel_if_active(watched.rest)

    async def stop(self) -> None:
        """Drop what was not told, and end the calls under way."""
        self._stopped = True
        for upload_id in list(self._watched):
            self.ended(upload_id)
        calls = list(self._calls)
        for call in calls:
            call.cancel()
        await DeferredList(calls, consumeErrors=True)

    def _go_on(self, upload_id: str) -> None:
        """Tell of the upload if it is time, wait for its turn if others are being told of, or forget it."""
        watched = self._watched.get(upload_id)
        if watched is None or watched.calling or watched.rest is not None:
            return
        if watched.news is None:
            del self._watched[upload_id]
        elif len(self._calls) < PARALLEL:
            self._queue.pop(upload_id, None)
            self._begin(upload_id, watched, watched.news)
        elif upload_id in self._queue or len(self._queue) < MOST_WAITING:
            self._queue[upload_id] = None
        else:
            del self._watched[upload_id]

    def _begin(self, upload_id: str, watched: _Watched, news: _News) -> None:
        watched.news, watched.calling = None, True
        self._rest(upload_id, watched, EVERY)
        call = Deferred.fromCoroutine(self._tell(upload_id, watched, news))
        self._calls.add(call)
        call.addBoth(lambda _: self._called(upload_id, watched, call))

    def _called(self, upload_id: str, watched: _Watched, call: Deferred[None]) -> None:
        self._calls.discard(call)
        watched.calling = False
        self._done.append(upload_id)
        if self._turning:
            return  # A call that has ended at once, below: thousands of them may follow one another.
        self._turning = True
        try:
            while self._done:
                # Those who wait for their turn come before this one, which was just told of.
                if self._queue:
                    self._go_on(next(iter(self._queue)))
                self._go_on(self._done.popleft())
        finally:
            self._turning = False

    def _rest(self, upload_id: str, watched: _Watched, seconds: float) -> None:
        """Tell nothing of the upload for so many seconds."""
        if watched.rest is not None:
            watched.rest.cancel()
        watched.rest = self._clock.callLater(seconds, self._rested, upload_id, watched)

    def _rested(self, upload_id: str, watched: _Watched) -> None:
        watched.rest = None
        self._go_on(upload_id)

    async def _tell(self, upload_id: str, watched: _Watched, news: _News) -> None:
        """Tell how far the upload is now. Whatever comes of it, this raises nothing."""
        try:
            report = news.report()
            if report is None or (report.upload.partial and not self._partials):
                return
            event = ProgressEvent(upload_id, PROGRESS, data_of(report), now(self._clock))
            verdict = await self._webhooks.tell(event, waiting=False)
        except CancelledError:
            return
        except NotDelivered as failure:
            self._failed(upload_id, watched, failure.reason, failure.pause)
        except Exception as error:
            self._failed(upload_id, watched, f"could not be told ({type(error).__name__})", 0.0)
        else:
            self._metrics.progress_told(delivered=True)
            if verdict.stop is not None:
                news.end(verdict.stop)

    def _failed(self, upload_id: str, watched: _Watched, reason: str, pause: float) -> None:
        self._metrics.progress_told(delivered=False)
        # Not a warning: there is one for each call, and nothing has to be done.
        self._log.debug("progress of upload {id} was not told: the application {why}", id=upload_id, why=reason)
        if self._watched.get(upload_id) is watched:
            self._rest(upload_id, watched, min(max(REST, pause), LONGEST_REST))
