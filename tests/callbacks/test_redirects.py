"""Where a browser may be sent after a form: the application's prefixes, and nothing that only looks like them."""

from __future__ import annotations

import pytest

from resumable.callbacks.answers import read_answer
from resumable.callbacks.redirects import may_redirect


def test_prefixes_in_an_answer() -> None:
    urls = ["https://app.example.com/", "http://[::1]:8000/done?id=", "http://localhost:8000/a/b"]
    assert read_answer({"redirect": urls})["redirect"] == tuple(urls)
    assert "redirect" not in read_answer({"redirect": None})


@pytest.mark.parametrize(
    "said",
    [
        "https://app.example.com/",
        [1],
        {"https://app.example.com/": 1},
        # Anything could be added to the host, or put before it.
        ["https://app.example.com"],
        ["https://"],
        ["https:///"],
        ["https://user@app.example.com/"],
        ["https://app.example.com\\/"],
        ["https://app.example.com/ "],
        ["//app.example.com/"],
        ["/done"],
        ["javascript:alert(1)/"],
        [""],
        ["https://app.example.com/", ""],
    ],
)
def test_what_is_no_prefix(said: object) -> None:
    with pytest.raises(ValueError, match="redirect"):
        read_answer({"redirect": said})


@pytest.mark.parametrize(
    ("url", "may"),
    [
        ("https://app.example.com/done/", True),
        ("https://app.example.com/done/a?b=/c#d", True),
        ("https://app.example.com/done/a..b/.c", True),
        ("http://app.example.com/done/", False),
        ("https://app.example.com/other", False),
        ("https://app.example.com/done/../other", False),
        ("https://app.example.com/done/..", False),
        ("https://app.example.com/done/%2E%2e/other", False),
        ("https://app.example.com/done/.%2e?x", False),
        ("https://app.example.com/done/\\..\\other", False),
        ("https://app.example.com/done/\r\nSet-Cookie: a=b", False),
        ("https://app.example.com/done/\t", False),
        ("https://app.example.com/done/ä", False),
        ("https://app.example.com/done/" + "x" * 2048, False),
        (" https://app.example.com/done/", False),
        ("", False),
    ],
)
def test_where_a_browser_may_be_sent(url: str, may: bool) -> None:
    assert may_redirect(url, ["https://app.example.com/done/"]) is may
    assert not may_redirect(url, [])
