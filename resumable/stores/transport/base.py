"""Where requests go: what every URL of a store, or of one of its buckets, begins with."""

from __future__ import annotations

from urllib.parse import urlsplit

from attrs import frozen

from resumable.stores.transport.proxies import Proxy


@frozen
class Base:
    """The beginning of URLs, taken apart.

    :ivar authority: the Host header: without the port where it is the scheme's own.
    :ivar prefix: the path, percent-encoded, without a slash at its end; empty for the root.
    :ivar proxy: what requests go through on their way there.
    """

    scheme: str
    host: str
    port: int
    authority: str
    prefix: str
    proxy: Proxy | None = None

    @property
    def url(self) -> str:
        """The URL as a whole."""
        return f"{self.scheme}://{self.authority}{self.prefix}"


def parse_base(url: str, *, subdomain: str = "") -> Base:
    """Return the base that the URL is.

    :param subdomain: what is put before the URL's host, if anything.
    :raises ValueError: it is not an http or https URL with a host.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("a store's endpoint is an http:// or https:// URL")
    usual = 443 if parts.scheme == "https" else 80
    port = parts.port or usual
    host = f"{subdomain}.{parts.hostname}" if subdomain else parts.hostname
    shown = f"[{host}]" if ":" in host else host
    authority = shown if port == usual else f"{shown}:{port}"
    return Base(parts.scheme, host, port, authority, parts.path.rstrip("/"))
