"""What clients say of an object: JSON as Cloud Storage, YouTube and Drive have it, and the query. Pure.

https://cloud.google.com/storage/docs/json_api/v1/objects, https://developers.google.com/youtube/v3/docs/videos,
https://developers.google.com/workspace/drive/api/reference/rest/v3/files
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

from attrs import field, frozen

from resumable.model import Invalid, Rejected
from resumable.protocols.access import Description
from resumable.protocols.google.conditions import may_overwrite
from resumable.protocols.google.hashes import said_crc32c
from resumable.protocols.google.paths import GoogleTarget
from resumable.protocols.messages import Request, read_json_object
from resumable.protocols.names import check_name, parse_name
from resumable.quoting import quote_briefly
from resumable.uploads import values

#: The largest JSON that describes an object (bytes). A video's description alone may have 5000.
MOST = 64 * 1024

_NUMBER = re.compile(rb"\d{1,19}", re.ASCII)


@frozen
class Resource:
    """What a client's JSON says of the object; None: nothing."""

    name: str | None = None
    content_type: str | None = None
    content_encoding: str | None = None
    metadata: Mapping[str, str] = field(factory=dict)
    crc32c: str | None = None
    md5: str | None = None


def read_resource(body: bytes, content_type: str | None) -> Resource:
    """Return what the body of a start says. What is not known here is passed over: the APIs have hundreds of fields.

    Atom, which API 2 of YouTube has in place of JSON, is not read: the file's name stands in ``Slug``.

    :param content_type: the body's, None if it has none.
    :raises Invalid: it is no JSON object, or says what no object can have.
    """
    kind = (content_type or "").partition(";")[0].strip().lower()
    if not body.strip() or kind == "application/atom+xml":
        return Resource()
    said = read_json_object(body, "the metadata")
    snippet = said.get("snippet")
    titles = [said.get("name"), said.get("title"), snippet.get("title") if isinstance(snippet, dict) else None]
    types = [said.get("contentType"), said.get("mimeType")]
    metadata = said.get("metadata")
    with values.from_client():
        return Resource(
            _text("name", titles),
            _text("contentType", types),
            values.check_content_encoding(said["contentEncoding"]) if said.get("contentEncoding") else None,
            {} if metadata is None else values.check_metadata(_without_nulls(metadata)),
            _text("crc32c", [said.get("crc32c")]),
            _text("md5Hash", [said.get("md5Hash")]),
        )


def _text(what: str, found: list[Any]) -> str | None:
    """Return the first of these that says something."""
    for value in found:
        if value not in (None, ""):
            if not isinstance(value, str):
                raise Rejected(what, f"{what} is not a text")
            return value
    return None


def _without_nulls(metadata: Any) -> Any:
    """Return the metadata without the entries that are null, which stand for none."""
    return {k: v for k, v in metadata.items() if v is not None} if isinstance(metadata, dict) else metadata


def describe(
    request: Request, target: GoogleTarget, said: Resource, *, length: int | None, content_type: str | None
) -> Description:
    """Return the description of the upload that a request begins.

    :param length: bytes of the object, None while unknown.
    :param content_type: of the object, where its JSON says none.
    :raises Invalid: something of it cannot be.
    """
    kind = said.content_type or content_type
    with values.from_client():
        return Description(
            name_of(request, target, said),
            length,
            None if kind is None else values.check_content_type(kind),
            said.content_encoding,
            said.metadata,
            overwrite=may_overwrite(request.query),
            expected_crc32c=said_crc32c(request, said.crc32c),
        )


def name_of(request: Request, target: GoogleTarget, said: Resource) -> str | None:
    """Return the upload's name: of ``/upload/<name>``, else ``name=``, ``Slug`` or the JSON's; None: it has none.

    :raises Invalid: no upload can have it.
    """
    if target.name is not None:
        return parse_name(target.name)
    slug = request.requestHeaders.getRawHeaders(b"slug", [b""])[-1] if target.family == "gdata" else b""
    # RFC 5023, 9.7.1: percent-encoded UTF-8.
    named = [request.query.get("name", [""])[-1], unquote_to_bytes(slug).decode("utf-8", "replace"), said.name]
    name = next((name for name in named if name), None)
    return None if name is None else check_name(name)


def announced_length(request: Request) -> int | None:
    """Return the bytes that the object will have, by ``X-Upload-Content-Length``; None where it does not say.

    :raises Invalid: it is no number of bytes.
    """
    lines = request.requestHeaders.getRawHeaders(b"x-upload-content-length", [])
    if not lines or lines == [b""]:
        return None
    if len(lines) > 1 or not _NUMBER.fullmatch(lines[0]):
        raise Invalid(f"X-Upload-Content-Length {quote_briefly(lines[0])} is not a number of bytes")
    return int(lines[0])


def announced_type(request: Request) -> str | None:
    """Return the type that the object will have, by ``X-Upload-Content-Type``; None where it does not say."""
    lines = request.requestHeaders.getRawHeaders(b"x-upload-content-type", [])
    return lines[-1].decode("latin-1") or None if lines else None
