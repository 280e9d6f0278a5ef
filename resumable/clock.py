"""Two clocks: delays and time-outs use one that only goes forward, timestamps use the system's.

A clock that is passed around (`twisted.internet.interfaces.IReactorTime`) is for delays: what its ``seconds`` returns
may be compared only with other values of the same clock. What is written down, or compared with what others wrote, is
`now`.
"""

from __future__ import annotations

import time
from collections.abc import Hashable
from typing import Any, Generic, TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime

K = TypeVar("K", bound=Hashable)

#: Seconds by which the system's clock may be set without counting as a step. A slewed clock moves less between two
#: looks.
STEP = 1.0
#: How many moments are kept; beyond that the oldest is forgotten.
MOST = 10_000
#: Seconds after which a past moment may be forgotten.
LONG = 60.0


def now(clock: IReactorTime) -> float:
    """Return the time of day, in seconds since the epoch, that goes with `clock`."""
    wall = getattr(clock, "wall", None)
    return float(clock.seconds() if wall is None else wall())


def time_of_day() -> float:
    """Return the time of day, in seconds since the epoch, where no clock is at hand."""
    return time.time()


def run_on_monotonic_time(reactor: Any) -> None:
    """Make `reactor` run its delays by a clock that nobody can set; `now` of it stays the time of day.

    By itself it uses the system's clock: when that is set back by an hour, every delay lasts an hour longer. Delays
    that run already keep the time they have left. Call this before anything else; a second call does nothing.
    """
    if getattr(reactor, "wall", None) is not None:
        return
    before = reactor.seconds()
    waiting = [(call, call.getTime() - before) for call in reactor.getDelayedCalls()]
    # Looked up at each call, so that a replacement in the module `time` counts here too.
    reactor.wall = lambda: time.time()
    reactor.seconds = lambda: time.monotonic()
    for call, left in waiting:
        call.seconds = reactor.seconds
        call.reset(max(left, 0.0))


def cancel_if_active(call: IDelayedCall | None) -> None:
    """Cancel a delayed call; do nothing if there is none, or it was made or cancelled already."""
    if call is not None and call.active():
        call.cancel()


class Moments(Generic[K]):
    """Future moments that are written down as timestamps, and that have to stay right when the system's clock is set.

    Whoever writes down a moment enters it here, where it is kept by the clock that nobody can set. After the system's
    clock was set, `after_a_step` tells what to write instead.

    :ivar step: seconds by which the system's clock was set forward (or back, if less than 0) at the last step found.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self.step = 0.0
        #: Seconds by which the system's clock was ahead of the other: when all timestamps were right, and at the last
        #: look.
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
        """Forget `what`: it is past, or another process has it now."""
        self._moments.pop(what, None)

    def after_a_step(self) -> dict[K, float] | None:
        """Return the timestamps as they have to be now, if the system's clock was set since the last call; else None.

        If they could not be written, call it again: until `settled` the clock counts as set.
        """
        ahead = self._seen = self._wall_ahead()
        if abs(ahead - self._ahead) < STEP:
            # A small difference is no step: a slewed clock creeps.
            self._ahead = ahead
            return None
        self.step = ahead - self._ahead
        return {what: at + ahead for what, at in self._moments.items()}

    def settled(self) -> None:
        """Note that the timestamps of `after_a_step` have been written."""
        self._ahead = self._seen
