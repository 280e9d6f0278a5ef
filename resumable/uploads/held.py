"""Pieces that are stored but do not count yet: they wait until their body's digest is verified."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define, evolve, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from resumable.clock import cancel_if_active
from resumable.model import Piece
from resumable.uploads.marks import pack

#: Marks of a held piece at the most: a body may have ten thousand pieces, and the memory budget does not count their marks.
MOST_MARKS = 64
#: Seconds for which bytes that are to make an object wait in memory for the end of their body.
PATIENCE = 1.0


@frozen
class StoredPiece:
    """A stored piece that the ledger does not have yet.

    :ivar marks: see `resumable.uploads.marks`; packed.
    :ivar replaces: the fragments in the ledger whose bytes it has too.
    :ivar stored_in: the multipart upload that a part is in.
    """

    piece: Piece
    marks: bytes | None = None
    replaces: tuple[Piece, ...] = ()
    stored_in: str | None = None


def pack_few(marks: Sequence[tuple[int, int]]) -> bytes | None:
    """Return the marks packed, at the most `MOST_MARKS` of them.

    :param marks: offset in bytes and CRC32C of each.
    """
    step = -(-len(marks) // MOST_MARKS)
    return pack(marks[step - 1 :: step] if step > 1 else marks)


@define(eq=False)
class HeldBack:
    """The held pieces of one body, of any length: what is kept of each piece is a record, and none of its bytes.

    It is decided once: either the body is accepted, or it is rejected.

    :ivar accepted: whether the body's bytes count. Pieces that are stored from then on are not held any more.
    :ivar rejection: why they never will.
    """

    accepted: bool = field(default=False, init=False)
    rejection: Exception | None = field(default=None, init=False)
    _settled: bool = field(default=False, init=False)
    _chunks: dict[int, list[StoredPiece]] = field(factory=dict, init=False)
    _waiting: list[Deferred[None]] = field(factory=list, init=False)

    def within(self, number: int) -> list[Piece]:
        """Return the held pieces of the chunk `number`."""
        return [held.piece for held in self._chunks.get(number, ())]

    def add(self, number: int, new: StoredPiece) -> list[Piece]:
        """Hold back a piece of the chunk `number`. Return the held fragments that it covers: nobody needs them any more."""
        piece, before = new.piece, self._chunks.get(number, [])
        covered = [held for held in before if piece.first <= held.piece.first and held.piece.end <= piece.end]
        replaces = tuple(old for held in covered for old in held.replaces)
        left = [held for held in before if held not in covered]
        self._chunks[number] = [*left, evolve(new, replaces=(*new.replaces, *replaces))]
        return [held.piece for held in covered if held.piece.number is None]

    async def decided(self) -> None:
        """Wait until the body is accepted, and the ledger has what was held back of it.

        :raises Exception: it was rejected, or the ledger did not take it.
        """
        if not self._settled:
            waiting: Deferred[None] = Deferred()
            self._waiting.append(waiting)
            await waiting
        if self.rejection is not None:
            raise self.rejection

    async def decided_within(self, seconds: float, clock: IReactorTime) -> bool:
        """Wait as `decided` does, but no longer than so many seconds. Say whether it is decided. Errors as there."""
        if not self._settled:
            waiting: Deferred[None] = Deferred()
            self._waiting.append(waiting)

            def give_up() -> None:
                self._waiting.remove(waiting)
                waiting.callback(None)

            giving_up = clock.callLater(seconds, give_up)
            await waiting
            cancel_if_active(giving_up)
        if self.rejection is not None:
            raise self.rejection
        return self._settled

    def accept(self) -> list[StoredPiece]:
        """Let the body's bytes count. Return its pieces in the order of their offsets, for the ledger.

        Whoever waits in `decided` goes on when the ledger has them: see `settle`.
        """
        self.accepted = True
        return sorted(self._let_go(), key=lambda held: held.piece.first)

    def settle(self, failure: Exception | None = None) -> None:
        """Let those who wait go on, for the ledger has the pieces; or let them fail, for it has failed to take them."""
        self.rejection = failure
        self._settled = True
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(None)

    def reject(self, why: Exception) -> list[Piece]:
        """Let none of the body's bytes count. Return the fragments, which are to be deleted."""
        fragments = [held.piece for held in self._let_go() if held.piece.number is None]
        self.settle(why)
        return fragments

    def _let_go(self) -> list[StoredPiece]:
        held = [one for pieces in self._chunks.values() for one in pieces]
        self._chunks.clear()
        return held
