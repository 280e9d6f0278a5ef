"""What Google's services answer: of a finished file, and errors. Pure."""

from __future__ import annotations

from typing import Any

from resumable.protocols.goog_upload.places import Place, Service
from resumable.protocols.goog_upload.start import FILE
from resumable.protocols.google_errors import google_error
from resumable.protocols.google_object import object_of
from resumable.protocols.messages import json_response
from resumable.protocols.response import HeaderPairs, Response
from resumable.timestamps import rfc3339
from resumable.uploads.result import Report


def error_response(status: int, message: str, headers: HeaderPairs = ()) -> Response:
    """Return an error as Google's services write it, with its name: google-genai shows it."""
    return google_error(status, message, headers, named=True)


def final_response(place: Place, report: Report, base: str) -> Response:
    """Return what the service in whose place we are says of a finished file.

    :param base: of URLs that the client can reach.
    """
    if place.service is Service.PHOTOS:
        # An upload token, which the client passes on to whoever makes the photo of it.
        return Response(200, report.upload.id.encode("ascii"), {"Content-Type": "text/plain"})
    if place.service is Service.GEMINI:
        return json_response(200, {"file": gemini_file(report, base)})
    return json_response(200, stored_object(report, place.bucket))


def gemini_file(report: Report, base: str) -> dict[str, Any]:
    """Return the file as the Gemini API has it (https://ai.google.dev/api/files#File)."""
    upload = report.upload
    finished = upload.created if upload.finished is None else upload.finished
    return {
        "name": upload.remembered.get(FILE, f"files/{upload.id}"),
        "displayName": upload.name,
        "mimeType": upload.options.content_type or "application/octet-stream",
        "sizeBytes": str(upload.length),
        "createTime": rfc3339(upload.created),
        "updateTime": rfc3339(finished),
        "uri": f"{base}/uploads/{upload.id}",
        "state": "ACTIVE",
        "source": "UPLOADED",
    }


def stored_object(report: Report, bucket: str | None) -> dict[str, Any]:
    """Return the object as Firebase has it.

    :param bucket: what the client calls the bucket; None: its real name. Name and bucket are the client's own, for it makes
        URLs of them.
    """
    upload = report.upload
    finished = rfc3339(upload.created if upload.finished is None else upload.finished)
    shown = {**object_of(upload, bucket or upload.bucket), "timeCreated": finished, "updated": finished}
    for name, value in (
        ("contentDisposition", upload.options.content_disposition),
        ("cacheControl", upload.options.cache_control),
    ):
        if value:
            shown[name] = value
    return shown
