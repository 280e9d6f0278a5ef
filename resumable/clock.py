"""Two clocks: delays and time-outs run by one that only goes forward, timestamps are the system's.

A clock that is passed around (`twisted.internet.interfaces.IReactorTime`) is for delays: what its ``seconds`` returns may be
compared with nothing but itself. What is written down, or compared with what others have written down, is `now`.
"""

from __future__ import annotations

import time
from collections.abc import Hashable
from typing import Any, Generic, TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime

K = TypeVar("K", bound=Hashable)

#: Seconds by which the system's clock may be set without anybody minding. What is slewed goes by less between two looks.
STEP = 1.0
#: How many moments are kept; beyond that the oldest is forgotten.
MOST = 10_000
#: Seconds after which a moment that is past is of no interest any more.
LONG = 60.0


def now(clock: IReactorTime) -> float:
    """Return the time of day, in seconds since the epoch, that goes with `clock`."""
    wall = getattr(clock, "wall", None)
    return float(clock.seconds() if wall is None else wall())


def time_of_day() -> float:
    """Return the same where no clock is at hand."""
    return time.time()


def run_on_monotonic_time(reactor: Any) -> None:
    """Have `reactor` run its delays by a clock that nobody can set; `now` of it stays the time of day.

    Twisted's own takes the system's clock: set back by an hour, all that waits would wait an hour longer. What is waiting
    already goes on waiting for as long as it would have. To be called before anything else; again does nothing.
    """
    if getattr(reactor, "wall", None) is not None:
        return
    before = reactor.seconds()
    waiting = [(call, call.getTime() - before) for call in reactor.getDelayedCalls()]
    # Looked up at each call, as the modules' other users do.
    reactor.wall = lambda: time.time()
    reactor.seconds = lambda: time.monotonic()
    for call, left in waiting:
        call.seconds = reactor.seconds
        call.reset(max(left, 0.0))


def cancel_if_active(call: IDelayedCall | None) -> None:
    """Cancel a delayed call, unless there is none, or it has been made or cancelled already."""
    if call is not None and call.active():
        call.cancel()


class Moments(Generic[K]):
    """Moments to come that are written down as timestamps, and that are to stay right when the system's clock is set.

    Each is remembered here by the clock that nobody can set, by those who have written it down. When the system's clock
    was set they learn what to write instead.

    :ivar step: by how much it was set forward (seconds), or back (less than 0), when it was last found to be.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self.step = 0.0
        #: By how much the system's clock was ahead of the other: when all was right, and at the last look.
        self._ahead = self._seen = self._wall_ahead()
        #: In the order in which they were entered.
        self._moments: dict[K, float] = {}

    def _wall_ahead(self) -> float:
        return now(self._clock) - float(self._clock.seconds())

    def enter(self, what: K, at: float) -> None:
        """Note that `what` has been written down for `at`, a timestamp made just now."""
        self._moments.pop(what, None)
        self._moments[what] = at - self._wall_ahead()
        long_past = float(self._clock.seconds()) - LONG
        while (oldest := next(iter(self._moments))) != what:
            if len(self._moments) <= MOST and self._moments[oldest] > long_past:
                break
            del self._moments[oldest]

    def forget(self, what: K) -> None:
        """Note that `what` is past, or somebody else's."""
        self._moments.pop(what, None)

    def after_a_step(self) -> dict[K, float] | None:
        """Return the timestamps as they are right now, if the system's clock was set since the last time; else None.

        It may be called again if they could not be written: until `settled` the answer is the same.
        """
        ahead = self._seen = self._wall_ahead()
        if abs(ahead - self._ahead) < STEP:
            # What creeps, as a clock does that is slewed, is no step.
            self._ahead = ahead
            return None
        self.step = ahead - self._ahead
        return {what: at + ahead for what, at in self._moments.items()}

    def settled(self) -> None:
        """Note that the timestamps of `after_a_step` have been written."""
        self._ahead = self._seen
