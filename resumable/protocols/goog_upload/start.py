"""What a client says of an upload that it begins: in headers, in the query, and in JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.web.http_headers import Headers

from resumable.model import Invalid
from resumable.protocols.access import Description
from resumable.protocols.goog_upload.headers import FILE_NAME, LENGTHS, TYPES, read_number, read_text
from resumable.protocols.goog_upload.places import Place
from resumable.protocols.names import check_name, parse_name
from resumable.uploads import values

#: The largest JSON that describes an upload (bytes).
MOST = 16 * 1024
#: Under this name the upload keeps what Gemini's clients want their file to be called (``files/…``).
FILE = "goog-upload-file"


def describe(
    place: Place,
    query: Mapping[str, list[str]],
    headers: Headers,
    said: Mapping[str, Any],
    *,
    length: int | None = None,
    content_type: str | None = None,
) -> Description:
    """Return the description of an upload.

    :param said: the JSON: an object of Firebase or Cloud Storage, or Gemini's ``{"file": {…}}``. What is not known in it
        is ignored, as Google does.
    :param length: bytes of the whole upload, where no header has to say it.
    :param content_type: what it is if nothing else says so.
    :raises Invalid: something is not what it should be.
    """
    file = said.get("file")
    inner: Mapping[str, Any] = file if isinstance(file, dict) else {}
    declared = read_number(headers, *LENGTHS)
    if declared is not None and length is not None and declared != length:
        raise Invalid(f"the headers declare {declared} bytes, the body has {length}")
    kind = (
        said.get("contentType") or _either(inner, "mimeType", "mime_type") or read_text(headers, *TYPES) or content_type
    )
    encoding, metadata, called = said.get("contentEncoding"), said.get("metadata"), inner.get("name")
    with values.from_client():
        return Description(
            _name(place, query, headers, said, inner),
            declared if length is None else length,
            values.check_content_type(kind) if kind else None,
            values.check_content_encoding(encoding) if encoding else None,
            values.check_metadata(metadata) if metadata is not None else {},
            remembered={FILE: values.check_text("name", called, most=values.MAX_NAME)} if called else {},
        )


def _name(
    place: Place, query: Mapping[str, list[str]], headers: Headers, said: Mapping[str, Any], inner: Mapping[str, Any]
) -> str | None:
    """Return the name of the upload: the URL says it, or else the headers, or else the JSON; None if nobody does."""
    if place.name is not None:
        return parse_name(place.name)
    asked = query.get("name", [""])[-1]
    if asked:
        return check_name(asked)
    # Only the last segment: some clients send the whole path on their own disc.
    file_name = (read_text(headers, FILE_NAME) or "").replace("\\", "/").rpartition("/")[2]
    shown = _either(inner, "displayName", "display_name")
    named = file_name or said.get("name") or shown or inner.get("name") or said.get("title")
    with values.from_client():
        return values.check_name(named) if named else None


def _either(said: Mapping[str, Any], *names: str) -> Any:
    """Return the first of the fields that is there: JSON of Google's may spell them in both ways (google-genai does)."""
    return next((said[name] for name in names if said.get(name)), None)
