"""The line in the log for each request that is refused, and the id by which it is found there."""

from __future__ import annotations

import json

from twisted.logger import Logger

from resumable.protocols.response import Answer, raw_headers, reason_phrase
from resumable.request_info import RequestInfo

log = Logger(namespace="resumable.web")

REQUEST_ID = b"X-Request-Id"
#: The media type of problem details (RFC 9457).
_PROBLEM = b"application/problem+json"
#: Characters of a reason that are logged.
_LONGEST = 300


def reason_of(answer: Answer) -> str:
    """Return why an answer refuses, as far as it says so to a program: the detail of a problem, else the status's phrase."""
    if raw_headers(answer.headers).getRawHeaders(b"content-type") == [_PROBLEM]:
        try:
            detail = json.loads(answer.body).get("detail")
        except (ValueError, AttributeError):
            detail = None
        if isinstance(detail, str):
            return detail
    return reason_phrase(answer.status).decode("ascii")


def log_refusal(method: bytes, path: bytes, status: int, info: RequestInfo, client: str) -> None:
    """Write the line of a request that was refused; without its query."""
    if info.quiet:
        return
    log.info(
        "refused {method} {path} status={status} upload={upload} owner={owner!r} request={request} client={client}: {reason}",
        method=method.decode("ascii", "backslashreplace"),
        path=path.decode("ascii", "backslashreplace"),
        status=status,
        upload=info.upload or "-",
        owner=info.owner,
        request=info.id,
        client=client or "-",
        reason=info.reason[:_LONGEST],
    )
