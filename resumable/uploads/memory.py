"""The memory budget: one limit for the bytes of all bodies held at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IReactorTime

#: Bytes a stream that is let in is expected to bring before it can be told to wait again.
EXPECTED = 1 << 20
#: Seconds after which nothing more is expected of those who were let in and have brought nothing.
PATIENCE = 0.05


class Holder(Protocol):
    """Whoever takes body bytes into memory and can be told to wait: a stream."""

    @property
    def partial(self) -> int:
        """Bytes held that nobody is storing: they wait for the rest of their chunk."""

    @property
    def behind(self) -> int:
        """Bytes that were read from its socket, and wait there until it goes on: held as well."""

    @property
    def silent(self) -> bool:
        """Whether nothing has come lately."""

    def hold(self) -> None:
        """Take no more bytes in until `release`."""

    def release(self) -> None:
        """Go on."""

    def spill(self) -> None:
        """Have the partial bytes stored as they are."""


class MemoryBudget:
    """Counts body bytes. When the limit is reached, everybody waits in a line and is let in again as there is room.

    First come, first served; whoever has begun a chunk goes on before those who have not, so that few chunks are begun at a
    time and become whole ones. What is kept only to save a read (see `keep`) goes first. Then, if bytes that wait for the
    rest of their chunk hold so much that too little is on its way to the store, they are spilled one by one: something can always
    move.
    """

    def __init__(self, limit: int, clock: IReactorTime) -> None:
        """
        :param limit: bytes. More than it are held only by one read that was under way when it was reached.
        """
        self.limit = limit
        self.held = 0
        self._clock = clock
        self._moving = 0
        #: Those who may read, and those who wait, each in their order.
        self._admitted: dict[Holder, None] = {}
        self._line: dict[Holder, None] = {}
        #: Those of the admitted who are expected to bring something any moment.
        self._expected: set[Holder] = set()
        self._ticking = False
        self._kept: dict[object, Callable[[], int]] = {}

    def join(self, holder: Holder) -> None:
        """Add a stream. It is told to wait where there is no room."""
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
        """Count so many `more` bytes (below 0: fewer) that lie in front of a holder that waits, and will be taken by it."""
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
        """Have everybody wait."""
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
        """Let in as many as there is room for; if there is none, see to it that some is made."""
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
        """Expect nothing more of those who were let in and brought nothing: they do not keep the others waiting."""
        self._ticking = False
        self._expected.clear()
        self._go_on()
        if self._line:
            self._tick_later()

    def _spill(self) -> None:
        """Spill one if less than a quarter of the budget is on its way to the store: a silent one first, then the largest.

        One at a time, and the next when that is stored or after a while: what waits may become whole meanwhile, and what
        is spilled is larger, so that it takes fewer requests.
        """
        if self._moving >= self.limit // 4:
            return
        begun = (holder for holder in (*self._line, *self._admitted) if holder.partial)
        chosen = max(begun, key=lambda holder: (holder.silent, holder.partial), default=None)
        if chosen is not None:
            chosen.spill()
            return
        # All that is held lies in front of those who wait. One takes it, which needs no more memory, and can be spilled.
        behind = next((holder for holder in self._line if holder.behind), None)
        if behind is not None and not self._moving:
            self._let_in(behind)

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
        """Let go of what was kept: it is not needed any more."""
        forget = self._kept.pop(key, None)
        if forget is not None:
            self.give(forget(), moved=False)

    def _evict(self) -> None:
        for key in list(self._kept):
            if self.held < self.limit * 7 // 8:
                break
            self.held -= self._kept.pop(key)()
