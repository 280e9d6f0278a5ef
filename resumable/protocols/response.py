"""What an answer is before it is written: status, fields, body."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Protocol, TypeAlias

from attrs import field, frozen
from twisted.web.http_headers import Headers

#: What resumable uploads call statuses that others call differently, or that the standard library does not know.
_REASONS = {104: b"Upload Resumption Supported", 308: b"Resume Incomplete"}

#: On every answer that does not say otherwise: no cache keeps it (RFC 9111, 5.2.2.5).
NO_STORE = (b"cache-control", [b"no-store"])

#: Says which origins' pages may read an answer (the Fetch standard's CORS protocol).
ALLOW_ORIGIN = "Access-Control-Allow-Origin"

HeaderPairs: TypeAlias = "Mapping[str, str] | Iterable[tuple[str | bytes, str | bytes]]"


def reason_phrase(status: int) -> bytes:
    """Return the words that go with a status; empty when nobody has agreed on any (RFC 9112, 4, allows that)."""
    try:
        return _REASONS.get(status) or HTTPStatus(status).phrase.encode("ascii")
    except ValueError:
        return b""


def header_pairs(headers: HeaderPairs) -> tuple[tuple[str | bytes, str | bytes], ...]:
    """Return ``headers`` in the form that may name a field twice."""
    return tuple(headers.items()) if isinstance(headers, Mapping) else tuple(headers)


class Answer(Protocol):
    """What a resource has to return: ``Response``, or anything of its shape."""

    @property
    def status(self) -> int:
        """The status code."""

    @property
    def body(self) -> bytes:
        """All of the body."""

    @property
    def headers(self) -> HeaderPairs:
        """The fields, without those of the connection."""

    @property
    def reason(self) -> bytes | None:
        """The reason phrase, None for the usual one."""


@frozen
class Response:
    """A whole answer. Content-Length, Date and Connection are added when it is written."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str | bytes, str | bytes], ...] = field(default=(), converter=header_pairs)
    reason: bytes | None = None


def problem(
    status: int, detail: str | None = None, headers: HeaderPairs = (), more: Mapping[str, Any] | None = None
) -> Response:
    """Return an answer that says what went wrong, for programs and people (RFC 9457). It ends in a newline.

    :param more: members beside those that every problem has.
    """
    says: dict[str, Any] = {"type": "about:blank", "title": reason_phrase(status).decode("ascii"), "status": status}
    if detail is not None:
        says["detail"] = detail
    says.update(more or {})
    body = json.dumps(says, separators=(",", ":")).encode() + b"\n"
    return Response(status, body, (("Content-Type", "application/problem+json"), *header_pairs(headers)))


def raw_headers(headers: HeaderPairs) -> Headers:
    """Twisted's headers, which also keep line breaks out of what is written."""
    raw = Headers()
    for name, value in header_pairs(headers):
        raw.addRawHeader(
            name.encode("ascii") if isinstance(name, str) else name,
            value.encode("utf-8") if isinstance(value, str) else value,
        )
    return raw
