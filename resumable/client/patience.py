"""How long and how often is tried again."""

from __future__ import annotations

from typing import Any

from resumable.backoff import Backoff
from resumable.client.errors import Again, GaveUp
from resumable.client.limiter import sleep
from resumable.client.tracker import Tracker

#: Full jitter: what failed together does not come back together.
BACKOFF = Backoff(first=1.0, longest=30.0, jitter=(0.0, 1.0))


class Patience:
    """Waits between tries, until there was no progress for too long.

    Only time without anything going on counts: a body that is being sent may yet turn out to be progress.
    """

    def __init__(self, clock: Any, seconds: float, tracker: Tracker, backoff: Backoff = BACKOFF) -> None:
        """
        :param seconds: how long to go on without progress.
        """
        self._clock = clock
        self._most = seconds
        self._tracker = tracker
        self._backoff = backoff
        self._best = -1
        self._tries = 0
        self._since: float | None = None

    def progress(self, stored: int) -> bool:
        """Note how many bytes are stored. Say whether these are more than ever before, so that all is forgiven."""
        if stored <= self._best:
            return False
        self._best = stored
        self._tries = 0
        self._since = None
        return True

    async def pause(self, why: Again) -> None:
        """Wait before the next try.

        :raises GaveUp: there was no progress for too long, or there cannot be within that time.
        """
        now = self._clock.seconds()
        self._since = now if self._since is None else min(now, self._since + why.sending)
        self._tries += 1
        wait = max(self._backoff.pause(self._tries), why.retry_after)
        if now + wait - self._since > self._most:
            raise GaveUp(f"no progress for {self._most:g} s; last: {why.detail}", why.status)
        self._tracker.waits(why.detail, wait)
        await sleep(self._clock, wait)
