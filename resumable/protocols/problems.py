"""Errors as problem details (RFC 9457): what a client is told in every protocol that has no form of its own."""

from __future__ import annotations

from resumable.callbacks.authorizer import Refused
from resumable.model import (
    Conflict,
    DigestMismatch,
    Ended,
    Exists,
    Gap,
    InternalError,
    Interrupted,
    Invalid,
    KeyTaken,
    NotFound,
    NotWritable,
    OffsetMismatch,
    Rejected,
    Superseded,
    TooLarge,
    Unavailable,
    Unsupported,
    UnsupportedType,
    UploadError,
    WrongProtocol,
)
from resumable.protocols.messages import range_header
from resumable.protocols.response import Response, problem

_STATUS: dict[type[BaseException], int] = {
    NotFound: 404,
    NotWritable: 403,
    Superseded: 409,
    Conflict: 409,
    KeyTaken: 409,
    WrongProtocol: 409,
    Ended: 410,
    Invalid: 400,
    Unsupported: 415,
    UnsupportedType: 415,
    TooLarge: 413,
    OffsetMismatch: 409,
    DigestMismatch: 400,
    Exists: 412,
    Gap: 416,
    Unavailable: 503,
    InternalError: 500,
}


def status_of(error: UploadError) -> int:
    """Return the HTTP status that an error has unless a protocol says otherwise.

    An error of a class that is not known here has the status of its nearest base class; 400 if none of those is known.
    """
    if isinstance(error, Refused):
        return error.status
    if isinstance(error, Interrupted):
        return 408 if error.idle else 400
    return next((_STATUS[base] for base in type(error).__mro__ if base in _STATUS), 400)


def retry_header(error: UploadError) -> dict[str, str]:
    """Return ``Retry-After`` for an error that may pass; nothing for others."""
    return {"Retry-After": f"{error.retry_after:.0f}"} if isinstance(error, Unavailable) else {}


def render_refusal(refused: Refused) -> Response:
    """Return the main application's no, passed on as it is."""
    headers = [(name, value) for name, values in refused.headers.getAllRawHeaders() for value in values]
    return Response(refused.status, refused.body, headers)


def render_problem(error: UploadError) -> Response:
    """Return the answer for what went wrong with a request."""
    if isinstance(error, Refused):
        return render_refusal(error)
    if isinstance(error, InternalError):
        return problem(500)
    stored = range_header([(0, error.offset)]) if isinstance(error, Gap) else {}
    return problem(status_of(error), str(error), {**stored, **retry_header(error)}, members_of(error))


def members_of(error: UploadError) -> dict[str, str]:
    """Return what a problem says of an error beside its text: the field that is at fault, or the digest that was computed."""
    if isinstance(error, Rejected):
        return {"field": error.field}
    if isinstance(error, DigestMismatch) and error.algorithm:
        return {"algorithm": error.algorithm, "computed": error.computed}
    return {}
