"""Content-Range as Google's clients write it. Pure.

Beside ``bytes F-L/T``, ``bytes F-L/*`` and ``bytes */T`` there is ``bytes F-*/T``: from byte F to wherever the body ends
(@google-cloud/storage sends it with a chunked body). The same client says of no bytes at all that they end before they begin:
``bytes 0--1/0`` of an empty object, ``bytes F-(F-1)/F`` where all F bytes are there already. That is ``bytes */F``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from resumable.model import Invalid
from resumable.protocols.content_range import ContentRange, parse_content_range
from resumable.quoting import quote_briefly

_OPEN = re.compile(rb"bytes (?P<first>\d{1,19})-\*/(?:(?P<total>\d{1,19})|\*)", re.ASCII | re.IGNORECASE)
_EMPTY = re.compile(
    rb"bytes (?P<first>\d{1,19})-(?P<last>-1|\d{1,19})/(?P<total>\d{1,19}|\*)", re.ASCII | re.IGNORECASE
)


def parse_range(values: Sequence[bytes], content_length: int | None) -> ContentRange | None:
    """Return the one Content-Range among a request's headers, or None without any.

    Of ``F-*`` the end is None: the object ends where the body does. A range of no bytes, with an empty body, is a query.

    :param content_length: bytes of the body; None if it is chunked.
    :raises Invalid: it is malformed, contradicts itself or the length of the body.
    """
    said = values[0].strip() if len(values) == 1 else b""
    empty = _EMPTY.fullmatch(said) if content_length == 0 else None
    if empty is not None and int(empty["last"]) == int(empty["first"]) - 1:
        return parse_content_range([b"bytes */" + empty["total"]], content_length)
    match = _OPEN.fullmatch(said)
    if match is None:
        return parse_content_range(values, content_length)
    first, total = int(match["first"]), None if match["total"] is None else int(match["total"])
    if total is not None and first + (content_length or 0) > total:
        raise Invalid(f"Content-Range {quote_briefly(values[0])} goes past the object's end")
    return ContentRange(first, None, total)
