"""Trying again: each call is tried, with growing pauses, until it is done, refused, or patience is over."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import Enum, auto
from typing import Generic, TypeVar

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from resumable.backoff import Backoff
from resumable.stores.port import Fence

R = TypeVar("R")


class Next(Enum):
    """What follows a try that came to nothing."""

    #: Try again without a pause: what was wrong has been replaced.
    AT_ONCE = auto()
    #: Try again after a pause, while there is patience.
    LATER = auto()
    #: Give up, for the store refuses.
    REFUSED = auto()
    #: Give up, though it may pass some day.
    UNAVAILABLE = auto()


class FailedTry:
    """Why a try came to nothing. A value and not an exception, whose traceback would keep the body alive.

    :ivar pause: seconds that the store asks for before the next try.
    """

    pause: float = 0.0

    def refusal(self) -> Exception:
        """Return what to raise if the store refuses."""
        raise NotImplementedError

    def unavailable(self) -> Exception:
        """Return what to raise if it may pass, but is not tried again."""
        raise NotImplementedError


class Retrying(Generic[R]):
    """Tries a call again and again.

    :param attempt: tries once.
    :param judge: says what follows a try that came to nothing.
    :param retried: is told of each further try.
    """

    def __init__(
        self,
        clock: IReactorTime,
        backoff: Backoff,
        *,
        attempt: Callable[[], Awaitable[R | FailedTry]],
        judge: Callable[[FailedTry], Awaitable[Next]],
        retried: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._backoff = backoff
        self._attempt = attempt
        self._judge = judge
        self._retried = retried

    async def run(self, *, patience: float, fence: Fence | None = None, again: bool = False) -> R:
        """Return what a try that succeeds returns.

        :param patience: seconds for which what may pass is tried again.
        :param fence: is asked before each try but the first, and waits between them.
        :param again: whether the first try is not the first.
        :raises Exception: what `FailedTry` says for the last try, and what the fence or a try raises.
        """
        deadline, failed = self._clock.seconds() + patience, 0
        while True:
            if again and fence is not None:
                await fence.proceed()
            outcome = await self._attempt()
            again = True
            if not isinstance(outcome, FailedTry):
                return outcome
            following = await self._judge(outcome)
            if following is Next.REFUSED:
                raise outcome.refusal()
            if following is Next.UNAVAILABLE:
                raise outcome.unavailable()
            if following is Next.LATER:
                failed += 1
                pause = max(self._backoff.pause(failed), outcome.pause)
                if self._clock.seconds() + pause > deadline:
                    raise outcome.unavailable()
                await (deferLater(self._clock, pause) if fence is None else fence.pause(pause))
            self._retried()
