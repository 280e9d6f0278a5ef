"""Who is believed about where a request comes from: nobody but the trusted, and of what they say the part that is theirs."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.web.http_headers import Headers

from resumable.protocols.origin import Origin, Proxies, parse_address, parse_element

PROXIES = Proxies(["10.0.0.0/8", "192.0.2.1", "2001:db8:1::/48"])
PROXY = "10.0.0.1"


def origin(peer: str, *headers: tuple[str, str], proxies: Proxies = PROXIES, secure: bool = False) -> Origin:
    found = Headers()
    for name, value in headers:
        found.addRawHeader(name, value)
    return proxies.origin(peer, found, secure=secure)


def client(*headers: tuple[str, str], peer: str = PROXY) -> str:
    return origin(peer, *headers).client


def base(*headers: tuple[str, str], peer: str = PROXY) -> str:
    return origin(peer, *headers).base


CLAIMS = (
    ("X-Forwarded-For", "203.0.113.9"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "evil.example"),
    ("Host", "up.example.com"),
)
FORWARDED = (("Forwarded", "for=203.0.113.9;proto=https;host=evil.example"), ("Host", "up.example.com"))


@pytest.mark.parametrize("headers", [CLAIMS, FORWARDED])
@pytest.mark.parametrize("peer", ["203.0.113.1", "11.0.0.1", "192.0.2.2", "2001:db8:2::1", "", "unheard of"])
def test_nobody_else_is_believed(peer: str, headers: tuple[tuple[str, str], ...]) -> None:
    assert origin(peer, *headers) == Origin(peer, "http://up.example.com")
    assert origin(PROXY, *headers, proxies=Proxies()) == Origin(PROXY, "http://up.example.com")


@pytest.mark.parametrize("headers", [CLAIMS, FORWARDED])
@pytest.mark.parametrize("peer", [PROXY, "192.0.2.1", "2001:db8:1::7", "::ffff:10.0.0.1", "2001:DB8:1:0::7"])
def test_the_trusted_are_believed(peer: str, headers: tuple[tuple[str, str], ...]) -> None:
    assert origin(peer, *headers) == Origin("203.0.113.9", "https://evil.example")


def test_a_unix_socket_is_trusted_when_it_is_listed() -> None:
    assert origin("", *CLAIMS, proxies=Proxies(["unix"])) == Origin("203.0.113.9", "https://evil.example")
    assert origin("", proxies=Proxies(["unix"])) == Origin("", "http://localhost")
    assert origin(PROXY, *CLAIMS, proxies=Proxies(["unix"])).client == PROXY


@pytest.mark.parametrize(
    ("chain", "found"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("198.51.100.1, 203.0.113.9", "203.0.113.9"),
        ("198.51.100.1, 203.0.113.9, 10.2.3.4", "203.0.113.9"),
        ("198.51.100.1,203.0.113.9 ,\t10.2.3.4,192.0.2.1", "203.0.113.9"),
        ("10.9.9.9, 10.2.3.4", "10.9.9.9"),
        ("203.0.113.9:4711", "203.0.113.9"),
        ("2001:db8:2::9", "2001:db8:2::9"),
        ("2001:0DB8:2:0:0::9", "2001:db8:2::9"),
        ("[2001:db8:2::9]", "2001:db8:2::9"),
        ("[2001:db8:2::9]:4711, [2001:db8:1::1]:80", "2001:db8:2::9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("fe80::1%eth0", "fe80::1"),
        (", 203.0.113.9, ,", "203.0.113.9"),
        # Nobody vouches for what stands left of one who is not known.
        ("203.0.113.9, unknown", PROXY),
        ("203.0.113.9, unknown, 10.2.3.4", "10.2.3.4"),
        ("203.0.113.9, _hidden", PROXY),
        ("203.0.113.9, 1.2.3", PROXY),
        ("203.0.113.9, 1.2.3.4.5", PROXY),
        ("203.0.113.9, 999.1.1.1", PROXY),
        ("203.0.113.9, [::1", PROXY),
        ("203.0.113.9, <script>", PROXY),
        ('198.51.100.1, "x, 203.0.113.9', "203.0.113.9"),
        ("", PROXY),
        ("é, 203.0.113.9", "203.0.113.9"),
    ],
)
def test_the_rightmost_who_is_not_trusted(chain: str, found: str) -> None:
    """In X-Forwarded-For, and the same in Forwarded."""
    assert client(("X-Forwarded-For", chain)) == found
    assert client(*[("X-Forwarded-For", part) for part in chain.split(",")]) == found, "in several lines"
    if '"' not in chain:
        nodes = [node.strip() for node in chain.split(",")]
        assert client(("Forwarded", ", ".join(f'For="{node}"' if node else "" for node in nodes))) == found


@pytest.mark.parametrize(
    ("forwarded", "found", "url"),
    [
        ("for=203.0.113.9", "203.0.113.9", "http://h"),
        ("for=203.0.113.9:80;proto=https", "203.0.113.9", "https://h"),
        (
            'for="[2001:db8:2::9]:80";by=_x;Proto=HTTPS;host="up.example.com:8443"',
            "2001:db8:2::9",
            "https://up.example.com:8443",
        ),
        ('for="\\2\\03.0.113.9"', "203.0.113.9", "http://h"),
        ("proto=https;host=a", PROXY, "https://a"),
        (" ; for=203.0.113.9 ; ;proto=https;", "203.0.113.9", "https://h"),
        # What the outermost trusted proxy saw is what the client used.
        ("for=203.0.113.9;proto=https;host=a, for=10.0.0.2;proto=http;host=b", "203.0.113.9", "https://a"),
        ("for=1.1.1.1;host=evil, for=203.0.113.9;host=a, for=10.0.0.2;host=b", "203.0.113.9", "http://a"),
        ("for=1.1.1.1;proto=https;host=evil, for=unknown;host=a", PROXY, "http://a"),
        # A client's nonsense hides nothing that a proxy has put behind it.
        ('for="1.1.1.1, for=203.0.113.9;host=a', "203.0.113.9", "http://a"),
        ('"""\\", for="203.0.113.9";host="a"', "203.0.113.9", "http://a"),
        ("for=1.1.1.1;for=2.2.2.2", PROXY, "http://h"),
        ("for 203.0.113.9", PROXY, "http://h"),
        ("=;=", PROXY, "http://h"),
        ('for="', PROXY, "http://h"),
        ('for="203.0.113.9"x', PROXY, "http://h"),
        ("", PROXY, "http://h"),
    ],
)
def test_forwarded(forwarded: str, found: str, url: str) -> None:
    """The grammar of RFC 7239, section 4, and what is made of what breaks it."""
    assert origin(PROXY, ("Forwarded", forwarded), ("Host", "h")) == Origin(found, url)


@pytest.mark.parametrize("name", ["X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host"])
def test_forwarded_says_nothing_beside_the_others(name: str) -> None:
    """Most proxies write X-Forwarded-… and let a Forwarded through that the client made up."""
    assert client((name, "x"), ("Forwarded", "for=1.1.1.1")) == PROXY
    assert client(("X-Forwarded-For", "203.0.113.9"), ("Forwarded", "for=1.1.1.1")) == "203.0.113.9"


@pytest.mark.parametrize(
    ("proto", "host", "url"),
    [
        ("https", "up.example.com", "https://up.example.com"),
        ("HTTPS", "[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
        ("http, https", "a, b:80", "https://b:80"),
        ("javascript", "a/b", "http://h"),
        ("https", "a b", "https://h"),
        ("https", "u@evil.example", "https://h"),
        ("https", 'a"onload=', "https://h"),
        ("https", "a" * 300, "https://h"),
        ("", "", "http://h"),
    ],
)
def test_the_base_of_urls(proto: str, host: str, url: str) -> None:
    assert base(("X-Forwarded-Proto", proto), ("X-Forwarded-Host", host), ("Host", "h")) == url


@pytest.mark.parametrize(
    ("prefix", "url"),
    [
        ("/up", "http://h/up"),
        ("/up/", "http://h/up"),
        ("/a/b-c/d.e~_1", "http://h/a/b-c/d.e~_1"),
        ("/outer, /inner", "http://h/inner"),
        ("/", "http://h"),
        ("", "http://h"),
        ("up", "http://h"),
        ("//evil.example", "http://h"),
        ("/a//b", "http://h"),
        ("/a/../b", "http://h"),
        ("/..", "http://h"),
        ("/.hidden/..b", "http://h/.hidden/..b"),
        ("/a?b", "http://h"),
        ("/a b", "http://h"),
        ("/%0d%0a", "http://h"),
        ("@evil.example", "http://h"),
        (".evil.example", "http://h"),
        ("/" + "a" * 101, "http://h"),
        ("/a" * 11, "http://h"),
    ],
)
@pytest.mark.parametrize("beside", [(), (("Forwarded", "for=203.0.113.9"),), (("X-Forwarded-Proto", "http"),)])
def test_the_prefix_of_paths(prefix: str, url: str, beside: tuple[tuple[str, str], ...]) -> None:
    """What it says stays a path, so that nobody is sent to another host."""
    said = ("X-Forwarded-Prefix", prefix)
    assert base(said, *beside, ("Host", "h")) == url
    assert base(said, *beside, ("Host", "h"), peer="203.0.113.1") == "http://h"
    proxies = Proxies(["10.0.0.0/8"], "https://up.example.com/x")
    assert origin(PROXY, said, *beside, proxies=proxies).base == "https://up.example.com/x"


@pytest.mark.parametrize("host", ["", "a b", "evil.example/x?", "<h>", "a,b", "u:p@h"])
def test_a_host_that_is_none(host: str) -> None:
    assert origin("203.0.113.1", ("Host", host)).base == "http://localhost"
    assert origin("203.0.113.1").base == "http://localhost"


def test_the_public_url_wins() -> None:
    proxies = Proxies(["10.0.0.0/8"], "https://up.example.com/x")
    assert origin(PROXY, *CLAIMS, proxies=proxies) == Origin("203.0.113.9", "https://up.example.com/x")


def test_tls_shows_in_the_base() -> None:
    assert origin("203.0.113.1", ("Host", "h:8443"), secure=True).base == "https://h:8443"
    assert origin(PROXY, ("Host", "h"), ("X-Forwarded-Proto", "http"), secure=True).base == "http://h"


@given(
    st.text(max_size=60).filter(lambda text: not set(text) & set("\r\n")),
    st.sampled_from(["X-Forwarded-For", "Forwarded"]),
)
def test_nonsense_is_never_an_error(text: str, name: str) -> None:
    """Whatever it is, what comes out is an address, and what a proxy puts behind it is believed."""
    said = text.encode("utf-8", "surrogatepass").decode("latin-1")
    claims = [(one, said) for one in ("X-Forwarded-Host", "X-Forwarded-Prefix", "Host")]
    found = origin(PROXY, (name, said), *claims)
    assert parse_address(found.client) is not None
    assert found.base.isprintable()
    parse_element(said)
    behind = "203.0.113.9" if name == "X-Forwarded-For" else "for=203.0.113.9"
    assert client((name, said), (name, behind)) == "203.0.113.9"


@pytest.mark.parametrize(
    "text",
    ["10.0.0.1," * 1800, '"' * 16000, ',"' * 8000, "for=10.0.0.1;" * 1200, "\\" * 16000, "[" * 16000],
    ids=["addresses", "quotes", "parts", "pairs", "escapes", "brackets"],
)
def test_long_nonsense_costs_little(text: str) -> None:
    """As much as fits into a head is looked at within milliseconds."""
    begun = time.perf_counter()
    for name in ("X-Forwarded-For", "Forwarded"):
        client((name, text))
    assert time.perf_counter() - begun < 0.2
