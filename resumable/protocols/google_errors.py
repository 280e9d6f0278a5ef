"""Errors as Google's services write them: what its dialects have in common. Pure.

Cloud Storage, YouTube, Drive and Firebase: https://cloud.google.com/storage/docs/json_api/v1/status-codes. Gemini and other newer
services also name the error: https://google.aip.dev/193.
"""

from __future__ import annotations

from typing import Any

from resumable.callbacks.authorizer import Refused
from resumable.model import InternalError, UploadError
from resumable.protocols.messages import json_response
from resumable.protocols.problems import render_refusal, retry_header, status_of
from resumable.protocols.response import HeaderPairs, Response, header_pairs, reason_phrase

#: By the HTTP status: the name of the error (`google.rpc.Code`), and the reason that the older services give. 401 is not among
#: them: only the main application says that, and its answer is passed on as it is.
_ERRORS = {
    400: ("INVALID_ARGUMENT", "invalid"),
    403: ("PERMISSION_DENIED", "forbidden"),
    404: ("NOT_FOUND", "notFound"),
    405: ("UNIMPLEMENTED", "methodNotAllowed"),
    408: ("DEADLINE_EXCEEDED", "uploadBrokenConnection"),
    409: ("ABORTED", "conflict"),
    410: ("NOT_FOUND", "gone"),
    411: ("INVALID_ARGUMENT", "lengthRequired"),
    412: ("FAILED_PRECONDITION", "conditionNotMet"),
    413: ("INVALID_ARGUMENT", "uploadTooLarge"),
    415: ("INVALID_ARGUMENT", "wrongContentType"),
    429: ("RESOURCE_EXHAUSTED", "rateLimitExceeded"),
    500: ("INTERNAL", "internalError"),
    503: ("UNAVAILABLE", "backendError"),
}
_OTHERS = ("INVALID_ARGUMENT", "invalid")


def google_error(status: int, message: str, headers: HeaderPairs = (), *, named: bool = False) -> Response:
    """Return an answer that says what went wrong.

    :param named: with the name of the error, as ``status``.
    """
    name, reason = _ERRORS.get(status, _OTHERS)
    said: dict[str, Any] = {"code": status, "message": message}
    if named:
        said["status"] = name
    said["errors"] = [{"domain": "global", "reason": reason, "message": message}]
    answer = json_response(status, {"error": said})
    return Response(status, answer.body, (*answer.headers, *header_pairs(headers)))


def render_google_error(error: UploadError, *, named: bool = False) -> Response:
    """Return the answer for what went wrong with a request. The application's no is passed on as it is.

    :param named: as of `google_error`.
    """
    if isinstance(error, Refused):
        return render_refusal(error)
    if isinstance(error, InternalError):
        return google_error(500, reason_phrase(500).decode("ascii"), named=named)
    return google_error(status_of(error), str(error), retry_header(error), named=named)
