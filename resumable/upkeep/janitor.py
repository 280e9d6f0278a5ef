"""The janitor: ends uploads that nobody goes on with, and removes orphans from the store.

Orphans are left behind when an answer was lost or a process died at the wrong moment. There are two kinds:

- fragments of uploads that the ledger does not know or is done with;
- multipart uploads under the key of one of our uploads, begun in its lifetime, that are not the one the ledger knows.

So are multipart uploads under the service's own prefix whose upload has ended. Others are not touched, since the bucket
may be shared: in most listings only key and time tell whose one is. Where the store tells the ledger whose it is, that
decides. Where the store does not list them, the ledger's notes of what was to be opened say where to look.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from resumable.clock import now
from resumable.ledger.maintenance import Maintenance
from resumable.ledger.openings import Opening
from resumable.ledger.queue import EventQueue
from resumable.metrics import ORPHANS, Metrics
from resumable.model import Upload, UploadError
from resumable.stores.port import OpenMultipart, Store, StoreError
from resumable.uploads.fragments import LEDGER
from resumable.uploads.service import UploadService

T = TypeVar("T")

#: Uploads, rows and keys looked at in one go.
BATCH = 100
#: Seconds by which the store's clock and ours may differ.
SKEW = 900.0


@frozen
class Removal:
    """Something that was removed, or would be.

    :ivar kind: ``upload`` (an expired one), ``multipart`` or ``fragment`` (orphans), or ``row`` (ended uploads and
        events).
    :ivar what: an upload's id, or a key in a bucket.
    :ivar why: for people.
    :ivar count: how many, for rows.
    """

    kind: str
    what: str
    why: str
    count: int = 1


class _InUse(Exception):
    """Somebody may still need a multipart upload."""


class Janitor:
    """Cleans up.

    :param after: seconds without a byte after which an upload is ended, and the age at which an orphan is removed.
    :param every: seconds between two cleanings, whichever nodes do them.
    :param keep: seconds for which ended uploads and events are remembered.
    :param bucket: the bucket of the settings; others are known from the ledger.
    :param prefix: what fragments' keys begin with.
    :ivar not_cleaned: the buckets that the last cleaning could not look into, and why.
    """

    _log = Logger()

    def __init__(
        self,
        uploads: UploadService,
        maintenance: Maintenance,
        queue: EventQueue,
        store: Store,
        clock: IReactorTime,
        *,
        after: float,
        every: float,
        keep: float,
        bucket: str,
        prefix: str,
        metrics: Metrics | None = None,
    ) -> None:
        self._uploads = uploads
        self._maintenance = maintenance
        self._queue = queue
        self._store = store
        self._clock = clock
        self._after = after
        self._every = every
        self._keep = keep
        self._bucket = bucket
        self._prefix = prefix
        self._metrics = metrics or Metrics()
        self.not_cleaned: dict[str, str] = {}

    async def round(self) -> None:
        """Clean up, unless a node has done so lately."""
        present = now(self._clock)
        # The lease is a little shorter than the interval. Else every second call would find it still held.
        if await self._maintenance.lease("cleaning", now=present, until=present + 0.9 * self._every):
            async for removal in self.clean():
                if removal.kind in ORPHANS:
                    self._metrics.orphan_removed(removal.kind)
                self._log.info(
                    "cleaned up: {kind} {what}: {why}", kind=removal.kind, what=removal.what, why=removal.why
                )

    async def clean(self, *, dry_run: bool = False) -> AsyncIterator[Removal]:
        """End what is stale, remove orphans and old rows, and yield each thing removed.

        :param dry_run: only yield what would be removed; rows are left out.
        """
        old = now(self._clock) - self._after
        self.not_cleaned.clear()
        async for removal in self._stale(old, dry_run):
            yield removal
        lists = self._store.limits.lists_uploads
        for bucket in sorted({self._bucket, *await self._maintenance.buckets()}):
            try:
                async for removal in self._fragments(bucket, old, dry_run):
                    yield removal
                if lists:
                    async for removal in self._multiparts(bucket, old, dry_run):
                        yield removal
            except StoreError as error:
                self._log.warn("bucket {bucket} is not cleaned: {error}", bucket=bucket, error=str(error))
                self.not_cleaned[bucket] = str(error)
        if not lists:
            async for removal in self._openings(old, dry_run):
                yield removal
        if not dry_run:
            async for removal in self._rows():
                yield removal

    async def _stale(self, old: float, dry_run: bool) -> AsyncIterator[Removal]:
        """End open uploads that nobody goes on with; finish those that lack only their finish."""
        after: Upload | None = None
        while batch := await self._maintenance.stale(untouched_since=old, most=BATCH, after=after):
            for upload in batch:
                if await self._lacks_only_its_finish(upload):
                    if not dry_run:
                        await self._finish(upload)
                    continue
                if dry_run or await self._uploads.expire(upload, untouched_since=old):
                    yield Removal("upload", upload.id, f"untouched for {self._age(upload.updated)}")
            after = batch[-1]
        while batch := await self._maintenance.stale_partials(untouched_since=old, most=BATCH):
            for upload in batch:
                if dry_run or await self._uploads.expire(upload, untouched_since=old):
                    yield Removal(
                        "upload", upload.id, f"untouched for {self._age(upload.updated)}, and part of nothing"
                    )
            if dry_run:
                return

    async def _lacks_only_its_finish(self, upload: Upload) -> bool:
        """Say whether an open upload that many connections may write has all its bytes. Asks the ledger alone.

        Its writers may have gone, and none of them knew that the others had sent the rest. An upload whose finish was
        refused is not meant.
        """
        return upload.swarm and not upload.refused and (await self._uploads.report(upload)).complete

    async def _finish(self, upload: Upload) -> None:
        try:
            await self._uploads.finish(upload)
        except UploadError as error:
            self._log.warn("upload {id} is not finished yet: {error}", id=upload.id, error=str(error))

    async def _fragments(self, bucket: str, old: float, dry_run: bool) -> AsyncIterator[Removal]:
        """Remove fragments of uploads that the ledger does not know or is done with."""
        identity = await self._maintenance.identity()
        for batch in _batches(await self._store.list_objects(bucket, self._prefix)):
            owners = {one.key: one.key.removeprefix(self._prefix).partition("/")[0] for one in batch}
            in_use = await self._maintenance.not_done_with(set(owners.values()))
            for one in batch:
                if owners[one.key] in in_use | self._store.limits.folders or (
                    one.modified is not None and one.modified > old
                ):
                    continue
                # Another service may have the same bucket and the same prefix, but not the same ledger.
                found = await self._store.head_object(bucket, one.key)
                if found is None or found.metadata.get(LEDGER) != identity:
                    continue
                # Some stores' listings do not tell it.
                modified = found.modified if one.modified is None else one.modified
                if modified is None or modified > old:
                    continue
                if not dry_run:
                    await self._store.delete_object(bucket, one.key)
                yield Removal("fragment", f"{bucket}/{one.key}", f"of no upload, {self._age(modified)} old")

    async def _multiparts(self, bucket: str, old: float, dry_run: bool) -> AsyncIterator[Removal]:
        """Abort multipart uploads that were begun for one of our uploads, and that it does not use."""
        identity = await self._maintenance.identity()
        for one in await self._store.list_multipart_uploads(bucket):
            if one.initiated <= old and one.ledger in (None, identity) and await self._orphaned(bucket, one):
                yield await self._abort(bucket, one, dry_run)

    async def _orphaned(self, bucket: str, one: OpenMultipart) -> bool:
        """Say whether a multipart upload in a listing is ours, and in use by no upload.

        :param one: the listing does not say that it is another ledger's.
        """
        ours = await self._maintenance.at(bucket, one.key)
        # What is under the service's own prefix is of the upload with this id: the store was to join its fragments, say.
        owner = one.key.removeprefix(self._prefix).partition("/")[0] if one.key.startswith(self._prefix) else None
        if one.ledger is not None:
            # The ledger may have forgotten the upload by now: it is enough that none that it knows is at it.
            in_use = owner is not None and await self._maintenance.not_done_with({owner})
            return not in_use and not any(_needs(upload, one) for upload in ours)
        if ours or owner is None:
            return _orphaned(one, ours)
        # An id that nobody else knows.
        return owner in await self._maintenance.done_with({owner})

    async def _abort(self, bucket: str, one: OpenMultipart, dry_run: bool) -> Removal:
        if not dry_run:
            await self._store.abort_multipart_upload(bucket, one.key, one.multipart_id)
        return Removal("multipart", f"{bucket}/{one.key}", f"of no upload, {self._age(one.initiated)} old")

    async def _openings(self, old: float, dry_run: bool) -> AsyncIterator[Removal]:
        """Abort multipart uploads that were opened, as the ledger's notes say, and that it does not know."""
        openings, after = self._maintenance.openings, None
        while batch := await openings.old(begun_before=old, most=BATCH, after=after):
            for opening in batch:
                try:
                    for one in await self._left_of(opening):
                        yield await self._abort(opening.bucket, one, dry_run)
                except StoreError as error:
                    what = f"{opening.bucket}/{opening.key}"
                    self._log.warn("a multipart upload of {what} may be left: {error}", what=what, error=str(error))
                    continue
                except _InUse:
                    continue
                if not dry_run:
                    await openings.forget([opening.id])
            after = batch[-1]

    async def _left_of(self, opening: Opening) -> list[OpenMultipart]:
        """Return what was opened, and is used by no upload.

        :raises _InUse: somebody may still be at it.
        :raises StoreError: the store would not say it.
        """
        ours = await self._maintenance.at(opening.bucket, opening.key)
        if not ours and await self._maintenance.not_done_with({opening.upload_id}):
            raise _InUse
        if opening.multipart_id is not None:
            found = [OpenMultipart(opening.key, opening.multipart_id, opening.begun)]
        else:
            listed = await self._store.list_multipart_uploads(opening.bucket, opening.key)
            found = [one for one in listed if one.key == opening.key and abs(one.initiated - opening.begun) <= SKEW]
        used = {upload.multipart_id for upload in ours}
        return [one for one in found if one.multipart_id not in used]

    async def _rows(self) -> AsyncIterator[Removal]:
        """Delete the rows of uploads and events that ended long ago."""
        before = now(self._clock) - self._keep
        await self._maintenance.openings.forget_before(before - self._after)
        events = await self._queue.forget(ended_before=before)
        if events:
            yield Removal("row", "events", f"ended more than {_days(self._keep)} ago", events)
        uploads = 0
        while deleted := await self._maintenance.forget(ended_before=before, most=BATCH):
            uploads += deleted
        if uploads:
            yield Removal("row", "uploads", f"ended more than {_days(self._keep)} ago", uploads)

    def _age(self, since: float) -> str:
        return _days(now(self._clock) - since)


def _orphaned(one: OpenMultipart, ours: Sequence[Upload]) -> bool:
    """Say whether a multipart upload was begun for one of the uploads under its key, but is used by none of them."""
    used = any(upload.multipart_id == one.multipart_id for upload in ours)
    begun_for = any(upload.created - SKEW <= one.initiated <= upload.updated + SKEW for upload in ours)
    return begun_for and not used


def _needs(upload: Upload, one: OpenMultipart) -> bool:
    """Say whether the upload's object is still to be made by this multipart upload, or somebody will free it."""
    return not upload.stored and upload.multipart_id is not None and upload.multipart_id.startswith(one.multipart_id)


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, BATCH)):
        yield batch


def _days(seconds: float) -> str:
    return f"{seconds / 86400:.1f} days" if seconds >= 86400 else f"{seconds / 3600:.1f} hours"
