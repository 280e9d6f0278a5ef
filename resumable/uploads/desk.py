"""The desk: what can be done with uploads, whoever speaks. Protocols call it and know nothing beneath."""

from __future__ import annotations

import secrets
from typing import Protocol

from attrs import frozen
from twisted.internet.interfaces import IConsumer, IReactorTime
from twisted.logger import Logger

from resumable.ledger.ledger import Ledger, Taken
from resumable.model import (
    LIVE,
    Ended,
    Gap,
    Interrupted,
    Invalid,
    NotFound,
    State,
    TooLarge,
    Unavailable,
    Upload,
)
from resumable.stores.store import Store, StoreError
from resumable.uploads.coverage import Coverage
from resumable.uploads.finishing import Finishing
from resumable.uploads.flights import Flights
from resumable.uploads.intake import Intake
from resumable.uploads.policy import Policy, Wish
from resumable.uploads.release import delete_own_object, release
from resumable.uploads.result import Report
from resumable.uploads.stream import ChunkedStream, Run


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


class Desk:
    """Creates, finds, reports, streams into, finishes and cancels uploads."""

    _log = Logger()

    def __init__(self, ledger: Ledger, store: Store, policy: Policy, clock: IReactorTime) -> None:
        self._ledger = ledger
        self._store = store
        self._clock = clock
        self._finishing = Finishing(ledger, store, clock)
        self._finishes: Flights[Upload] = Flights()
        self.policy = policy

    async def create(self, wish: Wish) -> Upload:
        """Enter a new upload. Nothing is asked of the store yet.

        A live upload of the seed's protocol with the same owner and name is cancelled first.

        :raises TooLarge: it is longer than allowed.
        :raises Invalid: no object can have its key.
        """
        upload = self.policy.new_upload(wish, secrets.token_urlsafe(16), self._clock.seconds())
        while True:
            try:
                await self._ledger.create(upload)
                break
            except Taken:
                former = await self._ledger.find(upload.owner, upload.name, upload.protocol)
                if former is not None and former.live:
                    await self.cancel(former)
        self._tell("started", upload, 0)
        return upload

    async def get(self, upload_id: str, owner: str) -> Upload:
        """The upload with this id.

        :raises NotFound: there is none, or it is another owner's.
        """
        upload = await self._ledger.get(upload_id)
        if upload is None or upload.owner != owner:
            raise NotFound("no such upload")
        return upload

    async def find(self, owner: str, name: str, protocol: str) -> Upload:
        """The newest upload of this owner and name that was not given up.

        :raises NotFound: there is none.
        """
        upload = await self._ledger.find(owner, name, protocol)
        if upload is None:
            raise NotFound("no such upload")
        return upload

    async def report(self, upload: Upload) -> Report:
        """How far the upload is. Asks the ledger alone, and disturbs nobody who is writing."""
        if upload.state is State.FINISHED:
            return Report(upload, Coverage.whole(upload.length or 0))
        return Report(upload, Coverage.of(await self._ledger.pieces(upload.id)))

    async def declare(self, report: Report, length: int, *, max_size: int | None = None) -> Report:
        """The client says how long the object is; where nobody has said before, it becomes the upload's length.

        :raises Invalid: the upload has another length, or bytes beyond this one.
        :raises TooLarge: that is more than is allowed, or than the upload's grid holds.
        :raises Ended: the upload has ended.
        """
        upload = report.upload
        if upload.length is None and upload.live:
            if length > self.policy.most_bytes(upload, max_size):
                raise TooLarge(f"{length} bytes are more than this upload may have")
            if report.coverage.ranges and report.coverage.ranges[-1][1] > length:
                raise Invalid(f"more than {length} bytes are stored already")
            upload = await self._ledger.set_once(upload, length=length)
        if upload.length != length:
            raise Invalid(f"the upload has {upload.length} bytes, not {length}")
        return Report(upload, report.coverage)

    async def settle(self, report: Report) -> Report:
        """Finish the upload if its bytes are all there but its object is not yet made; else all stays as it is."""
        if report.complete and report.upload.live:
            return await self._finish(report.upload)
        return report

    async def receive(self, report: Report, body: Body, span: Span, *, max_size: int | None = None) -> Report:
        """Stream `body` into the upload; bytes that are stored already are skipped. A complete upload is finished.

        :param report: the upload as it was found, see `report`; a new one has nothing stored.
        :raises Gap: the body begins past what is stored; nothing of it is taken.
        :raises Ended: the upload has ended, or was cancelled while the body came.
        :raises Invalid: the body is not what its span says.
        :raises TooLarge: the body is longer than allowed.
        :raises Interrupted: the body broke off; what the store has confirmed of it is kept.
        :raises Unavailable: the store or the ledger was in trouble for too long; what was confirmed is kept.
        """
        upload = report.upload
        if not upload.live:
            raise Ended("the upload has ended")
        if span.first > report.offset:
            raise Gap(f"byte {report.offset} comes next, not {span.first}", report.offset)
        intake = Intake(upload, self._ledger, self._store, self._clock)
        most = self.policy.most_bytes(upload, max_size)
        stream = ChunkedStream(
            intake.grid,
            position=span.first,
            skip_to=report.offset,
            limit=most if span.end is None else min(most, span.end),
            store=intake.store,
            in_flight=self.policy.parts_in_flight,
        )
        if report.offset:
            self._tell("resumed", upload, report.offset)
        try:
            await self._pour(body, stream, intake, span)
        except TooLarge:
            if span.end is not None and span.end <= most:
                raise Invalid(f"the body is longer than its range, which ends before byte {span.end}") from None
            raise
        if intake.upload.state is State.FINISHED:
            report = Report(intake.upload, Coverage.whole(intake.upload.length or 0))
            self._tell("finished", intake.upload, report.offset)
            return report
        return await self.settle(await self.report(intake.upload))

    async def _pour(self, body: Body, stream: ChunkedStream, intake: Intake, span: Span) -> None:
        """Let the body run into the stream, and end it properly whatever happens to the body."""
        try:
            await body.pour_into(stream)
        except Interrupted:
            await stream.drain()
            report = await self.report(intake.upload)
            self._tell("interrupted", intake.upload, report.offset)
            raise
        if span.last and not stream.failed:
            await self._end_here(stream, intake)
        await stream.drain()

    async def _end_here(self, stream: ChunkedStream, intake: Intake) -> None:
        """The body's end is the object's end: now the length is known."""
        upload = intake.upload
        if upload.length is None:
            upload = intake.upload = await self._ledger.set_once(upload, length=stream.position)
        if upload.length != stream.position:
            raise Invalid(f"the body ended at byte {stream.position} of {upload.length}")
        if upload.length == 0:
            await intake.store(Run(1, 0, 0))

    async def _finish(self, upload: Upload) -> Report:
        finished = await self._finishes.join(upload.id, lambda: self._finishing.finish(upload))
        self._tell("finished", finished, finished.length or 0)
        return Report(finished, Coverage.whole(finished.length or 0))

    async def cancel(self, upload: Upload) -> None:
        """End the upload and free what is stored of it. One that has ended already stays as it is.

        :raises Unavailable: the store was in trouble; the upload has ended all the same.
        """
        now = self._clock.seconds()
        cancelled = await self._ledger.move(upload, State.CANCELLED, frm=LIVE, updated=now)
        if cancelled is None:
            return
        self._tell("cancelled", upload, 0)
        # The row may have got its multipart upload since it was read.
        current = await self._ledger.get(upload.id) or cancelled
        try:
            await release(self._store, current)
            if upload.state is State.FINISHING:
                await delete_own_object(self._store, current)
        except StoreError as error:
            self._log.warn("could not free upload {id}: {error}", id=upload.id, error=str(error))
            raise Unavailable("the upload is cancelled, but the store has not freed it yet") from error

    def _tell(self, what: str, upload: Upload, size: int) -> None:
        """The one line in the log for each thing that happens to an upload. Names are quoted: they are the client's."""
        self._log.info(
            "upload {what} id={id} owner={owner!r} name={name!r} bytes={bytes} seconds={seconds:.3f}",
            what=what,
            id=upload.id,
            owner=upload.owner,
            name=upload.name,
            bytes=size,
            seconds=self._clock.seconds() - upload.created,
        )
