"""Resumable Uploads for HTTP on the wire: any request that says ``Upload-Complete`` begins an upload, PATCH goes on with it.

Sections are those of draft-ietf-httpbis-resumable-upload-12.
"""

from __future__ import annotations

from attrs import evolve

from resumable.clock import time_of_day
from resumable.model import (
    BegunWith,
    Ended,
    Invalid,
    State,
    TooLarge,
    UnsupportedType,
    Upload,
    UploadError,
)
from resumable.protocols import digests
from resumable.protocols.access import AuthorizedUploads, Gate, content_type_of
from resumable.protocols.base import Spoken, Target
from resumable.protocols.ietf import appending
from resumable.protocols.ietf.description import describe, is_partial_upload
from resumable.protocols.ietf.fields import INVERTED, MEDIA_TYPE, Fields, limits, read_fields
from resumable.protocols.ietf.problems import InconsistentLength, Limited, render_error
from resumable.protocols.messages import Request
from resumable.protocols.response import Response, problem
from resumable.protocols.results import Results
from resumable.uploads.result import Report

NAME = appending.NAME
#: Where uploads are created, also with a name behind it; and where they are gone on with.
CREATION = b"/upload"
RESOURCES = b"/files/"
#: Methods that may create an upload: those whose requests have content.
CREATE = (b"POST", b"PUT", b"PATCH")
#: What tus-js-client and tus.io's clients say and this protocol does not: the URL of an upload is then spoken to in tus.
_TUS_TYPE = "application/offset+octet-stream"


class IetfProtocol:
    """Uploads that are known by their id, and are complete when a request says so."""

    name = NAME
    spoken = Spoken(
        methods=("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"),
        sent=(
            *("Upload-Complete", "Upload-Incomplete", "Upload-Offset", "Upload-Length", "Upload-Draft-Interop-Version"),
            *("Content-Disposition", "Content-Encoding", "Upload-Metadata", "Upload-Defer-Length"),
            *("X-HTTP-Method-Override", *digests.SENT),
        ),
        read=(
            *("Upload-Complete", "Upload-Incomplete", "Upload-Offset", "Upload-Length", "Upload-Limit"),
            *("Upload-Draft-Interop-Version", *digests.READ),
        ),
    )

    def __init__(self, gate: Gate, results: Results) -> None:
        self._gate = gate
        self._results = results

    # Which requests

    def match(self, request: Request) -> Target | None:
        """Match creations by their ``Upload-Complete`` (or the opposite), and what goes to an upload by any of the headers.

        OPTIONS where uploads are created, and DELETE of an upload that speaks no protocol, are matched too.
        """
        path, method = request.path, method_of(request)
        headers = request.requestHeaders
        if headers.hasHeader(b"tus-resumable"):
            return None
        if path.startswith(RESOURCES) and len(path) > len(RESOURCES):
            mine = self._speaks(request) or (method == b"DELETE" and not _speaks_tus(request))
            return Target(upload_id=path[len(RESOURCES) :].decode("latin-1")) if mine else None
        if method == b"OPTIONS":
            if headers.hasHeader(b"access-control-request-method"):
                return None  # a browser's question, and not its page's
            return Target() if path in (CREATION, b"*") or path.startswith(CREATION + b"/") else None
        if method not in CREATE or read_fields(headers).complete is None:
            return None
        if path in (CREATION, CREATION + b"/"):
            return Target()
        return Target(name=path[len(CREATION) + 1 :]) if path.startswith(CREATION + b"/") else None

    def _speaks(self, request: Request) -> bool:
        said = read_fields(request.requestHeaders)
        return said.complete is not None or said.drafted or is_partial_upload(content_type_of(request))

    async def handle(self, request: Request, target: Target) -> Response:
        """See `resumable.protocols.base.Protocol`."""
        method, said = method_of(request), read_fields(request.requestHeaders)
        if method == b"OPTIONS":
            return Response(204, headers=limits(said.version, self._gate.max_size))
        if target.upload_id is None:
            return await self._create(request, target, said)
        if method in (b"HEAD", b"GET"):
            return await self._retrieve(request, target.upload_id, said)
        if method == b"PATCH":
            return await self._append(request, target.upload_id, said)
        if method == b"DELETE":
            return await self._cancel(request, target.upload_id, said)
        allow = {"Allow": "HEAD, GET, PATCH, DELETE, OPTIONS"}
        return problem(405, "use HEAD to ask, PATCH to go on, DELETE to cancel", allow)

    # Creating (4.2)

    async def _create(self, request: Request, target: Target, said: Fields) -> Response:
        """Create an upload, and take in what the request brings of it.

        Who can be told the URL before the end goes on there if the request fails. Otherwise the upload goes with it.
        """
        total = appending.total_of(request, said, 0)
        if total is not None and request.length is not None and request.length > total:
            raise InconsistentLength(f"the body has {request.length} bytes, the upload {total}")
        ends = bool(said.complete) and request.length is not None
        described = describe(request, target.name, total, complete=ends)
        access = await self._gate.authorize(request, "create", description=described)
        try:
            upload = await access.create(described, whole=ends)
        except TooLarge as error:
            raise Limited(str(error), access.max_size) from None
        where = {"Location": f"{request.origin.base}/files/{upload.id}"}
        told = said.interim and request.inform(
            104, {**where, **limits(said.version, access.max_size), **_interop(said)}
        )
        try:
            report = await appending.take(access, upload, request, said, 0, new=True, tell=_teller(request, said))
            return await self._answer(access, request, report, said, 201, where)
        except UploadError as error:
            if not told:
                await _abandon(access, upload)
                raise
            answer = self.render_error(request, error)
            return evolve(answer, headers=(*answer.headers, *where.items()))

    # Going on

    async def _retrieve(self, request: Request, upload_id: str, said: Fields) -> Response:
        """Say how far the upload is (4.3). Whoever writes it is not disturbed; what is answered here is taken next."""
        _check_question(said)
        access = await self._gate.authorize(request, "status", upload_id=upload_id)
        report = await access.report(_alive(await access.get(upload_id)))
        if report.complete and report.upload.live:
            # A request has said that this is all, and the client may take that for done (tus-js-client does).
            changing = await access.also("append", report.upload)
            if changing is not None:
                report = await changing.settle(report)
        headers = {**self._state(access, report, said), **said.completeness(report.finished)}
        if report.upload.announced is not None:
            headers["Upload-Length"] = str(report.upload.announced)
        return Response(204, headers=headers)

    async def _append(self, request: Request, upload_id: str, said: Fields) -> Response:
        """Take in more of the upload (4.4)."""
        if said.asks_type and not is_partial_upload(content_type_of(request)):
            raise UnsupportedType(f"Content-Type has to be {MEDIA_TYPE}")
        if said.complete is None and said.version == INVERTED:
            said = evolve(said, complete=True)
        if said.offset is None or said.complete is None:
            raise Invalid("say Upload-Offset, the number of bytes that are stored, and Upload-Complete, ?1 or ?0")
        total = appending.total_of(request, said, said.offset)
        access = await self._gate.authorize(request, "append", upload_id=upload_id, length=total)
        upload = _alive(await access.get(upload_id))
        if upload.state is not State.OPEN and not (said.complete and upload.live):
            report = await appending.replay(access, upload, request, said)
        else:
            upload = await appending.agree(access, upload, request, said, total)
            tell = _teller(request, said)
            report = await appending.take(access, upload, request, said, said.offset, tell=tell)
        return await self._answer(access, request, report, said, 201 if said.old else 204, {})

    async def _cancel(self, request: Request, upload_id: str, said: Fields) -> Response:
        """Deactivate the upload (4.5). The object of a finished one stays."""
        _check_question(said)
        access = await self._gate.authorize(request, "cancel", upload_id=upload_id)
        upload = await access.get(upload_id)
        if upload.protocol == "tus" and not self._speaks(request):
            raise BegunWith(upload.protocol)
        if _alive(upload).stored:
            await access.forget(upload)
        else:
            await access.cancel(upload)
        return Response(204)

    # Answers

    async def _answer(
        self,
        access: AuthorizedUploads,
        request: Request,
        report: Report,
        said: Fields,
        status: int,
        where: dict[str, str],
    ) -> Response:
        """Return the answer to bytes that were stored; that to the last is the result, or the main application's."""
        headers = {**where, **self._state(access, report, said)}
        if not (report.finished and said.complete):
            return Response(status, headers={**headers, **said.completeness(False)})
        answer = digests.with_digests(request, report, await self._results.answer(report))
        # That of the application may name a place of its own.
        theirs = {name.decode("latin-1") if isinstance(name, bytes) else name for name, _ in answer.headers}
        if any(name.lower() == "location" for name in theirs):
            headers.pop("Location", None)
        return evolve(answer, headers=(*answer.headers, *headers.items(), *said.completeness(True).items()))

    def _state(self, access: AuthorizedUploads, report: Report, said: Fields) -> dict[str, str]:
        left = None if report.expires is None else report.expires - time_of_day()
        return {"Upload-Offset": str(report.offset), **limits(said.version, access.max_size, left)}

    def render_error(self, request: Request, error: UploadError) -> Response:
        """See `resumable.protocols.base.Protocol`."""
        return render_error(error, read_fields(request.requestHeaders), self._gate.max_size)

    def decorate(self, request: Request, response: Response) -> Response:
        """See `resumable.protocols.base.Protocol`."""
        return response


def method_of(request: Request) -> bytes:
    """Return the method that counts: that of ``X-HTTP-Method-Override`` of a POST, where there is one."""
    override = request.requestHeaders.getRawHeaders(b"x-http-method-override")
    return override[-1].strip().upper() if override and request.method == b"POST" else request.method


def _speaks_tus(request: Request) -> bool:
    said = (content_type_of(request) or "").partition(";")[0].strip().lower()
    return said == _TUS_TYPE or request.requestHeaders.hasHeader(b"upload-offset")


def _interop(said: Fields) -> dict[str, str]:
    """Return what an interim answer says of the draft: clients of another one pass it over (draft-12, 4.2.3)."""
    return {"Upload-Draft-Interop-Version": str(said.version)}


def _teller(request: Request, said: Fields) -> appending.Tell | None:
    """Return what tells the client how far its body is acknowledged; None where it does not want to know."""

    def tell(offset: int) -> None:
        request.inform(104, {"Upload-Offset": str(offset), **_interop(said)})

    return tell if said.progress else None


async def _abandon(access: AuthorizedUploads, upload: Upload) -> None:
    """End an upload of which its client has not been told."""
    try:
        await access.abandon(upload)
    except UploadError:
        # It ends by the clock then.
        return


def _check_question(said: Fields) -> None:
    """Check that a request which brings nothing does not say the state either (draft-01 to -05, 4 and 6).

    :raises Invalid: it does, in a version that forbids it.
    """
    if said.old and (said.offset is not None or said.complete is not None):
        raise Invalid("HEAD and DELETE come without Upload-Offset and Upload-Complete")


def _alive(upload: Upload) -> Upload:
    """Return the upload if there is something to say of it.

    :raises Ended: it was given up, or its client has let go of it.
    """
    if upload.nameless or not (upload.live or upload.stored):
        raise Ended(upload.reason or "the upload has ended")
    return upload
