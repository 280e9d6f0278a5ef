"""Which parts make an object out of other objects, whose bytes follow one another. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from attrs import frozen


@frozen
class Extent:
    """Bytes ``[first, end)`` of one of the sources, which is the `source`-th from 0."""

    source: int
    first: int
    end: int

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.end - self.first


@frozen
class PartPlan:
    """One part of the object.

    :ivar number: from 1.
    :ivar first: the offset of its first byte in the object.
    :ivar extents: where its bytes are, in order. A part of one extent can be copied; one of several has to be joined in
        memory, and has less than twice the store's smallest part.
    """

    number: int
    first: int
    extents: tuple[Extent, ...]

    @property
    def size(self) -> int:
        """Length in bytes."""
        return sum(extent.size for extent in self.extents)

    @property
    def end(self) -> int:
        """The offset behind its last byte in the object."""
        return self.first + self.size


def plan_parts(sizes: Sequence[int], *, smallest: int, largest: int) -> list[PartPlan]:
    """Return the parts of the object that the sources make, in order. Every part but the last has at least `smallest` bytes.

    The same sizes always give the same parts.

    :param sizes: bytes of each source. Empty ones are left out.
    :param largest: the most bytes of a part that is copied; at least twice `smallest`.
    """
    parts: list[PartPlan] = []
    short: list[Extent] = []

    def add(extents: Sequence[Extent]) -> None:
        parts.append(PartPlan(len(parts) + 1, parts[-1].end if parts else 0, tuple(extents)))

    for source, size in enumerate(sizes):
        first = 0
        if short and size:
            # What is too short for a part gets bytes from the following source; all of them, if few would be left.
            missing = smallest - sum(extent.size for extent in short)
            first = size if size < missing + smallest else missing
            short.append(Extent(source, 0, first))
            if first >= missing:
                add(short)
                short = []
        left = size - first
        if 0 < left < smallest:
            short.append(Extent(source, first, size))
        elif left:
            count = -(-left // largest)
            edges = [first + left * number // count for number in range(count + 1)]
            for begin, end in pairwise(edges):
                add([Extent(source, begin, end)])
    if short:
        add(short)
    return parts
