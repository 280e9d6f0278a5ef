"""Signed URLs, version 4 ("V4 signing process", Cloud Storage's documentation). Pure, but for the signature itself."""

from __future__ import annotations

from datetime import datetime, timezone
from hashlib import sha256
from urllib.parse import quote, urlsplit

from attrs import frozen

ALGORITHM = "GOOG4-RSA-SHA256"
#: The most seconds that a URL may be valid: seven days.
LONGEST = 7 * 86400


@frozen
class Unsigned:
    """A URL that lacks its signature.

    :ivar text: what is to be signed.
    """

    url: str
    text: bytes

    def signed(self, signature: bytes) -> str:
        """Return the whole URL."""
        return f"{self.url}&X-Goog-Signature={signature.hex()}"


def prepare(method: str, url: str, email: str, time: float, seconds: int) -> Unsigned:
    """Return the URL, and the text whose signature it lacks.

    :param url: percent-encoded, without a query.
    :param email: of the service account that signs.
    :param time: when it becomes valid, in seconds since the epoch.
    :param seconds: how long it is valid.
    """
    stamp = datetime.fromtimestamp(time, timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/auto/storage/goog4_request"
    query = {
        "X-Goog-Algorithm": ALGORITHM,
        "X-Goog-Credential": f"{email}/{scope}",
        "X-Goog-Date": stamp,
        "X-Goog-Expires": str(max(1, min(seconds, LONGEST))),
        "X-Goog-SignedHeaders": "host",
    }
    encoded = "&".join(f"{name}={quote(value, safe='~')}" for name, value in sorted(query.items()))
    parts = urlsplit(url)
    request = "\n".join([method, parts.path, encoded, f"host:{parts.netloc}", "", "host", "UNSIGNED-PAYLOAD"])
    text = "\n".join([ALGORITHM, stamp, scope, sha256(request.encode("ascii")).hexdigest()])
    return Unsigned(f"{url}?{encoded}", text.encode("ascii"))
