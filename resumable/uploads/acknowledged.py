"""Telling an observer how far a body has been acknowledged, and not too often."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger


class Acknowledgements:
    """Tells an observer the upload's offset when it has moved, at most once in some seconds.

    :param tell: the observer, called with the offset in bytes.
    :param offset: returns the upload's offset; asked only when the observer may be told.
    :param every: seconds from one telling to the next.
    """

    _log = Logger()

    def __init__(
        self, tell: Callable[[int], None], offset: Callable[[], int], clock: IReactorTime, every: float
    ) -> None:
        self._tell = tell
        self._offset = offset
        self._clock = clock
        self._every = every
        self._told = offset()
        #: When the observer may be told again, in the clock's seconds.
        self._next = clock.seconds()
        self._later: IDelayedCall | None = None
        self._over = False

    def moved(self) -> None:
        """More has been acknowledged: tell the observer now, or as soon as it is time."""
        if self._over or self._later is not None:
            return
        wait = self._next - self._clock.seconds()
        if wait > 0:
            self._later = self._clock.callLater(wait, self._now)
        else:
            self._now()

    def _now(self) -> None:
        self._later = None
        offset = self._offset()
        if offset <= self._told:
            return
        self._told = offset
        self._next = self._clock.seconds() + self._every
        try:
            self._tell(offset)
        except Exception:
            # Whoever watches does not break what is watched.
            self._log.failure("an observer of acknowledged bytes failed")

    def close(self) -> None:
        """Tell the observer once more if the offset has moved, and never again."""
        if self._over:
            return
        self._over = True
        if self._later is not None:
            self._later.cancel()
        self._now()


@contextmanager
def telling(
    observer: Callable[[int], None] | None, offset: Callable[[], int], clock: IReactorTime, every: float
) -> Iterator[Callable[[], None]]:
    """Give what is to be called when more has been acknowledged. Parameters as of `Acknowledgements`; None: nobody is told."""
    if observer is None:
        yield lambda: None
        return
    acknowledgements = Acknowledgements(observer, offset, clock, every)
    try:
        yield acknowledgements.moved
    finally:
        acknowledgements.close()
