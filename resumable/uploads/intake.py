"""Intake: what becomes of each run of bytes of one upload, until it is stored and the ledger has it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial

from attrs import Factory, evolve, field, frozen
from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from resumable.flights import Flights
from resumable.ledger.ledger import Ledger
from resumable.ledger.notices import Alone, Notices
from resumable.metrics import Metrics
from resumable.model import Ended, Exists, Piece, Rejected, State, Unavailable, Upload
from resumable.stores.faults import OperatorFaults, client_fault
from resumable.stores.store import Store, StoreError, StoreUnavailable
from resumable.tasks import Errands, together
from resumable.uploads.budget import Budget
from resumable.uploads.chunks import Take, cut, plan
from resumable.uploads.coverage import Coverage
from resumable.uploads.finishing import CLAIM
from resumable.uploads.fragments import MOST, Fragments, checksum
from resumable.uploads.grid import Grid
from resumable.uploads.policy import object_options
from resumable.uploads.release import delete_own_object, own_object, release
from resumable.uploads.room import Room
from resumable.uploads.stream import ChunkedStream, Run

#: Asked right before an upload is finished by what a writer brings; what it raises keeps the upload open.
Confirm = Callable[[], Awaitable[None]]

#: Bytes that fragments read back for a chunk count as at least: many small ones are many requests at a time.
LEAST = 1 << 20


@frozen
class Tools:
    """What every intake works with."""

    ledger: Ledger
    store: Store
    fragments: Fragments
    budget: Budget
    #: For chunks that are made of fragments which have to be read back; the budget does not count them.
    reading: Room
    clock: IReactorTime
    #: What is freed in the store while nobody waits for it.
    errands: Errands
    metrics: Metrics = field(factory=Metrics)
    notices: Notices = field(factory=Alone)
    #: What the store refuses for the operator to mend.
    faults: OperatorFaults = field(default=Factory(lambda self: OperatorFaults(self.clock), takes_self=True))


class Intake:
    """Stores the runs of one upload, several at once, in any order. One for all who write it in this process.

    :ivar upload: the upload as it stands now, as far as is known here.
    :ivar streams: those who are writing it.
    """

    _log = Logger()

    def __init__(self, upload: Upload, pieces: Iterable[Piece], tools: Tools) -> None:
        self.upload = upload
        self.streams: list[ChunkedStream] = []
        self._pieces: defaultdict[int, list[Piece]] = defaultdict(list)
        self._parts: set[int] = set()
        self._ours = False
        #: Counts what is learned: something may be while the ledger is read.
        self._learned = 0
        self._tools = tools
        self._opening: Flights[Upload] = Flights()
        self._chunks: defaultdict[int, DeferredLock] = defaultdict(DeferredLock)
        self._learn(pieces)

    def _learn(self, pieces: Iterable[Piece]) -> None:
        """The pieces are as the ledger has them."""
        self._pieces.clear()
        self._parts.clear()
        for piece in pieces:
            self._add(piece)

    async def refresh(self) -> None:
        """Know again what the ledger knows: others may have written, finished or ended the upload.

        :raises Ended: the ledger has forgotten it.
        """
        while True:
            before, upload = self._learned, self.upload
            found = await self._tools.ledger.whole(self.upload.id)
            if found is None:
                raise Ended("the upload is gone")
            if before == self._learned and upload is self.upload:
                break
        self.upload, pieces = found
        self._learn(pieces)

    def _add(self, piece: Piece) -> None:
        self._learned += 1
        number = self.grid.number_at(piece.first)
        if piece.number is not None:
            # A part covers its whole chunk: whatever else there was has no use any more.
            self._parts.add(number)
            self._pieces[number] = [piece]
        elif number not in self._parts:
            self._pieces[number].append(piece)

    @property
    def grid(self) -> Grid:
        """The upload's grid, as far as its length is known."""
        return Grid(self.upload.chunk_size, self.upload.length)

    @property
    def coverage(self) -> Coverage:
        """What is acknowledged, as far as is known here."""
        return Coverage.of(piece for pieces in self._pieces.values() for piece in pieces)

    @property
    def whole(self) -> bool:
        """Whether all bytes are stored, or the upload has come further than that."""
        length = self.upload.length
        return self.upload.state is not State.OPEN or (length is not None and self.coverage.covers(0, length))

    async def store(self, run: Run, confirm: Confirm) -> None:
        """Store a run. When this returns, its bytes are acknowledged.

        A run that is all that was missing of its chunk makes it a part; any other becomes a fragment.

        :param confirm: what it raises comes out here; what was acknowledged before stays, and this run is not.
        :raises Ended: the upload was cancelled meanwhile, or the store has lost it.
        :raises Exists: the key is taken and may not be overwritten.
        :raises Unavailable: the store or the ledger was in trouble for too long.
        """
        with self._tools.metrics.storing():
            await self._in_chunk(run.number, run, confirm)

    def take_it_upon_us(self) -> bool:
        """Whether the last byte came through here, so that it is ours to make the object; says so once."""
        ours, self._ours = self._ours, False
        return ours

    async def assemble(self) -> None:
        """Make parts of all chunks whose fragments cover them, for one who may finish the upload. Errors as `store`."""
        for number in range(1, self.grid.count + 1):
            if number not in self._parts and self.upload.state is State.OPEN:
                await self._in_chunk(number, None, _confirmed)

    async def _in_chunk(self, number: int, run: Run | None, confirm: Confirm) -> None:
        """Store what there is of a chunk; one at a time, so that the last to come sees what the others have stored."""
        lock = self._chunks[number]
        await lock.acquire()
        try:
            try:
                await self._store(number, run, confirm)
            except StoreError as error:
                if error.code != "NoSuchKey":
                    raise
                # Another node has joined the chunk and deleted its fragments.
                await self.refresh()
                await self._store(number, run, confirm)
            self._tools.faults.granted(self.upload.bucket)
        except StoreUnavailable as error:
            raise Unavailable(f"the store is in trouble: {error.code}") from error
        except StoreError as error:
            await self._refused(error)
        finally:
            lock.release()
            if not lock.locked:
                self._chunks.pop(number, None)

    async def _store(self, number: int, run: Run | None, confirm: Confirm) -> None:
        first, end = self.grid.first_of(number), self.grid.end_of(number)
        if run is not None and (run.first, run.end) == (first, end):
            if number in self._parts:  # another connection was first
                return
            await self._put_chunk(number, run.segments, run.crc32c, confirm)
            return
        pieces = list(self._pieces[number])
        if run is not None:
            if Coverage.of(pieces).covers(run.first, run.end):
                return
            pieces.append(Piece(run.first, run.end, None, ""))
        takes = plan(pieces, first, end)
        if takes is not None:
            await self._join(number, run, takes, confirm)
        elif run is not None:
            await self._put_fragment(run)

    async def _put_fragment(self, run: Run) -> None:
        tools = self._tools
        if not self.upload.fragmented:
            await tools.ledger.mark_fragmented(self.upload.id)
            self.upload = evolve(self.upload, fragmented=True)
        piece = await tools.fragments.put(self.upload, run.first, run.segments, run.crc32c)
        await self._enter(piece, _confirmed)

    async def _join(self, number: int, run: Run | None, takes: Sequence[Take], confirm: Confirm) -> None:
        """Make the chunk of the run and of fragments, which are read back unless they are still in memory."""
        tools = self._tools
        wanted = [take.piece for take in takes if take.piece.etag]
        missing = [piece for piece in wanted if tools.fragments.kept(self.upload, piece) is None]
        size = max(sum(piece.size for piece in missing), LEAST)
        if missing:
            await tools.reading.take(size)
        segments: list[bytes] = []
        try:
            for found in await together([partial(self._bytes_of, take, run) for take in takes], most=MOST):
                segments += found
            await self._put_chunk(number, segments, checksum(segments), confirm)
        finally:
            segments.clear()
            if missing:
                tools.reading.give(size)

    async def _bytes_of(self, take: Take, run: Run | None) -> list[bytes]:
        piece = take.piece
        if not piece.etag:
            assert run is not None
            found: Sequence[bytes] = run.segments
        else:
            fragments = self._tools.fragments
            found = fragments.kept(self.upload, piece) or await fragments.read(self.upload, piece)
        return cut(found, take.first - piece.first, take.end - piece.first)

    async def _put_chunk(self, number: int, segments: Sequence[bytes], crc32c: int, confirm: Confirm) -> None:
        first, end = self.grid.first_of(number), self.grid.end_of(number)
        # A multipart upload that was opened while nobody knew the length would stay behind if it was not used.
        if first == 0 and end == self.upload.length and self.upload.multipart_id is None:
            await confirm()
            await self._put_whole(segments, crc32c)
            return
        upload = await self._multipart()
        assert upload.multipart_id is not None
        etag = await self._tools.store.upload_part(
            upload.bucket, upload.key, upload.multipart_id, number, segments, crc32c=crc32c
        )
        await self._enter(Piece(first, end, number, etag, crc32c), confirm)

    async def _enter(self, piece: Piece, confirm: Confirm) -> None:
        """Let the ledger have a stored piece. A part strikes its chunk's fragments out; some time later they are deleted."""
        tools = self._tools
        number = self.grid.number_at(piece.first)
        former = [old for old in self._pieces[number] if piece.number is not None and old.number is None]
        parts = len(self._parts | {number})
        complete = piece.number is not None and self.upload.length is not None and parts == self.grid.count
        if complete:
            await confirm()
        now = tools.clock.seconds()
        try:
            ours = await tools.ledger.add_piece(
                self.upload.id, piece, now=now, replaces=former, completing=now + CLAIM if complete else None
            )
        except Ended:
            # What arrives while an upload is being freed may survive that: free once more.
            current = await tools.ledger.get(self.upload.id)
            if current is not None:
                await release(tools.store, tools.fragments, evolve(self.upload, state=current.state))
            raise
        self._count(piece.first, piece.end)
        self._add(piece)
        self.upload = evolve(self.upload, updated=now)
        if complete:
            self.upload = evolve(self.upload, state=State.FINISHING, received=now)
        if ours:
            self._ours = True
            tools.metrics.moved(self.upload.protocol, State.FINISHING)
        if former:
            tools.fragments.forget(self.upload.id, former)
            tools.errands.run(partial(tools.fragments.delete, self.upload, former))

    def _count(self, first: int, end: int) -> None:
        """Count what is acknowledged now, of bytes of one chunk, and was not before."""
        known = Coverage.of(self._pieces[self.grid.number_at(first)])
        self._tools.metrics.durable(end - first - known.overlap(first, end))

    async def _put_whole(self, segments: Sequence[bytes], crc32c: int) -> None:
        """An upload of one chunk: one request, and it is finished."""
        upload = self.upload
        try:
            etag = await self._tools.store.put_object(
                upload.bucket, upload.key, segments, object_options(upload), crc32c=crc32c, overwrite=upload.overwrite
            )
        except StoreError as error:
            if error.code != "PreconditionFailed":
                raise
            # It may be our own, whose answer was lost.
            found = await own_object(self._tools.store, upload)
            if found is None or found.size != upload.length:
                raise
            etag = found.etag
        now = self._tools.clock.seconds()
        moved = await self._tools.ledger.move(
            upload, State.FINISHED, frm=(State.OPEN,), etag=etag, crc32c=crc32c, finished=now, updated=now
        )
        if moved is not None:
            self._count(0, moved.length or 0)
        self.upload = moved or await self._beaten()

    async def _beaten(self) -> Upload:
        """Somebody else ended the upload while its object was being stored."""
        current = await self._tools.ledger.get(self.upload.id)
        if current is not None and current.state is State.FINISHED:
            return current
        await delete_own_object(self._tools.store, self.upload)
        raise Ended("the upload has ended")

    async def _multipart(self) -> Upload:
        """The upload with its multipart upload open; the first of several runs opens it, the others wait."""
        if self.upload.multipart_id is None:
            opened = await self._opening.join(None, self._open_multipart)
            self.upload = opened
        return self.upload

    async def _open_multipart(self) -> Upload:
        upload, store = self.upload, self._tools.store
        opened = await store.init_multipart_upload(upload.bucket, upload.key, object_options(upload))
        current = None
        try:
            current = await self._tools.ledger.set_once(upload, multipart_id=opened)
        finally:
            if current is None or current.multipart_id != opened:
                await store.abort_multipart_upload(upload.bucket, upload.key, opened)
        return current

    async def _refused(self, error: StoreError) -> None:
        """The store said no for good: find out what that means for the upload."""
        upload, tools = self.upload, self._tools
        reasons = {
            "PreconditionFailed": "the key is taken",
            # Cancelled by somebody, or dropped by the store's own rules.
            "NoSuchUpload": "the store has dropped the multipart upload",
            "BadFragment": "the store has given back other bytes than it was given",
        }
        field = client_fault(error.code)
        if field is not None:
            reasons[error.code] = f"the store will never take its {field}: {error.code}"
        if error.code not in reasons:
            tools.faults.refused(upload.bucket, error, upload.id)
            raise Unavailable(f"the store refused: {error.code}") from error
        reason, now = reasons[error.code], tools.clock.seconds()
        if await tools.ledger.move(upload, State.FAILED, frm=(State.OPEN,), reason=reason, updated=now) is not None:
            self._log.error("upload failed id={id}: {reason}", id=upload.id, reason=reason)
        if error.code == "PreconditionFailed":
            raise Exists(f"there is an object {upload.key!r} already") from error
        if field is not None:
            raise Rejected(field, reason) from error
        raise Ended("the upload has ended") from error


async def _confirmed() -> None:
    """Nothing is to be asked: this finishes nothing, or for one who has just been asked about."""
