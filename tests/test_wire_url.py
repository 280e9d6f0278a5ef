"""URLs as they go on the wire."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from hyperlink import URLParseError
from twisted.internet import reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.web.http_headers import Headers
from twisted.web.server import Site
from twisted.web.static import Data

from resumable.callbacks.caller import Caller
from resumable.wire_url import wire_url

R: Any = reactor


@pytest.mark.parametrize(
    ("written", "wire"),
    [
        ("http://example.com", "http://example.com"),
        ("https://EXAMPLE.com/A", "https://example.com/A"),
        (
            "http://bücher.example:8080/ä/%2f?ö=ü&x&y=#z",
            "http://xn--bcher-kva.example:8080/%C3%A4/%2f?%C3%B6=%C3%BC&x&y=#z",
        ),
        # Names that no domain has, but a container or a machine in a private network may.
        ("http://auth_app:8000/check?a=%20+", "http://auth_app:8000/check?a=%20+"),
        ("http://a--b-/", "http://a--b-/"),
        ("http://127.0.0.1/", "http://127.0.0.1/"),
        ("http://[::1]/", "http://[::1]/"),
        ("http://[FD00::1]:8000/ü?x", "http://[fd00::1]:8000/%C3%BC?x"),
    ],
)
def test_on_the_wire(written: str, wire: str) -> None:
    assert wire_url(written).to_text() == wire
    assert wire_url(wire).to_text() == wire


@pytest.mark.parametrize(
    "written", ["http://ü..b/", f"http://{'ü' * 70}/", "http://-ü/", "http://a/\ud800", "http://a:x/"]
)
def test_none(written: str) -> None:
    with pytest.raises((UnicodeError, URLParseError)):
        wire_url(written)


@pytest_twisted.ensureDeferred
async def test_an_application_at_an_ipv6_address() -> None:
    page = Data(b"here", "text/plain")
    page.isLeaf = True
    try:
        port = R.listenTCP(0, Site(page), interface="::1")
    except CannotListenError:
        pytest.skip("no IPv6")
    caller = Caller(f"http://[::1]:{port.getHost().port}/", timeout=10, reactor=R)
    try:
        assert (await caller.call("GET", Headers())).body == b"here"
    finally:
        await caller.close()
        await maybeDeferred(port.stopListening)
