"""The memory budget: one limit for the bytes of all bodies held at a time."""

from __future__ import annotations

from collections.abc import Callable
from heapq import nlargest
from typing import Protocol


class Holder(Protocol):
    """Whoever takes body bytes into memory and can be told to wait: a stream."""

    @property
    def partial(self) -> int:
        """Bytes held that nobody is storing: they wait for the rest of their chunk."""

    def hold(self) -> None:
        """Take no more bytes in until `release`."""

    def release(self) -> None:
        """Go on."""

    def spill(self) -> None:
        """Have the partial bytes stored as they are."""


class Budget:
    """Counts body bytes; when the limit is reached everybody waits, until some have been stored.

    What is kept only to save a read (see `keep`) goes first. Then, if bytes that wait for the rest of their chunk hold so
    much that too little is on its way to the store, the largest are spilled: something can always move.
    """

    def __init__(self, limit: int) -> None:
        """
        :param limit: bytes. More than it are held only by one read that was under way when it was reached, and while
            stored fragments are read back.
        """
        self.limit = limit
        self.held = 0
        self._moving = 0
        self._closed = False
        #: In the order in which they have last been admitted.
        self._holders: dict[Holder, None] = {}
        self._kept: dict[object, Callable[[], int]] = {}

    def join(self, holder: Holder) -> None:
        """A new stream, which asks before it reads."""
        self._holders[holder] = None
        if self._closed:
            holder.hold()

    def leave(self, holder: Holder) -> None:
        """A stream that takes nothing in any more."""
        self._holders.pop(holder, None)

    def take(self, size: int) -> None:
        """`size` bytes have come into memory."""
        self.held += size
        if self.held >= self.limit:
            self._evict()
        if self.held >= self.limit and not self._closed:
            self._closed = True
            for holder in self._holders:
                holder.hold()
        if self._closed:
            self._spill()

    def move(self, size: int) -> None:
        """`size` of the bytes held are on their way to the store."""
        self._moving += size

    def give(self, size: int, *, moved: bool = True) -> None:
        """`size` bytes have left memory; `moved` says that they were on their way to the store."""
        self.held -= size
        if moved:
            self._moving -= size
        if not self._closed:
            return
        # Open a little below the limit: opening and closing at every segment would cost more than it gives.
        if self.held <= self.limit * 7 // 8:
            self._closed = False
            for holder in list(self._holders):
                if self._closed:
                    break
                # Those who come to read now go to the end of the queue.
                del self._holders[holder]
                self._holders[holder] = None
                holder.release()
        else:
            self._spill()

    def _spill(self) -> None:
        """See to it that at least a quarter of the budget is on its way to the store."""
        wanted = self.limit // 4 - self._moving
        if wanted <= 0:
            return
        for holder in nlargest(16, self._holders, key=lambda candidate: candidate.partial):
            size = holder.partial
            if wanted <= 0 or not size:
                break
            wanted -= size
            holder.spill()

    def keep(self, key: object, size: int, forget: Callable[[], int]) -> bool:
        """Keep `size` bytes that are stored, to save reading them back; False if there is no room to spare.

        :param forget: lets the bytes go, and returns how many they were; called at most once, when others need the room.
        """
        if self.held + size > self.limit // 2:
            return False
        self._kept[key] = forget
        self.held += size
        return True

    def forget(self, key: object) -> None:
        """What was kept is not needed any more."""
        forget = self._kept.pop(key, None)
        if forget is not None:
            self.give(forget(), moved=False)

    def _evict(self) -> None:
        for key in list(self._kept):
            if self.held < self.limit * 7 // 8:
                break
            self.held -= self._kept.pop(key)()
