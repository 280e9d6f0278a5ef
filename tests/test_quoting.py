"""Messages quote little of what others sent."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resumable.model import Invalid, ObjectOptions, TooLarge, UploadError
from resumable.protocols.content_range import parse_content_range
from resumable.protocols.problems import render_problem
from resumable.protocols.session import read_description
from resumable.quoting import QUOTED, quote_briefly
from resumable.stores.port import StoreError
from resumable.stores.s3.options import option_headers
from resumable.uploads.grid import Bounds
from resumable.uploads.policy import CreateRequest
from tests.policy import policy

HUGE = 10**4000


@given(st.text(max_size=300) | st.binary(max_size=300) | st.integers() | st.integers(10**90, 10**110) | st.floats())
def test_what_is_quoted(value: Any) -> None:
    shown = quote_briefly(value)
    assert len(shown) <= QUOTED
    assert shown.isprintable()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("été", "'été'"),
        ("a\nb\ud800", "'a\\nb\\ud800'"),
        (b"bytes 0-\xff", "'bytes 0-\\xff'"),
        (12, "12"),
        ("x" * 98, f"'{'x' * 98}'"),
        ("x" * 99, f"'{'x' * 97}…'"),
        ("x" * 10**6, f"'{'x' * 97}…'"),
        (-(10**100), "less than -10^100"),
        (None, "None"),
    ],
)
def test_quotations(value: Any, shown: str) -> None:
    assert quote_briefly(value) == shown


def test_a_number_that_python_does_not_write() -> None:
    assert quote_briefly(10**5000) == "more than 10^100"


def content_range() -> None:
    parse_content_range([b"bytes 0-9/10"], HUGE)


def malformed_range() -> None:
    parse_content_range([b"bytes " + b"\x00" * 5000], 1)


def length() -> None:
    policy("bucket").new_upload(CreateRequest("put", "n", length=HUGE), "id", 0.0)


def parts() -> None:
    how = {"chunk_size": 1, "bearable": 1, "in_memory": 1, "max_parts": 10, "largest_part": 5 << 30}
    Bounds(**how, joins=False).cut_for(HUGE)


def unknown_member() -> None:
    read_description(b'{"' + b"\\u0001" * 1000 + b'": 1}')


@pytest.mark.parametrize("raises", [content_range, malformed_range, length, parts, unknown_member])
def test_no_message_is_long(raises: Any) -> None:
    with pytest.raises(UploadError) as caught:
        raises()
    assert isinstance(caught.value, Invalid | TooLarge)
    assert len(str(caught.value)) < 300
    assert len(render_problem(caught.value).body) < 500


def test_the_name_of_an_entry() -> None:
    with pytest.raises(StoreError) as caught:
        option_headers(ObjectOptions(metadata={"a b" * 5000: "x"}))
    assert len(str(caught.value)) < 300
