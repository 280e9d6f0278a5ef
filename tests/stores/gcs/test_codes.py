"""Whose fault a refusal of Cloud Storage's is, in XML and in JSON."""

from __future__ import annotations

import json

from resumable.stores.gcs.codes import GCS_CODES, read_error
from resumable.stores.port import (
    Misconfigured,
    NoSuchUpload,
    NotFound,
    PartMismatch,
    PreconditionFailed,
    Refused,
    StoreError,
)


def test_only_the_stores_own_word_is_a_verdict() -> None:
    kinds: list[tuple[str, type[StoreError]]] = [
        ("PreconditionFailed", PreconditionFailed),
        ("InvalidRange", PreconditionFailed),
        ("InvalidPart", PartMismatch),
        ("NoSuchUpload", NoSuchUpload),
        ("NoSuchKey", NotFound),
        ("KeyTooLong", Refused),
        ("EntityTooSmall", Refused),
        ("NoSuchBucket", Misconfigured),
        ("MalformedCompleteMultipartUploadRequest", Misconfigured),
        ("NotImplemented", Misconfigured),
    ]
    for code, kind in kinds:
        assert type(GCS_CODES.refusal(code, "no", 400, said=True)) is kind, code
        assert type(GCS_CODES.refusal(code, "no", 400)) is Misconfigured, code


def test_whose_fault_it_is() -> None:
    assert GCS_CODES.transient >= {"CrcMismatch", "BadDigest", "InvalidDigest", "SlowDown", "InternalError"}
    for code, at_fault in (("KeyTooLong", "key"), ("MetadataTooLarge", "metadata"), ("EntityTooLarge", "length")):
        refused = GCS_CODES.refusal(code, said=True)
        assert isinstance(refused, Refused)
        assert refused.field == at_fault
    everybodys = ("AccessDenied", "NoSuchBucket", "AuthenticationRequired", "HTTP401", "CloudKmsDisabledKey")
    for code in (*everybodys, "InvalidArgument", "InvalidStorageClass"):
        found = GCS_CODES.refusal(code, said=True)
        assert isinstance(found, Misconfigured)
        assert found.everybody == (code in everybodys), code


def said(reason: str, message: str = "m") -> bytes:
    return json.dumps({"error": {"errors": [{"reason": reason}], "code": 400, "message": message}}).encode()


def test_error_documents() -> None:
    documents = [
        (b"<?xml version='1.0'?><Error><Code>NoSuchUpload</Code><Message>m</Message></Error>", "NoSuchUpload"),
        (said("conditionNotMet"), "PreconditionFailed"),
        (said("notFound", "No such object: b/k"), "NoSuchKey"),
        (said("notFound", "The specified bucket does not exist."), "NoSuchBucket"),
        (said("authError"), "AuthenticationRequired"),
        (said("forbidden"), "AccessDenied"),
        (said("userRateLimitExceeded"), "SlowDown"),
        (said("something\nnew"), "somethingnew"),
        (b"<html>not ours</html>", ""),
        (b"{}", ""),
        (b'{"error": "invalid_grant"}', ""),
        (b'{"error": {"errors": []}}', ""),
        (b"{" + b"[" * 100_000, ""),
    ]
    for body, code in documents:
        assert read_error(body)[0] == code, body[:100]


def test_a_refusal_names_the_permission() -> None:
    """Of both APIs."""
    for operation in ("PutObject", "ListMultipartUploads", "ListObjectResources", "RewriteObject", "ComposeObject"):
        assert GCS_CODES.needed(operation, Misconfigured("forbidden", "no", 403)).startswith("storage."), operation
