"""What a client says when it asks for a ticket, as a form or as JSON. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from attrs import frozen

from resumable.model import Invalid, Rejected
from resumable.protocols.messages import read_json_object
from resumable.protocols.query import parse_query
from resumable.uploads import values

#: The largest body that asks for a ticket (bytes).
MOST = 16 * 1024
#: How a file may come: Vimeo's old way, and the present one. ``post`` (a form) and ``pull`` (fetched by Vimeo) are others.
STREAMING, TUS = "streaming", "tus"

_NUMBER = re.compile(r"\d{1,19}", re.ASCII)


@frozen
class Asked:
    """A ticket that somebody asks for.

    :ivar approach: `STREAMING` or `TUS`.
    :ivar size: bytes of the file; None while that is not said.
    :ivar name: None if nobody says.
    """

    approach: str
    size: int | None
    name: str | None


def read_ticket(query: Mapping[str, list[str]], content_type: str | None, body: bytes) -> Asked:
    """Return what is asked for.

    :param query: of the URL; a field in the body comes before it.
    :raises Invalid: it is not what it should be, or an approach that is not served.
    """
    said = {name: values[-1] for name, values in query.items()} | _fields(content_type, body)
    upload = said.get("upload")
    inner: Mapping[str, Any] = upload if isinstance(upload, dict) else {}
    approach = inner.get("approach", said.get("type"))
    if approach not in (STREAMING, TUS):
        raise Invalid('this takes type=streaming, or {"upload": {"approach": "tus", "size": …}}')
    size = _size(inner.get("size"))
    if approach == TUS and size is None:
        raise Rejected("size", "upload.size is required: the number of bytes of the file")
    name = said.get("file_name") or said.get("name")
    with values.from_client():
        return Asked(approach, size, values.check_name(name) if name else None)


def _fields(content_type: str | None, body: bytes) -> dict[str, Any]:
    if not body.strip():
        return {}
    if "json" not in (content_type or "").partition(";")[0].lower():
        return {name: values[-1] for name, values in parse_query(body.strip()).items()}
    return read_json_object(body)


def _size(value: object) -> int | None:
    """Return a number of bytes; some clients write it as a text."""
    if value is None:
        return None
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return int(value)
    if type(value) is int and 0 <= value < 1 << 63:
        return value
    raise Rejected("size", "upload.size is a number of bytes from 0 on")
