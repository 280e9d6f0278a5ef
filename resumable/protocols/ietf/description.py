"""What the request that creates an upload says of the file. Pure."""

from __future__ import annotations

from resumable.model import UploadError
from resumable.protocols.access import Description, content_encoding_of, content_type_of
from resumable.protocols.digests import digests_of
from resumable.protocols.ietf.fields import MEDIA_TYPE
from resumable.protocols.messages import Request
from resumable.protocols.names import check_name, parse_name
from resumable.protocols.parameters import last_segment, read_file_name, read_parameters
from resumable.protocols.tus.metadata import Metadata, read_metadata


def describe(request: Request, path_name: bytes | None, length: int | None, *, complete: bool) -> Description:
    """Return the description of an upload that a request creates.

    :param path_name: the name in the URL, percent-encoded.
    :param length: bytes of the whole upload, if they are known.
    :param complete: whether all of it comes with this request.
    :raises Invalid: its name is none.
    :raises Unsupported: its body is encoded in a way that cannot be kept.
    """
    metadata = read_tus_metadata(request)
    return Description(
        read_name(request, path_name) or metadata.name,
        length,
        media_type(request) or metadata.content_type,
        content_encoding_of(request),
        metadata.rest,
        open_ended=not complete,
        digests=digests_of(request).whole,
    )


def read_name(request: Request, path_name: bytes | None) -> str | None:
    """Return the name in the URL, or else the last segment of that in ``Content-Disposition`` (draft-12, 4.2.1).

    :raises Invalid: it is none that an upload may have.
    """
    if path_name:
        return parse_name(path_name)
    lines = request.requestHeaders.getRawHeaders(b"content-disposition", [])
    if not lines:
        return None
    _, parameters = read_parameters(lines[-1].decode("utf-8", "replace"))
    name = last_segment(read_file_name(parameters) or "").strip()
    return check_name(name) if name else None


def media_type(request: Request) -> str | None:
    """Return the file's media type. That of a part of an upload, which tus-js-client sends from the start, is none."""
    said = content_type_of(request)
    return None if is_partial_upload(said) else said


def is_partial_upload(content_type: str | None) -> bool:
    """Say whether a Content-Type is that of a part of an upload."""
    return (content_type or "").partition(";")[0].strip().lower() == MEDIA_TYPE


def read_tus_metadata(request: Request) -> Metadata:
    """Return what tus-js-client says beside this protocol, in the header of its own; nothing where that is malformed."""
    try:
        return read_metadata(request.requestHeaders.getRawHeaders(b"upload-metadata", []))
    except UploadError:
        return Metadata()
