"""Where a browser may be sent after a form: the URL prefixes that the main application allows. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection

#: An authority that ends within the prefix: nothing that is added to it can make it another host's. No user, no blanks.
_PREFIX = re.compile(
    r"https?://[A-Za-z0-9.-]+(?::\d{1,5})?/[!-\[\]-~]*|https?://\[[0-9A-Fa-f:.]+\](?::\d{1,5})?/[!-\[\]-~]*"
)
#: Printable ASCII without the backslash, which browsers take for a slash.
_URL = re.compile(r"[!-\[\]-~]{1,2048}")
#: A segment that browsers take out of a path, together with the one before it.
_DOTS = re.compile(r"/(?:\.|%2e){1,2}(?=[/?#]|\Z)", re.IGNORECASE)


def check_prefixes(value: object) -> tuple[str, ...]:
    """Return the prefixes in an answer of the main application.

    :raises ValueError: it is no list of URLs, or one of them does not go at least as far as the slash after the host.
    """
    if not isinstance(value, list) or not all(isinstance(one, str) and _PREFIX.fullmatch(one) for one in value):
        raise ValueError("redirect must be a list of URLs as https://HOST/, each with the slash after the host")
    return tuple(value)


def may_redirect(url: str, prefixes: Collection[str]) -> bool:
    """Say whether a URL begins with one of the prefixes, and still does after a browser has taken dots out of its path."""
    return (
        _URL.fullmatch(url) is not None and _DOTS.search(url) is None and any(url.startswith(one) for one in prefixes)
    )
