"""One body that is written: what it may do, and the order in which its runs are compared with what is stored."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from attrs import define, field
from twisted.internet.defer import DeferredLock

from resumable.uploads.held import HeldBack

#: Asked right before an upload is finished by what a body brings; what it raises keeps the upload open.
Revalidate = Callable[[], Awaitable[None]]

E = TypeVar("E", bound=Exception)


async def nothing_to_ask() -> None:
    """Ask nothing: this finishes nothing, or for one who has just been asked about."""


@define(eq=False)
class Sender:
    """One body that is written into an upload.

    :ivar revalidate: see `Revalidate`.
    :ivar edition: the edition of the upload's bytes that it writes.
    :ivar anew: whether the bytes begin anew where they differ from stored ones: the client brings all, from byte 0 on.
    """

    revalidate: Revalidate
    edition: int
    anew: bool = False
    #: The pieces that wait for the body's digest; None where each piece counts as soon as it is stored.
    held: HeldBack | None = None
    #: Called when the ledger has one more piece of it.
    committed: Callable[[], None] = lambda: None
    #: Why nothing of it is stored any more.
    failure: Exception | None = None
    _lock: DeferredLock = field(factory=DeferredLock, init=False)

    @property
    def holding(self) -> HeldBack | None:
        """Where its pieces are held back, as long as they do not count."""
        return None if self.held is None or self.held.accepted else self.held

    def turn(self) -> Turn:
        """Return the turn of the next run: until it is over, no later run of the body is looked at."""
        return Turn(self, self._lock)


class Turn:
    """A run's turn to be compared. It is over when its bytes have turned out to be no others than the stored ones."""

    def __init__(self, sender: Sender, lock: DeferredLock) -> None:
        self._sender = sender
        self._lock = lock
        self._held = False

    async def __aenter__(self) -> Turn:
        await self._lock.acquire()
        self._held = True
        if self._sender.failure is not None:
            self.over()
            raise self._sender.failure
        return self

    async def __aexit__(self, *_: object) -> None:
        self.over()

    def over(self) -> None:
        """Let the next run have its turn."""
        if self._held:
            self._held = False
            self._lock.release()

    def fail(self, why: E) -> E:
        """Store no later run of the body. Return `why`, to be raised."""
        self._sender.failure = why
        return why
