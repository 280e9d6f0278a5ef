"""What is refused in a way of its own here, beside `resumable.protocols.google_errors`."""

from __future__ import annotations

from resumable.model import Exists, UploadError
from resumable.protocols import google_errors
from resumable.protocols.google.conditions import NotMet
from resumable.protocols.google_errors import google_error
from resumable.protocols.response import Response


def render_google_error(error: UploadError) -> Response:
    """Return the answer for what went wrong with a request."""
    if isinstance(error, NotMet | Exists):
        return google_error(412, f"At least one of the pre-conditions you specified did not hold: {error}")
    return google_errors.render_google_error(error)


def gap_text(first: int, stored: int) -> Response:
    """Return what Google answers to a body that begins past what is stored (bytes): a text, and 503, so that clients ask how far
    the upload is.
    """
    text = (
        "Invalid request.  According to the Content-Range header, the upload offset is "
        f"{first} byte(s), which exceeds already uploaded size of {stored} byte(s).\n"
    )
    return Response(503, text.encode(), {"Content-Type": "text/plain; charset=utf-8"})
