"""Signature Version 4 of a request whose body is not signed. Pure.

botocore's makes the same (a test compares), from a request object of its own and for every service of AWS. This takes a
sixth of its time, which each request to the store has to spend. Source: "Authenticating Requests: Using the Authorization
Header" in the S3 API reference.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from time import gmtime, strftime

from botocore.credentials import ReadOnlyCredentials

ALGORITHM = "AWS4-HMAC-SHA256"
#: What stands for the body.
UNSIGNED = "UNSIGNED-PAYLOAD"


def sign(
    method: str,
    url: str,
    headers: Mapping[str, str],
    credentials: ReadOnlyCredentials,
    region: str,
    time: float,
) -> dict[str, str]:
    """Return the headers to send: those given, all of them signed, and those of the signature.

    :param url: absolute, percent-encoded as it will be sent, without a fragment. Every name in the query has an ``=``.
    :param headers: Host is among them; no name comes twice.
    :param time: seconds since the epoch.
    """
    stamp = strftime("%Y%m%dT%H%M%SZ", gmtime(time))
    signed = {**headers, "X-Amz-Content-SHA256": UNSIGNED, "X-Amz-Date": stamp}
    if credentials.token:
        signed["X-Amz-Security-Token"] = credentials.token
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    request, names = _canonical(method, url, signed)
    text = f"{ALGORITHM}\n{stamp}\n{scope}\n{sha256(request.encode()).hexdigest()}"
    key = _key(credentials.secret_key, stamp[:8], region)
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    who = f"Credential={credentials.access_key}/{scope}"
    signed["Authorization"] = f"{ALGORITHM} {who}, SignedHeaders={names}, Signature={signature}"
    return signed


def _canonical(method: str, url: str, headers: Mapping[str, str]) -> tuple[str, str]:
    """Return the request in its canonical form, and the names of the headers that are part of it."""
    target, _, query = url.partition("?")
    _, slash, path = target.partition("://")[2].partition("/")
    pairs = sorted(pair.partition("=")[::2] for pair in query.split("&")) if query else ()
    fields = sorted((name.lower(), " ".join(value.split())) for name, value in headers.items())
    names = ";".join(name for name, _ in fields)
    lines = [
        method,
        slash + path,
        "&".join(f"{name}={value}" for name, value in pairs),
        *(f"{name}:{value}" for name, value in fields),
        "",
        names,
        UNSIGNED,
    ]
    return "\n".join(lines), names


@lru_cache(2)
def _key(secret: str, day: str, region: str) -> bytes:
    """Return the key of a day and a region."""
    key = f"AWS4{secret}".encode()
    for word in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, word.encode(), "sha256")
    return key
