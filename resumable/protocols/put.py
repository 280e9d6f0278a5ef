"""The protocol `put`: ``PUT /upload/<name>``, with Content-Range to ask how far and to go on.

It is what the first server of this name spoke, and (but for the URL) what Google's clients speak.
"""

from __future__ import annotations

from attrs import evolve

from resumable.model import Invalid, NotFound, State, Upload
from resumable.protocols import digests
from resumable.protocols.access import Action, AuthorizedUploads, Gate, description_of
from resumable.protocols.base import Plain, Spoken, Target
from resumable.protocols.content_range import ContentRange, parse_content_range
from resumable.protocols.messages import Request, json_response
from resumable.protocols.names import parse_name
from resumable.protocols.ranges import CHUNK_SIZE, Ranges, wants_swarm
from resumable.protocols.response import Response, problem
from resumable.protocols.results import Results
from resumable.uploads.expected import others_said
from resumable.uploads.registry import Span
from resumable.uploads.result import as_json

NAME = "put"
PREFIX = b"/upload/"
#: Says of a DELETE that the object of the upload, which is finished, was not deleted: ``kept``.
OBJECT = "Upload-Object"


class PutProtocol(Plain):
    """Uploads that are known by their owner and name."""

    name = NAME
    spoken = Spoken(
        methods=("GET", "HEAD", "PUT", "DELETE"),
        sent=("Content-Encoding", "Content-Range", "Upload-Swarm", *digests.SENT),
        read=("Range", CHUNK_SIZE, "Upload-Expires", OBJECT, *digests.READ),
    )

    def __init__(self, gate: Gate, results: Results) -> None:
        self._gate = gate
        self._ranges = Ranges(results)

    def match(self, request: Request) -> Target | None:
        """Match everything below ``/upload/``. Slashes in a name, however they are written, belong to the name."""
        return Target(name=request.path[len(PREFIX) :]) if request.path.startswith(PREFIX) else None

    async def handle(self, request: Request, target: Target) -> Response:
        """See `resumable.protocols.base.Protocol`."""
        name = parse_name(target.name or b"")
        if request.method == b"PUT":
            return await self._put(request, name)
        if request.method in (b"GET", b"HEAD"):
            access = await self._gate.authorize(request, "status", name=name)
            return json_response(200, as_json(await access.look(name)))
        if request.method == b"DELETE":
            access = await self._gate.authorize(request, "cancel", name=name)
            return await self._delete(access, await access.find(name))
        return problem(405, "use PUT to upload, GET to ask, DELETE to cancel", {"Allow": "PUT, GET, HEAD, DELETE"})

    async def _delete(self, access: AuthorizedUploads, upload: Upload) -> Response:
        """Cancel the upload; of a finished one free the name, and say that the object stays."""
        if upload.state is not State.FINISHED:
            await access.cancel(upload)
            return Response(204)
        await access.forget(upload)
        return Response(204, headers={OBJECT: "kept"})

    async def _put(self, request: Request, name: str) -> Response:
        brought = parse_content_range(request.requestHeaders.getRawHeaders(b"content-range", []), request.length)
        if brought is None:
            return await self._put_whole(request, name)
        if brought.first is None:
            access = await self._gate.authorize(request, "status", name=name, length=brought.total)
            return await self._ranges.query(access, request, await access.look(name), brought)
        return await self._put_range(request, name, brought, brought.first)

    async def _put_whole(self, request: Request, name: str) -> Response:
        """Take the whole object in one body. An upload of the same name that was not finished is given up for it."""
        if request.length == 0 and not request.requestHeaders.hasHeader(b"content-length"):
            return problem(411, "say Content-Length, or send the body chunked")
        checked = digests.digests_of(request)
        said = evolve(description_of(request, name, request.length), digests=checked.whole)
        access = await self._gate.authorize(request, "create", description=said)
        upload = await access.create(said, whole=True)
        span = Span(0, request.length, last=True)
        report = await access.receive(upload, request, span, new=True, digests=checked)
        return digests.with_digests(request, report, await self._ranges.answer(report))

    async def _put_range(self, request: Request, name: str, brought: ContentRange, first: int) -> Response:
        """Go on; from byte 0, or anywhere if many connections are to write the upload, also start.

        :param first: the offset of the first byte that is brought.
        """
        swarm = wants_swarm(request)
        may_start = swarm or first == 0
        if swarm and brought.total is None:
            raise Invalid("Upload-Swarm requires a total length: say Content-Range: bytes F-L/T")
        action: Action = "create" if may_start else "append"
        claimed = digests.digests_of(request).whole
        said = evolve(description_of(request, name, brought.total, swarm=swarm), digests=claimed)
        access = await self._gate.authorize(request, action, description=said)
        try:
            upload = await access.find(name)
            another = await self._begins_another(access, upload, brought.total, swarm=swarm) if may_start else False
            # Another file that begins under the name has other digests.
            new = another or (first == 0 and not swarm and upload.live and others_said(claimed, upload))
        except NotFound:
            if not may_start:
                raise
            new = True
        if new:
            whole = first == 0 and brought.end is not None and brought.end == brought.total
            upload, new = await access.join(said, whole=whole)
        elif swarm:
            upload = await access.open_to_many(upload)
        return await self._ranges.put(access, request, upload, brought, new=new)

    async def _begins_another(
        self, access: AuthorizedUploads, upload: Upload, total: int | None, *, swarm: bool
    ) -> bool:
        """Say whether a body that may start an upload cannot mean this one any more, but a new one in its place.

        :raises Unavailable: its object is about to be made, and cannot be just now.
        """
        another = total is not None and upload.length is not None and total != upload.length
        if swarm:
            # Any range may be the repeat of one whose answer was lost.
            return upload.state is State.FAILED or (another and upload.state is State.FINISHED)
        if upload.state is State.FINISHING and not another:
            # All of it was acknowledged: that is not thrown away for one who begins again.
            await access.finish(upload)
            return True
        return another or not upload.live
