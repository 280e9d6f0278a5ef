"""Marks: what can be said of a range of bytes by the checksums of a piece that holds more."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from resumable.uploads import marks
from resumable.uploads.marks import Marker, agree, marked, pack, unpack

DATA = random.Random(3).randbytes(400)


@pytest.fixture(autouse=True, scope="module")
def close() -> object:
    patch = pytest.MonkeyPatch()
    patch.setattr(marks, "EVERY", 16)
    yield
    patch.undo()


def cut(data: bytes, at: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(one for one in at if 0 < one < len(data))})
    return [data[low:high] for low, high in pairwise(edges)]


def regular(first: int, offset: int) -> bool:
    """Whether there is a mark, whoever brought the bytes: dense at a piece's beginning, then at even distances."""
    return offset % 16 == 0 or offset - first in (1, 2, 4, 8, 16)


@given(first=st.integers(0, 100), size=st.integers(0, 200), at=st.lists(st.integers(0, 200)))
def test_however_bytes_come_the_marks_are_the_same(first: int, size: int, at: list[int]) -> None:
    data = DATA[first : first + size]
    marker = Marker(first, first)
    for segment in cut(data, at):
        marker.mark(segment)
    assert (marker.end, marker.crc32c) == (first + size, crc32c(data))
    offsets = [offset for offset in range(first + 1, first + size + 1) if regular(first, offset)]
    assert marker.marks == [(offset, crc32c(DATA[first:offset])) for offset in offsets]
    assert unpack(pack(marker.marks)) == marker.marks


@given(
    first=st.integers(0, 50),
    size=st.integers(1, 200),
    joints=st.lists(st.integers(0, 250)),
    at=st.lists(st.integers(0, 200)),
)
def test_joints(first: int, size: int, joints: list[int], at: list[int]) -> None:
    """Where requests met there is a mark, in order, each once."""
    data = DATA[first : first + size]
    marker = marked(cut(data, at), first, joints)
    assert (marker.end, marker.crc32c) == (first + size, crc32c(data))
    inside = {joint for joint in joints if first < joint < first + size}
    offsets = inside | {offset for offset in range(first + 1, first + size + 1) if regular(first, offset)}
    assert marker.marks == [(offset, crc32c(DATA[first:offset])) for offset in sorted(offsets)]


def test_of_many_joints_the_latest_are_kept() -> None:
    marker = marked([DATA], 0, range(1, 300))
    assert len(marker.marks) <= marks.MOST + len(DATA) // 16 + 4
    assert {299, 298, 297} <= {offset for offset, _ in marker.marks}
    assert marker.marks == sorted(marker.marks)


@given(
    first=st.integers(0, 199),
    size=st.integers(1, 200),
    joints=st.lists(st.integers(0, 200), max_size=4),
    wrong=st.one_of(st.none(), st.integers(0, 199)),
)
def test_comparing(first: int, size: int, joints: list[int], wrong: int | None) -> None:
    """A wrong byte is seen if it lies between two marks, or the piece's edges, that the bytes hold."""
    piece = marked([DATA[:200]], 0, joints)
    end = min(first + size, 200)
    data = bytearray(DATA[first:end])
    if wrong is not None and first <= wrong < end:
        data[wrong - first] ^= 0xFF
    edges = [offset for offset in sorted({0, 200, *(o for o, _ in piece.marks)}) if first <= offset <= end]
    whole = len(edges) > 1 and (edges[0], edges[-1]) == (first, end)
    seen = wrong is not None and len(edges) > 1 and edges[0] <= wrong < edges[-1]
    known = unpack(pack(piece.marks))
    alike = agree(cut(bytes(data), [7, 30]), first, piece=(0, 200, piece.crc32c), marks=known)
    assert alike is (False if seen else True if whole else None)
