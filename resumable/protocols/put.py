"""The protocol `put`: ``PUT /upload/<name>``, with Content-Range to ask how far and to go on.

It is what the first server of this name spoke, and (but for the URL) what Google's clients speak.
"""

from __future__ import annotations

from attrs import evolve

from resumable.callbacks.authorizer import Authorizer
from resumable.model import Invalid, NotFound, State, Upload
from resumable.protocols.access import Action, ask_for, asked_again, wish_of
from resumable.protocols.content_range import ContentRange, parse_content_range
from resumable.protocols.messages import Request, json_response
from resumable.protocols.names import parse_name
from resumable.protocols.ranges import Ranges, wants_swarm
from resumable.protocols.response import Response, problem
from resumable.uploads.registry import Span
from resumable.uploads.result import as_json
from resumable.uploads.service import UploadService

PROTOCOL = "put"
#: Says of a DELETE that the object of the upload, which is finished, was not deleted: ``kept``.
OBJECT = "Upload-Object"


class PutProtocol:
    """Translates between the wire and the desk; holds no state."""

    def __init__(self, uploads: UploadService, authorizer: Authorizer, ranges: Ranges) -> None:
        self._uploads = uploads
        self._authorizer = authorizer
        self._ranges = ranges

    async def serve(self, request: Request, path: bytes) -> Response:
        """Answer a request for ``/upload/<path>``; `path` still percent-encoded.

        :raises UploadError: what `resumable.protocols.messages.error_response` turns into an answer.
        :raises Refused: the main application has said no.
        """
        name = parse_name(path)
        if request.method == b"PUT":
            return await self._put(request, name)
        if request.method in (b"GET", b"HEAD"):
            grant = await self._authorizer.authorize(ask_for(request, "status", name=name))
            return json_response(200, as_json(await self._uploads.look(grant.owner, name, PROTOCOL)))
        if request.method == b"DELETE":
            grant = await self._authorizer.authorize(ask_for(request, "cancel", name=name))
            return await self._delete(await self._uploads.find(grant.owner, name, PROTOCOL))
        return problem(405, "use PUT to upload, GET to ask, DELETE to cancel", {"Allow": "PUT, GET, HEAD, DELETE"})

    async def _delete(self, upload: Upload) -> Response:
        """Cancel the upload; of a finished one free the name, and say that the object stays."""
        if upload.state is not State.FINISHED:
            await self._uploads.cancel(upload)
            return Response(204)
        await self._uploads.forget(upload)
        return Response(204, headers={OBJECT: "kept"})

    async def _put(self, request: Request, name: str) -> Response:
        span = parse_content_range(request.requestHeaders.getRawHeaders(b"content-range", []), request.length)
        if span is None:
            return await self._put_whole(request, name)
        if span.first is None:
            return await self._query(request, name, span)
        return await self._put_range(request, name, span, span.first)

    async def _put_whole(self, request: Request, name: str) -> Response:
        """The whole object in one body. An upload of the same name that was not finished is given up for it."""
        headers = request.requestHeaders
        if request.length == 0 and not headers.hasHeader(b"content-length"):
            return problem(411, "say Content-Length, or send the body chunked")
        ask = ask_for(request, "create", name=name, length=request.length)
        grant = await self._authorizer.authorize(ask)
        wanted = wish_of(request, grant, protocol=PROTOCOL, name=name, length=request.length)
        upload = await self._uploads.create(wanted, whole=True)
        span = Span(0, request.length, last=True)
        confirm = asked_again(self._authorizer, ask, grant)
        report = await self._uploads.receive(upload, request, span, confirm=confirm, new=True, max_size=grant.max_size)
        return await self._ranges.answer(report)

    async def _query(self, request: Request, name: str, asked: ContentRange) -> Response:
        """``bytes */T``: how far is it?"""
        grant = await self._authorizer.authorize(ask_for(request, "status", name=name, length=asked.total))
        report = await self._uploads.look(grant.owner, name, PROTOCOL)
        change = ask_for(request, "append", name=name, length=asked.total)
        return await self._ranges.query(report, asked, grant, change=change)

    async def _put_range(self, request: Request, name: str, brought: ContentRange, first: int) -> Response:
        """``bytes F-L/T``: go on; from byte 0, or anywhere if many connections are to write the upload, also start."""
        swarm = wants_swarm(request)
        may_start = swarm or first == 0
        if swarm and brought.total is None:
            raise Invalid("who brings an upload on many connections has to say its length: bytes F-L/T")
        action: Action = "create" if may_start else "append"
        ask = ask_for(request, action, name=name, length=brought.total)
        grant = await self._authorizer.authorize(ask)
        try:
            upload = await self._uploads.find(grant.owner, name, PROTOCOL)
            new = may_start and await self._begins_another(upload, brought.total, swarm=swarm)
        except NotFound:
            if not may_start:
                raise
            new = True
        if new:
            wanted = wish_of(request, grant, protocol=PROTOCOL, name=name, length=brought.total)
            whole = first == 0 and brought.end is not None and brought.end == brought.total
            upload, new = await self._uploads.join(evolve(wanted, swarm=swarm), whole=whole)
        elif swarm:
            upload = await self._uploads.open_to_many(upload)
        return await self._ranges.put(request, upload, brought, ask=ask, grant=grant, new=new)

    async def _begins_another(self, upload: Upload, total: int | None, *, swarm: bool) -> bool:
        """Whether a body that may start an upload cannot mean this one any more, but a new one in its place.

        :raises Unavailable: its object is about to be made, and cannot be just now.
        """
        another = total is not None and upload.length is not None and total != upload.length
        if swarm:
            # Any range may be the repeat of one whose answer was lost.
            return upload.state is State.FAILED or (another and upload.state is State.FINISHED)
        if upload.state is State.FINISHING and not another:
            # All of it was acknowledged: that is not thrown away for one who begins again.
            await self._uploads.finish(upload)
            return True
        return another or not upload.live
