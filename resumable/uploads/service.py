"""Uploads: what can be done with uploads, whoever speaks. Protocols call it and know nothing beneath."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from attrs import evolve
from twisted.logger import Logger, LogLevel

from resumable.clock import now
from resumable.ledger.ledger import Taken
from resumable.model import (
    LIVE,
    READ_BACK,
    Conflict,
    DigestMismatch,
    Ended,
    Exists,
    Gap,
    Interrupted,
    Invalid,
    NotAsExpected,
    NotFound,
    OffsetMismatch,
    Piece,
    State,
    Superseded,
    TooLarge,
    Unavailable,
    Upload,
    UploadError,
)
from resumable.quoting import quote_briefly
from resumable.single_flight import SingleFlight
from resumable.stores.port import StoreError
from resumable.uploads import values
from resumable.uploads.acknowledged import telling
from resumable.uploads.claims import new_claim
from resumable.uploads.completer import Completer
from resumable.uploads.concatenations import Concatenations
from resumable.uploads.dependencies import Dependencies
from resumable.uploads.digest import BodyDigest, ExpectedDigests, joined
from resumable.uploads.events import ProgressObserver
from resumable.uploads.expected import (
    body_digest,
    check_made,
    encode,
    is_remembered,
    is_whole,
    unchecked,
)
from resumable.uploads.freeing import Freeing
from resumable.uploads.log import log_upload
from resumable.uploads.policy import CreateOverrides, CreateRequest, Policy
from resumable.uploads.registry import Body, Span, WriterRegistry
from resumable.uploads.result import Report
from resumable.uploads.sender import Revalidate, nothing_to_ask
from resumable.uploads.stored_body import StoredBody
from resumable.uploads.trouble import in_trouble
from resumable.uploads.writer import UploadWriter

#: Asks the main application about an upload that is about to be created. May raise what its client is to be told.
Admit = Callable[[Upload], Awaitable[CreateOverrides]]


class UploadService:
    """Creates, finds, reports, streams into, finishes and cancels uploads.

    :ivar writing: who writes what in this process.
    :ivar concatenations: uploads that are made of others.
    :ivar faults: what the store refuses for the operator to mend.
    """

    _log = Logger()

    def __init__(
        self, deps: Dependencies, policy: Policy, admit: Admit | None = None, progress: ProgressObserver | None = None
    ) -> None:
        """
        :param admit: is asked about each upload that is about to be created.
        :param progress: hears how uploads get on. None: that costs nothing.
        """
        self.policy = policy
        self._admit = admit
        self._progress = progress
        self._deps = deps
        self._ledger = deps.ledger
        self._store = deps.store
        self._fragments = deps.fragments
        self._freeing = Freeing(deps.ledger, deps.store, deps.fragments, deps.background)
        self._clock = deps.clock
        self._completer = Completer(deps.ledger, deps.store, deps.clock, deps.faults, deps.read_back)
        self._finishes: SingleFlight[Report] = SingleFlight()
        self.writing = WriterRegistry(deps, policy, self._completer)
        self.concatenations = Concatenations(
            deps,
            policy,
            self._completer,
            create=self.create,
            receive=self._receive_stored,
            finish=self.finish,
            free=self.free,
        )
        self._peers = deps.peers
        self.faults = deps.faults

    async def create(self, wanted: CreateRequest, *, whole: bool = False) -> Upload:
        """Enter a new upload. Nothing is asked of the store yet.

        A live upload of the protocol `put` with the same owner and name is cancelled first. Errors as `join`.
        """
        upload, _ = await self.join(wanted, whole=whole)
        return upload

    async def join(self, wanted: CreateRequest, *, whole: bool = False) -> tuple[Upload, bool]:
        """Enter a new upload, as `create`; where many connections write it and each may be the first, the others find that one.

        :param whole: all of it is going to be received at once.
        :return: the upload, and whether it is new.
        :raises TooLarge: it is longer than allowed.
        :raises Rejected: no object can have its key, or one of its other values.
        :raises KeyTaken: another owner's upload stands under its key.
        :raises UploadError: the main application does not want it, or cannot be asked.
        """
        upload, chosen = await self._new_upload(wanted)
        if whole and not upload.swarm and upload.length is not None and upload.length <= upload.chunk_size:
            # One request will make its object, soon: the claim to its key comes with the row, and costs nothing more.
            upload = evolve(upload, claim=new_claim())
        while True:
            begun = self._clock.seconds()
            try:
                upload = await self._ledger.create(upload, chosen=chosen)
                break
            except Taken:
                former = await self._ledger.find(upload.owner, upload.name, upload.protocol)
                if former is not None and former.live:
                    if upload.swarm and former.swarm and former.length == upload.length:
                        return former, False
                    await self.cancel(former)
        self._completer.claims.of(upload, begun)
        self._tell("started", upload, 0)
        return upload, True

    async def _new_upload(self, wanted: CreateRequest) -> tuple[Upload, bool]:
        """Return the upload that client and main application want, and whether the latter has chosen its key."""
        writing = self.writing.streams
        upload = self.policy.new_upload(wanted, secrets.token_urlsafe(16), now(self._clock), writing=writing)
        if self._admit is not None:
            wanted = (await self._admit(upload)).of(wanted)
            upload = self.policy.new_upload(wanted, upload.id, now(self._clock), writing=writing)
        if wanted.partial:
            upload = self._fragments.as_partial(upload)
        return evolve(upload, writers=self._peers.writers), wanted.key is not None

    async def open_to_many(self, upload: Upload) -> Upload:
        """Let many connections write the upload at once, in any order. Return it.

        A body with a digest that is being received is ended first: nothing of it counts.

        :raises Invalid: its length is not known.
        """
        if upload.swarm or not upload.live:
            return upload
        if upload.length is None:
            raise Invalid("the length of an upload that many connections write has to be known")
        async with self.writing.writer(upload) as writer, writer.entrance:
            await self.writing.end_held(writer)
            await self._ledger.open_to_many(upload.id)
            writer.state.change(swarm=True)
        return evolve(upload, swarm=True)

    async def get(self, upload_id: str, owner: str) -> Upload:
        """Return the upload with this id.

        :raises NotFound: there is none, or it is another owner's.
        """
        # What is no id is not asked for: no database takes every text.
        upload = await self._ledger.get(upload_id) if values.is_text(upload_id) else None
        if upload is None or upload.owner != owner:
            raise NotFound("no such upload")
        return upload

    async def find(self, owner: str, name: str, protocol: str) -> Upload:
        """Return the newest upload of this owner and name that was not given up.

        :raises NotFound: there is none.
        """
        upload = await self._ledger.find(owner, name, protocol)
        if upload is None:
            raise NotFound("no such upload")
        return upload

    async def find_finished(self, owner: str, name: str, protocol: str) -> Upload:
        """Return the newest finished upload of this owner and name, whatever was begun after it.

        :raises NotFound: there is none, or its name was freed.
        """
        upload = await self._ledger.find(owner, name, protocol, finished=True)
        if upload is None:
            raise NotFound("no such object")
        return upload

    async def look(self, owner: str, name: str, protocol: str) -> Report:
        """Report how far the upload is that `find` finds. Errors as there."""
        found = await self._ledger.newest(owner, name, protocol)
        if found is not None and await self.writing.wait_for_ended(found[0].id):
            found = await self._ledger.newest(owner, name, protocol)
        if found is None:
            raise NotFound("no such upload")
        return self._report(*found)

    async def report(self, upload: Upload) -> Report:
        """Report how far the upload is. Asks the ledger alone, and disturbs nobody who is writing.

        Where a body has ended here, and its last bytes are just being stored, it waits a moment for them.
        """
        if await self.writing.wait_for_ended(upload.id):
            return self._report(*(await self._ledger.whole(upload.id) or (upload, ())))
        return self._report(upload, () if upload.stored else await self._ledger.pieces(upload.id))

    def _report(self, upload: Upload, pieces: Iterable[Piece]) -> Report:
        return Report.of(upload, pieces, self.policy.expires(upload))

    async def declare(self, upload: Upload, length: int, *, max_size: int | None = None) -> Upload:
        """Take the client's word for the object's length. Where nobody has said before, it becomes the upload's length.

        :raises Invalid: the upload has another length, or bytes beyond this one.
        :raises TooLarge: that is more than is allowed, or than the upload's grid holds.
        :raises Ended: the upload has ended.
        """
        if upload.length is None and upload.live:
            self._check_length(upload, length, max_size)
            try:
                upload = await self._ledger.declare(upload, length)
            except Ended:
                # It may have ended well in this moment, and then it has a length.
                upload = await self.get(upload.id, upload.owner)
                if upload.state is not State.FINISHED:
                    raise
        if upload.length != length:
            raise Invalid(f"the upload has {upload.length} bytes, not {quote_briefly(length)}")
        return upload

    async def announce(self, upload: Upload, length: int, *, max_size: int | None = None) -> Upload:
        """Take the client's word for the length that the upload is going to have; it does not end there by itself.

        :return: the upload; its `announced` may be another length, that somebody said before.
        :raises Invalid: bytes beyond it are stored.
        :raises TooLarge: that is more than is allowed, or than the upload's grid holds.
        :raises Ended: the upload has ended.
        """
        if upload.announced is None and upload.live:
            self._check_length(upload, length, max_size)
            upload = await self._ledger.announce(upload, length)
        return upload

    def _check_length(self, upload: Upload, length: int, max_size: int | None) -> None:
        if length > self.policy.most_bytes(upload, max_size):
            raise TooLarge(f"{quote_briefly(length)} bytes are more than this upload may have")

    async def expect(self, upload: Upload, crc32c: int) -> Upload:
        """Take the client's word for the whole object's CRC32C. Where it is another in the end, no object is made.

        :raises Invalid: the client has said another one before.
        :raises DigestMismatch: the upload is finished, and its object has another one.
        :raises Ended: the upload has ended.
        """
        if upload.live and upload.expected_crc32c is None:
            try:
                upload = await self._ledger.set_once(upload, expected_crc32c=crc32c)
            except Ended:
                # It may have ended well in this moment.
                upload = await self.get(upload.id, upload.owner)
            self.writing.expecting(upload)
        if upload.state is State.FINISHED:
            if upload.crc32c not in (None, crc32c):
                raise DigestMismatch("the object that was made has another checksum")
            return upload
        if not upload.live:
            raise Ended(upload.reason or "the upload has ended")
        if upload.expected_crc32c != crc32c:
            raise Invalid("another checksum of the whole object was said before")
        return upload

    async def expect_digests(self, upload: Upload, said: Mapping[str, bytes], *, in_one: bool) -> BodyDigest | None:
        """Take the client's word for digests of the whole object. Where they are others in the end, it hears of no object.

        A CRC32C can always be checked. If there is one, the others are checked only if the object can be read back.

        :param said: by the names of `resumable.uploads.digest.HASHES`.
        :param in_one: whether all of the object is about to come in one body.
        :return: what has to be seen to in that body; None: nothing.
        :raises Invalid: the client has said others before, or nobody could check them.
        :raises DigestMismatch: the upload is finished, and its object has others.
        :raises Ended: the upload has ended.
        """
        if not said:
            return None
        if upload.stored:
            check_made(upload, said)
            return None
        others = self.policy.not_combined(said)
        known = is_remembered({name: digest for name, digest in said.items() if name != "crc32c"}, upload)
        crc32c = said.get("crc32c")
        if crc32c is not None:
            await self.expect(upload, int.from_bytes(crc32c, "big"))
        if not others or known:
            return None
        if not self.policy.reads_back:
            if not in_one or upload.swarm:
                raise unchecked(others)
            return ExpectedDigests.of(others)
        upload = await self._ledger.remember(upload, READ_BACK, encode(others))
        if not is_remembered(others, upload):
            raise Invalid("digests of the whole object were said before, of other algorithms")
        self.writing.expecting(upload)
        return None

    async def settle(self, report: Report, revalidate: Revalidate) -> Report:
        """Finish the upload if its bytes are all there but its object is not yet made; else all stays as it is.

        :param revalidate: may the client finish the upload?
        :raises Unavailable: the store was in trouble for too long; asking again is right.
        :raises Ended: the upload was given up, or the store has refused for good.
        """
        if not report.upload.live and not report.finished:
            raise Ended(report.upload.reason or "the upload has ended")
        if report.complete and report.upload.live:
            await self._noting(report.upload, revalidate)()
            if report.upload.sources:
                return await self._made_of_others(report.upload)
            return await self.finish(report.upload)
        return report

    async def _made_of_others(self, upload: Upload) -> Report:
        """Finish an upload that is made of others, whose parts are to be compared with those before."""
        report = await self.concatenations.wait_for(upload)
        if not report.finished:
            raise Unavailable("the object is still being made")
        return report

    def _noting(self, upload: Upload, revalidate: Revalidate) -> Revalidate:
        """Return the last question, whose no is noted: nobody finishes the upload on its own account then."""

        async def ask() -> None:
            try:
                await revalidate()
            except Unavailable:
                raise
            except UploadError:
                await self._ledger.refuse(upload.id)
                raise

        return ask

    async def finish(self, upload: Upload) -> Report:
        """Make the object of an upload whose bytes are all stored. Errors as `settle`."""
        report = await self._finishes.join(upload.id, lambda: self._finish_checked(upload))
        if self._progress is not None:
            self._progress.ended(upload.id)
        return report

    async def _finish_checked(self, upload: Upload) -> Report:
        try:
            return await self._finish(upload)
        except NotAsExpected:
            await self.free(upload.id)
            raise

    async def _finish(self, upload: Upload) -> Report:
        async with self.writing.writer(upload) as writer:
            if writer.upload.state is State.OPEN:
                await writer.assemble()
            if not writer.state.whole:
                # Since the caller has seen that all is there, another client has begun anew.
                raise Superseded("the client has begun anew with other bytes")
            if writer.upload.state is State.FINISHED:
                return self._finished(writer.upload)
            try:
                with self._deps.metrics.completing():
                    upload, here = await self._completer.finish(writer.upload, writer.take_claim())
                    writer.state.became(upload)
            except (Ended, Exists):
                await self.free(upload.id)
                raise
            if here:
                return self._finished(writer.upload)
            return Report.of_finished(writer.upload)

    def _finished(self, upload: Upload) -> Report:
        """Report that the object exists. What else there is of the upload is freed; the client need not wait for that."""
        self._tell("finished", upload, upload.length or 0)
        background = self._deps.background
        if upload.fragmented:
            self._freeing.later(upload)
        if upload.partial:
            background.run(partial(self.concatenations.source_finished, upload))
        if upload.sources:
            background.run(partial(self._end_partials, upload.sources, State.CONCATENATED))
        return Report.of_finished(upload)

    async def _receive_stored(self, upload: Upload, body: StoredBody, offset: int) -> Report:
        span = Span(offset, upload.length, last=True)
        return await self.receive(upload, body, span, revalidate=nothing_to_ask)

    async def receive(
        self,
        upload: Upload,
        body: Body,
        span: Span,
        *,
        revalidate: Revalidate,
        new: bool = False,
        max_size: int | None = None,
        exact: bool = False,
        ends: bool | None = None,
        digest: BodyDigest | None = None,
        in_one: bool = False,
        acknowledged: Callable[[int], None] | None = None,
        every: float = 1.0,
    ) -> Report:
        """Stream `body` into the upload. A complete upload is finished.

        Whoever is writing the same bytes is ended first, after what it holds has been stored. Bytes that meet stored ones are
        compared with them: the same are not stored again. Where they differ, a body from byte 0 (but of no swarm) has it and
        all after it taken anew, for its client brings another file; any other is refused.

        A body with a digest counts as a whole, when the digest is verified, or not at all: not if it breaks off, and not if it
        is superseded. Its pieces are stored as they come; the ledger gets them at its end. It takes nothing anew.

        :param revalidate: may the client still finish the upload? Asked right before, for a body may stream for hours. What it
            raises comes out here; the upload stays open, with what was acknowledged.
        :param new: the upload has just been created: nothing of it is stored.
        :param exact: the body has to begin at the upload's offset: as it was when the body came, or as it is once older writers
            have been ended. Of two bodies that bring different bytes from there one is taken.
        :param ends: given where an upload ends by the client's word alone, and not when its length is reached. False: it does not
            end with this body, unless all that it was said to have is stored already; its length is only announced from then on
            (`Upload.announced`). True:
            it ends at the span's `end`, and is finished when it is stored up to there.
        :param digest: looks at each segment as it arrives, and is verified at the body's end.
        :param in_one: all of the upload comes in this body, which nothing else says.
        :param acknowledged: is called with the upload's offset in bytes when that has moved while the body is received: at
            most once in `every` seconds, and once more at the end. It is not called any more when this has returned.
        :raises OffsetMismatch: `exact`, and the body begins elsewhere; nothing of it is taken.
        :raises DigestMismatch: from the digest; nothing of the body counts.
        :raises NotAsExpected: all has come, and is not what the client has said it is (`expect`). The upload has failed.
        :raises Gap: the body begins past what is stored, and nothing of it is taken; or it has turned out to be another file's,
            and goes on past what is left.
        :raises Conflict: the bytes are others than those that are stored.
        :raises Ended: the upload has ended, or was cancelled while the body came.
        :raises Superseded: the client has come back on another connection while the body came.
        :raises Invalid: the body is not what its span says; or many connections write the upload, and it was to be `exact` or
            has a digest: their pieces meet in the same parts, whose bytes nobody could vouch for until the body's end.
        :raises TooLarge: the body is longer than allowed.
        :raises Interrupted: the body broke off; what came of it is stored, unless it has a digest.
        :raises Unavailable: the store or the ledger was in trouble for too long; what was confirmed is kept.
        """
        claim = self._completer.claims.entered(upload.id) if new else None
        if not upload.live:
            raise Ended("the upload has ended")
        if upload.remembered:
            whole = in_one or is_whole(upload, span.first, span.end, last=span.last)
            try:
                digest = joined([digest, body_digest(upload, span.first, span.end, whole=whole)])
            except Invalid:
                if new:
                    # Its client will leave the digest out, as it is told to, and this one would still ask for it.
                    await self.cancel(upload)
                raise
        revalidate = self._noting(upload, revalidate)
        async with self.writing.writer(upload, new=new, claim=claim) as writer:
            with telling(
                self._observing(writer, acknowledged), lambda: writer.state.offset, self._clock, every
            ) as committed:
                try:
                    async with AsyncExitStack() as stream:
                        async with writer.entrance:
                            await self._admit_body(writer, span, new=new, exact=exact, held=digest is not None)
                            if ends is not None:
                                await self._agree_on_end(writer, span, max_size, ends=ends)
                            finished = writer.upload.state is State.FINISHED
                            if not finished:
                                opened = self.writing.incoming(
                                    writer,
                                    span,
                                    max_size=max_size,
                                    revalidate=revalidate,
                                    digest=digest,
                                    committed=committed,
                                )
                                incoming = await stream.enter_async_context(opened)
                        if finished:
                            # By whoever wrote before, and perhaps another file.
                            return await self._compare(writer, body, span, digest)
                        await self.writing.pour(incoming, body)
                except Interrupted:
                    if writer.upload.swarm:
                        await self._finish_alone(writer, revalidate)
                    raise
                except NotAsExpected:
                    await self.free(upload.id)
                    raise
                report = await self._outcome(writer, revalidate)
                if report.finished and not report.upload.swarm and report.upload.edition != incoming.sender.edition:
                    # On another node somebody has begun at byte 0 since this body was stored: the object may be another file.
                    raise Superseded("the client has begun anew")
                return report

    def _observing(
        self, writer: UploadWriter, acknowledged: Callable[[int], None] | None
    ) -> Callable[[int], None] | None:
        """Return what is told how far a body is acknowledged: the protocol, and whoever hears of all uploads."""
        progress = self._progress
        if progress is None:
            return acknowledged

        def goes_on() -> bool:
            return writer.upload.live and not writer.ended

        def report() -> Report | None:
            return Report(writer.upload, writer.state.coverage) if goes_on() else None

        def end(reason: str) -> None:
            self._deps.background.run(partial(self.cancel, writer.upload, reason))

        def tell(offset: int) -> None:
            if goes_on():
                progress.moved(writer.upload.id, report, end)
            if acknowledged is not None:
                acknowledged(offset)

        return tell

    async def _admit_body(self, writer: UploadWriter, span: Span, *, new: bool, exact: bool, held: bool) -> None:
        """End older writers of the same bytes, and see whether a body may begin where it does.

        :param held: the body has a digest. Errors as `receive`.
        """
        told = writer.state.offset
        others = await self.writing.take_over(writer, span)
        # By now it may be known that another node has opened it to many.
        if writer.upload.swarm and (exact or held):
            raise Invalid("many connections write this upload: a body has neither an exact offset nor a digest there")
        upload, offset = writer.upload, writer.state.offset
        if not upload.live and upload.state is not State.FINISHED:
            raise Ended("the upload has ended")
        # The client may have been told an offset that what an older writer held has passed just now: what it brings of that
        # once more is compared.
        if exact and not told <= span.first <= offset:
            raise _mismatch(span, offset)
        if upload.state is State.FINISHED:
            return
        if span.first > offset and not upload.swarm:
            raise Gap(f"byte {offset} comes next, not {span.first}", offset)
        if new:
            return
        # Once for each break: a client that sends chunk after chunk goes on, and does not come back.
        level = LogLevel.debug if self.writing.goes_on(upload.id) else LogLevel.info
        log_upload("resumed", upload, offset, now(self._clock), level=level)
        begins = span.first == 0
        if exact:
            # On another node somebody may begin at the same offset in this moment: one of the two has the next edition. Where
            # there is no other node, older writers have been ended by now, and that saves the commit.
            # And where bytes are held back, nothing that counts is stored where they belong.
            begins = others or (held and writer.state.coverage.size > offset)
        if begins and upload.state is State.OPEN and not upload.swarm:
            await writer.begin_edition()
            if exact and writer.state.offset != offset:
                # Somebody whom nobody could end has stored more until now.
                raise _mismatch(span, writer.state.offset)

    async def _agree_on_end(self, writer: UploadWriter, span: Span, max_size: int | None, *, ends: bool) -> None:
        """See to it that the upload ends where a body that may be received says it does, or nowhere yet."""
        upload = writer.upload
        if not ends and upload.length is not None:
            if writer.state.whole:
                # All that it was said to have is stored, and somebody may be making its object in this moment.
                return
            writer.state.became(await self._ledger.hold(upload))
        elif ends and upload.length is None and span.end is not None:
            self._check_length(upload, span.end, max_size)
            writer.state.became(await self._ledger.declare(upload, span.end))

    async def compare(self, upload: Upload, body: Body, span: Span, digest: BodyDigest | None = None) -> Report:
        """Take a body for a finished upload, whose answer was lost: store nothing, and see whether it is the object's.

        :raises DigestMismatch: from the digest.
        :raises Conflict: the bytes are others, or the object is there no more.
        :raises Interrupted: the body broke off.
        :raises Invalid: the body is not what its span says.
        :raises Unavailable: the store was in trouble.
        """
        async with self.writing.writer(upload) as writer:
            return await self._compare(writer, body, span, digest)

    async def _compare(self, writer: UploadWriter, body: Body, span: Span, digest: BodyDigest | None = None) -> Report:
        try:
            await self.writing.compare(writer, body, span, digest)
        except Conflict:
            if span.first == 0 and writer.upload.protocol == "put":
                # Its client comes again, and begins another upload under the name. All others would meet this one again.
                raise Unavailable("another file was finished under the name in this moment") from None
            raise
        return Report.of_finished(writer.upload)

    async def _finish_alone(self, writer: UploadWriter, revalidate: Revalidate) -> None:
        """Finish the upload if it is complete, though the client has gone: nobody else might see that."""
        try:
            await self._outcome(writer, revalidate)
        except UploadError as error:
            self._log.info("upload {id} is not finished yet: {error}", id=writer.upload.id, error=str(error))

    async def _outcome(self, writer: UploadWriter, revalidate: Revalidate) -> Report:
        """Finish the upload if it is complete, now that a body is stored."""
        if not writer.state.whole:
            # Others may have stored what is missing, or said where the end is.
            await writer.refresh()
        if writer.upload.state is State.FINISHED:
            return self._finished(writer.upload)
        if writer.state.whole:
            if writer.upload.state is State.OPEN:
                await revalidate()
            return await self.finish(writer.upload)
        return Report(writer.upload, writer.state.coverage, self.policy.expires(writer.upload))

    async def download_url(self, upload: Upload, seconds: int) -> str:
        """Return a URL of the store from which anybody can read the object of a finished upload.

        The store is asked first what is under the key: since the upload was finished another owner's object may have
        taken its place.

        :param seconds: how long the URL is valid, at most.
        :raises NotFound: the object is not there any more.
        :raises Unavailable: the store is in trouble.
        """
        if await self._completer.own_object(upload) is None:
            raise NotFound("the object is not there any more")
        try:
            return await self._store.presigned_get(upload.bucket, upload.key, seconds)
        except StoreError as trouble:
            raise in_trouble(trouble) from trouble

    async def cancel(self, upload: Upload, reason: str | None = None) -> None:
        """End the upload and free what is stored of it. One that has ended already stays as it is.

        :param reason: why, for people; clients are told.
        :raises Unavailable: the ledger was in trouble.
        """
        await self._end(upload, State.CANCELLED, LIVE, **({} if reason is None else {"reason": reason}))

    async def forget(self, upload: Upload) -> None:
        """Free the name of a finished upload, whose object stays: nobody finds it by name any more.

        The object of a partial upload does not stay.

        :raises Invalid: something is being made of the partial upload.
        :raises Unavailable: the ledger was in trouble.
        """
        if not upload.partial:
            await self._ledger.forget_name(upload.id)
        elif upload.state is State.FINISHED and not await self._end_partials([upload.id], State.CANCELLED):
            raise Invalid("another upload is being made of this one")

    async def expire(self, upload: Upload, *, untouched_since: float) -> bool:
        """End an upload that nobody has touched since then (seconds since the epoch). Say whether it was so.

        It is open, or it is partial and finished.

        :raises Unavailable: the ledger was in trouble.
        """
        if upload.partial and upload.state is State.FINISHED:
            return await self._end_partials([upload.id], State.EXPIRED, untouched_since=untouched_since)
        return await self._end(upload, State.EXPIRED, (State.OPEN,), untouched_since=untouched_since)

    async def give_up(self, upload: Upload, reason: str) -> None:
        """End an upload that is complete but of which the store makes no object.

        :raises Unavailable: the ledger was in trouble.
        """
        await self._end(upload, State.FAILED, (State.FINISHING,), reason=reason)

    async def _end(self, upload: Upload, to: State, frm: Collection[State], **changes: Any) -> bool:
        ended = await self._ledger.move(upload, to, frm=frm, updated=now(self._clock), **changes)
        if ended is None:
            return False
        self._tell(to.value, ended, 0, ended.reason or "")
        self.writing.ended(upload.id, to, ended.reason)
        if self._progress is not None:
            self._progress.ended(upload.id)
        await self._peers.ended(ended)
        await self.free(upload.id)
        return True

    async def _end_partials(
        self, upload_ids: Sequence[str], to: State, *, untouched_since: float | None = None
    ) -> bool:
        """End finished partial uploads that nothing needs any more, and free them. Say whether there were any.

        Most of them have one object, and all of those are deleted together.
        """
        time = now(self._clock)
        ended = await self._ledger.partials.end(upload_ids, to, now=time, untouched_since=untouched_since)
        for upload in ended:
            self._tell(to.value, upload, 0)
        plain = [upload for upload in ended if not upload.fragmented]
        try:
            for bucket in {upload.bucket for upload in plain}:
                await self._store.delete_objects(bucket, [one.key for one in plain if one.bucket == bucket])
            await self._ledger.partials.freed([upload.id for upload in plain])
        except (StoreError, Unavailable) as error:
            self._log.warn("partial uploads are not freed yet: {error}", error=str(error))
        for upload in ended:
            if upload.fragmented:
                await self.free(upload.id)
        return bool(ended)

    async def free(self, upload_id: str) -> None:
        """Free what an ended upload has in the store. What cannot be freed now is tried again by the clock."""
        await self._freeing.free(upload_id)

    async def tidy_up(self, upload: Upload) -> None:
        """Free what an ended upload left lying: what `free` frees, and under its key what a call that nobody heard of has made.

        :raises Ended: the upload has not ended.
        :raises Unavailable: the store or the ledger was in trouble; it may be asked again.
        """
        await self.free(upload.id)
        if upload.claim is not None and not self._completer.claims.holds(upload.id):
            await self._completer.tidy_up(upload)

    async def close(self, seconds: float) -> None:
        """Wait so long until what is being freed is freed. The rest is done after the next start, or by another node."""
        await self.concatenations.close()
        # Nobody waits for a join: whoever goes on with the upload begins it again.
        await self._deps.joins.close(self._clock, 0)
        await self._deps.background.close(self._clock, seconds)

    def _tell(self, what: str, upload: Upload, size: int, why: str = "") -> None:
        log_upload(what, upload, size, now(self._clock), why)


def _mismatch(span: Span, offset: int) -> OffsetMismatch:
    return OffsetMismatch(f"the body has to begin at byte {offset}, not {quote_briefly(span.first)}", offset)
