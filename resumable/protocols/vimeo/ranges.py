"""Content-Range as Vimeo's clients write it: ``bytes FIRST-SIZE/SIZE``, where the second number is the file's size. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from attrs import frozen

from resumable.model import Invalid
from resumable.protocols.content_range import match_content_range
from resumable.quoting import quote_briefly

#: PyVimeo up to 0.4.1 writes a colon behind ``bytes``.
_FORM = re.compile(
    rb"bytes:? +(?:(?P<first>\d{1,19})-(?P<end>\d{1,19})|\*)/(?:(?P<total>\d{1,19})|\*)", re.ASCII | re.IGNORECASE
)


@frozen
class Brought:
    """The range ``[first, end)`` of a file of `total` bytes; for a question (``bytes */*``) first and end are None.

    :ivar cut: more bytes of a body are announced than the range has: it ends with the range, whatever comes behind.
    """

    first: int | None
    end: int | None
    total: int | None
    cut: bool = False


def parse_range(values: Sequence[bytes], content_length: int | None) -> Brought | None:
    """Return the one Content-Range among a request's headers, or None without any.

    The second number is the end (exclusive), as Vimeo has it, or the last byte, as RFC 9110 has it: the length of the body
    says which. Some clients (vimeo.js) announce the whole file's size as the length of what is only its rest.

    :param content_length: bytes of the body; None if it is chunked.
    :raises Invalid: it is malformed, contradicts itself or the length of the body.
    """
    match = match_content_range(values, _FORM, "'bytes FIRST-SIZE/SIZE' or 'bytes */*'")
    if match is None:
        return None
    shown = quote_briefly(values[0])
    total = None if match["total"] is None else int(match["total"])
    if match["first"] is None:
        return Brought(None, None, total)
    first, end = int(match["first"]), int(match["end"])
    if total is None:
        raise Invalid(f"Content-Range {shown} does not say the size of the file")
    if end < first or end > total:
        raise Invalid(f"Content-Range {shown} ends before it begins, or goes past the file's end")
    if content_length is None:
        if end not in (total, total - 1):
            raise Invalid(f"Content-Range {shown} of a chunked body has to go to the file's end")
        return Brought(first, total, total)
    fits = _end(end, total, first + content_length)
    if fits is None:
        raise Invalid(f"Content-Range {shown} does not fit a body of {quote_briefly(content_length)} bytes")
    return Brought(first, fits, total, cut=first + content_length > fits)


def _end(said: int, total: int, reached: int) -> int | None:
    """Return the end (exclusive) of a range; None if it is not what the length of the body says.

    :param said: the second number of the range.
    :param reached: where the body would end if all of it counted.
    """
    if said >= total - 1 and reached >= total:
        return total
    if said == total:
        return reached  # a piece: the size is all that the second number says
    return reached if reached in (said, said + 1) else None
