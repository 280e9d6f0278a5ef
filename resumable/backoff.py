"""Pauses between tries: how long the first is, how they grow, and how chance changes them. Pure."""

from __future__ import annotations

import random as chance
from collections.abc import Callable

from attrs import field, frozen


@frozen
class Backoff:
    """A series of pauses that grow by a factor, up to the longest.

    Each pause is multiplied by a number that chance picks from a range, so that what failed together does not come back
    together. ``(0.5, 1.0)`` shortens a pause by up to half, ``(0.0, 1.0)`` is "full jitter", ``(1.0, 1.0)`` changes nothing.

    :ivar first: seconds of the first pause, before chance.
    :ivar longest: seconds of the longest pause, before chance.
    :ivar factor: how many times as long as the one before a pause is.
    :ivar jitter: the least and the greatest number that a pause is multiplied by.
    :ivar random: returns a number from 0 to 1.
    """

    first: float
    longest: float
    factor: float = 2.0
    jitter: tuple[float, float] = (1.0, 1.0)
    random: Callable[[], float] = field(default=chance.random, repr=False, eq=False)

    def bound(self, tries: int) -> float:
        """Return the seconds to pause after so many tries, before chance.

        :param tries: how many have failed, 1 or more.
        """
        pause = self.first
        # Not by a power: that of a great number of tries is more than a float can hold.
        for _ in range(tries - 1):
            if pause >= self.longest:
                break
            pause *= self.factor
        return min(pause, self.longest)

    def pause(self, tries: int) -> float:
        """Return the seconds to pause after so many tries.

        :param tries: how many have failed, 1 or more.
        """
        least, greatest = self.jitter
        return self.bound(tries) * (least + (greatest - least) * self.random())
