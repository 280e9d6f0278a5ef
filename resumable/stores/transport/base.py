"""Where requests go: the beginning of every URL of a store, or of one of its buckets."""

from __future__ import annotations

from urllib.parse import urlsplit

from attrs import frozen

from resumable.stores.transport.proxies import Proxy


@frozen
class Base:
    """The beginning of URLs, taken apart.

    :ivar authority: the Host header, without the port if that is the scheme's default.
    :ivar prefix: the path, percent-encoded, without a slash at its end; empty for the root.
    :ivar proxy: the proxy that requests go through, if any.
    """

    scheme: str
    host: str
    port: int
    authority: str
    prefix: str
    proxy: Proxy | None = None

    @property
    def url(self) -> str:
        """The base as one URL."""
        return f"{self.scheme}://{self.authority}{self.prefix}"


def parse_base(url: str, *, subdomain: str = "") -> Base:
    """Return the base that the URL describes.

    :param subdomain: put before the URL's host, unless empty.
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
