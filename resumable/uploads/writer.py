"""What becomes of each run of bytes of one upload, until it is stored and the ledger has it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial

from attrs import evolve
from twisted.internet.defer import DeferredLock
from twisted.logger import Logger

from resumable.clock import now
from resumable.model import Conflict, Ended, Gap, Piece, Replaced, State, Superseded, Upload
from resumable.stores.port import NoSuchUpload, NotFound, StoreError, StoreUnavailable
from resumable.tasks import together
from resumable.uploads.chunks import Slice, plan
from resumable.uploads.claims import Claim, new_claim
from resumable.uploads.completer import Completer
from resumable.uploads.coverage import Coverage
from resumable.uploads.dependencies import Dependencies as Dependencies
from resumable.uploads.fragments import MOST
from resumable.uploads.grid import Grid
from resumable.uploads.held import PATIENCE, StoredPiece, pack_few
from resumable.uploads.log import log_upload
from resumable.uploads.marks import Marker, marked, pack
from resumable.uploads.multipart import MultipartOpener
from resumable.uploads.neighbours import neighbour_of
from resumable.uploads.openings import OpeningNotes
from resumable.uploads.readback import StoredBytes
from resumable.uploads.release import release_fragments, release_late
from resumable.uploads.sender import Revalidate, Sender, Turn, nothing_to_ask
from resumable.uploads.state import UploadState
from resumable.uploads.store_join import NotSeen, StoreJoiner
from resumable.uploads.stream import ChunkBuffer, ChunkedStream
from resumable.uploads.trouble import in_trouble
from resumable.uploads.whole import WholeObject

#: How often one run opens another multipart upload because the store does not have the last one.
REPLACED = 3


class UploadWriter:
    """Stores the runs of one upload, several at once, in any order. One for all who write it in this process.

    :ivar state: the upload and its pieces, as far as they are known here.
    :ivar streams: those who are writing it.
    """

    _log = Logger()

    def __init__(
        self,
        upload: Upload,
        pieces: Iterable[Piece],
        deps: Dependencies,
        completer: Completer,
        claim: Claim | None = None,
    ) -> None:
        """
        :param claim: to the upload's key, if that was entered with the upload just now.
        """
        self.state = UploadState(upload, pieces, deps.ledger)
        self.streams: list[ChunkedStream] = []
        #: Whether the upload is known to have been cancelled, or ended otherwise without an object.
        self.ended = False
        self._completer = completer
        self._stored = StoredBytes(deps.ledger, deps.store, deps.fragments, deps.read_back)
        self._whole = WholeObject(self.state, deps.store, self._stored, completer, deps.metrics, claim)
        self._multipart = MultipartOpener(self.state, deps)
        self._joiner = StoreJoiner(
            deps.store, deps.fragments, self._stored, OpeningNotes(deps.ledger, deps.store, deps.clock)
        )
        self._deps = deps
        #: By the number of a chunk, and the offset of a cell if it is stored cell by cell.
        self._chunks: defaultdict[tuple[int, int | None], DeferredLock] = defaultdict(DeferredLock)
        #: Held by whoever begins to write, from the end of an older writer to the opening of the new stream.
        self.entrance = DeferredLock()

    @property
    def upload(self) -> Upload:
        """The upload as it stands now, as far as is known here."""
        return self.state.upload

    @property
    def grid(self) -> Grid:
        """The upload's grid, as far as its length is known."""
        return self.state.grid

    async def refresh(self) -> None:
        """See `UploadState.refresh`."""
        await self.state.refresh()

    def take_claim(self) -> Claim | None:
        """See `WholeObject.take_claim`."""
        return self._whole.take_claim()

    async def close(self) -> None:
        """Give up the claim: nobody writes the upload here any more."""
        await self._completer.claims.drop(self.take_claim())

    async def store(self, buffer: ChunkBuffer, sender: Sender) -> None:
        """Store a run. When this returns, its bytes are acknowledged.

        A run that is all that was missing of its chunk makes it a part; any other becomes a fragment. Bytes that meet stored
        ones are compared with them.

        :param sender: whose it is. What its `revalidate` raises comes out here; what was acknowledged before stays, and this run
            is not.
        :raises Conflict: other bytes are stored there; nothing was altered.
        :raises Gap: other bytes were stored there, and those before them are not at hand any more: the client begins there.
        :raises Superseded: the upload was begun anew elsewhere.
        :raises Ended: the upload was cancelled meanwhile, or the store has lost it.
        :raises Exists: the key is taken and may not be overwritten.
        :raises Invalid: it is the last of too many small ones, or beyond the upload's end.
        :raises Unavailable: the store or the ledger was in trouble for too long.
        """
        with self._deps.metrics.storing():
            async with sender.turn() as turn:
                await self._in_chunk(buffer.number, buffer, sender, turn)

    def joinable(self, number: int) -> bool:
        """Say whether a chunk is too large for memory, and all its bytes are stored, in fragments."""
        if self.grid.fits(number) or number in self.state.parts:
            return False
        first, end = self.grid.first_of(number), self.grid.end_of(number)
        return Coverage.of(self.state.pieces[number]).covers(first, end)

    async def join(self, number: int, revalidate: Revalidate) -> None:
        """Have the store make the chunk of its fragments, which takes a while. Nothing that is acknowledged waits for it.

        Parameters and errors as of `Sender` and `store`.
        """
        if self.upload.live:
            sender = Sender(revalidate, edition=self.upload.edition)
            await self._in_chunk(number, None, sender, sender.turn())

    async def _joined(self) -> None:
        """Wait for the joins that have begun: their parts must not come in the place of others."""
        for place in [place for place in self._chunks if place[1] is None and not self.grid.fits(place[0])]:
            lock = self._chunks[place]
            await lock.acquire()
            self._release(place, lock)

    def _release(self, place: tuple[int, int | None], lock: DeferredLock) -> None:
        lock.release()
        if not lock.locked:
            self._chunks.pop(place, None)

    async def compare(self, buffer: ChunkBuffer, sender: Sender) -> None:
        """Compare a run with the finished object, and store nothing. Errors as `store`."""
        async with sender.turn() as turn:
            await self._agree_with_object(buffer, turn)

    async def _agree_with_object(self, buffer: ChunkBuffer, turn: Turn) -> None:
        upload = self.upload
        if not await self._stored.is_object(upload, upload.etag, buffer.first, buffer.end, buffer.crc32c):
            raise turn.fail(self._conflict(buffer))

    async def assemble(self) -> None:
        """Make parts of all chunks whose fragments cover them, for one who may finish the upload. Errors as `store`."""
        if self.state.in_parts and self.upload.length:
            return  # of an upload that is made of others they are no chunks of the grid
        sender = Sender(nothing_to_ask, edition=self.upload.edition)
        if self.upload.length == 0:
            await self.store(ChunkBuffer(0, 0, number=1), sender)
            return
        for number in range(1, self.grid.count + 1):
            if number not in self.state.parts and self.upload.state is State.OPEN:
                async with sender.turn() as turn:
                    await self._in_chunk(number, None, sender, turn)

    async def _in_chunk(self, number: int, buffer: ChunkBuffer | None, sender: Sender, turn: Turn) -> None:
        """Store what there is of a chunk; one at a time, so that the last to come sees what the others have stored."""
        # Cells of a chunk that is too large for memory are stored several at a time.
        place = (number, None if buffer is None or self.grid.fits(number) else self.grid.cell_at(buffer.first)[0])
        lock, replaced = self._chunks[place], 0
        await lock.acquire()
        try:
            while True:
                known, multipart_id = set(self.state.pieces.get(number, ())), self.upload.multipart_id
                try:
                    await self._store(number, buffer, sender, turn)
                    break
                except (NotFound, NoSuchUpload, NotSeen, Replaced) as error:
                    if not await self._has_learned(number, known):
                        replaced += 1
                        # A store that knows nothing of what it has just opened would be asked for ever.
                        if replaced > REPLACED or not await self._is_replaced(error, multipart_id):
                            raise
                except Ended:
                    # It may have ended well: somebody else has brought the rest, or the same.
                    await self.refresh()
                    if self.upload.state is not State.FINISHED:
                        raise
            self._deps.faults.granted(self.upload.bucket)
        except StoreUnavailable as error:
            raise in_trouble(error) from error
        except StoreError as error:
            await self._completer.refused(self.upload, error)
        finally:
            self._release(place, lock)

    async def _has_learned(self, number: int, known: set[Piece]) -> bool:
        """Learn what others have done. Return whether that changes anything for a chunk.

        Another node may have joined it, or some of its fragments, and deleted those; or it has ended the upload. As long as there
        is something to learn of that, nothing is lost.

        :raises Ended: the upload was cancelled, or has failed.
        """
        await self.refresh()
        if not self.upload.live and self.upload.state is not State.FINISHED:
            raise Ended(self.upload.reason or "the upload has ended") from None
        return not self.upload.live or set(self.state.pieces.get(number, ())) != known

    async def _is_replaced(self, error: Exception, multipart_id: str | None) -> bool:
        """Return whether there is another multipart upload by now, or may be, in which the chunk can be stored."""
        if isinstance(error, NoSuchUpload):
            return await self._multipart.is_replaced(multipart_id)
        return isinstance(error, Replaced)

    async def _store(self, number: int, buffer: ChunkBuffer | None, sender: Sender, turn: Turn) -> None:
        if self.upload.state is State.FINISHED:
            if buffer is not None:
                await self._agree_with_object(buffer, turn)
            return
        if self.upload.swarm and number not in self.state.parts:
            await self.state.learn_of(number)
        if buffer is not None:
            await self._agree(buffer, sender, turn)
        turn.over()
        if buffer is None and number in self.state.parts:
            return
        first, end = self.grid.first_of(number), self.grid.end_of(number)
        if buffer is not None and (buffer.first, buffer.end) == (first, end):
            if number in self.state.parts:  # another connection was first
                return
            if await self._may_be_made(number, sender):
                await self._put_chunk(number, buffer.segments, buffer, sender)
            else:
                await self._put_fragment(buffer, sender)
            return
        pieces = self._of_chunk(number, sender)
        if buffer is not None:
            if Coverage.of(pieces).covers(buffer.first, buffer.end):
                return
            pieces.append(Piece(buffer.first, buffer.end, None, ""))
        if buffer is not None and not self.grid.fits(number):
            await self._put_fragment(buffer, sender)
            return
        slices = plan(pieces, first, end)
        if slices is not None and await self._may_be_made(number, sender):
            await self._assemble_chunk(number, buffer, slices, sender)
        elif buffer is not None:
            await self._put_fragment(buffer, sender)

    async def _may_be_made(self, number: int, sender: Sender) -> bool:
        """Say whether a chunk may be stored as a whole. Where that makes the object, its body has to count.

        That is waited for a moment, for the end of a body comes right after its last byte. Where it does not, the bytes do not
        stay in memory for as long as the client likes: they become a fragment, and the object is made at the body's end.
        """
        if sender.held is None or not self._whole.is_all(number):
            return True
        return await sender.held.decided_within(PATIENCE, self._deps.clock)

    # Comparing

    async def _agree(self, buffer: ChunkBuffer, sender: Sender, turn: Turn) -> None:
        """See to it that what is stored where the run belongs are the run's bytes."""
        for piece in sorted(self.state.pieces.get(buffer.number, ()), key=lambda piece: piece.first):
            if not await self._stored.same(self.upload, buffer, piece):
                if not sender.anew:
                    raise turn.fail(self._conflict(buffer))
                await self._begin_anew(buffer, piece.first, sender, turn)
                return

    def _conflict(self, buffer: ChunkBuffer) -> Conflict:
        return Conflict(
            f"the file has changed: other bytes are stored within {buffer.first}-{buffer.end - 1}; nothing was altered. "
            "Cancel the upload, or begin again at byte 0"
        )

    async def begin_edition(self) -> None:
        """Begin a new edition at the upload's offset: whoever still brings bytes of the former can add nothing more.

        What is known to be stored beyond the offset is struck out. What others have stored since then stays, and is known
        when this returns.
        """
        await self._joined()
        deps, offset = self._deps, self.state.coverage.offset
        beyond = [piece for piece in self.state.all_pieces() if piece.end > offset]
        self.state.became(await deps.ledger.begin_anew(self.upload, offset, now=now(deps.clock), only=beyond))
        await self.refresh()
        self._delete_fragments(beyond)
        if not self.state.all_pieces():
            self.state.became(await self._without_multipart(self.upload))
        self._lower_streams()

    async def _begin_at(self, cut_at: int, edition: int) -> None:
        """Begin the edition that follows `edition`, from offset `cut_at` on: pieces that end beyond it are struck out."""
        await self._joined()
        await self._renew(evolve(self.upload, edition=edition), cut_at)
        stored = self.state.all_pieces()
        self.state.learn([piece for piece in stored if piece.end <= cut_at])
        self._delete_fragments(piece for piece in stored if piece.end > cut_at)
        self._lower_streams()

    def _lower_streams(self) -> None:
        for stream in self.streams:
            stream.stored_to = min(stream.stored_to, self.state.coverage.offset)

    def _delete_fragments(self, pieces: Iterable[Piece]) -> None:
        """Delete the fragments among these pieces, which nobody needs any more, in the background."""
        fragments = [piece for piece in pieces if piece.number is None]
        if fragments:
            self._deps.fragments.forget(self.upload.id, fragments)
            self._deps.background.run(partial(self._deps.fragments.delete, self.upload, fragments))

    async def _renew(self, former: Upload, cut_at: int) -> None:
        upload = await self._deps.ledger.begin_anew(former, cut_at, now=now(self._deps.clock))
        self.state.became(upload if cut_at else await self._without_multipart(upload))

    async def _without_multipart(self, upload: Upload) -> Upload:
        """Abort the upload's multipart upload, of which nothing is kept. Return the upload as the ledger has it then.

        With it goes what others may still bring of the former bytes.
        """
        if upload.multipart_id is None:
            return upload
        deps = self._deps
        try:
            # First in the store, for what the ledger does not know would stay there.
            await deps.store.abort_multipart_upload(upload.bucket, upload.key, upload.multipart_id)
            return await deps.ledger.begin_anew(upload, 0, now=now(deps.clock), multipart_gone=True)
        except StoreError as error:
            self._log.info("upload {id} keeps its multipart upload: {error}", id=upload.id, error=str(error))
            return upload

    async def _begin_anew(self, buffer: ChunkBuffer, cut_at: int, sender: Sender, turn: Turn) -> None:
        """Drop what differs, and all after it: the client brings other bytes, from byte 0 on."""
        await self._begin_at(cut_at, sender.edition)
        sender.edition = self.upload.edition
        offset = self.state.coverage.offset
        log_upload("begun anew", self.upload, offset, now(self._deps.clock), f"other bytes came from byte {cut_at} on")
        if buffer.first > offset:
            raise turn.fail(Gap(f"the file has changed: byte {offset} comes next, not {buffer.first}", offset))

    # Fragments

    async def _put_fragment(self, buffer: ChunkBuffer, sender: Sender) -> None:
        deps = self._deps
        if not self.upload.fragmented:
            word = None if self._whole.claim is None else self._whole.claim.word
            if await deps.ledger.mark_fragmented(self.upload, claim=word):
                deps.fragments.begin(self.upload.id)
            self._completer.claims.forget(self.take_claim())
            self.state.change(fragmented=True)
        first, end = self.grid.cell_at(buffer.first)
        pieces = [piece for piece in self._of_chunk(buffer.number, sender) if piece.first < end and piece.end > first]
        neighbour = neighbour_of(buffer, pieces, end - first, self._at_hand)
        marker: Marker = buffer
        if neighbour is None:
            segments = list(buffer.segments)
        else:
            async with self._stored.room(self.upload, [neighbour]):
                found = await self._stored.fragment(self.upload, neighbour)
                left = neighbour.end == buffer.first
                segments = [*found, *buffer.segments] if left else [*buffer.segments, *found]
                joints = [buffer.first if left else buffer.end, *await self._stored.joints(self.upload, neighbour)]
                marker = marked(segments, min(buffer.first, neighbour.first), joints)
        try:
            piece = await deps.fragments.put(self.upload, marker.first, segments, marker.crc32c)
        except StoreError:
            # It may be there all the same. Of an upload that has ended meanwhile nobody else would look for it.
            await release_fragments(deps.ledger, deps.fragments, self.upload)
            raise
        finally:
            segments.clear()
        await self._enter(piece, sender, marker, [] if neighbour is None else [neighbour])

    def _at_hand(self, fragment: Piece) -> bool:
        return self._deps.fragments.kept(self.upload, fragment) is not None

    def _of_chunk(self, number: int, sender: Sender) -> list[Piece]:
        """Return the pieces of a chunk: those that count, and those of the sender's body that do not count yet."""
        held = sender.holding
        return [*self.state.pieces[number], *(held.within(number) if held is not None else ())]

    async def _assemble_chunk(
        self, number: int, buffer: ChunkBuffer | None, slices: Sequence[Slice], sender: Sender
    ) -> None:
        """Make the chunk of the run and of fragments, which are read back unless they are still in memory."""
        if not self.grid.fits(number):
            await self._join(number, slices, sender)
            return
        wanted = [slice_.piece for slice_ in slices if slice_.piece.etag]
        segments: list[bytes] = []
        if self._whole.is_all(number):
            # Before there is room taken for what is read: others wait for that.
            await self._whole.claim_ahead()
        try:
            async with self._stored.room(self.upload, wanted):
                for found in await together(
                    [partial(self._stored.take, self.upload, slice_, buffer) for slice_ in slices], most=MOST
                ):
                    segments += found
                joints = [slice_.first for slice_ in slices]
                for piece in wanted:
                    joints += await self._stored.joints(self.upload, piece)
                marker = marked(segments, self.grid.first_of(number), joints)
                await self._put_chunk(number, segments, marker, sender)
        finally:
            segments.clear()

    # Parts

    async def _join(self, number: int, slices: Sequence[Slice], sender: Sender) -> None:
        """Have the store make the chunk of fragments. It is too large for memory.

        :param sender: nobody else's. It gets the edition that the slices are of.
        """
        sender.edition = self.upload.edition
        upload = await self._multipart.opened()

        async def certain() -> None:
            current = await self._deps.ledger.get(upload.id)
            if current is None or not current.live:
                raise Ended("the upload has ended")
            if (current.edition, current.multipart_id) != (sender.edition, upload.multipart_id):
                raise Superseded("the client has begun anew with other bytes")

        etag, marker = await self._joiner.join(upload, number, slices, certain)
        part = Piece(marker.first, marker.end, number, etag, marker.crc32c)
        await self._enter(part, sender, marker, stored_in=upload.multipart_id)

    async def _put_chunk(self, number: int, segments: Sequence[bytes], marker: Marker, sender: Sender) -> None:
        first, end = self.grid.first_of(number), self.grid.end_of(number)
        if self._whole.is_all(number):
            await sender.revalidate()
            await self._whole.put(segments, marker, sender.edition)
            sender.committed()
            return
        # Where the body is held back this writes over no part that counts: of a chunk whose part is in the ledger a run is only
        # compared (see `_store`). A part that a rejected body has left is written over by the next body: the ledger has none
        # of that number, and the store is told by its ETag which one is meant.
        upload = await self._multipart.opened()
        assert upload.multipart_id is not None
        etag = await self._deps.store.upload_part(
            upload.bucket, upload.key, upload.multipart_id, number, segments, crc32c=marker.crc32c
        )
        part = Piece(first, end, number, etag, marker.crc32c)
        await self._enter(part, sender, marker, stored_in=upload.multipart_id)

    async def _enter(
        self,
        piece: Piece,
        sender: Sender,
        marker: Marker,
        replaces: Sequence[Piece] = (),
        stored_in: str | None = None,
    ) -> None:
        """Let the ledger have a stored piece, or hold it back as long as its body does not count."""
        marks = [mark for mark in marker.marks if mark[0] < piece.end]
        held = sender.holding
        if held is None:
            if sender.held is not None:
                # First what was held back: this may replace one of those, which must not come to the ledger after it.
                try:
                    await sender.held.decided()
                except Exception:
                    self._delete_fragments([piece])
                    raise
            await self._commit(StoredPiece(piece, pack(marks), tuple(replaces), stored_in), sender)
        elif held.rejection is not None:
            self._delete_fragments([piece])
            raise held.rejection
        else:
            number = self.grid.number_at(piece.first)
            known = self.state.pieces[number]
            counting = tuple(old for old in replaces if old in known)
            self._delete_fragments(held.add(number, StoredPiece(piece, pack_few(marks), counting, stored_in)))

    async def accept(self, sender: Sender) -> None:
        """Let the ledger have what was held back of a body, in order: its digest is right. Errors as `store`."""
        assert sender.held is not None
        pieces = iter(sender.held.accept())
        try:
            for held in pieces:
                await self._commit(held, sender)
        except Exception as error:
            sender.held.settle(error)
            # (Whether the ledger has the one that has failed nobody can say.)
            self._delete_fragments(held.piece for held in pieces)
            raise
        sender.held.settle()

    def reject(self, sender: Sender, why: Exception) -> None:
        """Let nothing of a body count that was held back. What is still being stored of it fails with `why`."""
        assert sender.held is not None
        sender.failure = sender.failure or why
        self._delete_fragments(sender.held.reject(why))

    async def _commit(self, stored: StoredPiece, sender: Sender) -> None:
        """Let the ledger have a stored piece. A part strikes its chunk's fragments out; some time later they are deleted."""
        deps, piece, replaces = self._deps, stored.piece, stored.replaces
        number = self.grid.number_at(piece.first)
        if piece.number is not None:
            replaces = tuple(old for old in self.state.pieces[number] if old.number is None)
        parts = len(self.state.parts | {number})
        complete = piece.number is not None and self.upload.length is not None and parts == self.grid.count
        if complete:
            await sender.revalidate()
        time, begun = now(deps.clock), deps.clock.seconds()
        try:
            word = await deps.ledger.add_piece(
                evolve(self.upload, edition=sender.edition),
                piece,
                now=time,
                replaces=replaces,
                marks=stored.marks,
                stored_in=stored.stored_in,
                claim=new_claim() if complete else None,
            )
        except (Ended, Superseded):
            await release_late(deps.ledger, deps.store, deps.fragments, self.upload, piece, self.state.multipart_ids)
            raise
        known = Coverage.of(self.state.pieces[number])
        deps.metrics.durable(piece.size - known.overlap(piece.first, piece.end))
        self.state.replace(piece, replaces)
        self.state.change(updated=time)
        if complete:
            self.state.change(state=State.FINISHING, received=time, claim=word)
            if word is not None:
                self._whole.claim = self._completer.claims.of(self.upload, begun)
                deps.metrics.moved(self.upload.protocol, State.FINISHING)
        self._delete_fragments(replaces)
        sender.committed()
