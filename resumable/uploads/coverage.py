"""Coverage: the union of an upload's stored pieces. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from resumable.model import Piece


@frozen
class Coverage:
    """Disjoint, ascending byte ranges ``(first, end)``, end exclusive; ranges that touch are one."""

    ranges: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, pieces: Iterable[Piece]) -> Coverage:
        """Return what the pieces cover together, in whatever order and overlap they come."""
        merged: list[tuple[int, int]] = []
        for first, end in sorted((piece.first, piece.end) for piece in pieces):
            if merged and first <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((first, end))
        return cls(tuple(merged))

    @classmethod
    def whole(cls, length: int) -> Coverage:
        """Return all of an object of `length` bytes."""
        return cls(((0, length),) if length else ())

    @property
    def offset(self) -> int:
        """The end of the run that starts at byte 0: how many bytes from the start are stored without a hole."""
        if self.ranges and self.ranges[0][0] == 0:
            return self.ranges[0][1]
        return 0

    @property
    def size(self) -> int:
        """How many bytes are stored, wherever."""
        return sum(end - first for first, end in self.ranges)

    def end_from(self, first: int) -> int:
        """Return the end of the stored run that holds the byte at `first`; `first` itself where that is not stored."""
        return next((end for low, end in self.ranges if low <= first < end), first)

    def covers(self, first: int, end: int) -> bool:
        """Say whether every byte of ``[first, end)`` is stored."""
        return first >= end or any(low <= first and end <= high for low, high in self.ranges)

    def overlap(self, first: int, end: int) -> int:
        """Return how many bytes of ``[first, end)`` are stored."""
        return sum(max(0, min(end, high) - max(first, low)) for low, high in self.ranges)
