"""The query of a request, read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resumable.protocols.query import parse_query


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        (b"", {}),
        (b"a=1&b=&c&a=2", {"a": ["1", "2"], "b": [""], "c": [""]}),
        (b"&&a==&", {"a": ["="]}),
        (b"a+b=c%20d%2B", {"a b": ["c d+"]}),
        (b"%C3%A4=\xc3\xa4", {"\u00e4": ["\u00e4"]}),
        (b"a=%ff&%zz=%&b=%4", {"a": ["\ufffd"], "%zz": ["%"], "b": ["%4"]}),
        (b"a=1;b=2", {"a": ["1;b=2"]}),
    ],
)
def test_fields(query: bytes, fields: dict[str, list[str]]) -> None:
    assert parse_query(query) == fields


def test_it_is_not_changed() -> None:
    with pytest.raises(TypeError):
        parse_query(b"a=1")["a"] = []  # type: ignore[index]


@given(st.binary())
def test_nothing_is_refused(query: bytes) -> None:
    """And what comes out can be written as UTF-8."""
    for name, values in parse_query(query).items():
        (name + "".join(values)).encode()
