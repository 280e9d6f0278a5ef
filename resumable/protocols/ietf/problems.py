"""What can be wrong with an upload in this protocol, and how its clients are told: problem details with types of their own."""

from __future__ import annotations

from typing import Any

from resumable.callbacks.authorizer import Refused
from resumable.model import (
    Exists,
    Gap,
    InternalError,
    Invalid,
    NotAsExpected,
    OffsetMismatch,
    TooLarge,
    UploadError,
)
from resumable.protocols.ietf.fields import Fields, limits
from resumable.protocols.problems import members_of, render_refusal, retry_header, status_of
from resumable.protocols.response import Response, problem

#: What the types of problems begin with (draft-12, 7; draft-11, 7.3).
TYPES = "https://iana.org/assignments/http-problem-types#"


class InconsistentLength(Invalid):
    """The length is another one than was said before, or the upload is said to be complete before it is reached."""


class Completed(Invalid):
    """The upload is complete, and something is to be appended to it all the same."""


class Limited(TooLarge):
    """Longer than this client's uploads may be, which is `limit` bytes."""

    def __init__(self, message: str, limit: int) -> None:
        super().__init__(message)
        self.limit = limit


def render_error(error: UploadError, said: Fields, max_size: int) -> Response:
    """Return the answer for what went wrong with a request.

    :param said: by the request.
    :param max_size: bytes that an upload may have, where the error does not say.
    """
    if isinstance(error, Refused):
        return render_refusal(error)
    if isinstance(error, InternalError):
        return problem(500, headers=said.completeness(False))
    # Of these all bytes have come, and what was to be made of them could not be.
    processed = isinstance(error, (Exists, NotAsExpected))
    headers = {**said.completeness(processed), **retry_header(error)}
    more: dict[str, Any] = {}
    status = status_of(error)
    if isinstance(error, (OffsetMismatch, Gap)):
        status = 409
        headers["Upload-Offset"] = str(error.offset)
        more = {"type": TYPES + "mismatching-upload-offset", "expected-offset": error.offset}
        if said.offset is not None:
            more["provided-offset"] = said.offset
    elif isinstance(error, InconsistentLength):
        more = {"type": TYPES + "inconsistent-upload-length"}
    elif isinstance(error, Completed):
        more = {"type": TYPES + "completed-upload"} if said.knows_completed else {}
    elif isinstance(error, TooLarge):
        headers.update(limits(said.version, error.limit if isinstance(error, Limited) else max_size))
    else:
        more = {**members_of(error)}
    return problem(status, str(error), headers, more)
