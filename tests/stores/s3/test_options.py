"""What an object is created with, as headers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis.strategies import characters, text

from resumable.model import ObjectOptions
from resumable.stores.port import StoreError
from resumable.stores.s3.options import option_headers
from resumable.stores.xmlapi.options import decode_metadata, encode_metadata


def test_all_of_them() -> None:
    options = ObjectOptions(
        content_type="video/mp4",
        metadata={"Name": "a b"},
        acl="public-read",
        storage_class="STANDARD_IA",
        cache_control="max-age=1",
        content_disposition="inline",
        content_encoding="gzip",
        encryption="aws:kms",
        kms_key="arn:aws:kms:eu-west-1:1:key/2",
        tags={"a b": "c&d", "e": "ü"},
    )
    assert option_headers(options) == {
        "Content-Type": "video/mp4",
        "Cache-Control": "max-age=1",
        "Content-Disposition": "inline",
        "Content-Encoding": "gzip",
        "x-amz-acl": "public-read",
        "x-amz-storage-class": "STANDARD_IA",
        "x-amz-server-side-encryption": "aws:kms",
        "x-amz-server-side-encryption-aws-kms-key-id": "arn:aws:kms:eu-west-1:1:key/2",
        "x-amz-meta-name": "a b",
        "x-amz-tagging": "a%20b=c%26d&e=%C3%BC",
    }
    assert option_headers(ObjectOptions()) == {}


@given(text(characters(exclude_categories=["Cs"]), max_size=200))
def test_any_metadata_comes_back(value: str) -> None:
    encoded = encode_metadata(value)
    assert encoded.isascii()
    assert encoded == "" or encoded.isprintable()
    assert encoded == encoded.strip()
    assert decode_metadata(encoded) == value


@pytest.mark.parametrize("value", ["=?", "=?utf-8?b?!?=", "=?nonsense?q?a?=", "a =?b"])
def test_what_is_not_encoded_is_left_alone(value: str) -> None:
    assert isinstance(decode_metadata(value), str)


@pytest.mark.parametrize("name", ["", "a b", "a:b", "ü", "a\r\nb"])
def test_a_name_that_is_no_headers(name: str) -> None:
    with pytest.raises(StoreError, match="InvalidArgument"):
        option_headers(ObjectOptions(metadata={name: "x"}))


def test_no_line_ends_in_headers() -> None:
    headers = option_headers(ObjectOptions(content_type="a\r\nb: c", content_disposition="ü\r\nx: y"))
    assert headers == {"Content-Type": "a%0D%0Ab: c", "Content-Disposition": "u__x: y"}
