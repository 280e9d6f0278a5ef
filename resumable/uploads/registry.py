"""Writing: the uploads that are written in this process, and the streams into them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Protocol

from attrs import frozen
from twisted.internet.interfaces import IConsumer
from twisted.logger import Logger

from resumable.clock import now
from resumable.model import (
    Ended,
    Interrupted,
    Invalid,
    PastEnd,
    Piece,
    State,
    Superseded,
    TakenOver,
    TooLarge,
    Upload,
    UploadError,
)
from resumable.quoting import quote_briefly
from resumable.uploads.claims import Claim
from resumable.uploads.completer import Completer
from resumable.uploads.dependencies import Dependencies
from resumable.uploads.digest import BodyDigest
from resumable.uploads.held import HeldBack
from resumable.uploads.log import log_upload
from resumable.uploads.policy import Policy
from resumable.uploads.sender import Revalidate, Sender, nothing_to_ask
from resumable.uploads.stream import ChunkBuffer, ChunkedStream, HeldStream
from resumable.uploads.writer import UploadWriter

#: How many uploads are remembered whose clients go on without a break. Of others a line too many is logged.
MOST_UNBROKEN = 10_000
#: Seconds that a look at an upload waits, at the most, for bytes of a body that has ended.
LOOK_PATIENCE = 1.0


class Body(Protocol):
    """Where the bytes come from: a request."""

    async def pour_into(self, consumer: IConsumer) -> None:
        """Give everything to `consumer`; returns at the body's end.

        :raises Interrupted: the body broke off, after all that arrived was given.
        """


@frozen
class Span:
    """The bytes a body says it brings: ``[first, end)``; ``end`` is None for as long as it lasts.

    ``last`` says that the object ends where the body ends.
    """

    first: int = 0
    end: int | None = None
    last: bool = False


@frozen
class Incoming:
    """A body that is about to be written into an upload, or is being."""

    writer: UploadWriter
    span: Span
    sender: Sender
    stream: ChunkedStream


class WriterRegistry:
    """Knows who writes what here. Other nodes ask it to let go (`resumable.ledger.notifier.Writers`)."""

    _log = Logger()

    def __init__(self, deps: Dependencies, policy: Policy, completer: Completer) -> None:
        self._deps = deps
        self._completer = completer
        self._policy = policy
        self._writers: dict[str, UploadWriter] = {}
        #: Chunks that are being joined, or wait for that: their uploads' ids, and their numbers.
        self._joins: set[tuple[str, int]] = set()
        #: Bodies that are being written.
        self.streams = 0
        #: How many use each writer.
        self._users: dict[str, int] = {}
        #: Uploads whose last body ended here as it should, with more to come. The oldest first.
        self._unbroken: dict[str, None] = {}
        deps.peers.speak_for(self)

    @asynccontextmanager
    async def writer(
        self, upload: Upload, *, new: bool = False, claim: Claim | None = None
    ) -> AsyncIterator[UploadWriter]:
        """Give the upload's writer, shared with all who write it meanwhile.

        :param new: the upload has just been created: nothing of it is stored.
        :param claim: to its key, if that was entered with it.
        """
        writer = self._writers.get(upload.id)
        shared = writer is not None
        if writer is None:
            upload, pieces = (upload, []) if new else await self._known(upload)
            fresh = UploadWriter(upload, pieces, self._deps, self._completer, claim)
            writer = self._writers.setdefault(upload.id, fresh)
            if writer is not fresh:
                await fresh.close()
        self._users[upload.id] = self._users.get(upload.id, 0) + 1
        try:
            if shared:
                # Another node may have written meanwhile.
                await writer.refresh()
            yield writer
        finally:
            self._users[upload.id] -= 1
            if not self._users[upload.id]:
                del self._users[upload.id], self._writers[upload.id]
                await writer.close()

    async def _known(self, upload: Upload) -> tuple[Upload, list[Piece]]:
        """Return the upload and its pieces as the ledger has them now: the caller's may be old."""
        found = await self._deps.ledger.whole(upload.id)
        if found is None:
            raise Ended("the upload is gone")
        return found

    async def take_over(self, writer: UploadWriter, span: Span) -> bool:
        """End those who write the same bytes, here and on other nodes, once what they hold has been stored.

        A client comes back while its old connection still looks alive. Where many connections write one upload nobody can
        tell that from two who write at once, and nobody has to: what the old one holds is stored when it has been silent
        for a while, and what is stored twice does no harm.

        :return: whether there are other nodes that may have written.
        """
        if writer.upload.swarm:
            return False
        await self._end_overlapping(writer, span)
        told = await self._deps.peers.take_over(writer.upload, span.first, span.end)
        if told:
            await writer.refresh()
        return told

    async def _end_overlapping(self, writer: UploadWriter, span: Span) -> None:
        former = [stream for stream in writer.streams if stream.overlaps(span.first, span.end)]
        await self._end(former, TakenOver, "the client has come back on another connection")

    async def end_held(self, writer: UploadWriter) -> None:
        """End the bodies that have a digest, here: they cannot be vouched for where many connections write the upload."""
        held = [stream for stream in writer.streams if isinstance(stream, HeldStream)]
        await self._end(held, Superseded, "many connections write the upload by now")

    async def _end(self, streams: Sequence[ChunkedStream], error: type[Superseded], why: str) -> None:
        for stream in streams:
            stream.end(error(why))
        for stream in streams:
            await stream.settle()

    @asynccontextmanager
    async def incoming(
        self,
        writer: UploadWriter,
        span: Span,
        *,
        max_size: int | None,
        revalidate: Revalidate,
        digest: BodyDigest | None = None,
        committed: Callable[[], None] = lambda: None,
    ) -> AsyncIterator[Incoming]:
        """Open a stream for a body. From here on, whoever writes the same bytes ends it.

        Parameters as of `resumable.uploads.service.UploadService.receive`.

        :param committed: called when more of the body has come to be acknowledged.
        """
        # Nothing of a body whose digest is not verified yet may take the place of what is stored.
        anew = span.first == 0 and not writer.upload.swarm and digest is None
        held = None if digest is None else HeldBack()
        sender = Sender(revalidate, edition=writer.upload.edition, anew=anew, held=held, committed=committed)
        if not anew:
            # Of chunks whose last join has failed, or whose process has died.
            self._join_all(writer, revalidate)
        store = partial(self._store, writer, sender)
        async with self._stream(writer, span, max_size, store, digest) as stream:
            yield Incoming(writer, span, sender, stream)

    async def _store(self, writer: UploadWriter, sender: Sender, buffer: ChunkBuffer) -> None:
        """Store a run. What the store has to join because of it is joined in the background: nobody waits for that."""
        await writer.store(buffer, sender)
        if writer.joinable(buffer.number):
            self._begin_join(writer.upload, buffer.number, sender.revalidate)

    def _join_all(self, writer: UploadWriter, revalidate: Revalidate) -> None:
        """Begin the joins that can begin."""
        for number in list(writer.state.pieces) if writer.upload.cell else ():
            if writer.joinable(number):
                self._begin_join(writer.upload, number, revalidate)

    def _begin_join(self, upload: Upload, number: int, revalidate: Revalidate) -> None:
        if (upload.id, number) not in self._joins:
            self._joins.add((upload.id, number))
            self._deps.joins.run(partial(self._join, upload, number, revalidate))

    async def _join(self, upload: Upload, number: int, revalidate: Revalidate) -> None:
        try:
            # As the writer's user: whoever writes the upload meanwhile shares it.
            async with self.writer(upload) as writer:
                await writer.join(number, revalidate)
        except UploadError as error:
            self._log.info(
                "chunk {number} of upload {id} is not joined yet: {error}",
                number=number,
                id=upload.id,
                error=str(error),
            )
        finally:
            self._joins.discard((upload.id, number))

    async def pour(self, incoming: Incoming, body: Body) -> None:
        """Let the body run into its stream, and end it properly whatever happens to the body.

        Errors as `resumable.uploads.service.UploadService.receive`.
        """
        writer, stream = incoming.writer, incoming.stream
        try:
            if isinstance(stream, HeldStream):
                await self._pour_held(incoming, stream, body)
            else:
                await body.pour_into(stream)
            if incoming.span.last and not stream.failed:
                await self._end_here(stream, writer, incoming.sender)
            await stream.drain()
            if not writer.state.whole:
                self._unbroken[writer.upload.id] = None
                if len(self._unbroken) > MOST_UNBROKEN:
                    del self._unbroken[next(iter(self._unbroken))]
        except Interrupted as interruption:
            await self._keep(stream, writer, str(interruption))
            raise

    def goes_on(self, upload_id: str) -> bool:
        """Say whether the upload's last body ended here as it should. Whoever asks begins the next."""
        if upload_id not in self._unbroken:
            return False
        del self._unbroken[upload_id]
        return True

    async def _pour_held(self, incoming: Incoming, stream: HeldStream, body: Body) -> None:
        """Let the body run into its stream, and let its bytes count if they are what its digest says."""
        writer, sender = incoming.writer, incoming.sender
        try:
            await body.pour_into(stream)
            await stream.verify(partial(writer.accept, sender))
            self._join_all(writer, sender.revalidate)
        except Exception as error:
            stream.fail(error)
        finally:
            # Before the stream is drained: what would make the object waits for it.
            if sender.holding is not None:
                writer.reject(sender, stream.failure or Interrupted("the body was given up"))

    async def compare(self, writer: UploadWriter, body: Body, span: Span, digest: BodyDigest | None = None) -> None:
        """Let the body run into a stream that stores nothing, but compares it with the finished object.

        :raises Conflict: the bytes are others.
        """
        sender = Sender(nothing_to_ask, edition=writer.upload.edition)
        async with self._stream(writer, span, None, partial(writer.compare, sender=sender), digest) as stream:
            await body.pour_into(stream)
            await stream.drain()
            if span.last and stream.position != writer.upload.length:
                raise Invalid(f"the body ended at byte {stream.position} of {writer.upload.length}")
            if digest is not None:
                await digest.verify()

    @asynccontextmanager
    async def _stream(
        self,
        writer: UploadWriter,
        span: Span,
        max_size: int | None,
        store: Callable[[ChunkBuffer], Awaitable[None]],
        digest: BodyDigest | None,
    ) -> AsyncIterator[ChunkedStream]:
        most = self._policy.most_bytes(writer.upload, max_size)
        kind = ChunkedStream if digest is None else partial(HeldStream, digest=digest)
        stream = kind(
            writer.grid,
            position=span.first,
            stored_to=writer.state.coverage.end_from(span.first),
            limit=most if span.end is None else min(most, span.end),
            store=store,
            in_flight=self._policy.parts_in_flight,
            budget=self._deps.budget,
            received=self._deps.metrics.received,
        )
        writer.streams.append(stream)
        self.streams += 1
        self._deps.metrics.streams.inc()
        try:
            yield stream
        except BaseException as error:
            # What it still holds of a chunk leaves memory, whatever has happened.
            stream.fail(error if isinstance(error, Exception) else Interrupted("the body was given up"))
            if not isinstance(error, TooLarge):
                raise
            if span.end is not None and span.end <= most:
                raise PastEnd(
                    f"the body is longer than its range, which ends before byte {quote_briefly(span.end)}"
                ) from None
            raise
        finally:
            writer.streams.remove(stream)
            self.streams -= 1
            self._deps.metrics.streams.dec()

    async def _keep(self, stream: ChunkedStream, writer: UploadWriter, why: str) -> None:
        """Store what came of a body that broke off."""
        try:
            await stream.drain()
        except UploadError as error:
            self._log.info("upload {id}: what came last is not stored: {error}", id=writer.upload.id, error=str(error))
        log_upload("interrupted", writer.upload, writer.state.coverage.offset, now(self._deps.clock), why)

    async def _end_here(self, stream: ChunkedStream, writer: UploadWriter, sender: Sender) -> None:
        """End the upload where the body ends: now its length is known."""
        if writer.upload.length is None:
            writer.state.became(await self._deps.ledger.declare(writer.upload, stream.position))
            stream.grid = writer.grid
        if writer.upload.length != stream.position:
            raise Invalid(f"the body ended at byte {stream.position} of {writer.upload.length}")
        if writer.upload.length == 0:
            await writer.store(ChunkBuffer(0, 0, number=1), sender)

    async def checkpoint(self) -> None:
        """Have stored what silent writers hold; called by the clock, every few seconds."""
        for writer in list(self._writers.values()):
            for stream in list(writer.streams):
                stream.checkpoint()

    async def let_go(self, upload_id: str, first: int, end: int | None) -> bool:
        """See `resumable.ledger.notifier.Writers`."""
        self._deps.fragments.forget(upload_id)  # it goes on elsewhere: nobody here would give the memory back
        writer = self._writers.get(upload_id)
        if writer is None:
            return False
        await self._end_overlapping(writer, Span(first, end))
        return any(not stream.failed for stream in writer.streams)

    async def wait_for_ended(self, upload_id: str) -> bool:
        """Wait a moment for what is still being stored of bodies that have ended here.

        A client that comes back at once asks how far the upload is while the last bytes of its old connection are on their way
        to the store. If the answer did not count them, it would send from there, and hear only then that they are stored.

        :return: whether there was anything to wait for: what the caller knows of the upload is old then.
        """
        writer = self._writers.get(upload_id)
        draining = [] if writer is None else [stream for stream in writer.streams if stream.draining]
        clock, until = self._deps.clock, self._deps.clock.seconds() + LOOK_PATIENCE
        for stream in draining:
            await stream.settle_within(max(0.0, until - clock.seconds()), clock)
        return bool(draining)

    def expecting(self, upload: Upload) -> None:
        """Tell whoever writes the upload here what its whole object's digests have to be."""
        writer = self._writers.get(upload.id)
        if writer is not None:
            writer.state.change(expected_crc32c=upload.expected_crc32c, remembered=upload.remembered)

    def ended(self, upload_id: str, state: State, why: str | None = None) -> None:
        """See `resumable.ledger.notifier.Writers`."""
        self._completer.claims.ended(upload_id)
        writer = self._writers.get(upload_id)
        if writer is None:
            return
        writer.ended = True
        for stream in list(writer.streams):
            stream.fail(Ended(why or f"the upload was {state.value}"))
