"""What ``PUT`` with ``Content-Range`` does with an upload, however it was found: the range taken in, and how far it is then."""

from __future__ import annotations

from attrs import evolve

from resumable.callbacks.authorizer import AuthorizationRequest, Authorizer, Grant, Refused
from resumable.model import Invalid, State, Upload
from resumable.protocols.access import asked_again
from resumable.protocols.content_range import ContentRange
from resumable.protocols.messages import Request, range_header
from resumable.protocols.response import Response
from resumable.protocols.results import Results, expires_header
from resumable.quoting import quote_briefly
from resumable.uploads.registry import Span
from resumable.uploads.result import Report
from resumable.uploads.sender import confirmed
from resumable.uploads.service import UploadService

#: The chunk size of the upload's grid, in bytes: ranges that begin and end at its multiples are stored without more ado.
CHUNK_SIZE = "Upload-Chunk-Size"


def wants_swarm(request: Request) -> bool:
    """Whether the request says that its upload is written by many connections, in any order (``Upload-Swarm: ?1``).

    A structured field (RFC 8941, 3.3.6): what is none says nothing.
    """
    return request.requestHeaders.getRawHeaders(b"upload-swarm", []) == [b"?1"]


class Ranges:
    """Takes ranges in, and answers how far an upload is."""

    def __init__(self, uploads: UploadService, authorizer: Authorizer, results: Results) -> None:
        self._uploads = uploads
        self._authorizer = authorizer
        self._results = results

    async def query(
        self, report: Report, asked: ContentRange, grant: Grant, *, change: AuthorizationRequest
    ) -> Response:
        """``bytes */T``: how far is it? One who may change the upload, too, sets its length, and finishes what is complete.

        :param change: whether the client may do that.
        """
        upload = report.upload
        if asked.total is not None and upload.length is not None and asked.total != upload.length:
            raise Invalid(f"the upload has {upload.length} bytes, not {quote_briefly(asked.total)}")
        declares = asked.total is not None and upload.length is None and asked.total == report.offset
        if upload.live and (declares or report.complete):
            allowed = await self._allowed(change, grant)
            if allowed is None:
                return await self.answer(report)
            if declares and asked.total is not None:
                upload = await self._uploads.declare(upload, asked.total, max_size=allowed.max_size)
                report = evolve(report, upload=upload)
        return await self.answer(await self._uploads.settle(report, confirmed))

    async def _allowed(self, ask: AuthorizationRequest, grant: Grant) -> Grant | None:
        """The application's yes to what the client has not asked for in so many words, or None."""
        try:
            allowed = await self._authorizer.authorize(ask)
        except Refused:
            return None
        return allowed if allowed.owner == grant.owner else None

    async def put(
        self,
        request: Request,
        upload: Upload,
        brought: ContentRange,
        *,
        ask: AuthorizationRequest,
        grant: Grant,
        new: bool = False,
    ) -> Response:
        """``bytes F-L/T``: take the body in.

        :param ask: what the main application was asked for this request, and has answered with `grant`.
        :param new: the upload has just been created for it.
        """
        assert brought.first is not None, "a query brings nothing"
        if brought.total is not None and not new:
            upload = await self._uploads.declare(upload, brought.total, max_size=grant.max_size)
        span = Span(brought.first, brought.end)
        if upload.state is State.FINISHED:
            if brought.end is not None and brought.end > (upload.length or 0):
                raise Invalid(f"the upload is finished and has {upload.length} bytes")
            # Its answer may have been lost.
            return await self.answer(await self._uploads.compare(upload, request, span))
        report = await self._uploads.receive(
            upload,
            request,
            span,
            confirm=asked_again(self._authorizer, ask, grant),
            new=new,
            max_size=grant.max_size,
        )
        return await self.answer(report)

    async def answer(self, report: Report) -> Response:
        """308 and what is stored; when it is finished, the result."""
        if report.finished:
            return await self._results.answer(report)
        upload = report.upload
        stored = report.coverage.ranges if upload.swarm else [(0, report.offset)]
        headers = {**range_header(stored), CHUNK_SIZE: str(upload.chunk_size), **expires_header(report)}
        return Response(308, headers=headers)
