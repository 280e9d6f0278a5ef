"""Completion recovery: finishes uploads whose client has gone, and frees what ended uploads left in the store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from resumable.backoff import Backoff
from resumable.clock import Moments, now
from resumable.ledger.maintenance import Maintenance
from resumable.model import Unavailable, Upload, UploadError
from resumable.uploads.service import UploadService
from resumable.uploads.trouble import of_an_outage

#: Seconds that an upload has to be untouched before it is taken up.
IDLE = 10.0
#: The pauses between tries.
PAUSES = Backoff(10.0, 3600.0, jitter=(0.75, 1.0))
#: Uploads taken up at a time.
BATCH = 8
#: Seconds that an upload which is made of others has to be untouched: copying a part of it may take as long.
COPYING = 120.0


class CompletionRecovery:
    """Takes up uploads that were not finished, or not freed, by whoever had begun to.

    :param give_up_after: seconds for which a Complete that the store refuses is tried again.
    """

    _log = Logger()

    def __init__(
        self, uploads: UploadService, maintenance: Maintenance, clock: IReactorTime, *, give_up_after: float
    ) -> None:
        self._uploads = uploads
        self._maintenance = maintenance
        self._clock = clock
        self._give_up_after = give_up_after
        #: When an upload taken up here is due again, by its id and the number of its tries.
        self._moments: Moments[tuple[str, int]] = Moments(clock)

    async def round(self, *, idle: float = IDLE) -> None:
        """Finish, and free, uploads that nobody has touched for `idle` seconds."""
        moved = self._moments.after_a_step()
        if moved is not None:
            await self._maintenance.redate(moved)
            self._moments.settled()
        await self._all(self._maintenance.take_finishing, idle, self._finish)
        await self._all(self._maintenance.take_unfreed, idle, self._free)
        await self._all(self._maintenance.take_concatenations, COPYING if idle > 0 else idle, self._concatenate)

    async def _all(
        self,
        take: Callable[..., Awaitable[list[Upload]]],
        idle: float,
        work: Callable[[Upload], Awaitable[None]],
    ) -> None:
        while batch := await take(now=now(self._clock), idle=idle, pause=PAUSES.pause, most=BATCH):
            for upload in batch:
                if upload.due is not None:
                    self._moments.enter((upload.id, upload.tries), upload.due)
            doing = [Deferred.fromCoroutine(_awaited(work(upload))) for upload in batch]
            for succeeded, failure in await DeferredList(doing, consumeErrors=True):
                if not succeeded:
                    self._log.failure("upkeep of an upload failed", failure=failure)

    async def _concatenate(self, upload: Upload) -> None:
        # It may take long, and the others are not to wait for it.
        self._uploads.concatenations.begin(upload)

    async def _free(self, upload: Upload) -> None:
        try:
            await self._uploads.tidy_up(upload)
        except UploadError as error:
            tell = self._log.info if of_an_outage(error) else self._log.warn
            tell("upload {id} is not freed yet: {error}", id=upload.id, error=str(error))

    async def _finish(self, upload: Upload) -> None:
        try:
            await self._uploads.finish(upload)
        except Unavailable as error:
            since = upload.updated if upload.received is None else upload.received
            if now(self._clock) - since > self._give_up_after:
                await self._uploads.give_up(upload, f"could not be completed for too long: {error}")
            else:
                tell = self._log.info if of_an_outage(error) else self._log.warn
                tell("upload {id} is not finished yet: {error}", id=upload.id, error=str(error))
        except UploadError as error:
            self._log.warn("upload {id} cannot be finished: {error}", id=upload.id, error=str(error))


async def _awaited(work: Awaitable[None]) -> None:
    await work
