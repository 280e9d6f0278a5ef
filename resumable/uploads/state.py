"""One upload as this process knows it: its row in the ledger, and its pieces."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from attrs import evolve

from resumable.ledger.ledger import Ledger
from resumable.model import Ended, Piece, State, Upload
from resumable.uploads.coverage import Coverage
from resumable.uploads.grid import Grid


class UploadState:
    """What is known of an upload. The only place where that changes.

    :ivar pieces: the pieces that are acknowledged, by the number of their chunk.
    :ivar parts: the numbers of the chunks that are parts.
    :ivar multipart_ids: of all multipart uploads that it has had, as far as is known here.
    """

    def __init__(self, upload: Upload, pieces: Iterable[Piece], ledger: Ledger) -> None:
        self.multipart_ids: set[str] = set()
        self._upload = upload
        self.became(upload)
        self.pieces: defaultdict[int, list[Piece]] = defaultdict(list)
        self.parts: set[int] = set()
        self._ledger = ledger
        #: Counts what is learned: something may be while the ledger is read.
        self._learned = 0
        self.learn(pieces)

    @property
    def upload(self) -> Upload:
        """The upload as it stands now, as far as is known here."""
        return self._upload

    def became(self, upload: Upload) -> None:
        """Know the upload as the ledger has it now."""
        self._upload = upload
        if upload.multipart_id is not None:
            self.multipart_ids.add(upload.multipart_id)

    def change(self, **changes: Any) -> None:
        """Know that the ledger has these changes of the upload's row."""
        self.became(evolve(self.upload, **changes))

    def replace(self, piece: Piece, replaced: Iterable[Piece]) -> None:
        """Know a piece that the ledger has now, in the place of others."""
        number, gone = self.grid.number_at(piece.first), tuple(replaced)
        self.pieces[number] = [old for old in self.pieces[number] if old not in gone]
        self.add(piece)

    def all_pieces(self) -> list[Piece]:
        """Return the pieces of all chunks."""
        return [piece for pieces in self.pieces.values() for piece in pieces]

    def learn(self, pieces: Iterable[Piece]) -> None:
        """Know the pieces as the ledger has them."""
        self.pieces.clear()
        self.parts.clear()
        for piece in pieces:
            self.add(piece)

    async def learn_of(self, number: int) -> None:
        """Learn what other nodes have stored of a chunk, for other clients perhaps."""
        first = self.grid.first_of(number)
        known = {(piece.first, piece.end, piece.number) for piece in self.pieces.get(number, ())}
        for piece in await self._ledger.pieces_within(self.upload.id, first, self.grid.end_of(number)):
            if (piece.first, piece.end, piece.number) not in known:
                self.add(piece)

    async def learn_expected(self, current: Upload | None = None) -> None:
        """Learn what the client has said of the whole object, perhaps to another node.

        :param current: the upload as the ledger has it, if that was just read.
        """
        if current is None:
            current = await self._ledger.get(self.upload.id)
        if current is not None:
            # It is said once and stays so. What was read may be older than what is known here by now.
            if current.expected_crc32c is not None:
                self.change(expected_crc32c=current.expected_crc32c)
            self.change(remembered={**self.upload.remembered, **current.remembered})

    async def refresh(self) -> None:
        """Learn again what the ledger knows: others may have written, finished or ended the upload.

        :raises Ended: the ledger has forgotten it.
        """
        while True:
            before, upload = self._learned, self.upload
            found = await self._ledger.whole(self.upload.id)
            if found is None:
                raise Ended("the upload is gone")
            if before == self._learned and upload is self.upload:
                break
        upload, pieces = found
        self.became(upload)
        self.learn(pieces)

    def add(self, piece: Piece) -> None:
        """Know one more piece."""
        self._learned += 1
        if piece.number is not None:
            # A part covers its whole chunk: whatever else there was has no use any more.
            self.parts.add(piece.number)
            self.pieces[piece.number] = [piece]
            return
        number = self.grid.number_at(piece.first)
        if number not in self.parts:
            self.pieces[number].append(piece)

    @property
    def grid(self) -> Grid:
        """The upload's grid, as far as its length is known."""
        return Grid.of(self.upload)

    @property
    def coverage(self) -> Coverage:
        """What is acknowledged, as far as is known here."""
        return Coverage.of(self.all_pieces())

    @property
    def offset(self) -> int:
        """How many bytes from the start are acknowledged, as far as is known here."""
        if self.upload.state is State.FINISHED:
            return self.upload.length or 0
        return self.coverage.offset

    @property
    def in_parts(self) -> bool:
        """Whether all bytes are stored, and all of them in parts."""
        return self.whole and all(piece.number is not None for piece in self.all_pieces())

    @property
    def whole(self) -> bool:
        """Whether all bytes are stored, or the upload has come further than that."""
        length = self.upload.length
        return self.upload.state is not State.OPEN or (length is not None and self.coverage.covers(0, length))
