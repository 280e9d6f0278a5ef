"""When a fragment is written once more, together with the bytes that come next to it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from resumable.model import Invalid, Piece
from resumable.uploads.stream import ChunkBuffer

#: A fragment of so many bytes (or of a 64th of the chunk) is rather written once more, with what comes next to it.
SMALL = 64 << 10
#: Fragments of a chunk from which on larger ones are too, and more than which there cannot be.
MANY = 16
CROWD = 256


def neighbour_of(
    buffer: ChunkBuffer, pieces: Sequence[Piece], chunk_size: int, at_hand: Callable[[Piece], bool]
) -> Piece | None:
    """Return a fragment that ends where a run begins, or begins where it ends, and is rather written once more.

    :param pieces: all of the run's chunk.
    :param chunk_size: of the run's chunk, in bytes.
    :param at_hand: says whether a fragment's bytes are still in memory.
    :raises Invalid: there are too many fragments in the chunk, and none of them is next to the run.
    """
    small = max(SMALL, chunk_size // 64)
    for piece in pieces:
        if piece.number is not None or (piece.end != buffer.first and piece.first != buffer.end):
            continue
        if (piece.size <= small and (at_hand(piece) or len(pieces) >= MANY)) or len(pieces) >= CROWD:
            return piece
    if len(pieces) >= CROWD:
        raise Invalid(f"more than {CROWD} ranges within {chunk_size} bytes: send larger ones")
    return None
