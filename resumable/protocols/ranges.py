"""What ``Content-Range`` does with an upload, however it was found: the range taken in, and how far it is then."""

from __future__ import annotations

from attrs import evolve

from resumable.model import Invalid, State, Upload
from resumable.protocols.access import AuthorizedUploads
from resumable.protocols.content_range import ContentRange
from resumable.protocols.digests import digests_of, with_digests
from resumable.protocols.empty_body import EmptyBody
from resumable.protocols.messages import Request, range_header
from resumable.protocols.response import Response
from resumable.protocols.results import Results, expires_header
from resumable.quoting import quote_briefly
from resumable.uploads.registry import Span
from resumable.uploads.result import Report

#: The chunk size of the upload's grid, in bytes: ranges that begin and end at its multiples are stored without more ado.
CHUNK_SIZE = "Upload-Chunk-Size"


def wants_swarm(request: Request) -> bool:
    """Say whether the upload is to be written by many connections, in any order (``Upload-Swarm: ?1``).

    A structured field (RFC 8941, 3.3.6): what is none says nothing.
    """
    return request.requestHeaders.getRawHeaders(b"upload-swarm", []) == [b"?1"]


class Ranges:
    """Takes ranges in, and answers how far an upload is."""

    def __init__(self, results: Results) -> None:
        self._results = results

    async def query(self, access: AuthorizedUploads, request: Request, report: Report, asked: ContentRange) -> Response:
        """Answer ``bytes */T``: how far is it?

        For one who may change the upload it also sets its length, and finishes what is complete.

        :param access: for the status of the upload.
        """
        upload = report.upload
        if asked.total is not None and upload.length is not None and asked.total != upload.length:
            raise Invalid(f"the upload has {upload.length} bytes, not {quote_briefly(asked.total)}")
        declares = asked.total is not None and upload.length is None and asked.total == report.offset
        if upload.live and (declares or report.complete):
            changing = await access.also("append", upload)
            if changing is None:
                return await self._answer(request, report)
            access = changing
            if declares and asked.total is not None:
                report = evolve(report, upload=await access.declare(upload, asked.total))
        return await self._answer(request, await access.settle(report))

    async def put(
        self,
        access: AuthorizedUploads,
        request: Request,
        upload: Upload,
        brought: ContentRange,
        *,
        new: bool = False,
    ) -> Response:
        """Take in the body of ``bytes F-L/T``.

        :param new: the upload has just been created for it.
        """
        assert brought.first is not None, "a query brings nothing"
        total, unsure = brought.total, False
        if total is not None and not new:
            unsure = await self._may_be_refused(access, upload, brought)
            if not unsure:
                upload = await access.declare(upload, total)
        span, checked = Span(brought.first, brought.end), digests_of(request)
        if upload.state is State.FINISHED:
            if brought.end is not None and brought.end > (upload.length or 0):
                raise Invalid(f"the upload is finished and has {upload.length} bytes")
            # Its answer may have been lost.
            return await self._answer(request, await access.compare(upload, request, span, checked))
        report = await access.receive(upload, request, span, new=new, digests=checked)
        if total is not None and unsure:
            upload = await access.declare(report.upload, total)
            # The last question is asked there, and what is complete is finished.
            span = Span(report.offset, report.offset)
            report = await access.receive(upload, EmptyBody(), span) if upload.live else await access.report(upload)
        return await self._answer(request, report)

    async def _may_be_refused(self, access: AuthorizedUploads, upload: Upload, brought: ContentRange) -> bool:
        """Say whether a range may be another file's, or come too early: the length that it says counts after it was taken.

        That of one which brings what comes next counts at once. It cannot end the upload where it is.
        """
        if upload.length is not None or not upload.live or brought.first is None or brought.end is None:
            return False
        return not brought.first <= (await access.report(upload)).offset < brought.end

    async def _answer(self, request: Request, report: Report) -> Response:
        return with_digests(request, report, await self.answer(report))

    async def answer(self, report: Report) -> Response:
        """Return 308 and what is stored; for a finished upload its result."""
        if report.finished:
            return await self._results.answer(report)
        upload = report.upload
        stored = report.coverage.ranges if upload.swarm else [(0, report.offset)]
        headers = {**range_header(stored), CHUNK_SIZE: str(upload.alignment), **expires_header(report)}
        return Response(308, headers=headers)
