"""Fragments: less than a chunk, stored as an object of its own until the rest of the chunk is there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from secrets import token_hex

from twisted.internet.defer import DeferredSemaphore
from twisted.logger import Logger

from resumable.model import ObjectOptions, Piece, Upload
from resumable.stores.port import AnswerTooLong, Damaged, Store, StoreError
from resumable.tasks import together
from resumable.uploads.checksum import checksum
from resumable.uploads.memory import MemoryBudget

#: Requests for the fragments of one upload that are under way at a time.
MOST = 8
#: Fragments that are read at a time, of whatever uploads: reading takes more time here than in the store.
READS = 8
#: The name of the object metadata that says which ledger knows of a fragment.
LEDGER = "resumable-ledger"

#: Of what is kept in memory: the upload and the fragment.
Name = tuple[str, str]


def _name(upload_id: str, piece: Piece) -> Name:
    return upload_id, piece.etag


class Fragments:
    """Stores and reads the service's own small objects: under one prefix, in the bucket of the upload's object.

    What has been stored here is kept in memory while there is room to spare, so that a chunk that comes in many requests
    is not read back.
    """

    _log = Logger()

    def __init__(self, store: Store, budget: MemoryBudget, prefix: str, ledger: str) -> None:
        """
        :param prefix: of their keys.
        :param ledger: the ledger's identity, which they carry.
        """
        self._store = store
        self._budget = budget
        self._prefix = prefix
        self._ledger = ledger
        self._kept: dict[Name, list[bytes]] = {}
        self._reads = DeferredSemaphore(READS)

    def _key(self, upload: Upload, piece: Piece) -> str:
        return f"{self._prefix}{upload.id}/{piece.first}-{piece.end - 1}.{piece.etag}"

    async def put(self, upload: Upload, first: int, segments: Sequence[bytes], crc32c: int) -> Piece:
        """Store the bytes from offset `first` on, and return the piece, which the ledger does not know yet."""
        size = sum(map(len, segments))
        end = first + size
        options = ObjectOptions(
            content_type="application/octet-stream",
            metadata={LEDGER: self._ledger},
            encryption=upload.options.encryption,
            kms_key=upload.options.kms_key,
        )
        # Never the key of an earlier one: what is still to be deleted, however late, is not this.
        piece = Piece(first, end, None, token_hex(8), crc32c)
        await self._store.put_object(upload.bucket, self._key(upload, piece), segments, options, crc32c=crc32c)
        name = _name(upload.id, piece)
        if self._budget.keep(name, size, lambda: self._let_go(name)):
            self._kept[name] = list(segments)
        return piece

    def _let_go(self, name: Name) -> int:
        return sum(map(len, self._kept.pop(name)))

    def kept(self, upload: Upload, piece: Piece) -> list[bytes] | None:
        """Return the fragment's bytes, if they are still in memory."""
        return self._kept.get(_name(upload.id, piece))

    async def read(self, upload: Upload, piece: Piece) -> list[bytes]:
        """Read the fragment's bytes back.

        :raises NotFound: it was deleted: its chunk is a part by now.
        :raises Damaged: it is not what was stored.
        :raises StoreError: the store refused, or was in trouble.
        """
        # Twice: something on the way may have answered in the store's place.
        for _ in range(2):
            segments = await self._reads.run(partial(self._read, upload, piece))
            if sum(map(len, segments)) == piece.size and checksum(segments) == piece.crc32c:
                return segments
        why = f"bytes {piece.first}-{piece.end - 1} came back as others than were stored"
        raise Damaged("BadFragment", why)

    async def _read(self, upload: Upload, piece: Piece) -> list[bytes]:
        try:
            return await self._store.get_object(upload.bucket, self._key(upload, piece), limit=piece.size)
        except AnswerTooLong:
            return []

    async def delete(self, upload: Upload, pieces: Iterable[Piece]) -> None:
        """Delete fragments whose bytes are safe in a part. What the store refuses `sweep` will find."""
        await together([partial(self._delete, upload, piece) for piece in pieces], most=MOST)

    async def _delete(self, upload: Upload, piece: Piece) -> None:
        try:
            await self._store.delete_object(upload.bucket, self._key(upload, piece))
        except StoreError as error:
            self._log.info("fragment of {id} not deleted yet: {error}", id=upload.id, error=str(error))

    def forget(self, upload_id: str, pieces: Iterable[Piece] | None = None) -> None:
        """Give up the memory that these fragments, or all of the upload's, have here."""
        if pieces is None:
            names = [name for name in self._kept if name[0] == upload_id]
        else:
            names = [_name(upload_id, piece) for piece in pieces]
        for name in names:
            self._budget.forget(name)

    async def sweep(self, upload: Upload) -> None:
        """Delete every fragment of an upload that has ended, also those the ledger never heard of.

        :raises StoreError: the store would not; it may be asked again.
        """
        self.forget(upload.id)
        if upload.fragmented:
            found = await self._store.list_objects(upload.bucket, f"{self._prefix}{upload.id}/")
            await together([partial(self._store.delete_object, upload.bucket, one.key) for one in found], most=MOST)
