"""Whose fault a refusal of S3's is, and what type of error it becomes."""

from __future__ import annotations

import pytest

from resumable.stores.port import (
    AnswerTooLong,
    Misconfigured,
    NoSuchUpload,
    NotFound,
    PartMismatch,
    PreconditionFailed,
    Refused,
    StoreError,
    StoreVerdict,
)
from resumable.stores.s3.codes import client_fault, of_all, refusal


@pytest.mark.parametrize(
    ("code", "field"),
    [
        ("KeyTooLongError", "key"),
        ("InvalidObjectName", "key"),
        ("XMinioInvalidObjectName", "key"),
        ("XMinioParentIsObject", "key"),
        ("MetadataTooLarge", "metadata"),
        ("EntityTooLarge", "length"),
    ],
)
def test_the_clients(code: str, field: str) -> None:
    assert client_fault(code) == field
    assert not of_all(code)


@pytest.mark.parametrize(
    "code",
    [
        *("AccessDenied", "NoSuchBucket", "KMS.DisabledException", "InvalidAccessKeyId", "XMinioStorageFull"),
        *("InvalidStorageClass", "InvalidTag", "InvalidArgument", "InvalidRequest", "NotImplemented", "", "HTTP418"),
    ],
)
def test_the_operators(code: str) -> None:
    """Also what nobody knows: it may pass, and the upload waits."""
    assert client_fault(code) is None


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("PreconditionFailed", PreconditionFailed),
        ("InvalidRange", PreconditionFailed),
        ("InvalidPart", PartMismatch),
        ("NoSuchUpload", NoSuchUpload),
        ("NoSuchKey", NotFound),
        ("KeyTooLongError", Refused),
        ("EntityTooSmall", Refused),
    ],
)
def test_only_the_stores_own_word_is_a_verdict(code: str, kind: type[StoreError]) -> None:
    """The same code without a document of the store's own says nothing of what is stored."""
    said = refusal(code, "no", 400, said=True)
    assert type(said) is kind
    assert isinstance(said, StoreVerdict)
    assert said.said
    unsaid = refusal(code, "no", 400)
    assert type(unsaid) is Misconfigured
    assert (unsaid.code, unsaid.status, unsaid.said) == (code, 400, False)


def test_fields_and_whom_it_concerns() -> None:
    key, small = refusal("KeyTooLong", said=True), refusal("EntityTooSmall", said=True)
    assert isinstance(key, Refused)
    assert isinstance(small, Refused)
    assert (key.field, small.field) == ("key", None)
    bucket, tag = refusal("NoSuchBucket", said=True), refusal("InvalidTag", said=True)
    assert isinstance(bucket, Misconfigured)
    assert isinstance(tag, Misconfigured)
    assert (bucket.everybody, tag.everybody) == (True, False)
    assert type(refusal("AnswerTooLong")) is AnswerTooLong
