"""Resumable uploads: begun by one request, and brought by any number of others."""

from __future__ import annotations

from attrs import evolve

from resumable.model import DigestMismatch, Ended, Gap, Invalid, State, Upload
from resumable.protocols.access import AuthorizedUploads, Gate, content_type_of
from resumable.protocols.content_range import ContentRange
from resumable.protocols.digests import digests_of
from resumable.protocols.google.answers import UPLOAD_ID, Answers, expires
from resumable.protocols.google.content_range import parse_range
from resumable.protocols.google.errors import gap_text
from resumable.protocols.google.hashes import said_crc32c
from resumable.protocols.google.metadata import MOST, announced_length, announced_type, describe, read_resource
from resumable.protocols.google.paths import GoogleTarget, bucket_of, session_uri
from resumable.protocols.google_errors import google_error
from resumable.protocols.messages import Request
from resumable.protocols.response import Response
from resumable.protocols.small_body import SmallBodies
from resumable.uploads.registry import Span
from resumable.uploads.result import Report

#: What clients of Google take for "it was cancelled"; nobody else has this status.
CANCELLED = Response(499, reason=b"Client Closed Request")
#: Says of a DELETE that the object of the upload, which is finished, was not deleted: ``kept``.
OBJECT = "Upload-Object"


class Sessions:
    """Begins sessions, and serves the requests to their URIs.

    Google wants all chunks but the last to be multiples of 256 KiB; here every byte counts, whatever the chunks are.
    """

    def __init__(self, gate: Gate, answers: Answers, descriptions: SmallBodies) -> None:
        """:param descriptions: what is read before the main application has been asked."""
        self._gate = gate
        self._answers = answers
        self._descriptions = descriptions

    async def begin(self, request: Request, target: GoogleTarget) -> Response:
        """Create an upload, and return where its bytes go."""
        length = announced_length(request)
        async with self._descriptions.of(request, MOST) as body:
            said = read_resource(body, content_type_of(request))
            description = describe(request, target, said, length=length, content_type=announced_type(request))
            access = await self._gate.authorize(request, "create", description=description)
            if target.bucket is not None:
                access.check_bucket(bucket_of(target))
            upload = await access.create(description)
            report = await access.report(upload)
        where = {"Location": session_uri(request, upload.id), UPLOAD_ID: upload.id}
        return Response(200, headers={**where, **expires(report)})

    async def cancel(self, request: Request, upload_id: str) -> Response:
        """End the upload; of a finished one free the name, and say that the object stays."""
        access = await self._gate.authorize(request, "cancel", upload_id=upload_id)
        upload = _alive(await access.get(upload_id))
        if upload.state is State.FINISHED:
            await access.forget(upload)
            return Response(204, headers={OBJECT: "kept"})
        await access.cancel(upload)
        return CANCELLED

    async def put(self, request: Request, target: GoogleTarget, upload_id: str) -> Response:
        """Take in a body, or say how far the upload is."""
        brought = parse_range(request.requestHeaders.getRawHeaders(b"content-range", []), request.length)
        crc32c = said_crc32c(request)
        if brought is None and request.length == 0 and not request.requestHeaders.hasHeader(b"content-length"):
            return google_error(411, "say Content-Length, or send the body chunked")
        if brought is not None and brought.query:
            report = _agreed(await self._ask(request, upload_id, brought, crc32c), crc32c)
            return await self._answers.of(request, report, target.family)
        if brought is None:
            # The whole object in one body.
            brought = ContentRange(0, request.length, request.length)
        first = brought.first or 0
        access = await self._gate.authorize(request, "append", upload_id=upload_id, length=brought.total)
        upload = _alive(await access.get(upload_id))
        try:
            report = _agreed(await self._receive(access, request, upload, brought, crc32c), crc32c)
        except Gap as gap:
            return gap_text(first, gap.offset)
        return await self._answers.of(request, report, target.family)

    async def _receive(
        self, access: AuthorizedUploads, request: Request, upload: Upload, brought: ContentRange, crc32c: int | None
    ) -> Report:
        if brought.total is not None:
            upload = await access.declare(upload, brought.total)
        if crc32c is not None:
            upload = await access.expect(upload, crc32c)
        # A range without an end brings the rest of the object.
        first, end = brought.first or 0, upload.length if brought.end is None else brought.end
        checked = digests_of(request)
        if upload.state is not State.FINISHED:
            return await access.receive(upload, request, Span(first, end, last=end is None), digests=checked)
        length = upload.length or 0
        if first >= length or (end or 0) > length:
            # As Google does: the answer says how many bytes the object has.
            return await access.report(upload)
        # The last answer may have been lost.
        return await access.compare(upload, request, Span(first, end), checked)

    async def _ask(self, request: Request, upload_id: str, asked: ContentRange, crc32c: int | None) -> Report:
        """Return how far the upload is. ``bytes */N`` with N stored bytes says that those are all: it is finished."""
        access = await self._gate.authorize(request, "status", upload_id=upload_id, length=asked.total)
        upload = _alive(await access.get(upload_id))
        report = await access.report(upload)
        declares = upload.live and upload.length is None and asked.total == report.offset
        if not report.finished and (declares or report.complete):
            changing = await access.also("append", upload)
            if changing is None:
                return report
            if declares and asked.total is not None:
                try:
                    report = evolve(report, upload=await changing.declare(upload, asked.total))
                except Invalid:
                    # In this moment more bytes have come, or another length was said: it is not finished by this.
                    return await access.report(await access.get(upload_id))
            if crc32c is not None:
                report = evolve(report, upload=await changing.expect(report.upload, crc32c))
            access = changing
        return await access.settle(report)


def _agreed(report: Report, crc32c: int | None) -> Report:
    """Return the report, unless the object is made and is not the one that the request has said it is.

    Another request may have made it in the moment in which this one said so.

    :raises DigestMismatch: it has another checksum, or one that nobody knows.
    """
    if report.finished and crc32c not in (None, report.upload.crc32c):
        raise DigestMismatch("the object that was made has another checksum")
    return report


def _alive(upload: Upload) -> Upload:
    """Return the upload if there is something to say of it.

    :raises Ended: it was given up, or its client has let go of it.
    """
    if upload.nameless or not (upload.live or upload.state is State.FINISHED):
        raise Ended(upload.reason or "the upload has ended")
    return upload
