"""Marks: offsets within a stored piece, each with the CRC32C of the piece's bytes up to there. Pure.

With marks, a range of bytes can be compared with a larger stored piece, because every stretch between two marks has a
checksum of its own. A piece has marks after 1, 2, 4, 8 … bytes, and then at the multiples of `EVERY`. It also has one
wherever the bytes of one request ended and those of the next began, because a client that repeats a request begins
there. Bytes between an end of the range and the nearest mark inside the range are not compared. For a range that begins
where the piece does, those are less than half.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from attrs import define, field
from crc32c import crc32c

from resumable.uploads.checksum import checksum, suffix
from resumable.uploads.chunks import cut

#: Bytes from one mark to the next.
EVERY = 256 * 1024
#: Marks that are kept of ends of requests, at most.
MOST = 64

_FORM = struct.Struct(">QI")


@define
class Marker:
    """Computes the CRC32C and the marks of a piece while its bytes come.

    :ivar first: the offset of the first byte.
    :ivar end: the offset after the last byte so far (exclusive).
    :ivar crc32c: the CRC32C of all bytes so far.
    """

    first: int
    end: int
    crc32c: int = field(default=0, kw_only=True)
    marks: list[tuple[int, int]] = field(factory=list, repr=False, kw_only=True)
    _joints: list[tuple[int, int]] = field(factory=list, repr=False, init=False)

    def mark(self, data: bytes | memoryview) -> None:
        """Take the next bytes into account. Each is read once, and none is copied."""
        following = self._following()
        end = self.end + len(data)
        if end < following:
            self.crc32c, self.end = crc32c(data, self.crc32c), end
            return
        view = memoryview(data)
        while self.end < end:
            stop = min(following, end)
            self.crc32c = crc32c(view[: stop - self.end], self.crc32c)
            view = view[stop - self.end :]
            self.end = stop
            if stop == following:
                self.marks.append((stop, self.crc32c))
                following = self._following()

    def _following(self) -> int:
        """Return the offset of the next mark."""
        regular = self.end - self.end % EVERY + EVERY
        have = self.end - self.first
        return regular if have >= EVERY else min(regular, self.first + (1 << have.bit_length()))

    def joint(self) -> None:
        """Note that another request brings what comes next. Only the latest `MOST` of these joints are kept."""
        if self.end == self.first or (self.marks and self.marks[-1][0] == self.end):
            return
        joint = (self.end, self.crc32c)
        self.marks.append(joint)
        self._joints.append(joint)
        if len(self._joints) > MOST:
            self.marks.remove(self._joints.pop(0))


def marked(segments: Iterable[bytes], first: int, joints: Iterable[int]) -> Marker:
    """Return the marker of bytes that begin at offset `first`.

    :param joints: offsets at which the bytes of one request ended and those of the next began.
    """
    marker = Marker(first, first)
    left = sorted(joints, reverse=True)
    for segment in segments:
        view = memoryview(segment)
        while left and left[-1] < marker.end + len(view):
            joint = left.pop()
            if joint >= marker.end:
                view, before = view[joint - marker.end :], view[: joint - marker.end]
                marker.mark(before)
                marker.joint()
        marker.mark(view)
    return marker


def pack(marks: Sequence[tuple[int, int]]) -> bytes | None:
    """Return the marks as the ledger keeps them; None for none."""
    return b"".join(_FORM.pack(*mark) for mark in marks) or None


def unpack(packed: bytes | None) -> list[tuple[int, int]]:
    """Return the marks that `pack` was given."""
    return [(offset, crc) for offset, crc in _FORM.iter_unpack(packed or b"")]


def agree(
    segments: Sequence[bytes], first: int, *, piece: tuple[int, int, int], marks: Iterable[tuple[int, int]]
) -> bool | None:
    """Return whether bytes are the same as those of a piece.

    None: those that can be compared are the same, but not all can be compared.

    :param segments: the bytes from offset `first` on, all of them within the piece.
    :param piece: the piece's first offset, its end (exclusive), and its CRC32C.
    """
    known = {piece[0]: 0, **{offset: crc for offset, crc in marks if piece[0] < offset < piece[1]}, piece[1]: piece[2]}
    end = first + sum(map(len, segments))
    inside = [offset for offset in known if first <= offset <= end]
    if len(inside) < 2:
        return None
    begin, stop = min(inside), max(inside)
    if checksum(cut(segments, begin - first, stop - first)) != suffix(known[begin], known[stop], stop - begin):
        return False
    return True if (begin, stop) == (first, end) else None
