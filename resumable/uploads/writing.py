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
from resumable.uploads.finishing import Finishing
from resumable.uploads.intake import Intake, Tools
from resumable.uploads.policy import Policy
from resumable.uploads.story import tell
from resumable.uploads.stream import ChunkedStream, Run
from resumable.uploads.turns import Confirm, Writer, confirmed


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


class Writing:
    """Knows who writes what here. Other nodes ask it to let go (`resumable.ledger.notices.Writers`)."""

    _log = Logger()

    def __init__(self, tools: Tools, policy: Policy, finishing: Finishing) -> None:
        self._tools = tools
        self._finishing = finishing
        self._policy = policy
        self._intakes: dict[str, Intake] = {}
        #: How many use each intake.
        self._users: dict[str, int] = {}
        tools.notices.speak_for(self)

    @asynccontextmanager
    async def intake(self, upload: Upload, *, new: bool = False, claim: Claim | None = None) -> AsyncIterator[Intake]:
        """The upload's intake, shared with all who write it meanwhile.

        :param new: the upload has just been created: nothing of it is stored.
        :param claim: to its key, if that was entered with it.
        """
        intake = self._intakes.get(upload.id)
        shared = intake is not None
        if intake is None:
            upload, pieces = (upload, []) if new else await self._known(upload)
            fresh = Intake(upload, pieces, self._tools, self._finishing, claim)
            intake = self._intakes.setdefault(upload.id, fresh)
            if intake is not fresh:
                await fresh.close()
        self._users[upload.id] = self._users.get(upload.id, 0) + 1
        try:
            if shared:
                # Another node may have written meanwhile.
                await intake.refresh()
            yield intake
        finally:
            self._users[upload.id] -= 1
            if not self._users[upload.id]:
                del self._users[upload.id], self._intakes[upload.id]
                await intake.close()

    async def _known(self, upload: Upload) -> tuple[Upload, list[Piece]]:
        """The upload and its pieces as the ledger has them now: it may have been begun anew since the caller has read it."""
        found = await self._tools.ledger.whole(upload.id)
        if found is None:
            raise Ended("the upload is gone")
        return found

    async def take_over(self, intake: Intake, span: Span) -> None:
        """End those who write the same bytes, here and on other nodes, once what they hold has been stored.

        A client comes back while its old connection still looks alive. Where many connections write one upload nobody can
        tell that from two who write at once, and nobody has to: what the old one holds is stored when it has been silent
        for a while, and what is stored twice does no harm.
        """
        if intake.upload.swarm:
            return
        await self._end_overlapping(intake, span)
        if await self._tools.notices.take_over(intake.upload, span.first, span.end):
            await intake.refresh()

    async def _end_overlapping(self, intake: Intake, span: Span) -> None:
        former = [stream for stream in intake.streams if stream.overlaps(span.first, span.end)]
        for stream in former:
            stream.end(Superseded("the client has come back on another connection"))
        for stream in former:
            await stream.settle()

    async def pour(self, intake: Intake, body: Body, span: Span, *, max_size: int | None, confirm: Confirm) -> None:
        """Let the body run into a stream, and end it properly whatever happens to the body.

        Errors as `resumable.uploads.desk.Desk.receive`.
        """
        anew = span.first == 0 and not intake.upload.swarm
        writer = Writer(confirm, edition=intake.upload.edition, anew=anew)
        async with self._stream(intake, span, max_size, lambda run: intake.store(run, writer)) as stream:
            try:
                await body.pour_into(stream)
                if span.last and not stream.failed:
                    await self._end_here(stream, intake, writer)
                await stream.drain()
            except Interrupted as interruption:
                await self._keep(stream, intake, str(interruption))
                raise

    async def compare(self, intake: Intake, body: Body, span: Span) -> None:
        """Let the body run into a stream that stores nothing, but compares it with the finished object.

        :raises Conflict: the bytes are others.
        """
        writer = Writer(confirmed, edition=intake.upload.edition)
        async with self._stream(intake, span, None, lambda run: intake.compare(run, writer)) as stream:
            await body.pour_into(stream)
            await stream.drain()

    @asynccontextmanager
    async def _stream(
        self, intake: Intake, span: Span, max_size: int | None, store: Callable[[Run], Awaitable[None]]
    ) -> AsyncIterator[ChunkedStream]:
        most = self._policy.most_bytes(intake.upload, max_size)
        stream = ChunkedStream(
            intake.grid,
            position=span.first,
            stored_to=intake.coverage.end_from(span.first),
            limit=most if span.end is None else min(most, span.end),
            store=store,
            in_flight=self._policy.parts_in_flight,
            budget=self._tools.budget,
            received=self._tools.metrics.received,
        )
        intake.streams.append(stream)
        self._tools.metrics.streams.inc()
        try:
            yield stream
        except TooLarge:
            if span.end is not None and span.end <= most:
                raise Invalid(
                    f"the body is longer than its range, which ends before byte {quote_briefly(span.end)}"
                ) from None
            raise
        finally:
            intake.streams.remove(stream)
            self._tools.metrics.streams.dec()

    async def _keep(self, stream: ChunkedStream, intake: Intake, why: str) -> None:
        """The body broke off: store what came of it."""
        try:
            await stream.drain()
        except UploadError as error:
            self._log.info("upload {id}: what came last is not stored: {error}", id=intake.upload.id, error=str(error))
        tell("interrupted", intake.upload, intake.coverage.offset, now(self._tools.clock), why)

    async def _end_here(self, stream: ChunkedStream, intake: Intake, writer: Writer) -> None:
        """The body's end is the object's end: now the length is known."""
        if intake.upload.length is None:
            intake.upload = await self._tools.ledger.declare(intake.upload, stream.position)
            stream.grid = intake.grid
        if intake.upload.length != stream.position:
            raise Invalid(f"the body ended at byte {stream.position} of {intake.upload.length}")
        if intake.upload.length == 0:
            await intake.store(Run(0, 0, number=1), writer)

    async def checkpoint(self) -> None:
        """Have stored what silent writers hold; called by the clock, every few seconds."""
        for intake in list(self._intakes.values()):
            for stream in list(intake.streams):
                stream.checkpoint()

    async def let_go(self, upload_id: str, first: int, end: int | None) -> bool:
        """See `resumable.ledger.notices.Writers`."""
        self._tools.fragments.forget(upload_id)  # it goes on elsewhere: nobody here would give the memory back
        intake = self._intakes.get(upload_id)
        if intake is None:
            return False
        await self._end_overlapping(intake, Span(first, end))
        return any(not stream.failed for stream in intake.streams)

    def ended(self, upload_id: str, state: State, why: str | None = None) -> None:
        """See `resumable.ledger.notices.Writers`."""
        self._finishing.claims.ended(upload_id)
        intake = self._intakes.get(upload_id)
        for stream in list(intake.streams) if intake is not None else ():
            stream.fail(Ended(why or f"the upload was {state.value}"))
