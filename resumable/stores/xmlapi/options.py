"""What an object is created with, as request headers.

Headers are ASCII. A metadata value that is not ASCII, or that a header would not keep (blanks at its ends, control
characters), is written as RFC 2047 encoded words, as S3 itself writes and reads them. File names in Content-Disposition
are written as RFC 8187 says. Everything else is percent-encoded UTF-8.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from email.errors import HeaderParseError
from email.header import decode_header
from urllib.parse import quote

from resumable.model import ObjectOptions
from resumable.quoting import quote_briefly
from resumable.stores.disposition import encode_disposition
from resumable.stores.port import StoreError

#: The syntax of a header's name, and so of a metadata name (RFC 9110, 5.6.2).
TOKEN_SYNTAX = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
#: Bytes of a value in one encoded word, which may have 75 characters.
_WORD = 45
_VISIBLE = "".join(map(chr, range(0x20, 0x7F)))


def headers_of(options: ObjectOptions, plain: Mapping[str, str], metadata: str) -> dict[str, str]:
    """Return the headers that an object is created with, without those for tags.

    :param plain: a field of the options -> the header that has it.
    :param metadata: what the names of the headers for metadata begin with.
    :raises StoreError: a metadata name cannot be a header's name.
    """
    headers = {}
    for name, header in plain.items():
        value = getattr(options, name)
        if value:
            headers[header] = quote(value.strip(), safe=_VISIBLE, errors="replace")
    if options.content_disposition:
        headers["Content-Disposition"] = encode_disposition(options.content_disposition)
    for name, value in options.metadata.items():
        if not TOKEN_SYNTAX.match(name):
            raise StoreError("InvalidArgument", f"metadata name {quote_briefly(name)} cannot be a header's name", 400)
        headers[metadata + name.lower()] = encode_metadata(value)
    return headers


def encode_metadata(value: str) -> str:
    """Return the value as it is if a header can hold it, else as encoded words."""
    if value.isascii() and value.isprintable() and value == value.strip() and "=?" not in value and "  " not in value:
        return value
    words, word = [], b""
    for character in value:
        encoded = character.encode("utf-8", "replace")
        if len(word) + len(encoded) > _WORD:
            words.append(word)
            word = b""
        word += encoded
    return " ".join(f"=?UTF-8?B?{b64encode(word).decode()}?=" for word in [*words, word])


def decode_metadata(value: str) -> str:
    """Return the value that `encode_metadata` was given. The store may or may not have decoded it already."""
    if "=?" not in value:
        return value
    try:
        parts = decode_header(value)
        return "".join(part if isinstance(part, str) else part.decode(charset or "utf-8") for part, charset in parts)
    except (HeaderParseError, LookupError, ValueError):
        return value
