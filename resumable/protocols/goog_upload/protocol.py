"""X-Goog-Upload on the wire: ``POST``, and a header says what is wanted: start, upload, finalize, query, cancel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import evolve

from resumable.model import Ended, Gap, Invalid, State, TakenOver, Upload, UploadError
from resumable.protocols import digests
from resumable.protocols.access import AuthorizedUploads, Description, Gate, content_type_of
from resumable.protocols.base import Spoken, Target
from resumable.protocols.empty_body import EmptyBody
from resumable.protocols.goog_upload import answers, headers
from resumable.protocols.goog_upload.places import Place, StoredObject, object_of, place_of, upload_url
from resumable.protocols.goog_upload.reading import show_object
from resumable.protocols.goog_upload.start import MOST, describe
from resumable.protocols.google_errors import render_google_error
from resumable.protocols.messages import Request, read_json_object
from resumable.protocols.multipart_body import MultipartBody
from resumable.protocols.response import Response
from resumable.protocols.results import Results
from resumable.protocols.small_body import SmallBodies
from resumable.uploads import values
from resumable.uploads.digest import Digests
from resumable.uploads.registry import Body, Span
from resumable.uploads.result import Report

NAME = "goog-upload"
STATUS = "X-Goog-Upload-Status"
SIZE = "X-Goog-Upload-Size-Received"
#: Bytes of which clients make their pieces multiples. Here every byte that comes is kept.
GRANULARITY = 256 * 1024
#: The largest multipart body's parts: the JSON, the file, and one to see that there is no more.
MOST_PARTS = 3


class Cancelled(Ended):
    """The client itself has cancelled the upload."""


class Unfinished(Invalid):
    """More bytes have to come before the upload can be finished; `received` have."""

    def __init__(self, message: str, received: int) -> None:
        super().__init__(message)
        self.received = received


class GoogUploadProtocol:
    """Uploads that are known by the URL that their start is answered with."""

    name = NAME
    spoken = Spoken(
        methods=("POST", "PUT", "GET", "HEAD"),
        sent=(
            *("X-Goog-Upload-Command", "X-Goog-Upload-Protocol", "X-Goog-Upload-Offset", "X-Goog-Upload-File-Name"),
            *("X-Goog-Upload-Header-Content-Length", "X-Goog-Upload-Header-Content-Type"),
            *("X-Goog-Upload-Content-Length", "X-Goog-Upload-Content-Type", "X-Goog-Upload-Raw-Size"),
            *("X-Firebase-Storage-Version", "X-Firebase-GMPID", "X-Firebase-AppCheck", "X-Goog-Api-Key"),
            "X-Goog-Api-Client",
            *digests.SENT,
        ),
        read=(
            *(STATUS, SIZE, "X-Goog-Upload-URL", "X-Goog-Upload-Control-URL", "X-Goog-Upload-Chunk-Granularity"),
            "X-Goog-Upload-Header-Content-Length",
            *digests.READ,
        ),
    )

    def __init__(self, gate: Gate, results: Results) -> None:
        self._gate = gate
        self._results = results
        #: What is read before the main application has been asked.
        self._descriptions = SmallBodies()

    def match(self, request: Request) -> Target | None:
        """Match requests with a command, or with an upload protocol, where Google's clients go; and those to ``/upload``.

        Some repeat the headers of the start at every request: the command alone says what is wanted. A question for an object of
        Firebase's has neither.
        """
        said = request.requestHeaders
        if not (said.hasHeader(headers.COMMAND) or said.hasHeader(headers.PROTOCOL)):
            return object_of(request.path) if request.method in (b"GET", b"HEAD") else None
        return place_of(request.path, request.query.get("upload_id", [None])[-1])

    async def handle(self, request: Request, target: Target) -> Response:
        """See `resumable.protocols.base.Protocol`."""
        if isinstance(target, StoredObject):
            return await show_object(self._gate, request, target)
        assert isinstance(target, Place), "that is what `match` returns"
        if request.method not in (b"POST", b"PUT"):
            return answers.error_response(405, "use POST", {"Allow": "POST, PUT"})
        command = headers.read_command(request.requestHeaders)
        if command is None:
            return await self._at_once(request, target)
        if "start" in command:
            return await self._start(request, target)
        if target.upload_id is None:
            raise Invalid("the URL names no upload: use the one in X-Goog-Upload-URL")
        if "upload" in command:
            return await self._upload(request, target, target.upload_id, last="finalize" in command)
        if "finalize" in command:
            return await self._finalize(request, target, target.upload_id)
        if "query" in command:
            return await self._query(request, target, target.upload_id)
        return await self._cancel(request, target.upload_id)

    # All in one request

    async def _at_once(self, request: Request, place: Place) -> Response:
        """Take a file that comes in one request: as the body (``raw``), or behind its JSON (``multipart``)."""
        protocol = headers.read_protocol(request.requestHeaders)
        if protocol == "raw":
            return await self._raw(request, place)
        if protocol == "multipart":
            return await self._multipart(request, place)
        raise Invalid("say X-Goog-Upload-Command, or X-Goog-Upload-Protocol: raw or multipart")

    async def _raw(self, request: Request, place: Place) -> Response:
        if request.length == 0 and not request.requestHeaders.hasHeader(b"content-length"):
            return answers.error_response(411, "say Content-Length, or send the body chunked")
        said = describe(
            place,
            request.query,
            request.requestHeaders,
            {},
            length=request.length,
            content_type=content_type_of(request),
        )
        access = await self._gate.authorize(request, "create", description=said)
        span = Span(0, request.length, last=True)
        return await self._receive_whole(request, place, access, said, request, span, digests.digests_of(request))

    async def _multipart(self, request: Request, place: Place) -> Response:
        """Take ``multipart/related``: a part of JSON, and the file (Firebase's ``uploadBytes``)."""
        async with MultipartBody(request, content_type_of(request) or "", MOST_PARTS) as parts:
            first = await parts.next_part()
            if first is None:
                raise Invalid("the body has no part with JSON, and no file")
            async with self._descriptions.of(first, MOST) as json:
                # The JSON is not kept while the file comes: read, it takes many times the memory.
                said = describe(place, request.query, request.requestHeaders, _said(json))
            file = await parts.next_part()
            if file is None:
                raise Invalid("the body has no part with the file")
            lines = file.headers.getRawHeaders(b"content-type", [])
            kind = lines[-1].decode("latin-1") if lines else None
            if kind and said.content_type is None:
                with values.from_client():
                    said = evolve(said, content_type=values.check_content_type(kind))
            access = await self._gate.authorize(request, "create", description=said)
            digests.refuse_body_digest(request)
            span = Span(0, said.length, last=True)
            checked = digests.digests_in(file.headers)
            return await self._receive_whole(request, place, access, said, file, span, checked)

    async def _receive_whole(
        self,
        request: Request,
        place: Place,
        access: AuthorizedUploads,
        said: Description,
        body: Body,
        span: Span,
        checked: Digests,
    ) -> Response:
        said = evolve(said, digests=checked.whole)
        upload = await access.create(said, whole=said.length is not None)
        async with access.untold(upload):
            report = await access.receive(upload, body, span, new=True, digests=checked)
        return await self._final(request, place, report)

    # Step by step

    async def _start(self, request: Request, place: Place) -> Response:
        # The name, which the main application is asked about, may stand in the body.
        async with self._descriptions.of(request, MOST) as body:
            said = describe(place, request.query, request.requestHeaders, _said(body))
            access = await self._gate.authorize(request, "create", description=said)
            upload = await access.create(said)
        url = upload_url(request.origin.base, request.path, upload.id)
        fields = {
            STATUS: "active",
            "X-Goog-Upload-URL": url,
            "X-Goog-Upload-Control-URL": url,
            "X-Goog-Upload-Chunk-Granularity": str(GRANULARITY),
        }
        return Response(200, headers=fields)

    async def _upload(self, request: Request, place: Place, upload_id: str, *, last: bool) -> Response:
        """Take bytes in; with `last` the file ends where they end."""
        offset = headers.read_number(request.requestHeaders, headers.OFFSET)
        if offset is None:
            raise Invalid("X-Goog-Upload-Offset is missing")
        access = await self._gate.authorize(request, "append", upload_id=upload_id)
        upload = _alive(await access.get(upload_id))
        end = None if request.length is None else offset + request.length
        if upload.length is not None and max(offset, end or 0) > upload.length:
            raise Invalid(f"the upload has {upload.length} bytes, and these go past its end")
        checked = digests.digests_of(request)
        if upload.state is State.FINISHED:
            # Its answer may have been lost.
            report = await access.compare(upload, request, Span(offset, end, last=last), checked)
        else:
            early = upload.length is not None and end is not None and end < upload.length
            span = Span(offset, end, last=last and not early)
            report = await access.receive(upload, request, span, digests=checked)
            if last and early:
                raise Unfinished(f"{report.offset} of {upload.length} bytes have come", report.offset)
        if last:
            return await self._final(request, place, report)
        # All of it may be there by now. Its client will yet say that this is the end, and gets its last answer then.
        return Response(200, headers={STATUS: "active", SIZE: str(report.offset)})

    async def _finalize(self, request: Request, place: Place, upload_id: str) -> Response:
        """Finish the upload with the bytes that there are."""
        if request.length != 0:
            raise Invalid("the command finalize comes without a body: say 'upload, finalize' to bring one")
        access = await self._gate.authorize(request, "append", upload_id=upload_id)
        report = await access.report(_alive(await access.get(upload_id)))
        if not report.finished:
            length = report.upload.length
            if length is not None and report.offset != length:
                raise Unfinished(f"{report.offset} of {length} bytes have come", report.offset)
            span = Span(report.offset, report.offset, last=True)
            report = await access.receive(report.upload, EmptyBody(), span)
        return await self._final(request, place, report)

    async def _query(self, request: Request, place: Place, upload_id: str) -> Response:
        access = await self._gate.authorize(request, "status", upload_id=upload_id)
        report = await access.report(_alive(await access.get(upload_id)))
        if report.complete and not report.finished:
            # The answer to its last bytes was lost, or was that the store is in trouble.
            changing = await access.also("append", report.upload)
            if changing is not None:
                report = await changing.settle(report)
        if report.finished:
            return await self._final(request, place, report)
        return Response(200, headers={STATUS: "active", SIZE: str(report.offset)})

    async def _cancel(self, request: Request, upload_id: str) -> Response:
        access = await self._gate.authorize(request, "cancel", upload_id=upload_id)
        upload = await access.get(upload_id)
        if upload.state is State.FINISHED:
            raise Invalid("the upload is finished")
        await access.cancel(upload)
        return Response(200, headers={STATUS: "cancelled"})

    # Answers

    async def _final(self, request: Request, place: Place, report: Report) -> Response:
        """Return the last answer: what Google's service would say of the file, or what the main application says.

        `decorate` adds the status: the application may say what may pass.
        """
        return digests.with_digests(request, report, await self._last(request, place, report))

    async def _last(self, request: Request, place: Place, report: Report) -> Response:
        said = await self._results.verdict(report)
        ours = answers.final_response(place, report, request.origin.base)
        fields = ((SIZE, str(report.offset)),)
        if said is None:
            return evolve(ours, headers=(*ours.headers, *fields))
        if said.body is None:
            return Response(said.status, ours.body, (*ours.headers, *said.headers, *fields))
        return Response(said.status, said.body, (*said.headers, *fields))

    def render_error(self, request: Request, error: UploadError) -> Response:
        """See `resumable.protocols.base.Protocol`."""
        if isinstance(error, Cancelled):
            return answers.error_response(410, str(error), {STATUS: "cancelled"})
        if isinstance(error, TakenOver):
            # Firebase gives up after a 409; after this it asks how far the upload is, and goes on.
            return answers.error_response(503, str(error), {"Retry-After": "1"})
        if isinstance(error, Gap):
            going_on = {STATUS: "active", SIZE: str(error.offset)}
            return answers.error_response(400, str(error), going_on)
        if isinstance(error, Unfinished):
            return answers.error_response(400, str(error), {STATUS: "active", SIZE: str(error.received)})
        return render_google_error(error, named=True)

    def decorate(self, request: Request, response: Response) -> Response:
        """See `resumable.protocols.base.Protocol`.

        Every answer says where the upload stands, but for those to what may pass. Clients take a status for the word of the
        service itself: google-genai goes on with the next piece when it reads ``active``, whatever the HTTP status is, and
        sends the same piece again when there is none.
        """
        if response.status >= 500 or response.status in (408, 429):
            return response
        if any(_lower(name) == STATUS.lower() for name, _ in response.headers):
            return response
        return evolve(response, headers=(*response.headers, (STATUS, "final")))


def _said(body: bytes) -> Mapping[str, Any]:
    """Return what the JSON of a small body says; nothing without a body."""
    return read_json_object(body) if body.strip() else {}


def _lower(name: str | bytes) -> str:
    return (name.decode("latin-1") if isinstance(name, bytes) else name).lower()


def _alive(upload: Upload) -> Upload:
    """Return the upload if there is something to say of it.

    :raises Ended: it was given up.
    """
    if upload.live or upload.state is State.FINISHED:
        return upload
    if upload.state is State.CANCELLED:
        raise Cancelled(upload.reason or "the upload was cancelled")
    raise Ended(upload.reason or "the upload has ended")
