"""What an object is created with, as the request headers of S3."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, urlencode

from resumable.model import ObjectOptions
from resumable.stores.xmlapi.options import headers_of

PLAIN = {
    "content_type": "Content-Type",
    "cache_control": "Cache-Control",
    "content_encoding": "Content-Encoding",
    "acl": "x-amz-acl",
    "storage_class": "x-amz-storage-class",
    "encryption": "x-amz-server-side-encryption",
    "kms_key": "x-amz-server-side-encryption-aws-kms-key-id",
}
METADATA = "x-amz-meta-"
TAGGING = "x-amz-tagging"


def option_headers(options: ObjectOptions) -> dict[str, str]:
    """Return the headers that an object is created with.

    :raises StoreError: a metadata name cannot be a header's name.
    """
    headers = headers_of(options, PLAIN, METADATA)
    if options.tags:
        headers[TAGGING] = encode_tags(options.tags)
    return headers


def encode_tags(tags: Mapping[str, str]) -> str:
    """Return the tags percent-encoded for a header. Most bytes other than letters and digits take three characters."""
    return urlencode(tags, quote_via=quote, errors="replace")


def header_sizes(options: ObjectOptions) -> dict[str, int]:
    """Return how many bytes of a request each kind of header takes.

    Kinds are ``metadata``, ``tags`` and `PLAIN`'s names.

    A header's name counts twice: it stands before the value, and in the list of signed headers.

    :raises StoreError: as `option_headers`.
    """
    kinds = {header: name for name, header in PLAIN.items()}
    kinds |= {"Content-Disposition": "content_disposition", TAGGING: "tags"}
    sizes: dict[str, int] = {}
    for header, value in option_headers(options).items():
        kind = kinds.get(header, "metadata")
        sizes[kind] = sizes.get(kind, 0) + 2 * len(header) + len(value) + len(": \r\n;")
    return sizes
