"""CRC32C as text: base64 of four bytes, most significant first.

S3's ``x-amz-checksum-crc32c`` and Google's ``crc32c`` both write it so, and the service's own answers do.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from typing import Any


def encode_crc32c(crc32c: int) -> str:
    """Return the checksum as text."""
    return b64encode(crc32c.to_bytes(4, "big")).decode("ascii")


def decode_crc32c(text: Any) -> int | None:
    """Return the checksum that the text says; None if it is no such text."""
    try:
        four = b64decode(str(text or ""), validate=True)
    except (NotBase64, ValueError):
        return None
    return int.from_bytes(four, "big") if len(four) == 4 else None
