"""The query of a request's target, read. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import unquote_to_bytes


def parse_query(query: bytes) -> Mapping[str, list[str]]:
    """Return the fields of `query` and their values, in the order in which they stand there.

    Fields are separated by ``&``; ``+`` is a space; percent-encoded bytes are UTF-8. A field without ``=`` has the empty
    value. Nothing is refused: a ``%`` without two hexadecimal digits stands for itself, and each byte that is not UTF-8
    becomes U+FFFD.

    :param query: what follows the ``?`` of the target, without it.
    """
    fields: dict[str, list[str]] = {}
    for field in query.split(b"&"):
        if field:
            name, _, value = field.partition(b"=")
            fields.setdefault(_decode(name), []).append(_decode(value))
    return MappingProxyType(fields)


def _decode(encoded: bytes) -> str:
    return unquote_to_bytes(encoded.replace(b"+", b" ")).decode("utf-8", "replace")
