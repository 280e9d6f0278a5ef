"""Two clocks: delays and time-outs run by one that only goes forward, timestamps are the system's.

A clock that is passed around (`twisted.internet.interfaces.IReactorTime`) is for delays: what its ``seconds`` returns may be
compared with nothing but itself. What is written down, or compared with what others have written down, is `now`.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime


def now(clock: IReactorTime) -> float:
    """Return the time of day, in seconds since the epoch, that goes with `clock`."""
    wall = getattr(clock, "wall", None)
    return float(clock.seconds() if wall is None else wall())
