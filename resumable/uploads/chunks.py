"""One chunk out of pieces: which bytes to take from where. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attrs import frozen

from resumable.model import Piece


@frozen
class Slice:
    """Bytes ``[first, end)`` of the object, out of `piece`."""

    piece: Piece
    first: int
    end: int


def plan(pieces: Iterable[Piece], first: int, end: int) -> list[Slice] | None:
    """Return what to take, in order, to have ``[first, end)`` once, from few pieces; None if they do not cover it."""
    left = sorted((p for p in pieces if p.first < end and p.end > first), key=lambda piece: piece.first, reverse=True)
    slices: list[Slice] = []
    best: Piece | None = None
    while first < end:
        while left and left[-1].first <= first:
            piece = left.pop()
            if best is None or piece.end > best.end:
                best = piece
        if best is None or best.end <= first:
            return None
        slices.append(Slice(best, first, min(best.end, end)))
        first = best.end
    return slices


def cut(segments: Sequence[bytes], start: int, stop: int) -> list[bytes]:
    """Return the bytes ``[start, stop)`` of the segments together; those that lie within are passed on as they are."""
    found = []
    position = 0
    for segment in segments:
        low, high = max(start - position, 0), min(stop - position, len(segment))
        if low < high:
            found.append(segment if high - low == len(segment) else segment[low:high])
        position += len(segment)
    return found
