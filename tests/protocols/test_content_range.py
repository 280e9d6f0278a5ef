"""Content-Range and names: pure grammar."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resumable.model import Invalid
from resumable.protocols.content_range import ContentRange, parse_content_range
from resumable.protocols.names import parse_name

sizes = st.integers(0, 1 << 62)


@given(first=sizes, size=st.integers(1, 1 << 40), rest=st.none() | st.integers(0, 1 << 40), chunked=st.booleans())
def test_what_is_well_formed_is_understood(first: int, size: int, rest: int | None, chunked: bool) -> None:
    end = first + size
    total = None if rest is None else end + rest
    text = f"bytes {first}-{end - 1}/{'*' if total is None else total}".encode()
    assert parse_content_range([text], None if chunked else size) == ContentRange(first, end, total)


@given(first=sizes, size=st.integers(1, 1 << 40))
def test_the_other_last_byte(first: int, size: int) -> None:
    """L == T is understood as T-1 where the body's length says so, and only there."""
    total = first + size
    text = f"bytes {first}-{total}/{total}".encode()
    assert parse_content_range([text], size) == ContentRange(first, total, total)
    for other in (None, size + 1, size - 1):
        with pytest.raises(Invalid):
            parse_content_range([text], other)


@given(st.none() | sizes)
def test_queries(total: int | None) -> None:
    text = f"bytes */{'*' if total is None else total}".encode()
    parsed = parse_content_range([text], 0)
    assert parsed == ContentRange(None, None, total)
    assert parsed.query


def test_none() -> None:
    assert parse_content_range([], 5) is None


@given(st.binary(max_size=60), st.none() | st.integers(0, 100))
def test_nothing_else_than_invalid(text: bytes, length: int | None) -> None:
    """Whatever the header holds, it is understood or refused; nothing breaks."""
    try:
        parse_content_range([text], length)
    except Invalid as error:
        assert str(error).isprintable() or "\ufffd" in str(error)


MALFORMED = [
    b"",
    b"bytes",
    b"bytes ",
    b"bytes 0-9",
    b"bytes 0-9/",
    b"bytes -9/10",
    b"bytes 0-/10",
    b"bytes 5-4/10",
    b"bytes 0-11/10",
    b"bytes 0-9/5",
    b"bytes 0-9/-10",
    b"bytes -1-9/10",
    b"bytes=0-9/10",
    b"items 0-9/10",
    b"bytes 0x0-0x9/10",
    b"bytes 0 - 9 / 10",
    b"bytes \xd9\xa0-\xd9\xa9/10",
    b"bytes 0-99999999999999999999/99999999999999999999",
    b"bytes */-1",
    b"bytes 6000000-3437183/9437184",
]


@pytest.mark.parametrize("text", MALFORMED)
def test_malformed(text: bytes) -> None:
    with pytest.raises(Invalid):
        parse_content_range([text], 10)


def test_it_has_to_fit_the_body() -> None:
    with pytest.raises(Invalid, match="holds 10 bytes, the body 9"):
        parse_content_range([b"bytes 0-9/100"], 9)
    with pytest.raises(Invalid, match="more than one"):
        parse_content_range([b"bytes 0-9/100", b"bytes 0-9/100"], 10)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (b"a.mp4", "a.mp4"),
        (b"dir/b%20c.mp4", "dir/b c.mp4"),
        (b"%C3%A9t%C3%A9", "\u00e9t\u00e9"),
        (b"a%2Fb", "a/b"),
        (b"a+b", "a+b"),
        (b"a..b/.c/d.", "a..b/.c/d."),
        (b"%25", "%"),
        (b"a//b", "a//b"),
    ],
)
def test_names(path: bytes, name: str) -> None:
    assert parse_name(path) == name


@pytest.mark.parametrize(
    "path",
    [b"", b"a%00b", b"a%0Ab", b"%7F", b"%C2%85", b"%FF", b"..", b"a/../b", b"a/./b", b".", b"%2E%2E/x", b"a/%2e."],
)
def test_names_that_are_refused(path: bytes) -> None:
    with pytest.raises(Invalid):
        parse_name(path)
