"""Content-Range as Google's clients write it. Pure.

Beside ``bytes F-L/T``, ``bytes F-L/*`` and ``bytes */T`` there is ``bytes F-*/T``: from byte F to wherever the body ends
(@google-cloud/storage sends it with a chunked body).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from resumable.model import Invalid
from resumable.protocols.content_range import ContentRange, parse_content_range
from resumable.quoting import quote_briefly

_OPEN = re.compile(rb"bytes (?P<first>\d{1,19})-\*/(?:(?P<total>\d{1,19})|\*)", re.ASCII | re.IGNORECASE)


def parse_range(values: Sequence[bytes], content_length: int | None) -> ContentRange | None:
    """Return the one Content-Range among a request's headers, or None without any.

    Of ``F-*`` the end is None: the object ends where the body does.

    :param content_length: bytes of the body; None if it is chunked.
    :raises Invalid: it is malformed, contradicts itself or the length of the body.
    """
    match = _OPEN.fullmatch(values[0].strip()) if len(values) == 1 else None
    if match is None:
        return parse_content_range(values, content_length)
    first, total = int(match["first"]), None if match["total"] is None else int(match["total"])
    if total is not None and first + (content_length or 0) > total:
        raise Invalid(f"Content-Range {quote_briefly(values[0])} goes past the object's end")
    return ContentRange(first, None, total)
