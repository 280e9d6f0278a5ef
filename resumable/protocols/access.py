"""The way to the upload service: the main application is asked, and what it has allowed is all that can be done.

`Gate.authorize` is the only way to an `AuthorizedUploads`, and that the only way for a protocol to an upload. Who the caller is,
how much it may bring, and that it is asked about once more before an upload is finished, is seen to here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Literal

from attrs import evolve, field, frozen

from resumable.callbacks.authorizer import AuthorizationRequest, Authorizer, Grant, Refused
from resumable.callbacks.redirects import may_redirect
from resumable.model import NotFound, NotWritable, ObjectOptions, OffsetMismatch, Upload, UploadError, WrongProtocol
from resumable.protocols.empty_body import EmptyBody
from resumable.protocols.messages import Request
from resumable.request_info import note
from resumable.uploads import values
from resumable.uploads.digest import BodyDigest, Digests, TrailingDigests, joined
from resumable.uploads.expected import is_whole
from resumable.uploads.policy import CreateRequest
from resumable.uploads.registry import Body, Span
from resumable.uploads.result import Report
from resumable.uploads.sender import nothing_to_ask
from resumable.uploads.service import UploadService

Action = Literal["create", "append", "status", "cancel", "download"]

#: Actions that bring bytes.
BRINGS: Collection[Action] = ("create", "append")

#: By the protocol that an upload was begun with: what may be done with it by its id in any other protocol. Whoever began it
#: may do everything. What ends an upload is the same everywhere: its length, or, of one of `ietf`, that a request says so.
ELSEWHERE: Mapping[str, Collection[Action]] = {
    "put": ("status", "append", "cancel", "download"),
    "session": ("status", "append", "cancel", "download"),
    "tus": ("status", "append", "cancel", "download"),
    "ietf": ("status", "append", "cancel", "download"),
}
#: The same for protocols that are not named there: what cannot disturb whoever began it, and the owner's right to end it
#: and to read what has become of it. Only Google's clients and Vimeo's say where an upload of theirs ends, and get the last
#: answer that they wait for.
ELSEWHERE_BY_DEFAULT: Collection[Action] = ("status", "cancel", "download")


def may_do(protocol: str, action: Action, upload: Upload) -> bool:
    """Say whether an action is allowed on an upload in a protocol, given the one that the upload was begun with."""
    return protocol == upload.protocol or action in ELSEWHERE.get(upload.protocol, ELSEWHERE_BY_DEFAULT)


class NotAuthorized(Exception):
    """A protocol does what it has not asked the application about: a fault in the protocol, not of the client."""


@frozen
class Description:
    """What a client says of an upload that it wants to create. The application's word comes before it.

    :ivar name: None if nobody says: it is called by its id.
    :ivar length: bytes of the whole upload; None while unknown.
    :ivar swarm: whether many connections may write it at once, in any order. Its length has to be known.
    """

    name: str | None
    length: int | None
    content_type: str | None = None
    content_encoding: str | None = None
    metadata: Mapping[str, str] = field(factory=dict)
    swarm: bool = False
    #: Whether the length is only announced: a request has yet to say that the upload ends there.
    open_ended: bool = False
    #: False: there must be no object under the key when this one is made.
    overwrite: bool = True
    #: The whole object's CRC32C, where the client says it before its bytes come.
    expected_crc32c: int | None = None
    #: The same with any digests, by the names of `resumable.uploads.digest.HASHES`.
    digests: Mapping[str, bytes] = field(factory=dict)
    #: What the protocol has to give back to its clients as it came.
    remembered: Mapping[str, str] = field(factory=dict)
    #: Whether other uploads are going to be made of it; and the ids of those that it is made of.
    partial: bool = False
    sources: Sequence[str] = ()
    #: The protocol that the upload is made for, where that is not the one in which it is asked for.
    protocol: str | None = None


class Gate:
    """Asks the main application on behalf of one protocol.

    :param protocol: its name.
    :ivar downloads: whether those who may are shown the way to their objects. If not, nobody is asked about it.
    """

    def __init__(
        self, uploads: UploadService, authorizer: Authorizer, protocol: str, *, downloads: bool = False
    ) -> None:
        self.downloads = downloads
        self._uploads = uploads
        self._authorizer = authorizer
        self._protocol = protocol

    @property
    def max_size(self) -> int:
        """The most bytes that an upload may have, unless the application says less."""
        return self._uploads.policy.max_size

    async def authorize(
        self,
        request: Request,
        action: Action,
        *,
        upload_id: str | None = None,
        name: str | None = None,
        length: int | None = None,
        description: Description | None = None,
    ) -> AuthorizedUploads:
        """Ask whether the sender of a request may do `action`, and return what it may then use.

        :param upload_id: of the upload that the request is about, if it has one already.
        :param name: of the upload, where it is known by that.
        :param length: bytes of the whole upload, if they are known.
        :param description: of the upload that may be created; it says name, length and content type in place of the others.
        :raises Refused: the application says no.
        :raises Unavailable: it cannot be asked.
        :raises Unsupported: the request brings a body that is encoded in a way that cannot be kept.
        """
        note(upload=upload_id)
        if action in BRINGS:
            content_encoding_of(request)
        asked = AuthorizationRequest(
            action=action,
            method=request.method.decode("latin-1"),
            uri=request.uri.decode("latin-1"),
            headers=request.requestHeaders,
            peer=request.origin.client,
            protocol=self._protocol,
            upload_id=upload_id,
            name=name,
            length=length,
            content_type=content_type_of(request),
        )
        if description is not None:
            said = description
            asked = evolve(asked, name=said.name, length=said.length, content_type=said.content_type)
        grant = await self._authorizer.authorize(asked)
        note(owner=grant.owner)
        return AuthorizedUploads(self._uploads, self._authorizer, asked, grant)


class AuthorizedUploads:
    """The upload service as one caller may use it for one request. Another owner's uploads are not there for it."""

    def __init__(
        self, uploads: UploadService, authorizer: Authorizer, asked: AuthorizationRequest, grant: Grant
    ) -> None:
        self._uploads = uploads
        self._authorizer = authorizer
        self._asked = asked
        self._grant = grant
        #: The upload that this request has created, perhaps for another protocol: it may do with it what it likes.
        self._created: str | None = None

    @property
    def max_size(self) -> int:
        """The most bytes that an upload may have."""
        return self._uploads.policy.limit(self._grant.max_size)

    def may_redirect(self, url: str) -> bool:
        """Say whether the application lets a browser be sent there."""
        return may_redirect(url, self._grant.redirect)

    async def also(self, action: Action, upload: Upload) -> AuthorizedUploads | None:
        """Ask about another action with the same upload.

        It is for what the client has not asked for in so many words.

        :return: None where the application says no, or the upload's own protocol leaves that to nobody else.

        :raises Unavailable: the application cannot be asked.
        """
        if not may_do(self._asked.protocol, action, upload):
            return None
        asked = evolve(self._asked, action=action)
        try:
            grant = await self._authorizer.authorize(asked)
        except Refused:
            return None
        if grant.owner != self._grant.owner:
            return None
        return AuthorizedUploads(self._uploads, self._authorizer, asked, grant)

    async def revalidate(self) -> None:
        """Ask again what was answered with a yes; as long as the yes is remembered it still counts.

        :raises Refused: the application says no by now.
        :raises NotFound: the client is somebody else by now.
        :raises Unavailable: the application cannot be asked.
        """
        if (await self._authorizer.authorize(self._asked)).owner != self._grant.owner:
            raise NotFound("no such upload")

    def _require(self, *actions: Action) -> None:
        if self._asked.action not in actions:
            raise NotAuthorized(f"asked about {self._asked.action}, which is not {' or '.join(actions)}")

    def _require_for(self, upload: Upload, *actions: Action) -> None:
        """Check that the application was asked, and that what is asked for may be done in this protocol with this upload.

        :raises WrongProtocol: it may be done only with the protocol that the upload was begun with.
        """
        self._require(*actions)
        note(upload=upload.id)
        if upload.id != self._created and not may_do(self._asked.protocol, self._asked.action, upload):
            raise WrongProtocol(f"the upload was begun with the protocol {upload.protocol}: go on with it there")

    def _require_writable(self, upload: Upload) -> None:
        self._require_for(upload, *BRINGS)
        if upload.sources:
            raise NotWritable("the upload is made of other uploads: nothing can be written into it")

    # Finding

    async def get(self, upload_id: str) -> Upload:
        """Return the upload with this id.

        :raises NotFound: there is none, or it is another owner's.
        :raises WrongProtocol: what was asked about may be done only with the protocol that the upload was begun with.
        """
        upload = await self._uploads.get(upload_id, self._grant.owner)
        self._require_for(upload, self._asked.action)
        return upload

    async def find(self, name: str) -> Upload:
        """Return the newest upload of this protocol and name that was not given up.

        :raises NotFound: there is none.
        """
        return await self._uploads.find(self._grant.owner, name, self._asked.protocol)

    async def find_finished(self, name: str) -> Upload:
        """Return the newest finished upload of this protocol and name.

        :raises NotFound: there is none, or its name was freed.
        """
        return await self._uploads.find_finished(self._grant.owner, name, self._asked.protocol)

    def check_bucket(self, bucket: str) -> None:
        """Check that a bucket which the client names is one that its uploads may go to. Which one they go to it does not say.

        :raises NotFound: it is neither the settings' nor the one that the application has granted.
        """
        if bucket not in (self._uploads.policy.bucket, self._grant.bucket):
            raise NotFound("no such bucket")

    async def look(self, name: str) -> Report:
        """Return how far the upload is that `find` finds, at the cost of one question to the ledger. Errors as there."""
        return await self._uploads.look(self._grant.owner, name, self._asked.protocol)

    async def report(self, upload: Upload) -> Report:
        """Return how far the upload is. Whoever is writing it is not disturbed."""
        return await self._uploads.report(upload)

    async def check_offset(self, upload: Upload, offset: int) -> None:
        """Check that a body may begin there, before anything else counts that its request says of the upload.

        :raises OffsetMismatch: it may not.
        """
        report = await self.report(upload)
        if offset != report.offset:
            raise OffsetMismatch(f"the body has to begin at byte {report.offset}", report.offset)

    # Creating

    async def create(self, description: Description, *, whole: bool = False) -> Upload:
        """Enter a new upload. See `resumable.uploads.service.UploadService.create` for what is raised.

        :param whole: all of it is going to be received at once.
        """
        self._require("create")
        upload = await self._uploads.create(self._wanted(description), whole=whole)
        self._created = upload.id
        note(upload=upload.id)
        return upload

    async def join(self, description: Description, *, whole: bool = False) -> tuple[Upload, bool]:
        """Enter a new upload, or find the one that others of a swarm have entered meanwhile; return whether it is new."""
        self._require("create")
        upload, new = await self._uploads.join(self._wanted(description), whole=whole)
        note(upload=upload.id)
        return upload, new

    async def concatenate(self, description: Description) -> Report:
        """Enter an upload that is made of partial ones, and wait a while for its object.

        See `resumable.uploads.concatenations.Concatenations.create`.
        """
        self._require("create")
        return await self._uploads.concatenations.create(self._wanted(description))

    def _wanted(self, said: Description) -> CreateRequest:
        grant, given = self._grant, self._grant.object
        return CreateRequest(
            protocol=said.protocol or self._asked.protocol,
            name=said.name,
            owner=grant.owner,
            length=said.length,
            open_ended=said.open_ended,
            max_size=grant.max_size,
            bucket=grant.bucket,
            key=grant.key,
            swarm=said.swarm,
            overwrite=said.overwrite,
            expected_crc32c=said.expected_crc32c,
            digests=said.digests,
            remembered=said.remembered,
            partial=said.partial,
            sources=said.sources,
            options=ObjectOptions(
                content_type=grant.content_type or said.content_type,
                metadata=values.overlaid(said.metadata, grant.metadata),
                acl=given.acl,
                storage_class=given.storage_class,
                cache_control=given.cache_control,
                content_disposition=given.content_disposition,
                content_encoding=given.content_encoding or said.content_encoding,
                tags=dict(given.tags),
            ),
        )

    # Writing

    async def receive(
        self,
        upload: Upload,
        body: Body,
        span: Span,
        *,
        new: bool = False,
        exact: bool = False,
        ends: bool | None = None,
        digest: BodyDigest | None = None,
        digests: Digests | None = None,
        acknowledged: Callable[[int], None] | None = None,
    ) -> Report:
        """Stream a body into the upload.

        See `resumable.uploads.service.UploadService.receive`, also for the parameters. The application is asked once more right
        before the upload is finished.

        :param digests: what the request says of digests in the fields that all protocols share. `digest` is the protocol's own.
        :raises NotWritable: the upload is made of others.
        """
        self._require_writable(upload)
        if digests is not None:
            digest = joined([digest, await self._expected(upload, span, digests)])
        return await self._uploads.receive(
            upload,
            body,
            span,
            revalidate=self.revalidate,
            new=new,
            max_size=self._grant.max_size,
            exact=exact,
            ends=ends,
            digest=digest,
            in_one=digests is not None and digests.all_in_one,
            acknowledged=acknowledged,
        )

    async def _expected(self, upload: Upload, span: Span, digests: Digests) -> BodyDigest | None:
        """Return what checks a body for what its request says of digests; None where nothing has to be seen to in it.

        Errors as `resumable.uploads.service.UploadService.expect_digests`.
        """
        in_one = digests.all_in_one or is_whole(upload, span.first, span.end, last=span.last)
        whole = await self._uploads.expect_digests(upload, digests.whole, in_one=in_one)
        trailing = None
        if digests.trailing is not None:
            expect = partial(self._uploads.expect_digests, upload, in_one=False)
            trailing = TrailingDigests.of(digests.trailing, None if in_one else expect)
        return joined([digests.body, whole, trailing])

    async def receive_nothing(self, upload: Upload) -> Report:
        """Finish an upload of no bytes that was created by this request.

        Where that fails it is ended, for its client is not told of it. Errors as `receive`.
        """
        async with self.untold(upload):
            return await self.receive(upload, EmptyBody(), Span(0, 0, last=True), new=True)

    @asynccontextmanager
    async def untold(self, upload: Upload) -> AsyncIterator[None]:
        """Serve the rest of a request that has created an upload. Where that fails the upload is ended.

        Its client has not been told of it, and so nobody can go on with it, whatever of it is stored.
        """
        try:
            yield
        except UploadError:
            with suppress(UploadError):
                await self.abandon(upload)
            raise

    async def compare(self, upload: Upload, body: Body, span: Span, digests: Digests | None = None) -> Report:
        """Compare a body with a finished upload. See `resumable.uploads.service.UploadService.compare`."""
        self._require_for(upload, *BRINGS)
        digest = None if digests is None else await self._expected(upload, span, digests)
        return await self._uploads.compare(upload, body, span, digest)

    async def declare(self, upload: Upload, length: int) -> Upload:
        """Say how many bytes the upload has. See `resumable.uploads.service.UploadService.declare`."""
        self._require_writable(upload)
        return await self._uploads.declare(upload, length, max_size=self._grant.max_size)

    async def announce(self, upload: Upload, length: int) -> Upload:
        """Say how many bytes the upload is going to have. See `resumable.uploads.service.UploadService.announce`."""
        self._require_writable(upload)
        return await self._uploads.announce(upload, length, max_size=self._grant.max_size)

    async def expect(self, upload: Upload, crc32c: int) -> Upload:
        """Say what the whole object's CRC32C is. See `resumable.uploads.service.UploadService.expect`."""
        self._require_writable(upload)
        return await self._uploads.expect(upload, crc32c)

    async def open_to_many(self, upload: Upload) -> Upload:
        """Let many connections write the upload at once. See `resumable.uploads.service.UploadService.open_to_many`."""
        self._require_writable(upload)
        return await self._uploads.open_to_many(upload)

    async def settle(self, report: Report) -> Report:
        """Finish the upload if all its bytes are stored. See `resumable.uploads.service.UploadService.settle`.

        Where nothing is left to be done, it does not matter what the application was asked about.
        """
        if report.complete and report.upload.live:
            self._require_for(report.upload, *BRINGS)
        return await self._uploads.settle(report, nothing_to_ask)

    async def finish(self, upload: Upload) -> Report:
        """Make the object of an upload whose bytes are all stored. Errors as `settle`."""
        self._require_for(upload, *BRINGS)
        return await self._uploads.finish(upload)

    # Reading

    async def download_url(self, upload: Upload, seconds: int) -> str:
        """Return a URL of a finished upload's object. See `resumable.uploads.service.UploadService.download_url`."""
        self._require_for(upload, "download")
        return await self._uploads.download_url(upload, seconds)

    # Ending

    async def cancel(self, upload: Upload) -> None:
        """End the upload and free what is stored of it. See `resumable.uploads.service.UploadService.cancel`."""
        self._require_for(upload, "cancel")
        await self._uploads.cancel(upload)

    async def abandon(self, upload: Upload) -> None:
        """End an upload that was created by this request, and of which its client has not been told."""
        self._require("create")
        await self._uploads.cancel(upload)

    async def invalidate(self, upload: Upload, reason: str) -> None:
        """End an upload whose client has broken the protocol in a way that forbids to go on with it.

        :param reason: why, for people; clients are told.
        """
        self._require_writable(upload)
        await self._uploads.cancel(upload, reason)

    async def forget(self, upload: Upload) -> None:
        """Free the name of a finished upload. See `resumable.uploads.service.UploadService.forget`."""
        self._require_for(upload, "cancel")
        await self._uploads.forget(upload)


def description_of(request: Request, name: str, length: int | None, *, swarm: bool = False) -> Description:
    """Return the description of an upload whose bytes are the request's body.

    :raises Unsupported: see `content_encoding_of`.
    """
    return Description(name, length, content_type_of(request), content_encoding_of(request), swarm=swarm)


def content_type_of(request: Request) -> str | None:
    """Return the Content-Type of the request's body."""
    lines = request.requestHeaders.getRawHeaders(b"content-type")
    return lines[-1].decode("latin-1") if lines else None


def content_encoding_of(request: Request) -> str | None:
    """Return the Content-Encoding of the request's body.

    :raises Unsupported: it is no list of codings, or one of them is undone by nobody but S3.
    """
    lines = request.requestHeaders.getRawHeaders(b"content-encoding")
    if not lines:
        return None
    with values.from_client():
        return values.check_content_encoding(",".join(line.decode("latin-1") for line in lines))
