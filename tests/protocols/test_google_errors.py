"""Errors in the form of Google's services: the same in all dialects, but for what one of them has on purpose."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.web.http_headers import Headers

from resumable.callbacks.authorizer import Refused
from resumable.model import (
    Conflict,
    DigestMismatch,
    Ended,
    Exists,
    InternalError,
    Interrupted,
    Invalid,
    KeyTaken,
    NotFound,
    NotWritable,
    TooLarge,
    Unavailable,
    UnsupportedType,
    UploadError,
    WrongProtocol,
)
from resumable.protocols.registry import make_protocols
from resumable.protocols.results import Results
from tests.protocols.harness import Answer, Door

ERRORS: list[tuple[UploadError, int, str, str]] = [
    (Invalid("no"), 400, "INVALID_ARGUMENT", "invalid"),
    (DigestMismatch("no"), 400, "INVALID_ARGUMENT", "invalid"),
    (Interrupted("no"), 400, "INVALID_ARGUMENT", "invalid"),
    (NotWritable("no"), 403, "PERMISSION_DENIED", "forbidden"),
    (NotFound("no"), 404, "NOT_FOUND", "notFound"),
    (Interrupted("no", idle=True), 408, "DEADLINE_EXCEEDED", "uploadBrokenConnection"),
    (Conflict("no"), 409, "ABORTED", "conflict"),
    (KeyTaken("no"), 409, "ABORTED", "conflict"),
    (WrongProtocol("no"), 409, "ABORTED", "conflict"),
    (Ended("no"), 410, "NOT_FOUND", "gone"),
    (Exists("no"), 412, "FAILED_PRECONDITION", "conditionNotMet"),
    (TooLarge("no"), 413, "INVALID_ARGUMENT", "uploadTooLarge"),
    (UnsupportedType("no"), 415, "INVALID_ARGUMENT", "wrongContentType"),
    (InternalError("secret"), 500, "INTERNAL", "internalError"),
    (Unavailable("no"), 503, "UNAVAILABLE", "backendError"),
]


def rendered(name: str, error: UploadError) -> Answer:
    """The error as the protocol writes it. Neither service nor request is needed for that."""
    nothing: Any = None
    (protocol,) = make_protocols([name], nothing, Door(), Results())
    answer = protocol.render_error(nothing, error)
    headers = Headers()
    for field, value in answer.headers:
        headers.addRawHeader(field, value)  # type: ignore[arg-type]
    return Answer(answer.status, headers, answer.body)


@pytest.mark.parametrize("dialect", ["google", "goog-upload"])
@pytest.mark.parametrize(("error", "status", "name", "reason"), ERRORS)
def test_the_same_in_all_dialects(dialect: str, error: UploadError, status: int, name: str, reason: str) -> None:
    """The name of the error is there where Gemini's clients show it; Cloud Storage has none."""
    answer = rendered(dialect, error)
    said = answer.json["error"]
    assert (answer.status, said["code"], said["errors"][0]["reason"]) == (status, status, reason)
    assert (said["errors"][0]["domain"], said["errors"][0]["message"]) == ("global", said["message"])
    assert said.get("status") == (name if dialect == "goog-upload" else None)
    assert "no" in said["message"] or status == 500
    assert "secret" not in said["message"]
    assert answer.header("Retry-After") == ("5" if status == 503 else None)
    assert (answer.header("Content-Type") or "").startswith("application/json")


@pytest.mark.parametrize("dialect", ["google", "goog-upload"])
def test_the_applications_no_is_passed_on(dialect: str) -> None:
    answer = rendered(dialect, Refused(401, Headers({"WWW-Authenticate": ["Bearer"]}), b"who are you"))
    assert (answer.status, answer.body, answer.header("WWW-Authenticate")) == (401, b"who are you", "Bearer")
