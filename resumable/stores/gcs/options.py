"""What an object is created with, and the checksum of what was sent, as headers of Google's XML API. Pure."""

from __future__ import annotations

from resumable.crc32c_text import encode_crc32c
from resumable.model import ObjectOptions
from resumable.stores.port import Misconfigured
from resumable.stores.transport.exchange import Answer
from resumable.stores.xmlapi.options import headers_of

METADATA = "x-goog-meta-"
PLAIN = {
    "content_type": "Content-Type",
    "cache_control": "Cache-Control",
    "content_encoding": "Content-Encoding",
    "acl": "x-goog-acl",
    "storage_class": "x-goog-storage-class",
    "kms_key": "x-goog-encryption-kms-key-name",
}
HASH = "x-goog-hash"


def option_headers(options: ObjectOptions) -> dict[str, str]:
    """Return the headers that an object is created with.

    :raises StoreError: a metadata name cannot be a header's name.
    :raises Misconfigured: there are tags, or an encryption other than by a key's name: Cloud Storage has neither.
    """
    for name, value in (("tags", options.tags), ("encryption", options.encryption)):
        if value:
            raise Misconfigured("NotSupported", f"Cloud Storage does not know the object option {name}")
    return headers_of(options, PLAIN, METADATA)


def checksum_headers(crc32c: int) -> dict[str, str]:
    """Return the headers that tell the CRC32C of a request's body."""
    return {HASH: f"crc32c={encode_crc32c(crc32c)}"}


def told_checksum(answer: Answer) -> str | None:
    """Return the CRC32C that an answer tells, as text. There may be several headers, each with several checksums."""
    for line in answer.headers.getRawHeaders(HASH.encode()) or ():
        for one in line.decode("latin-1").split(","):
            name, _, value = one.strip().partition("=")
            if name == "crc32c":
                return value
    return None
