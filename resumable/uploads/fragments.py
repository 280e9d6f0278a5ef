"""Fragments: bytes of less than a chunk, stored as an object of their own until the rest of the chunk is there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial
from secrets import token_hex

from attrs import evolve
from twisted.internet.defer import DeferredSemaphore
from twisted.logger import Logger

from resumable.model import ObjectOptions, Piece, State, Upload
from resumable.stores.port import AnswerTooLong, Damaged, Store, StoreError
from resumable.tasks import together
from resumable.uploads.checksum import checksum
from resumable.uploads.grid import Grid
from resumable.uploads.known_keys import KnownKeys
from resumable.uploads.memory import MemoryBudget

#: Requests for the fragments of one upload that are under way at a time.
MOST = 8
#: Fragments of all uploads that are read at a time. More would not be faster: reading takes more time here than in the
#: store.
READS = 8
#: The name of the metadata entry that says which ledger a fragment belongs to.
LEDGER = "resumable-ledger"

#: The key of bytes kept in memory: the upload's id, and the fragment's `Piece.etag`.
Name = tuple[str, str]


def _name(upload_id: str, piece: Piece) -> Name:
    return upload_id, piece.etag


class Fragments:
    """Stores and reads fragments: small objects under one prefix, in the bucket of the upload's object.

    A stored fragment stays in memory while there is room to spare, so that a chunk that comes in many requests need not
    be read back.
    """

    _log = Logger()

    def __init__(self, store: Store, budget: MemoryBudget, prefix: str, ledger: str, *, alone: bool = False) -> None:
        """
        :param prefix: what the keys of fragments begin with.
        :param ledger: the ledger's id, which is in the metadata of fragments.
        :param alone: whether no other process stores fragments of the same uploads. Then the store need not be asked for
            those of uploads that have their first one from here.
        """
        self._store = store
        self._budget = budget
        self._prefix = prefix
        self._alone = alone
        self._ledger = ledger
        self._kept: dict[Name, list[bytes]] = {}
        self._reads = DeferredSemaphore(READS)
        self._known = KnownKeys()

    def key(self, upload: Upload, piece: Piece) -> str:
        """Return the key of a fragment's object."""
        return f"{self._prefix}{upload.id}/{piece.first}-{piece.end - 1}.{piece.etag}"

    def begin(self, upload_id: str) -> None:
        """Take note that the upload has no fragments yet, so that those to come are all known here."""
        if self._alone:
            self._known.begin(upload_id)

    async def put(self, upload: Upload, first: int, segments: Sequence[bytes], crc32c: int) -> Piece:
        """Store bytes that begin at offset `first`, and return the piece.

        The caller has to enter it into the ledger.
        """
        size = sum(map(len, segments))
        end = first + size
        options = self.options(upload.options)
        # A key that was never used before: the late deletion of an earlier fragment must not hit this one.
        piece = Piece(first, end, None, token_hex(8), crc32c)
        # Also if nobody hears what came of it, the fragment may be there.
        self._known.add(upload.id, self.key(upload, piece))
        await self._store.put_object(upload.bucket, self.key(upload, piece), segments, options, crc32c=crc32c)
        name = _name(upload.id, piece)
        if self._budget.keep(name, size, lambda: self._let_go(name)):
            self._kept[name] = list(segments)
        return piece

    def new_key(self, upload: Upload, name: str) -> str:
        """Return a key that was never used before, for an object that is swept with the upload's fragments.

        From then on the store is asked what there is: the object may outlive what it was made for.
        """
        self._known.end(upload.id)
        return f"{self._prefix}{upload.id}/{name}.{token_hex(8)}"

    def options(self, of: ObjectOptions) -> ObjectOptions:
        """Return what the service's own objects are created with, given what was wanted for an upload's object."""
        return ObjectOptions(
            content_type="application/octet-stream",
            metadata={LEDGER: self._ledger},
            encryption=of.encryption,
            kms_key=of.kms_key,
        )

    def as_partial(self, upload: Upload) -> Upload:
        """Return a partial upload whose object is one of the service's own, as the fragments are."""
        return evolve(upload, options=self.options(upload.options))

    def _let_go(self, name: Name) -> int:
        return sum(map(len, self._kept.pop(name)))

    def kept(self, upload: Upload, piece: Piece) -> list[bytes] | None:
        """Return the fragment's bytes if they are still in memory, else None."""
        return self._kept.get(_name(upload.id, piece))

    async def read(self, upload: Upload, piece: Piece) -> list[bytes]:
        """Read the fragment's bytes from the store.

        :raises NotFound: the fragment was deleted, because its chunk is a part by now.
        :raises Damaged: the bytes are not those that were stored.
        :raises StoreError: the store refused, or was in trouble.
        """
        # A second try, because something on the way may have answered in the store's place.
        for _ in range(2):
            segments = await self._reads.run(partial(self._read, upload, piece))
            if sum(map(len, segments)) == piece.size and checksum(segments) == piece.crc32c:
                return segments
        why = f"bytes {piece.first}-{piece.end - 1} are not the bytes that were stored"
        raise Damaged("BadFragment", why)

    async def _read(self, upload: Upload, piece: Piece) -> list[bytes]:
        try:
            return await self._store.get_object(upload.bucket, self.key(upload, piece), limit=piece.size)
        except AnswerTooLong:
            return []

    async def delete(self, upload: Upload, pieces: Iterable[Piece]) -> None:
        """Delete fragments whose bytes are safe in a part. If the store refuses, `sweep` deletes them later."""
        keys = [self.key(upload, piece) for piece in pieces]
        try:
            await self._delete(upload.bucket, keys)
        except StoreError as error:
            self._log.info("fragments of upload {id} are not deleted yet: {error}", id=upload.id, error=str(error))
            return
        for key in keys:
            self._known.discard(upload.id, key)

    async def _delete(self, bucket: str, keys: Sequence[str]) -> None:
        if len(keys) == 1:
            await self._store.delete_object(bucket, keys[0])
        elif keys:
            await self._store.delete_objects(bucket, keys)

    def forget(self, upload_id: str, pieces: Iterable[Piece] | None = None) -> None:
        """Drop the bytes of these fragments, or of all fragments of the upload, from memory."""
        if pieces is None:
            names = [name for name in self._kept if name[0] == upload_id]
        else:
            names = [_name(upload_id, piece) for piece in pieces]
        for name in names:
            self._budget.forget(name)

    async def sweep(self, *ended: Upload) -> None:
        """Delete every fragment of uploads that have ended, including those that the ledger does not know.

        With them go what was left of joining them in the store, and the object of a partial upload, unless that is
        finished and still wanted. The store is asked what there is, unless all that can be there is known here.

        :raises StoreError: the store refused, or was in trouble. The call may be repeated.
        """
        for upload in ended:
            self.forget(upload.id)
        fragmented = [upload for upload in ended if upload.fragmented]
        found = await together([partial(self._find, upload) for upload in fragmented], most=MOST)
        doomed: defaultdict[str, list[str]] = defaultdict(list)
        for upload, keys in zip(fragmented, found, strict=True):
            doomed[upload.bucket] += keys
        for bucket, keys in doomed.items():
            await self._delete(bucket, keys)
        for upload in fragmented:
            if not Grid.of(upload).in_memory:
                for one in await self._store.list_multipart_uploads(upload.bucket, f"{self._prefix}{upload.id}/"):
                    await self._store.abort_multipart_upload(upload.bucket, one.key, one.multipart_id)
        for upload in ended:
            self._known.end(upload.id)

    async def _find(self, upload: Upload) -> list[str]:
        """Return the keys of what is to be deleted of an upload that has ended."""
        keys = self._all_keys(upload)
        if keys is None:
            kept = upload.key if upload.state is State.FINISHED else None
            found = await self._store.list_objects(upload.bucket, f"{self._prefix}{upload.id}/")
            keys = [one.key for one in found if one.key != kept]
        return keys

    def _all_keys(self, upload: Upload) -> list[str] | None:
        """Return the keys of all fragments that the upload may have in the store; None if they are not all known here."""
        # Others may have objects of another kind under the prefix as well.
        plain = Grid.of(upload).in_memory and not (upload.partial or upload.sources)
        return self._known.of(upload.id) if plain else None
