"""Writing: the uploads that are written in this process, and the streams into them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from attrs import frozen
from twisted.internet.interfaces import IConsumer
from twisted.logger import Logger

from resumable.clock import now
from resumable.model import Ended, Interrupted, Invalid, Piece, State, Superseded, TooLarge, Upload, UploadError
from resumable.quoting import quote_briefly
from resumable.uploads.claims import Claim
from resumable.uploads.completer import Completer
from resumable.uploads.log import log_upload
from resumable.uploads.policy import Policy
from resumable.uploads.sender import Confirm, Sender, confirmed
from resumable.uploads.stream import ChunkBuffer, ChunkedStream
from resumable.uploads.writer import Dependencies, UploadWriter


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


class WriterRegistry:
    """Knows who writes what here. Other nodes ask it to let go (`resumable.ledger.notifier.Writers`)."""

    _log = Logger()

    def __init__(self, deps: Dependencies, policy: Policy, completer: Completer) -> None:
        self._deps = deps
        self._completer = completer
        self._policy = policy
        self._writers: dict[str, UploadWriter] = {}
        #: How many use each intake.
        self._users: dict[str, int] = {}
        deps.peers.speak_for(self)

    @asynccontextmanager
    async def writer(
        self, upload: Upload, *, new: bool = False, claim: Claim | None = None
    ) -> AsyncIterator[UploadWriter]:
        """The upload's intake, shared with all who write it meanwhile.

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
        """The upload and its pieces as the ledger has them now: it may have been begun anew since the caller has read it."""
        found = await self._deps.ledger.whole(upload.id)
        if found is None:
            raise Ended("the upload is gone")
        return found

    async def take_over(self, writer: UploadWriter, span: Span) -> None:
        """End those who write the same bytes, here and on other nodes, once what they hold has been stored.

        A client comes back while its old connection still looks alive. Where many connections write one upload nobody can
        tell that from two who write at once, and nobody has to: what the old one holds is stored when it has been silent
        for a while, and what is stored twice does no harm.
        """
        if writer.upload.swarm:
            return
        await self._end_overlapping(writer, span)
        if await self._deps.peers.take_over(writer.upload, span.first, span.end):
            await writer.refresh()

    async def _end_overlapping(self, writer: UploadWriter, span: Span) -> None:
        former = [stream for stream in writer.streams if stream.overlaps(span.first, span.end)]
        for stream in former:
            stream.end(Superseded("the client has come back on another connection"))
        for stream in former:
            await stream.settle()

    async def pour(
        self, writer: UploadWriter, body: Body, span: Span, *, max_size: int | None, confirm: Confirm
    ) -> None:
        """Let the body run into a stream, and end it properly whatever happens to the body.

        Errors as `resumable.uploads.service.UploadService.receive`.
        """
        anew = span.first == 0 and not writer.upload.swarm
        sender = Sender(confirm, edition=writer.upload.edition, anew=anew)
        async with self._stream(writer, span, max_size, lambda buffer: writer.store(buffer, sender)) as stream:
            try:
                await body.pour_into(stream)
                if span.last and not stream.failed:
                    await self._end_here(stream, writer, sender)
                await stream.drain()
            except Interrupted as interruption:
                await self._keep(stream, writer, str(interruption))
                raise

    async def compare(self, writer: UploadWriter, body: Body, span: Span) -> None:
        """Let the body run into a stream that stores nothing, but compares it with the finished object.

        :raises Conflict: the bytes are others.
        """
        sender = Sender(confirmed, edition=writer.upload.edition)
        async with self._stream(writer, span, None, lambda buffer: writer.compare(buffer, sender)) as stream:
            await body.pour_into(stream)
            await stream.drain()

    @asynccontextmanager
    async def _stream(
        self, writer: UploadWriter, span: Span, max_size: int | None, store: Callable[[ChunkBuffer], Awaitable[None]]
    ) -> AsyncIterator[ChunkedStream]:
        most = self._policy.most_bytes(writer.upload, max_size)
        stream = ChunkedStream(
            writer.grid,
            position=span.first,
            stored_to=writer.coverage.end_from(span.first),
            limit=most if span.end is None else min(most, span.end),
            store=store,
            in_flight=self._policy.parts_in_flight,
            budget=self._deps.budget,
            received=self._deps.metrics.received,
        )
        writer.streams.append(stream)
        self._deps.metrics.streams.inc()
        try:
            yield stream
        except TooLarge:
            if span.end is not None and span.end <= most:
                raise Invalid(
                    f"the body is longer than its range, which ends before byte {quote_briefly(span.end)}"
                ) from None
            raise
        finally:
            writer.streams.remove(stream)
            self._deps.metrics.streams.dec()

    async def _keep(self, stream: ChunkedStream, writer: UploadWriter, why: str) -> None:
        """The body broke off: store what came of it."""
        try:
            await stream.drain()
        except UploadError as error:
            self._log.info("upload {id}: what came last is not stored: {error}", id=writer.upload.id, error=str(error))
        log_upload("interrupted", writer.upload, writer.coverage.offset, now(self._deps.clock), why)

    async def _end_here(self, stream: ChunkedStream, writer: UploadWriter, sender: Sender) -> None:
        """The body's end is the object's end: now the length is known."""
        if writer.upload.length is None:
            writer.upload = await self._deps.ledger.declare(writer.upload, stream.position)
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

    def ended(self, upload_id: str, state: State, why: str | None = None) -> None:
        """See `resumable.ledger.notifier.Writers`."""
        self._completer.claims.ended(upload_id)
        writer = self._writers.get(upload_id)
        for stream in list(writer.streams) if writer is not None else ():
            stream.fail(Ended(why or f"the upload was {state.value}"))
