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

    A try that has sent something may have been progress. How long there was none is decided by the next answer.
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
        #: Since when there is no progress; None while all is well.
        self._since: float | None = None
        #: Since when there is none if the last try was none either.
        self._before: float | None = None
        self._last = Again("")

    def progress(self, stored: int) -> bool:
        """Note how many bytes are stored. Say whether these are more than ever before, so that all is forgiven.

        :raises GaveUp: they are not, and that has been so for too long.
        """
        if stored > self._best:
            self._best = stored
            self._tries = 0
            self._since = self._before = None
            return True
        if self._before is not None:
            self._since, self._before = self._before, None
            self._check(0.0)
        return False

    async def pause(self, why: Again) -> None:
        """Wait before the next try.

        :raises GaveUp: there was no progress for too long, or there cannot be within that time.
        """
        now = self._clock.seconds()
        if self._since is None:
            self._since = now
        elif why.sent and self._before is None:
            self._since, self._before = now, self._since
        self._last = why
        self._tries += 1
        wait = max(self._backoff.pause(self._tries), why.retry_after)
        self._check(wait)
        self._tracker.waits(why.detail, wait)
        await sleep(self._clock, wait)

    def _check(self, wait: float) -> None:
        if self._since is not None and self._clock.seconds() + wait - self._since > self._most:
            raise GaveUp(f"no progress for {self._most:g} s; last: {self._last.detail}", self._last.status)
