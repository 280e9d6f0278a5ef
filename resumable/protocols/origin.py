"""Where a request comes from, and by which URL its client reached us, as far as trusted proxies say so. Pure.

``X-Forwarded-For``, ``-Proto``, ``-Host`` and ``-Prefix``, and ``Forwarded`` (RFC 7239), are claims that anybody can make.
They are looked at only where the peer is a trusted proxy, and read from the right: the last entry is what that proxy says, the
one before it what another has told it, which counts as long as the address in between is trusted too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from attrs import frozen
from twisted.web.http_headers import Headers

Address = IPv4Address | IPv6Address

#: In place of a network: whoever connects to a Unix socket.
UNIX = "unix"

#: Entries of a list that are looked at, from the right. So many proxies stand behind each other nowhere.
MOST_HOPS = 32

_CLAIMS = (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host")
_HOST = re.compile(r"(?:[A-Za-z0-9._~-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
#: The beginning of paths that a proxy takes away before it passes a request on. No segment is ``.`` or ``..``.
_PREFIX = re.compile(r"(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~-]{1,100}){1,10}")
#: An address with or without a port; brackets belong to IPv6.
_NODE = re.compile(r"\[(?P<v6>[^\]]*)\](?::.*)?|(?P<v4>[0-9]+(?:\.[0-9]+){3})(?::.*)?|(?P<bare>.*)", re.DOTALL)
#: One ``name=value`` of an element of Forwarded. Values that should be quoted (``for=192.0.2.1:80``) are often not.
_PAIR = re.compile(r"""[ \t]*(?:([!#$%&'*+.^_`|~\w-]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s";,]*)))?[ \t]*(?:;|$)""", re.ASCII)


@frozen
class Origin:
    """Where a request comes from."""

    #: The client's address; empty where nobody knows it.
    client: str
    #: What URLs that are handed out to the client begin with, without a slash at its end.
    base: str


class Proxies:
    """Who is believed about others.

    :param trusted: networks, in the notation of `ipaddress`, and `UNIX`.
    :param public_url: the base of URLs, whatever anybody says.
    """

    def __init__(self, trusted: Iterable[str] = (), public_url: str | None = None) -> None:
        trusted = set(trusted)
        self._unix = UNIX in trusted
        self._networks = [ip_network(network) for network in trusted - {UNIX}]
        self._public_url = public_url

    def origin(self, peer: str, headers: Headers, *, secure: bool) -> Origin:
        """Return the origin of a request.

        :param peer: the address at the other end of the connection, empty for a Unix socket.
        :param secure: whether the connection is TLS.
        """
        address = parse_address(peer)
        client = peer if address is None else str(address)
        scheme, host, prefix = "https" if secure else "http", None, ""
        if self._trusts(address) if peer else self._unix:
            found, proto, host = self._told(headers)
            # Forwarded has no word for it: a proxy that says it says it so.
            prefix = _prefix(_last(headers, b"x-forwarded-prefix"))
            client = client if found is None else str(found)
            scheme = scheme if proto is None else proto
        asked = (headers.getRawHeaders(b"host") or [b""])[0].decode("latin-1")
        base = self._public_url or f"{scheme}://{host or _host(asked) or 'localhost'}{prefix}"
        return Origin(client, base)

    def _trusts(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self._networks)

    def _told(self, headers: Headers) -> tuple[Address | None, str | None, str | None]:
        """Return what a trusted peer says: the client's address, the scheme and the host that it used; None for what is not said.

        Most proxies write X-Forwarded-For, and pass on a Forwarded that the client made up: where there is any of the
        former, the latter says nothing.
        """
        if any(headers.hasHeader(name) for name in _CLAIMS):
            client = None
            for entry in _entries(headers, b"x-forwarded-for"):
                address = parse_address(entry)
                client = address or client
                if not self._trusts(address):
                    break
            return client, _scheme(_last(headers, _CLAIMS[1])), _host(_last(headers, _CLAIMS[2]))
        client = None
        said: Mapping[str, str] = {}
        for element in _entries(headers, b"forwarded"):
            pairs = parse_element(element)
            if pairs is None:
                break
            said, address = pairs, parse_address(pairs.get("for", ""))
            client = address or client
            if not self._trusts(address):
                break
        return client, _scheme(said.get("proto", "")), _host(said.get("host", ""))


def parse_address(node: str) -> Address | None:
    """Return the IP address in an entry such as ``192.0.2.1``, ``192.0.2.1:80``, ``2001:db8::1`` or ``[2001:db8::1]:80``.

    None for what is none (``unknown``, ``_hidden``). An IPv4 address in IPv6's clothes is an IPv4 address.
    """
    match = _NODE.fullmatch(node)
    assert match is not None, "the last alternative takes everything"
    try:
        address = ip_address(match["v6"] or match["v4"] or match["bare"] or "")
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        # Without the zone, which means nothing to others and may be any text.
        return address.ipv4_mapped or IPv6Address(int(address))
    return address


def parse_element(element: str) -> Mapping[str, str] | None:
    """Return the pairs of an element of Forwarded, names in lower case; None where it is malformed."""
    pairs: dict[str, str] = {}
    position = 0
    while position < len(element):
        match = _PAIR.match(element, position)
        if match is None:
            return None
        name, quoted, plain = match.groups()
        if name is not None:
            if name.lower() in pairs:
                return None
            pairs[name.lower()] = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        position = match.end()
    return pairs


def _entries(headers: Headers, name: bytes) -> Iterator[str]:
    """Return the entries of a list, those that say something, from the right; a comma in quotes parts nothing.

    From the right also because the left may be a client's nonsense, quotes without an end included.
    """
    parts = b",".join(headers.getRawHeaders(name, [])).decode("latin-1").rsplit(",", MOST_HOPS)[-MOST_HOPS:]
    while parts:
        entry = parts.pop()
        while entry.count('"') % 2 and parts:
            entry = f"{parts.pop()},{entry}"
        if entry.strip(" \t"):
            yield entry.strip(" \t")


def _last(headers: Headers, name: bytes) -> str:
    return next(_entries(headers, name), "")


def _scheme(text: str) -> str | None:
    return text.lower() if text.lower() in ("http", "https") else None


def _host(text: str) -> str | None:
    return text if _HOST.fullmatch(text) else None


def _prefix(text: str) -> str:
    """Return the prefix without a slash at its end; empty for none, and for what is none."""
    return text.rstrip("/") if _PREFIX.fullmatch(text.rstrip("/")) else ""
