"""URLs as they go on the wire: in ASCII, with percent-encoding, and with names of hosts in Punycode (RFC 3986, RFC 5891)."""

from __future__ import annotations

from hyperlink import EncodedURL


def wire_url(text: str) -> EncodedURL:
    """Return a URL as it goes on the wire.

    A host that is in ASCII stays as it is. It may be an IPv6 address, or a name that domains do not have (a container's may
    have an underscore in it), and hyperlink takes neither.

    :raises ValueError: no host can have this name.
    """
    url = EncodedURL.from_text(text)
    host = url.host
    if not host.isascii():
        return url.to_uri()
    return url.replace(host="").to_uri().replace(host=host.lower())
