"""Putting a chunk together from pieces: which bytes to take from which. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attrs import frozen

from resumable.model import Piece


@frozen
class Slice:
    """Bytes ``[first, end)`` of the object, taken from `piece`."""

    piece: Piece
    first: int
    end: int


def plan(pieces: Iterable[Piece], first: int, end: int) -> list[Slice] | None:
    """Return the slices that make up ``[first, end)``, in order, from few pieces.

    None if the pieces do not cover it.
    """
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
    """Return the bytes ``[start, stop)`` of the segments.

    Segments that lie inside it are returned as they are, not copied.
    """
    found = []
    position = 0
    for segment in segments:
        low, high = max(start - position, 0), min(stop - position, len(segment))
        if low < high:
            found.append(segment if high - low == len(segment) else segment[low:high])
        position += len(segment)
    return found
