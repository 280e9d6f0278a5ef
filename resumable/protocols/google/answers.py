"""How far an upload is, and its last answer, as Google's clients read them."""

from __future__ import annotations

from resumable.protocols.digests import with_digests
from resumable.protocols.google.paths import Family
from resumable.protocols.google.resources import render_finished
from resumable.protocols.messages import Request, range_header
from resumable.protocols.response import Response
from resumable.protocols.results import Results
from resumable.timestamps import rfc3339
from resumable.uploads.result import Report

UPLOAD_ID = "X-GUploader-UploadID"
OVERRIDE = "X-HTTP-Status-Code-Override"
EXPIRES = "X-Upload-Expires"
STORED_LENGTH = "X-Goog-Stored-Content-Length"


class Answers:
    """Answers to requests that bring bytes, or ask how far the upload is."""

    def __init__(self, results: Results) -> None:
        self._results = results

    async def of(self, request: Request, report: Report, family: Family) -> Response:
        """Return 308 and what is stored; for a finished upload its resource, or what the application says to it."""
        if not report.finished:
            return self._resume_incomplete(request, report)
        return with_digests(request, report, await self._last(request, report, family))

    async def _last(self, request: Request, report: Report, family: Family) -> Response:
        upload = report.upload
        headers = ((UPLOAD_ID, upload.id), (STORED_LENGTH, str(upload.length or 0)))
        said = await self._results.verdict(report)
        ours = render_finished(upload, family, request.origin.base)
        if said is None:
            return Response(ours.status, ours.body, (*ours.headers, *headers))
        if said.body is None:
            return Response(said.status, ours.body, (*ours.headers, *headers, *said.headers))
        return Response(said.status, said.body, (*headers, *said.headers))

    def _resume_incomplete(self, request: Request, report: Report) -> Response:
        """Return 308 as it is, or as the clients in Go want it: they take a true one for a redirection.

        It never has a ``Location``, which clients would follow or go on with.
        """
        headers = {**range_header([(0, report.offset)]), UPLOAD_ID: report.upload.id, **expires(report)}
        if request.requestHeaders.getRawHeaders(b"x-guploader-no-308", [])[-1:] == [b"yes"]:
            return Response(200, headers={**headers, OVERRIDE: "308"})
        return Response(308, headers=headers)


def expires(report: Report) -> dict[str, str]:
    """Return when an unfinished upload will be ended if nothing more comes, as node-uploadx says it (ISO 8601)."""
    return {} if report.expires is None else {EXPIRES: rfc3339(report.expires)}
