"""The words every room shares: what an object may be created with."""

from __future__ import annotations

import pytest
from attrs import evolve

from resumable.model import ObjectOptions
from resumable.stores.s3.options import option_headers

FORMS = [
    "application/x-www-form-urlencoded",
    "application/x-www-form-urlencoded; charset=UTF-8",
    "Application/X-WWW-Form-URLEncoded ;a=b",
    "application/x-url-encoded",
    "multipart/form-data",
    "multipart/form-data; boundary=----x",
    "\tMULTIPART/Form-Data;boundary=x",
]
OTHERS = [
    None,
    "",
    "text/plain",
    "video/mp4",
    "multipart/related; boundary=x",
    "application/json",
    "x-www-form-urlencoded",
    'text/plain; like="multipart/form-data"',
]


@pytest.mark.parametrize("content_type", FORMS)
def test_no_object_is_a_form(content_type: str) -> None:
    """Whoever says so: the client, the application, or what an older version has left in the ledger."""
    options = ObjectOptions(content_type=content_type, acl="private")
    assert options == evolve(ObjectOptions(acl="private"), content_type=content_type) == ObjectOptions(acl="private")
    assert option_headers(options) == {"x-amz-acl": "private"}


@pytest.mark.parametrize("content_type", OTHERS)
def test_any_other_type_stays_as_it_is(content_type: str | None) -> None:
    assert ObjectOptions(content_type=content_type).content_type == content_type
