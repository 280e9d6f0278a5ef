"""Whether this process can do its work. The parts that it needs are tried when somebody asks, but not too often."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from resumable.clock import cancel_if_active, now
from resumable.model import UploadError
from resumable.outages import Reports
from resumable.stores.port import Misconfigured, StoreError

#: Seconds for which a result is used, however many ask.
FRESH = 5.0
#: Seconds that whoever asks waits at most.
LIMIT = 3.0

#: Tries a part; raises if it does not work.
Probe = Callable[[], Awaitable[object]]


@frozen
class ProbeStatus:
    """The state of a part.

    :ivar since: when the part came into this state, as far as this process knows; seconds since the epoch.
    :ivar reason: what is wrong, without secrets.
    """

    ok: bool
    since: float
    reason: str = ""


class Readiness:
    """Tries the parts, and remembers the results for some seconds."""

    def __init__(
        self,
        clock: IReactorTime,
        probes: Mapping[str, Probe],
        tell: Callable[[str, bool], None],
        reports: Mapping[str, Reports] | None = None,
    ) -> None:
        """
        :param probes: what tries each part, by the part's name. A probe that takes longer than `LIMIT` runs on to its
            end, and is not begun again before that.
        :param tell: called with each result: the part's name, and whether it works.
        :param reports: who is told of a part's outage, by the part's name. What is no outage but for the operator to mend is
            logged here, and so is that of other parts.
        """
        self._clock = clock
        self._parts = {
            name: _Part(clock, name, probe, tell, (reports or {}).get(name)) for name, probe in probes.items()
        }
        self._draining: ProbeStatus | None = None

    def drain(self) -> None:
        """Report from now on that the process takes no more work."""
        self._draining = ProbeStatus(False, now(self._clock), "draining")

    async def look(self) -> dict[str, ProbeStatus]:
        """Return the state of each part, and of the ``service`` when it drains; within `LIMIT` seconds in any case."""
        started = [part.ask() for part in self._parts.values()]
        await DeferredList(started)
        verdicts = {name: part.verdict for name, part in self._parts.items() if part.verdict is not None}
        return verdicts if self._draining is None else {**verdicts, "service": self._draining}


class _Part:
    """One part, and what is known of it."""

    _log = Logger()

    def __init__(
        self, clock: Any, name: str, probe: Probe, tell: Callable[[str, bool], None], reports: Reports | None
    ) -> None:
        self._clock = clock
        self._name = name
        self._probe = probe
        self._tell = tell
        self._reports = reports
        #: Whether the log says that it does not work.
        self._logged = False
        self._running = False
        self._looked = -FRESH
        self._waiting: list[Deferred[None]] = []
        self.verdict: ProbeStatus | None = None

    def ask(self) -> Deferred[None]:
        """Try the part if that is due; fires when there is a result."""
        if self._clock.seconds() - self._looked < FRESH or (self._running and not self._waiting):
            return succeed(None)
        asked: Deferred[None] = Deferred()
        self._waiting.append(asked)
        if not self._running:
            self._running = True
            late = self._clock.callLater(LIMIT, self._settle, f"no answer within {LIMIT:g} s")
            Deferred.fromCoroutine(self._try(late))
        return asked

    async def _try(self, late: Any) -> None:
        outage = True
        try:
            await self._probe()
            reason = ""
        except (StoreError, UploadError) as error:
            # A store's message may name users and accounts; its code does not.
            reason = error.code if isinstance(error, StoreError) else str(error)
            outage = not isinstance(error, Misconfigured)
        except Exception as error:
            self._log.failure("{part} cannot be tried", part=self._name)
            reason = type(error).__name__
        self._running = False
        cancel_if_active(late)
        self._settle(reason, outage=outage)

    def _settle(self, reason: str, *, outage: bool = True) -> None:
        """Record the result, and answer those who wait.

        :param reason: what is wrong; empty if the part works.
        :param outage: whether it may pass by itself.
        """
        ok, former = not reason, self.verdict
        self._looked = self._clock.seconds()
        if former is None or former.ok != ok:
            self.verdict = ProbeStatus(ok, now(self._clock), reason)
        else:
            self.verdict = ProbeStatus(ok, former.since, reason)
        if ok and self._logged:
            self._logged = False
            self._log.info("ready again: {part}", part=self._name)
        elif not ok and outage and self._reports is not None:
            self._reports.failed(reason)
        elif not ok and not self._logged:
            self._logged = True
            self._log.warn("not ready: {part}: {reason}", part=self._name, reason=reason)
        self._tell(self._name, ok)
        waiting, self._waiting = self._waiting, []
        for asked in waiting:
            asked.callback(None)
