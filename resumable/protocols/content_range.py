"""Content-Range of a request, as the clients of resumable uploads send it (RFC 9110, section 14.4, turned around). Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from attrs import frozen

from resumable.model import Invalid
from resumable.quoting import quote_briefly

_FORM = re.compile(
    rb"bytes (?:(?P<first>\d{1,19})-(?P<last>\d{1,19})|\*)/(?:(?P<total>\d{1,19})|\*)", re.ASCII | re.IGNORECASE
)


@frozen
class ContentRange:
    """``bytes F-L/T`` as ``[first, end)`` of ``total``; a query (``bytes */T``) has neither first nor end; ``*`` is None."""

    first: int | None
    end: int | None
    total: int | None

    @property
    def query(self) -> bool:
        """Whether the client brings nothing and asks how far the upload is."""
        return self.first is None


def match_content_range(values: Sequence[bytes], form: re.Pattern[bytes], forms: str) -> re.Match[bytes] | None:
    """Return the one Content-Range among a request's headers, matched against a form; None without any.

    :param forms: how the form is written, for people.
    :raises Invalid: there are several, or it is of another form.
    """
    if not values:
        return None
    if len(values) > 1:
        raise Invalid("more than one Content-Range")
    match = form.fullmatch(values[0].strip())
    if match is None:
        raise Invalid(f"Content-Range {quote_briefly(values[0])} is not of the form {forms}")
    return match


def parse_content_range(values: Sequence[bytes], content_length: int | None) -> ContentRange | None:
    """Return the one Content-Range among a request's headers, or None without any.

    The clients of the first server of this protocol wrote L as the offset behind the last byte of the file (``bytes
    6291456-9437184/9437184``); where the body's length says that this is meant, it is understood.

    :param content_length: bytes of the body; None if it is chunked.
    :raises Invalid: it is malformed, contradicts itself or the length of the body.
    """
    match = match_content_range(values, _FORM, "'bytes F-L/T', 'bytes F-L/*' or 'bytes */T'")
    if match is None:
        return None
    shown = quote_briefly(values[0])
    total = None if match["total"] is None else int(match["total"])
    if match["first"] is None:
        return ContentRange(None, None, total)
    first, last = int(match["first"]), int(match["last"])
    if last == total and content_length is not None and first + content_length == last:
        last -= 1
    if last < first:
        raise Invalid(f"Content-Range {shown} ends before it begins")
    if total is not None and last >= total:
        raise Invalid(f"Content-Range {shown} goes past the object's end")
    if content_length is not None and content_length != last - first + 1:
        raise Invalid(f"Content-Range {shown} holds {last - first + 1} bytes, the body {quote_briefly(content_length)}")
    return ContentRange(first, last + 1, total)
