"""The memory budget: one limit for the body bytes of all streams together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IReactorTime

#: Bytes that a stream which is let in is expected to bring before it can be told to wait again.
EXPECTED = 1 << 20
#: Seconds after which nothing more is expected of a stream that was let in and has brought nothing.
PATIENCE = 0.05


class Holder(Protocol):
    """Whoever takes body bytes into memory and can be told to wait: a stream."""

    #: Bytes held that are not being stored, because they wait for the rest of their chunk.
    partial: int
    #: Whether nothing has come lately.
    silent: bool

    @property
    def behind(self) -> int:
        """Bytes that were read from its socket and wait until it goes on. They are in memory too."""

    def hold(self) -> None:
        """Take no more bytes in until `release`."""

    def release(self) -> None:
        """Take bytes in again."""

    def spill(self) -> None:
        """Have the partial bytes stored as they are."""


class MemoryBudget:
    """Counts body bytes. When the limit is reached all streams wait in a line, and are let in again as there is room.

    The line is first come, first served, except that streams in the middle of a chunk go before the others. So few
    chunks are begun at a time, and they become whole. When room is short, bytes that are kept only to save a read (see
    `keep`) go first. If then too little is on its way to the store, because most bytes wait for the rest of their
    chunk, partial chunks are spilled one by one. So something can always move.
    """

    def __init__(self, limit: int, clock: IReactorTime) -> None:
        """
        :param limit: bytes. Only the read that was under way when the limit was reached may exceed it.
        """
        self.limit = limit
        self.held = 0
        self._clock = clock
        self._moving = 0
        #: Streams that may take bytes in, and streams that wait, each in order.
        self._admitted: dict[Holder, None] = {}
        self._line: dict[Holder, None] = {}
        #: Admitted streams that are expected to bring something at any moment.
        self._expected: set[Holder] = set()
        self._ticking = False
        self._kept: dict[object, Callable[[], int]] = {}

    @property
    def roomy(self) -> bool:
        """Whether half of the memory is free, and nobody waits for it."""
        return not self._line and self.held <= self.limit // 2

    def join(self, holder: Holder) -> None:
        """Add a stream. It is told to wait if there is no room."""
        if self._line or self.held >= self.limit:
            self._line[holder] = None
            holder.hold()
            self._tick_later()
        else:
            self._admitted[holder] = None

    def leave(self, holder: Holder) -> None:
        """Remove a stream: it takes nothing in any more."""
        self._admitted.pop(holder, None)
        self._line.pop(holder, None)
        self._expected.discard(holder)

    def take(self, size: int, by: Holder) -> None:
        """Count `size` bytes that have come into memory."""
        self.held += size
        self._expected.discard(by)
        if self.held >= self.limit:
            self._evict()
        if self.held >= self.limit:
            self._close()
            self._spill()

    def wait(self, more: int) -> None:
        """Count `more` bytes (negative: fewer) that were read for a waiting holder, which has not taken them yet."""
        self.held += more

    def move(self, size: int) -> None:
        """Note that `size` of the bytes held are on their way to the store."""
        self._moving += size

    def give(self, size: int, *, moved: bool = True) -> None:
        """Count `size` bytes that have left memory; `moved` says that they were on their way to the store."""
        self.held -= size
        if moved:
            self._moving -= size
        self._go_on()

    def _close(self) -> None:
        """Tell all streams to wait."""
        if not self._admitted:
            return
        holders, self._admitted = self._admitted, {}
        begun = [holder for holder in holders if holder.partial]
        self._line = dict.fromkeys([*begun, *self._line, *holders])
        self._expected.clear()
        for holder in holders:
            holder.hold()
        self._tick_later()

    def _go_on(self) -> None:
        """Let in as many streams as there is room for. If there is none, make some."""
        # A little below the limit: closing and opening at every segment would cost more than it gives.
        enough = self.limit * 7 // 8
        if self._line and self.held > enough:
            self._spill()
        each = min(EXPECTED, self.limit // 8)
        while self._line and self.held + len(self._expected) * each <= enough:
            self._let_in(next(iter(self._line)))

    def _let_in(self, holder: Holder) -> None:
        del self._line[holder]
        self._admitted[holder] = None
        self._expected.add(holder)
        holder.release()

    def _tick_later(self) -> None:
        if not self._ticking:
            self._ticking = True
            self._clock.callLater(PATIENCE, self._tick)

    def _tick(self) -> None:
        """Expect nothing more of streams that were let in and brought nothing: others need not wait for them."""
        self._ticking = False
        self._expected.clear()
        self._go_on()
        if self._line:
            self._tick_later()

    def _spill(self) -> None:
        """Spill one partial chunk if less than a quarter of the budget is on its way to the store.

        A silent stream's goes first, then the largest. The next is spilled when this one is stored, or after a while.
        Meanwhile chunks may become whole, and those that are spilled later are larger, which takes fewer requests.
        """
        if self._moving >= self.limit // 4:
            return
        chosen, most = None, (False, 0)
        for holders in (self._line, self._admitted):
            for holder in holders:
                if holder.partial and (its := (holder.silent, holder.partial)) > most:
                    chosen, most = holder, its
        if chosen is not None:
            chosen.spill()
            return
        # All bytes held were read for streams that wait. Let one take its bytes: that needs no more memory, and they
        # can be spilled then.
        behind = next((holder for holder in self._line if holder.behind), None)
        if behind is not None and not self._moving:
            self._let_in(behind)

    def keep(self, key: object, size: int, forget: Callable[[], int]) -> bool:
        """Keep `size` stored bytes, to save reading them back. Return False if there is no room to spare.

        :param forget: lets the bytes go and returns how many they were. Called at most once, by `forget` or when others
            need the room.
        """
        if self.held + size > self.limit // 2:
            return False
        self._kept[key] = forget
        self.held += size
        return True

    def forget(self, key: object) -> None:
        """Let go of what was kept under the key, which is not needed any more."""
        forget = self._kept.pop(key, None)
        if forget is not None:
            self.give(forget(), moved=False)

    def _evict(self) -> None:
        for key in list(self._kept):
            if self.held < self.limit * 7 // 8:
                break
            self.held -= self._kept.pop(key)()
