"""Outages of what the service needs: one warning when one begins, one line when it is over, whoever asks or does not.

A part (the store, the ledger, an application) reports each call that failed and each that worked. One failure is no outage::

    WORKING --failed--> DOUBTED --failed again, or a client was refused--> OUT
       ^                   |                                               ^ |
       |                   | worked                            failed again| | worked
       +-------------------+                                               | v
       +--------------------------nothing failed for a while----------- RETURNED

In DOUBTED and OUT the part is tried from here every few seconds, so that the end does not wait for a client.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import Enum, auto
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from resumable.clock import cancel_if_active, now
from resumable.timestamps import rfc3339

log = Logger()

#: Seconds between the first failure of a part and the first one that makes an outage of it.
DOUBT = 3.0
#: Seconds between tries of a part that does not work.
AGAIN = 5.0
#: Seconds without a failure after which an outage is over.
CALM = 5.0

#: The parts' names, as they stand in the log.
STORE, LEDGER, AUTH, EVENTS = "store", "ledger", "auth application", "events application"

#: Tries a part; raises if it does not work. What it uses reports how it went.
Try = Callable[[], Awaitable[object]]


class Reports(Protocol):
    """What a part tells of its calls."""

    def failed(self, reason: str) -> None:
        """Take note that a call failed.

        :param reason: for the log, without secrets.
        """

    def worked(self) -> None:
        """Take note that a call worked."""


class Condition(Enum):
    """How a part is, as far as is known; see the diagram above."""

    WORKING = auto()
    DOUBTED = auto()
    OUT = auto()
    RETURNED = auto()


class Part:
    """One part that the service needs, and its outage if there is one.

    :param name: as it stands in the log, such as ``store``.
    :param effect: what clients notice of an outage.
    """

    def __init__(self, clock: Any, name: str, effect: str) -> None:
        self._clock = clock
        self._name = name
        self._effect = effect
        self._condition = Condition.WORKING
        self._reason = ""
        #: When the first of the failures came (seconds of the clock, and seconds since the epoch), and when calls worked again.
        self._since = self._began = self._returned = 0.0
        self._refused = 0
        self._timer: Any = None
        self._trying: Deferred[None] | None = None
        self._stopped = False
        #: Tries the part; None where only its users find out.
        self.attempt: Try | None = None

    @property
    def out(self) -> bool:
        """Whether the part is known not to work."""
        return self._condition is Condition.OUT

    def failed(self, reason: str) -> None:
        """See `Reports`."""
        self._reason = reason
        if self._condition is Condition.WORKING:
            self._become(Condition.DOUBTED, AGAIN)
            self._since, self._began, self._refused = self._clock.seconds(), now(self._clock), 0
        elif self._condition is Condition.RETURNED:
            self._become(Condition.OUT, AGAIN)
        elif self._condition is Condition.DOUBTED and self._clock.seconds() - self._since >= DOUBT:
            self._begin()

    def refused(self, reason: str) -> None:
        """Take note that a client's request was refused because the part does not work.

        :param reason: as of `failed`, for the case that this is the first that is heard of it.
        """
        known = self._condition is not Condition.WORKING
        if not known:
            self.failed(reason)
        self._refused += 1
        if known and self._condition is Condition.DOUBTED:
            self._begin()

    def worked(self) -> None:
        """See `Reports`. It costs nothing as long as all is well."""
        if self._condition is Condition.DOUBTED:
            self._become(Condition.WORKING, None)
        elif self._condition is Condition.OUT:
            self._returned = self._clock.seconds()
            self._become(Condition.RETURNED, CALM)

    def stop(self) -> None:
        """Try no more, and say if the part is out to the end."""
        self._stopped = True
        if self._timer is not None:
            cancel_if_active(self._timer)
        if self._trying is not None:
            self._trying.cancel()
        if self._condition is Condition.OUT:
            log.warn(
                "{part} is still out at the end, after {seconds:g} s: {refused} requests were refused",
                part=self._name,
                seconds=self._lasted(self._clock.seconds()),
                refused=self._refused,
            )

    def _become(self, condition: Condition, seconds: float | None) -> None:
        """Change the condition, and look at the part again after so many seconds."""
        self._condition = condition
        if self._timer is not None:
            cancel_if_active(self._timer)
        self._timer = None
        if seconds is not None and not self._stopped:
            self._timer = self._clock.callLater(seconds, self._look)

    def _begin(self) -> None:
        self._become(Condition.OUT, AGAIN)
        log.warn(
            "{part} is out since {since}: {reason}; {effect}",
            part=self._name,
            since=rfc3339(self._began),
            reason=self._reason,
            effect=self._effect,
        )

    def _look(self) -> None:
        self._timer = None
        if self._condition is Condition.RETURNED:
            self._condition = Condition.WORKING
            log.info(
                "{part} works again after {seconds:g} s: {refused} requests were refused",
                part=self._name,
                seconds=self._lasted(self._returned),
                refused=self._refused,
            )
        elif self._condition is not Condition.WORKING:
            self._timer = self._clock.callLater(AGAIN, self._look)
            if self.attempt is not None and self._trying is None:
                self._trying = Deferred.fromCoroutine(self._try(self.attempt))
                if self._trying.called:
                    self._trying = None

    async def _try(self, attempt: Try) -> None:
        try:
            await attempt()
        except CancelledError:
            pass
        except Exception as error:
            log.debug("{part} is tried: {error}", part=self._name, error=str(error))
        finally:
            self._trying = None

    def _lasted(self, end: float) -> float:
        """Return the seconds of the outage, to one digit."""
        return round(end - self._since, 1)


class Outages:
    """All parts that are watched.

    :param waits: whether clients wait for the application that hears of events.
    """

    def __init__(self, clock: Any, *, waits: bool = False) -> None:
        told = "clients that wait for its answer get 503 and come again" if waits else "clients notice nothing"
        effects = {
            STORE: "uploads under way wait, then get 503; what was confirmed is safe, and clients go on from there",
            LEDGER: "clients get 503 and come again; what was confirmed is safe",
            AUTH: "nobody gets in: clients get 503 and come again",
            EVENTS: f"{told}; events are kept, and told later",
        }
        self._parts = {name: Part(clock, name, effect) for name, effect in effects.items()}

    @property
    def store(self) -> Part:
        """The store."""
        return self._parts[STORE]

    @property
    def ledger(self) -> Part:
        """The ledger."""
        return self._parts[LEDGER]

    @property
    def auth(self) -> Part:
        """The application that says who may upload."""
        return self._parts[AUTH]

    @property
    def events(self) -> Part:
        """The application that hears of events."""
        return self._parts[EVENTS]

    def refused(self, name: str, reason: str) -> None:
        """Take note that a client's request was refused because of the part with this name; see `Part.refused`."""
        part = self._parts.get(name)
        if part is not None:
            part.refused(reason)

    def stop(self) -> None:
        """Try no part any more."""
        for part in self._parts.values():
            part.stop()
