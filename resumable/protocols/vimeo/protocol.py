"""Vimeo on the wire: a ticket, then ``PUT`` until all is there, then ``DELETE`` of the ticket. That is its old streaming API.

In place of it there are tickets for uploads that go on with tus (API 3.4).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from attrs import evolve, frozen

from resumable.callbacks.authorizer import Refused
from resumable.model import Ended, Gap, InternalError, Invalid, Rejected, State, Upload, UploadError
from resumable.protocols.access import Description, Gate, content_type_of
from resumable.protocols.base import Prepares, Spoken, Target
from resumable.protocols.digests import SENT, digests_of
from resumable.protocols.empty_body import EmptyBody
from resumable.protocols.messages import Request, json_response
from resumable.protocols.problems import render_refusal, retry_header, status_of
from resumable.protocols.response import HeaderPairs, Response, header_pairs
from resumable.protocols.results import Results
from resumable.protocols.small_body import SmallBodies
from resumable.protocols.vimeo.cut_body import CutBody
from resumable.protocols.vimeo.ranges import Brought, parse_range
from resumable.protocols.vimeo.ticket import MOST, TUS, Asked, read_ticket
from resumable.uploads.registry import Body, Span
from resumable.uploads.result import Report, as_json

NAME = "vimeo"
PREFIX = b"/vimeo/"
#: Where tickets are made.
TICKETS = b"/vimeo/me/videos"
#: What stands below `PREFIX` and before an upload's id.
UPLOAD, COMPLETE, VIDEOS = "upload", "complete", "videos"


@frozen
class VimeoTarget(Target):
    """What a request is about.

    :ivar kind: `UPLOAD`, `COMPLETE` or `VIDEOS`; empty for what is none of them.
    """

    kind: str = ""


class VimeoProtocol:
    """Uploads that are known by the links that their ticket names."""

    name = NAME
    spoken = Spoken(methods=("GET", "POST", "PUT", "DELETE"), sent=("Content-Range", *SENT), read=("Range",))

    def __init__(self, gate: Gate, results: Results) -> None:
        self._gate = gate
        #: Makes tickets for tus; None where that is not spoken.
        self._tus: Prepares | None = None
        self._results = results
        #: What is read before the main application has been asked.
        self._descriptions = SmallBodies()

    def make_for(self, protocols: Iterable[Prepares]) -> None:
        """Make tickets for tus, if that is among these protocols."""
        self._tus = next((protocol for protocol in protocols if protocol.name == TUS), None)

    def match(self, request: Request) -> Target | None:
        """Match everything below ``/vimeo/``."""
        if not request.path.startswith(PREFIX):
            return None
        if request.path == TICKETS:
            return VimeoTarget()
        kind, _, upload_id = request.path[len(PREFIX) :].decode("latin-1").partition("/")
        return VimeoTarget(upload_id=upload_id, kind=kind if kind in (UPLOAD, COMPLETE, VIDEOS) and upload_id else "")

    async def handle(self, request: Request, target: Target) -> Response:
        """See `resumable.protocols.base.Protocol`."""
        assert isinstance(target, VimeoTarget), "that is what `match` returns"
        if target.upload_id is None:
            return await self._ticket(request) if request.method == b"POST" else _wrong_method("POST")
        if target.kind == UPLOAD:
            return await self._put(request, target.upload_id) if request.method == b"PUT" else _wrong_method("PUT")
        if target.kind == COMPLETE:
            if request.method != b"DELETE":
                return _wrong_method("DELETE")
            return await self._complete(request, target.upload_id)
        if target.kind == VIDEOS:
            if request.method not in (b"GET", b"HEAD"):
                return _wrong_method("GET, HEAD")
            return await self._show(request, target.upload_id)
        return _error(404, "there is nothing here; tickets are made at /vimeo/me/videos")

    # Tickets

    async def _ticket(self, request: Request) -> Response:
        # The name, which the main application is asked about, stands in the body.
        async with self._descriptions.of(request, MOST) as body:
            asked = read_ticket(request.query, content_type_of(request), body)
        if asked.approach == TUS:
            return await self._ticket_for_tus(request, asked)
        # The size is left to the PUT that brings the bytes.
        said = Description(asked.name, None)
        access = await self._gate.authorize(request, "create", description=said)
        upload = await access.create(said)
        link = f"{request.origin.base}/vimeo/{UPLOAD}/{quote(upload.id, safe='')}"
        shown = {
            "uri": f"/videos/{upload.id}",
            "ticket_id": upload.id,
            "upload_link": link,
            "upload_link_secure": link,
            # Clients put the base of the API before it.
            "complete_uri": f"/{COMPLETE}/{upload.id}",
            "user": {"upload_quota": {"space": {"free": self._gate.max_size, "max": self._gate.max_size, "used": 0}}},
        }
        return json_response(201, shown)

    async def _ticket_for_tus(self, request: Request, asked: Asked) -> Response:
        """Create an upload that speaks tus from here on."""
        tus = self._tus
        if tus is None:
            raise Rejected("approach", "upload.approach: tus is not spoken here; type=streaming is")
        said = evolve(tus.prepare(Description(asked.name, asked.size)), protocol=tus.name)
        access = await self._gate.authorize(request, "create", description=said)
        upload = await access.create(said)
        if asked.size == 0:
            # There will be no PATCH that could finish it.
            await access.receive_nothing(upload)
        shown = {
            "uri": f"/videos/{upload.id}",
            "name": upload.name,
            "upload": {
                "approach": TUS,
                "size": asked.size,
                "status": "complete" if asked.size == 0 else "in_progress",
                "upload_link": tus.url_of(request, upload.id),
            },
        }
        # 200, not 201: PyVimeo takes nothing else.
        return json_response(200, shown)

    # Bytes

    async def _put(self, request: Request, upload_id: str) -> Response:
        brought = parse_range(request.requestHeaders.getRawHeaders(b"content-range", []), request.length)
        if brought is None:
            return await self._put_whole(request, upload_id)
        if brought.first is None:
            return await self._verify(request, upload_id)
        return await self._put_range(request, upload_id, brought, brought.first)

    async def _put_whole(self, request: Request, upload_id: str) -> Response:
        """Take the whole file in one body."""
        if request.length == 0 and not request.requestHeaders.hasHeader(b"content-length"):
            return _error(411, "say Content-Length, or send the body chunked")
        access = await self._gate.authorize(request, "append", upload_id=upload_id, length=request.length)
        upload = _alive(await access.get(upload_id))
        if request.length is not None:
            upload = await access.declare(upload, request.length)
        span, checked = Span(0, request.length, last=True), digests_of(request)
        if upload.state is State.FINISHED:
            await access.compare(upload, request, span, checked)
        else:
            await access.receive(upload, request, span, digests=checked)
        return Response(200)

    async def _put_range(self, request: Request, upload_id: str, brought: Brought, first: int) -> Response:
        """Take the rest of the file, or a piece of it."""
        assert brought.end is not None, "only a question has none"
        assert brought.total is not None, "only a question may do without"
        access = await self._gate.authorize(request, "append", upload_id=upload_id, length=brought.total)
        upload = await access.declare(_alive(await access.get(upload_id)), brought.total)
        body: Body = request
        checked = digests_of(request)
        if brought.cut and (checked.body is not None or checked.trailing is not None):
            raise Invalid("the body is longer than its range: its digest cannot be checked")
        if brought.cut:
            body = CutBody(request, brought.end - first) if brought.end > first else EmptyBody()
        span = Span(first, brought.end, last=brought.end == brought.total)
        if upload.state is State.FINISHED:
            # Its answer may have been lost.
            await access.compare(upload, body, span, checked)
        else:
            await access.receive(upload, body, span, digests=checked)
        return Response(200)

    async def _verify(self, request: Request, upload_id: str) -> Response:
        """Say how many bytes there are. It is 308 always, also when that is all of them."""
        access = await self._gate.authorize(request, "status", upload_id=upload_id)
        report = await access.report(_alive(await access.get(upload_id)))
        return _incomplete(report.offset)

    # The end

    async def _complete(self, request: Request, upload_id: str) -> Response:
        """Finish the upload, if all of it is there."""
        access = await self._gate.authorize(request, "append", upload_id=upload_id)
        report = await access.settle(await access.report(_alive(await access.get(upload_id))))
        if not report.finished:
            length = report.upload.length
            raise Invalid(f"{report.offset} of {'so far unknown' if length is None else length} bytes have come")
        said = await self._results.verdict(report)
        location = {"Location": f"/videos/{upload_id}"}
        if said is None:
            return Response(201, headers=location)
        # PyVimeo takes nothing but 201 for a yes.
        status = 201 if said.status < 300 else said.status
        return Response(status, said.body or b"", (*location.items(), *said.headers))

    async def _show(self, request: Request, upload_id: str) -> Response:
        access = await self._gate.authorize(request, "status", upload_id=upload_id)
        report = await access.report(_alive(await access.get(upload_id)))
        return json_response(200, video_of(report))

    # Answers

    def render_error(self, request: Request, error: UploadError) -> Response:
        """See `resumable.protocols.base.Protocol`."""
        if isinstance(error, Refused):
            return render_refusal(error)
        if isinstance(error, Gap):
            # It asks for what is missing, as the answer to a question does.
            return _incomplete(error.offset)
        if isinstance(error, InternalError):
            return _error(500, "the service has a fault")
        return _error(status_of(error), str(error), retry_header(error))

    def decorate(self, request: Request, response: Response) -> Response:
        """See `resumable.protocols.base.Protocol`."""
        return response


def video_of(report: Report) -> dict[str, Any]:
    """Return an upload as a video of Vimeo's, beside what this service says of every upload."""
    status = "complete" if report.finished else "in_progress"
    uri = f"/videos/{report.upload.id}"
    return {**as_json(report), "uri": uri, "upload": {"status": status, "size": report.upload.length}}


def _incomplete(count: int) -> Response:
    """Return 308 and how many bytes there are: the second number is their count, not the last one's offset."""
    return Response(308, headers={"Range": f"bytes=0-{count}"})


def _error(status: int, message: str, headers: HeaderPairs = ()) -> Response:
    """Return an error as Vimeo writes it."""
    answer = json_response(status, {"error": message, "developer_message": message, "link": None})
    return Response(status, answer.body, (*answer.headers, *header_pairs(headers)))


def _wrong_method(allowed: str) -> Response:
    return _error(405, f"use {allowed}", {"Allow": allowed})


def _alive(upload: Upload) -> Upload:
    """Return the upload if there is something to say of it.

    :raises Ended: it was given up.
    """
    if not (upload.live or upload.state is State.FINISHED):
        raise Ended(upload.reason or "the upload has ended")
    return upload
