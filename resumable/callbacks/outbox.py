"""The outbox tells the main application of every event in the ledger's queue, at least once.

It goes on trying while the application is down, for as long as the settings say.
"""

from __future__ import annotations

import random as chance
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger

from resumable.callbacks.formats import HookResult
from resumable.callbacks.webhooks import NotDelivered, Webhooks
from resumable.clock import Moments, cancel_if_active, now
from resumable.ledger.queue import DEAD, DELIVERED, EventQueue, Queued
from resumable.metrics import Metrics
from resumable.model import Unavailable, event_id
from resumable.uploads.events import FINISHED

#: Seconds from a failed try to the next one: after the first, the second and so on. The last value is used for
#: all further tries.
PAUSES = (5.0, 30.0, 120.0, 600.0, 3600.0, 10800.0)
#: Pauses are lengthened at random by up to this fraction, so that events that failed together do not come back
#: together.
JITTER = 0.1
#: Events told at the same time.
PARALLEL = 16
#: Seconds between looks at the queue when nothing is known to be due: another node may have died and left its events.
POLL = 5.0
#: Seconds beyond the call's own limit after which a try counts as abandoned.
MARGIN = 15.0
#: Seconds that tries under way get to end when the service stops.
LAST_TRIES = 5.0
#: The outcomes of a try: the name in the log, and the name in the metrics.
OUTCOMES = {"delivered": "delivered", "given up": "dead", "not delivered yet": "retried"}


class Outbox:
    """Delivers what is in the queue.

    :param wait: whether clients wait for the application's answers to finished uploads; these are kept then.
    :param give_up_after: seconds of trying after which an event is a dead letter.
    :param random: returns a number from 0 to 1.
    """

    _log = Logger()

    def __init__(
        self,
        queue: EventQueue,
        webhooks: Webhooks,
        clock: Any,
        *,
        give_up_after: float,
        wait: bool = False,
        random: Callable[[], float] = chance.random,
        metrics: Metrics | None = None,
    ) -> None:
        self._queue = queue
        self._webhooks = webhooks
        self._clock = clock
        self._give_up_after = give_up_after
        self._wait = wait
        self._random = random
        self._metrics = metrics or Metrics()
        #: Tries under way, by upload: one at a time for each.
        self._tries: dict[str, Deferred[None]] = {}
        self._running: Deferred[None] = succeed(None)
        self._stopping = False
        self._alarm: Deferred[None] | None = None
        self._woken = False
        #: When postponed events are due, by the number of the event and that of its tries.
        self._moments: Moments[tuple[int, int]] = Moments(clock)
        #: No event is taken before this moment (seconds of `clock`).
        self._not_before = float(clock.seconds())

    # In the background

    def start(self) -> None:
        """Begin to deliver."""
        self._running = Deferred.fromCoroutine(self._run())

    async def stop(self) -> None:
        """Stop. Tries under way get `LAST_TRIES` seconds; longer ones are made again after the next start."""
        self._stopping = True
        self.wake()
        late = self._clock.callLater(LAST_TRIES, lambda: _cancel([self._running, *self._tries.values()]))
        # The loop ends first, since a look at the queue that is under way may begin more tries.
        await DeferredList([self._running], consumeErrors=True)
        await DeferredList(list(self._tries.values()), consumeErrors=True)
        cancel_if_active(late)
        await self._webhooks.close()

    def wake(self) -> None:
        """Look at the queue now: there may be a new event."""
        self._woken = True
        alarm, self._alarm = self._alarm, None
        if alarm is not None:
            alarm.callback(None)

    async def _run(self) -> None:
        while not self._stopping:
            self._woken = False
            try:
                seconds = await self._round()
            except Unavailable:
                seconds = POLL
            except Exception:
                self._log.failure("a look at the queue of events failed")
                seconds = POLL
            if not self._woken:
                alarm: Deferred[None] = Deferred()
                self._alarm = alarm
                bell = self._clock.callLater(seconds, self.wake)
                await alarm
                cancel_if_active(bell)

    async def _round(self) -> float:
        """Begin to try what is due; return the seconds until the next look at the queue."""
        room = PARALLEL - len(self._tries)
        if room <= 0:
            return POLL  # the end of a try calls `wake`
        await self._after_a_step()
        if (left := self._not_before - self._clock.seconds()) > 0:
            return float(left)
        taken = await self._queue.take(now=now(self._clock), until=self._until(), most=room)
        for queued in taken:
            self._begin(queued)
        if taken:
            return 0.0
        following = await self._queue.next_due()
        return POLL if following is None else min(max(following - now(self._clock), 0.05), POLL)

    async def _after_a_step(self) -> None:
        """Correct the due times of postponed events where the system's clock was set, so that none comes late or early.

        Other processes on this machine do the same. After a step forward their events seem to be due at once. So
        nothing is taken for a while, until they have corrected them.
        """
        moved = self._moments.after_a_step()
        if moved is not None:
            await self._queue.redate(moved)
            self._moments.settled()
            if self._moments.step > 0:
                self._not_before = self._clock.seconds() + POLL + 1.0

    def _until(self) -> float:
        return now(self._clock) + self._webhooks.timeout + MARGIN

    def _begin(self, queued: Queued) -> None:
        upload_id = queued.event.upload_id
        trying = self._tries[upload_id] = Deferred.fromCoroutine(self._try_alone(queued))
        trying.addBoth(lambda _: self._ended(upload_id, trying))

    def _ended(self, upload_id: str, trying: Deferred[None]) -> None:
        if self._tries.get(upload_id) is trying:
            del self._tries[upload_id]
        self.wake()

    async def _try_alone(self, queued: Queued) -> None:
        try:
            await self._try(queued)
        except (NotDelivered, CancelledError):
            pass
        except Unavailable:
            pass  # the ledger does not have the outcome: the event will be tried again
        except Exception:
            self._log.failure("telling of event {id} failed", id=queued.event.id)

    # One try

    async def _try(self, queued: Queued) -> HookResult:
        """Tell the application of an event that this process has taken, and record the outcome.

        :raises NotDelivered: the application has not accepted the event.
        """
        for_client = self._wait and queued.event.type == FINISHED
        self._metrics.webhook_tried(queued.event.type)
        try:
            verdict = await self._webhooks.tell(queued.event, waiting=for_client)
        except NotDelivered as failure:
            await self._failed(queued, failure)
            raise
        except CancelledError:
            await self._queue.try_later(queued, "the service was stopped", due=now(self._clock))
            raise
        except Exception as error:
            # An unexpected error counts as a failed try: the same pauses follow, and it is given up after the same
            # time.
            self._log.failure("event {id} could not be told, or its answer could not be read", id=queued.event.id)
            unforeseen = NotDelivered(f"could not be told, or its answer could not be read ({type(error).__name__})")
            await self._failed(queued, unforeseen)
            raise unforeseen from error
        answer = _kept(verdict) if for_client else None
        await self._queue.delivered(queued, now=now(self._clock), answer=answer)
        self._tell("delivered", queued)
        return verdict

    async def _failed(self, queued: Queued, failure: NotDelivered) -> None:
        present = now(self._clock)
        last = (present if queued.since is None else queued.since) + self._give_up_after
        if failure.gone or present >= last:
            await self._queue.give_up(queued, failure.reason, now=present)
            self._tell("given up", queued, failure.reason)
        else:
            pause = PAUSES[min(queued.tries, len(PAUSES)) - 1] * (1 + JITTER * self._random())
            # There is always a last try when the time is over.
            due = min(present + max(pause, failure.pause), max(last, present + 1))
            self._moments.enter((queued.seq, queued.tries), due)
            await self._queue.try_later(queued, failure.reason, due=due)
            self._tell("not delivered yet", queued, f"{failure.reason}; again in {due - present:.0f} s")

    def _tell(self, what: str, queued: Queued, why: str = "") -> None:
        age = now(self._clock) - queued.event.created
        self._metrics.webhook_outcome(queued.event.type, OUTCOMES[what], age)
        # What is told later is no trouble: an outage of the application has a line of its own.
        log = self._log.warn if what == "given up" else self._log.info
        said = "event {what} id={id} type={type} upload={upload} tries={tries}"
        log(
            f"{said} ({{why}})" if why else said,
            what=what,
            id=queued.event.id,
            type=queued.event.type,
            upload=queued.event.upload_id,
            tries=queued.tries,
            **({"why": why} if why else {}),
        )

    # For clients that wait

    async def await_verdict(self, upload_id: str) -> HookResult | None:
        """Return the application's answer to a finished upload; tell it now if it has not accepted the event yet.

        Return None where there is no answer: there is no such event, it was given up, or its answer was not kept.

        :raises Unavailable: the application could not be told within a call's time. The event stays due.
        """
        finished = event_id(upload_id, FINISHED)
        deadline = self._clock.seconds() + self._webhooks.timeout + MARGIN
        while True:
            queued = await self._queue.get(finished)
            if queued is None or queued.state == DEAD:
                return None
            if queued.state == DELIVERED:
                return None if queued.answer is None else _from_kept(queued.answer)
            if self._clock.seconds() > deadline:
                raise Unavailable("the application did not answer")
            mine = await self._queue.take(now=now(self._clock), until=self._until(), most=1, upload_id=upload_id)
            if not mine:
                await self._somebody_tries(upload_id)
            elif (verdict := await self._ask(mine[0])) is not None:
                return verdict

    async def _ask(self, queued: Queued) -> HookResult | None:
        """Tell of an event that a client waits for; return None where it was an earlier event of the upload."""
        ours = queued.event.type == FINISHED
        try:
            verdict = await self._try(queued)
            return verdict if ours else None
        except NotDelivered as failure:
            if failure.gone and not ours:
                return None
            if failure.verdict is not None and ours:
                return failure.verdict
            raise Unavailable(f"the application {failure.reason}", part=failure.part) from None

    async def _somebody_tries(self, upload_id: str) -> None:
        """Wait while an event of the upload is being tried, by this process or another."""
        trying = self._tries.get(upload_id)
        if trying is None:
            await deferLater(self._clock, 0.2)
        else:
            ended: Deferred[None] = Deferred()
            trying.addBoth(lambda _: ended.callback(None))
            await ended


def _cancel(deferreds: Iterable[Deferred[None]]) -> None:
    for deferred in deferreds:
        deferred.cancel()


def _kept(verdict: HookResult) -> Mapping[str, Any]:
    """Return a verdict as values for JSON."""
    body = None if verdict.body is None else b64encode(verdict.body).decode()
    return {"status": verdict.status, "headers": verdict.headers, "body": body}


def _from_kept(kept: Mapping[str, Any]) -> HookResult:
    headers = tuple((name, value) for name, value in kept["headers"])
    return HookResult(True, kept["status"], headers, None if kept["body"] is None else b64decode(kept["body"]))
