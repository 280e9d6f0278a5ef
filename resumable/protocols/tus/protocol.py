"""tus on the wire: ``POST /files/`` begins an upload; ``HEAD``, ``PATCH`` and ``DELETE`` of its URL go on with it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from attrs import evolve

from resumable.callbacks.authorizer import Refused
from resumable.model import (
    BegunWith,
    DigestMismatch,
    Ended,
    Invalid,
    OffsetMismatch,
    TooLarge,
    UnsupportedType,
    Upload,
    UploadError,
)
from resumable.protocols import digests
from resumable.protocols.access import Description, Gate, content_encoding_of, content_type_of
from resumable.protocols.base import Spoken, Target
from resumable.protocols.download import download
from resumable.protocols.empty_body import EmptyBody
from resumable.protocols.messages import Request
from resumable.protocols.problems import render_refusal, retry_header, status_of
from resumable.protocols.response import Response
from resumable.protocols.results import Results, expires_header
from resumable.protocols.tus.checksum import ALGORITHMS, digest_of
from resumable.protocols.tus.concat import Concat, read_concat
from resumable.protocols.tus.metadata import Metadata, read_metadata, write_metadata
from resumable.quoting import quote_briefly
from resumable.uploads.registry import Span
from resumable.uploads.result import Report

NAME = "tus"
PATH = b"/files"
VERSION = "1.0.0"
EXTENSIONS = (
    "creation",
    "creation-with-upload",
    "creation-defer-length",
    "expiration",
    "checksum",
    "checksum-trailer",
    "termination",
    "concatenation",
    "concatenation-unfinished",
)
#: The type that a body of bytes has to have.
BYTES = "application/offset+octet-stream"
#: Under this name the upload keeps ``Upload-Metadata`` as it came.
METADATA = "upload-metadata"
CONCAT = "upload-concat"
CHECKSUM_MISMATCH = b"Checksum Mismatch"

_NUMBER = re.compile(rb"\d{1,19}", re.ASCII)


class TusProtocol:
    """Uploads that are known by their id, and go on exactly where they stopped."""

    name = NAME
    spoken = Spoken(
        methods=("GET", "HEAD", "POST", "PATCH", "DELETE"),
        sent=(
            *(
                "Tus-Resumable",
                "Upload-Length",
                "Upload-Offset",
                "Upload-Metadata",
                "Upload-Defer-Length",
                "Upload-Concat",
            ),
            *("Upload-Checksum", "X-HTTP-Method-Override", *digests.SENT),
        ),
        read=(
            *(
                "Tus-Resumable",
                "Tus-Version",
                "Tus-Extension",
                "Tus-Max-Size",
                "Tus-Checksum-Algorithm",
                "Upload-Offset",
            ),
            *("Upload-Length", "Upload-Metadata", "Upload-Defer-Length", "Upload-Concat", "Upload-Expires"),
            *digests.READ,
        ),
    )

    def __init__(self, gate: Gate, results: Results) -> None:
        self._gate = gate
        self._results = results

    def match(self, request: Request) -> Target | None:
        """Match ``/files``, ``/files/`` and everything below."""
        if request.path in (PATH, PATH + b"/"):
            return Target()
        below = request.path.startswith(PATH + b"/")
        return Target(upload_id=request.path[len(PATH) + 1 :].decode("latin-1")) if below else None

    async def handle(self, request: Request, target: Target) -> Response:
        """See `resumable.protocols.base.Protocol`."""
        method = method_of(request)
        if method == b"OPTIONS":
            return self._options()
        if method not in (b"GET", b"HEAD") and _header(request, b"tus-resumable") != VERSION.encode():
            return _text(412, f"Tus-Resumable: {VERSION} is the version that is spoken here", {"Tus-Version": VERSION})
        if target.upload_id is None:
            if method == b"POST":
                return await self._create(request)
            return _text(405, "use POST to begin an upload", {"Allow": "POST, OPTIONS"})
        if method == b"HEAD":
            return await self._head(request, target.upload_id)
        if method == b"PATCH":
            return await self._patch(request, target.upload_id)
        if method == b"DELETE":
            return await self._delete(request, target.upload_id)
        if method == b"GET":
            return await download(self._gate, request, target.upload_id)
        return _text(405, "use HEAD, PATCH or DELETE", {"Allow": "HEAD, PATCH, DELETE, OPTIONS"})

    def prepare(self, description: Description) -> Description:
        """See `resumable.protocols.base.Prepares`: HEAD will tell what the file is, as if its client had said it."""
        said = write_metadata(description.name, description.content_type, description.metadata)
        return evolve(description, remembered={METADATA: said} if said else {})

    def url_of(self, request: Request, upload_id: str) -> str:
        """See `resumable.protocols.base.Prepares`."""
        return f"{request.origin.base}/files/{upload_id}"

    def _options(self) -> Response:
        says = {
            "Tus-Version": VERSION,
            "Tus-Extension": ",".join(EXTENSIONS),
            "Tus-Max-Size": str(self._gate.max_size),
            "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
        }
        return Response(204, headers=says)

    # Creating

    async def _create(self, request: Request) -> Response:
        lines = request.requestHeaders.getRawHeaders(b"upload-concat", [])
        concat = read_concat(lines, f"{PATH.decode()}/")
        if concat is not None and not concat.partial:
            return await self._concatenate(request, concat)
        length = _length(request)
        brings = request.length != 0
        if brings:
            _check_type(request)
        said = read_metadata(request.requestHeaders.getRawHeaders(b"upload-metadata", []))
        digest = digest_of(request) if brings else None
        checked = digests.digests_of(request)
        description = Description(
            said.name,
            length,
            said.content_type,
            content_encoding_of(request),
            said.rest,
            digests=checked.whole,
            remembered=_remembered(said, concat),
            partial=concat is not None,
        )
        access = await self._gate.authorize(request, "create", description=description)
        whole = length is not None and request.length == length
        upload = await access.create(description, whole=whole)
        where = {"Location": self.url_of(request, upload.id)}
        async with access.untold(upload):
            if length == 0:
                report = await access.receive(upload, EmptyBody(), Span(0, 0, last=True), new=True, digests=checked)
            elif brings:
                report = await access.receive(
                    upload, request, _span(request, 0), new=True, exact=True, digest=digest, digests=checked
                )
            else:
                report = await access.report(upload)
                return Response(201, headers={**where, **expires_header(report)})
        return await self._answer(request, 201, report, where)

    async def _concatenate(self, request: Request, concat: Concat) -> Response:
        """Create an upload that is made of others, and answer when its object is there, or goes on being made."""
        if request.length != 0 or request.requestHeaders.hasHeader(b"upload-length"):
            raise Invalid("an upload that is made of others has neither a body nor an Upload-Length")
        said = read_metadata(request.requestHeaders.getRawHeaders(b"upload-metadata", []))
        description = Description(
            said.name,
            None,
            said.content_type,
            None,
            said.rest,
            remembered=_remembered(said, concat),
            sources=concat.sources,
        )
        access = await self._gate.authorize(request, "create", description=description)
        report = await access.concatenate(description)
        return await self._answer(request, 201, report, {"Location": self.url_of(request, report.upload.id)})

    async def _answer(self, request: Request, status: int, report: Report, more: dict[str, str]) -> Response:
        """Return the answer to bytes that were stored; that to the last may be the main application's."""
        return digests.with_digests(request, report, await self._plain_answer(status, report, more))

    async def _plain_answer(self, status: int, report: Report, more: dict[str, str]) -> Response:
        headers = {**more, "Upload-Offset": str(report.offset), **expires_header(report)}
        if not report.finished:
            return Response(status, headers=headers)
        verdict = await self._results.verdict(report)
        if verdict is None:
            return Response(status, headers=headers)
        if verdict.status < 300:
            return Response(status, headers=(*headers.items(), *_about_no_body(verdict.headers)))
        return Response(verdict.status, verdict.body or b"", (*headers.items(), *verdict.headers))

    # Going on

    async def _head(self, request: Request, upload_id: str) -> Response:
        access = await self._gate.authorize(request, "status", upload_id=upload_id)
        upload = await access.get(upload_id)
        if upload.protocol == "ietf" and _header(request, b"tus-resumable") is None:
            # Below this URL are its uploads too, and it says nothing in such a request.
            raise BegunWith(upload.protocol)
        report = await access.report(_alive(upload))
        if report.complete and report.upload.live:
            # To be told that all is there is, to a client, to be told that it is done.
            changing = await access.also("append", report.upload)
            if changing is not None:
                report = await changing.settle(report)
        upload = report.upload
        headers = {"Upload-Offset": str(report.offset), **expires_header(report)}
        length = _length_told(report)
        headers.update({"Upload-Defer-Length": "1"} if length is None else {"Upload-Length": str(length)})
        for name, remembered in (("Upload-Metadata", METADATA), ("Upload-Concat", CONCAT)):
            if remembered in upload.remembered:
                headers[name] = upload.remembered[remembered]
        return Response(200, headers=headers)

    async def _patch(self, request: Request, upload_id: str) -> Response:
        _check_type(request)
        offset = _number(request, b"upload-offset")
        if offset is None:
            raise Invalid("Upload-Offset is missing")
        length = _number(request, b"upload-length")
        digest = digest_of(request)
        access = await self._gate.authorize(request, "append", upload_id=upload_id, length=length)
        upload = _alive(await access.get(upload_id))
        if length is not None and not upload.stored:
            if upload.length is None:
                await access.check_offset(upload, offset)
            upload = await access.declare(upload, length)
        if upload.stored and not upload.sources:
            return await self._answer(request, 204, self._at_end(await access.report(upload), request, offset), {})
        checked = digests.digests_of(request)
        span, announced = _span(request, offset), None if upload.length is not None else upload.announced
        ends = None
        if announced is not None and span.end is not None and span.end > announced:
            await access.check_offset(upload, offset)
            raise Invalid(f"the upload has {announced} bytes, and these go past its end")
        if announced is not None and span.end in (None, announced):
            # In tus there is no other end than the length, which HEAD has told.
            span, ends = Span(offset, announced), True
        report = await access.receive(upload, request, span, exact=True, ends=ends, digest=digest, digests=checked)
        return await self._answer(request, 204, report, {})

    def _at_end(self, report: Report, request: Request, offset: int) -> Report:
        """Return the report on a finished upload to one who brings nothing more, as one does whose last answer was lost."""
        if offset != report.offset or request.length != 0:
            raise OffsetMismatch(f"the upload is finished and has {report.offset} bytes", report.offset)
        return report

    async def _delete(self, request: Request, upload_id: str) -> Response:
        access = await self._gate.authorize(request, "cancel", upload_id=upload_id)
        upload = _alive(await access.get(upload_id))
        if upload.stored:
            await access.forget(upload)
        else:
            await access.cancel(upload)
        return Response(204)

    # Answers

    def render_error(self, request: Request, error: UploadError) -> Response:
        """See `resumable.protocols.base.Protocol`.

        To HEAD nothing that may pass is a 5xx or a 429: clients would begin again at byte 0 (tus-js-client does).
        """
        if isinstance(error, Refused):
            if method_of(request) == b"HEAD" and (error.status >= 500 or error.status == 429):
                return Response(423, headers=[("Retry-After", said) for said in _retry_after(error)])
            return render_refusal(error)
        if isinstance(error, DigestMismatch):
            return _text(460, str(error), reason=CHECKSUM_MISMATCH)
        status = status_of(error)
        if isinstance(error, OffsetMismatch):
            return _text(status, str(error), {"Upload-Offset": str(error.offset)})
        if method_of(request) == b"HEAD" and status >= 500:
            return _text(423, str(error), retry_header(error))
        if isinstance(error, TooLarge):
            return _text(413, str(error), {"Tus-Max-Size": str(self._gate.max_size)})
        return _text(status, str(error), retry_header(error))

    def decorate(self, request: Request, response: Response) -> Response:
        """See `resumable.protocols.base.Protocol`."""
        if method_of(request) == b"OPTIONS":
            return response
        return evolve(response, headers=(*response.headers, ("Tus-Resumable", VERSION)))


def method_of(request: Request) -> bytes:
    """Return the method that counts: that of ``X-HTTP-Method-Override``, where there is one."""
    override = _header(request, b"x-http-method-override")
    return request.method if override is None else override.strip().upper()


def _text(status: int, message: str, headers: dict[str, str] | None = None, *, reason: bytes | None = None) -> Response:
    fields = {"Content-Type": "text/plain; charset=utf-8", **(headers or {})}
    return Response(status, f"{message}\n".encode("utf-8", "backslashreplace"), fields, reason)


def _retry_after(refused: Refused) -> list[str]:
    return [line.decode("latin-1") for line in refused.headers.getRawHeaders(b"retry-after", [])]


def _about_no_body(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return those headers that may stand where there is no body."""
    return [(name, value) for name, value in headers if not name.lower().startswith("content-")]


def _alive(upload: Upload) -> Upload:
    """Return the upload if there is something to say of it.

    :raises Ended: it was given up, or its client has let go of it.
    """
    if upload.nameless or not (upload.live or upload.stored):
        raise Ended(upload.reason or "the upload has ended")
    return upload


def _remembered(said: Metadata, concat: Concat | None) -> dict[str, str]:
    """Return what HEAD is to give back as it came."""
    remembered = {METADATA: said.written} if said.written else {}
    return remembered if concat is None else {**remembered, CONCAT: concat.written}


def _header(request: Request, name: bytes) -> bytes | None:
    lines = request.requestHeaders.getRawHeaders(name)
    return lines[-1] if lines else None


def _number(request: Request, name: bytes) -> int | None:
    """Return the number of bytes that a header says; None without it."""
    lines = request.requestHeaders.getRawHeaders(name, [])
    if not lines:
        return None
    if len(lines) > 1 or not _NUMBER.fullmatch(lines[0]):
        raise Invalid(f"{name.decode().title()} {quote_briefly(lines[0])} is not a number of bytes")
    return int(lines[0])


def _length(request: Request) -> int | None:
    """Return the length that a new upload is said to have; None if it will be said later."""
    length = _number(request, b"upload-length")
    deferred = request.requestHeaders.getRawHeaders(b"upload-defer-length", [])
    if deferred and deferred != [b"1"]:
        raise Invalid("Upload-Defer-Length can be 1 and nothing else")
    if (length is None) is not bool(deferred):
        raise Invalid("say Upload-Length, or Upload-Defer-Length: 1")
    return length


def _length_told(report: Report) -> int | None:
    """Return the length that HEAD tells; None as long as it is not known, or is not yet the end.

    An upload of `ietf` whose length is only announced has it as long as bytes are missing. When they are all there, and no
    request has said so, a client that read it would take the upload for done.
    """
    upload = report.upload
    announced = upload.announced
    missing = announced is not None and report.offset < announced
    return announced if upload.length is not None or missing else None


def _check_type(request: Request) -> None:
    """Check that the body is bytes at an offset.

    :raises UnsupportedType: it says that it is something else.
    """
    said = (content_type_of(request) or "").partition(";")[0].strip().lower()
    if said != BYTES:
        raise UnsupportedType(f"Content-Type has to be {BYTES}")


def _span(request: Request, offset: int) -> Span:
    return Span(offset, None if request.length is None else offset + request.length)
