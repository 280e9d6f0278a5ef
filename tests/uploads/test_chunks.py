"""Making one chunk out of pieces: against a plain sequence of bytes, whatever the pieces are."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from resumable.model import Piece
from resumable.uploads.chunks import cut, plan

SIZE = 12


def piece(bounds: list[int]) -> Piece:
    return Piece(bounds[0], bounds[1], None, "etag")


pieces = st.lists(
    st.lists(st.integers(0, SIZE), min_size=2, max_size=2, unique=True).map(sorted).map(piece), max_size=6
)
span = st.lists(st.integers(0, SIZE), min_size=2, max_size=2, unique=True).map(sorted)


def covered(some: list[Piece] | tuple[Piece, ...], first: int, end: int) -> bool:
    return set(range(first, end)) <= {at for one in some for at in range(one.first, one.end)}


@given(pieces, span)
def test_every_byte_once(stored: list[Piece], wanted: list[int]) -> None:
    """The takes follow one another, each within its piece; there are none exactly when a byte is missing."""
    first, end = wanted
    takes = plan(stored, first, end)
    assert (takes is not None) == covered(stored, first, end)
    for take in takes or []:
        assert take.first == first
        assert take.piece.first <= take.first < take.end <= take.piece.end
        first = take.end
    assert takes is None or first == end


@given(pieces, span)
def test_from_the_fewest_pieces(stored: list[Piece], wanted: list[int]) -> None:
    """Each piece is one request to the store."""
    takes = plan(stored, *wanted)
    if takes is not None:
        assert not any(covered(some, *wanted) for some in combinations(stored, len(takes) - 1))


@given(st.lists(st.binary(max_size=5)), st.integers(0, 30), st.integers(0, 30))
def test_cutting(segments: list[bytes], start: int, stop: int) -> None:
    """As slicing does it on the whole, but with no segment of no bytes, and nothing copied that lies within."""
    found = cut(segments, start, stop)
    assert b"".join(found) == b"".join(segments)[start:stop]
    assert all(found)
    assert all(any(one is other for other in segments) for one in found[1:-1])
