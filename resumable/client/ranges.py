"""Byte ranges as ``(first, end)``, the end exclusive: what is stored, and what is missing. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

#: A range of bytes: first inclusive, end exclusive.
Range = tuple[int, int]

_HEADER = re.compile(r"(?:bytes=)?(\d{1,19}-\d{1,19}(?:,\d{1,19}-\d{1,19})*)", re.ASCII)


def parse_range(value: str | None) -> list[Range] | None:
    """Return the ranges of an answer's ``Range: bytes=0-N,…``, in order and joined; none if it is absent.

    :returns: None if the header makes no sense.
    """
    if value is None:
        return []
    found = _HEADER.fullmatch(value.replace(" ", ""))
    if found is None:
        return None
    pairs = [one.split("-") for one in found[1].split(",")]
    ranges = [(int(first), int(last) + 1) for first, last in pairs]
    return merge(ranges) if all(first < end for first, end in ranges) else None


def merge(ranges: Iterable[Range]) -> list[Range]:
    """Return the union, in ascending order; ranges that touch are one."""
    merged: list[Range] = []
    for first, end in sorted(ranges):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((first, end))
    return merged


def missing(stored: Iterable[Range], first: int, end: int) -> list[Range]:
    """Return what of ``[first, end)`` is not stored.

    :param stored: ranges as `merge` returns them.
    """
    left: list[Range] = []
    for low, high in stored:
        if high <= first:
            continue
        if low >= end:
            break
        if low > first:
            left.append((first, low))
        first = high
    if first < end:
        left.append((first, end))
    return left


def offset_of(stored: list[Range]) -> int:
    """Return how many bytes from the start are stored without a gap."""
    return stored[0][1] if stored and stored[0][0] == 0 else 0


def size_of(ranges: Iterable[Range]) -> int:
    """Return how many bytes the ranges have."""
    return sum(end - first for first, end in ranges)


def cut(ranges: Iterable[Range], size: int) -> Iterator[Range]:
    """Cut ranges at the multiples of a size.

    :param size: bytes, a multiple of the server's chunk size.
    """
    for first, end in ranges:
        while first < end:
            edge = min(end, (first // size + 1) * size)
            yield first, edge
            first = edge
