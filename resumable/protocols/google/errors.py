"""Errors as Google's APIs write them (https://cloud.google.com/storage/docs/json_api/v1/status-codes)."""

from __future__ import annotations

import json

from resumable.callbacks.authorizer import Refused
from resumable.model import Exists, InternalError, UploadError
from resumable.protocols.google.conditions import NotMet
from resumable.protocols.problems import render_refusal, retry_header, status_of
from resumable.protocols.response import HeaderPairs, Response, header_pairs, reason_phrase

_REASONS = {
    400: "invalid",
    401: "required",
    403: "forbidden",
    404: "notFound",
    405: "methodNotAllowed",
    408: "requestTimeout",
    409: "conflict",
    410: "gone",
    411: "lengthRequired",
    412: "conditionNotMet",
    413: "uploadTooLarge",
    415: "wrongContentType",
    429: "rateLimitExceeded",
    500: "internalError",
    503: "backendError",
}


def google_error(status: int, message: str, headers: HeaderPairs = ()) -> Response:
    """Return an answer that says what went wrong, in the form of Google's APIs."""
    said = {"domain": "global", "reason": _REASONS.get(status, "invalid"), "message": message}
    body = json.dumps({"error": {"code": status, "message": message, "errors": [said]}}).encode() + b"\n"
    return Response(status, body, (("Content-Type", "application/json; charset=UTF-8"), *header_pairs(headers)))


def render_google_error(error: UploadError) -> Response:
    """Return the answer for what went wrong with a request. The application's no is passed on as it is."""
    if isinstance(error, Refused):
        return render_refusal(error)
    if isinstance(error, InternalError):
        return google_error(500, reason_phrase(500).decode("ascii"))
    if isinstance(error, NotMet | Exists):
        return google_error(412, f"At least one of the pre-conditions you specified did not hold: {error}")
    return google_error(status_of(error), str(error), retry_header(error))


def gap_text(first: int, stored: int) -> Response:
    """Return what Google answers to a body that begins past what is stored (bytes): a text, and 503, so that clients ask how far
    the upload is.
    """
    text = (
        "Invalid request.  According to the Content-Range header, the upload offset is "
        f"{first} byte(s), which exceeds already uploaded size of {stored} byte(s).\n"
    )
    return Response(503, text.encode(), {"Content-Type": "text/plain; charset=utf-8"})
