"""``X-Goog-Hash``: what the client says of the whole object's bytes. Pure.

https://cloud.google.com/storage/docs/xml-api/reference-headers#xgooghash
"""

from __future__ import annotations

import hashlib
from base64 import b64decode
from binascii import Error as NotBase64

from resumable.crc32c_text import decode_crc32c
from resumable.model import Invalid
from resumable.protocols.messages import Request
from resumable.quoting import quote_briefly
from resumable.uploads.digest import BodyDigest, ExpectedDigest


def said_crc32c(request: Request, more: str | None = None) -> int | None:
    """Return the whole object's CRC32C as a request's ``X-Goog-Hash`` says it; None where it does not.

    Its ``md5=`` is not looked at here: an MD5 over many requests would have to be carried from one process to the next, and no
    library gives the state of a running one out. `md5_digest` is for objects that come in one body.

    :param more: a CRC32C that the object's metadata says.
    :raises Invalid: it is no CRC32C, or there are two that differ.
    """
    found = {_parse_crc32c(text) for text in [*_values(request, "crc32c"), *([] if more is None else [more])]}
    if len(found) > 1:
        raise Invalid("two different CRC32Cs of the object are said")
    return next(iter(found), None)


def _parse_crc32c(text: str) -> int:
    crc32c = decode_crc32c(text) if text.isascii() else None
    if crc32c is None:
        raise Invalid(f"the CRC32C {quote_briefly(text)} is not base64 of four bytes")
    return crc32c


def md5_digest(request: Request, more: str | None = None) -> BodyDigest | None:
    """Return what checks the MD5 that is said of an object which comes in this one body; None where none is said.

    :param more: an MD5 that the object's metadata says.
    :raises Invalid: it is no MD5, or there are two that differ.
    """
    said = [*_values(request, "md5"), *([] if more is None else [more])]
    found = {_parse_md5(text) for text in said}
    if len(found) > 1:
        raise Invalid("two different MD5s of the object are said")
    if not found:
        return None
    expected = found.pop()
    return ExpectedDigest(hashlib.md5(usedforsecurity=False), lambda: expected)


def _parse_md5(text: str) -> bytes:
    try:
        md5 = b64decode(text, validate=True)
    except (NotBase64, ValueError):
        md5 = b""
    if len(md5) != 16:
        raise Invalid(f"the MD5 {quote_briefly(text)} is not base64 of 16 bytes")
    return md5


def _values(request: Request, algorithm: str) -> list[str]:
    """Return what ``X-Goog-Hash`` says for an algorithm: ``crc32c=n03x6A==,md5=…``, in one header or in several."""
    lines = request.requestHeaders.getRawHeaders(b"x-goog-hash", [])
    pairs = [pair.strip().partition("=") for line in lines for pair in line.decode("latin-1").split(",")]
    return [value.strip() for name, _, value in pairs if name.strip().lower() == algorithm]
