"""Which URLs are Google's, and what they are about. Pure.

Clients add ``/upload``, ``/resumable/upload`` or ``/download`` to the path of the API that they speak. ``/upload/<name>`` with
``?uploadType=`` is this service's own.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Literal
from urllib.parse import quote, unquote_to_bytes

from attrs import frozen

from resumable.model import Invalid
from resumable.protocols.base import Target
from resumable.protocols.messages import Request

#: Whose clients expect which answers. ``gdata`` is YouTube's API 2.
Family = Literal["storage", "youtube", "drive", "gdata"]

#: The protocol's name.
NAME = "google"
GDATA = b"/resumable/feeds/api/users/"
UPLOAD_TYPES = ("resumable", "media", "multipart")

_PREFIX = rb"(?:/upload|/resumable/upload|/download)?"
_BUCKET = re.compile(_PREFIX + rb"/storage/v1/b(?:/(?P<bucket>[^/]*)(?P<rest>/o(?:/(?P<object>.*))?)?)?", re.DOTALL)
_VIDEOS = re.compile(rb"(?:/resumable)?/upload/youtube/v3/videos")
_FILES = re.compile(rb"(?:/resumable)?/upload/drive/v[23]/files(?P<file>/.*)?", re.DOTALL)
_OURS = re.compile(rb"(?:/resumable)?/upload(?:/(?P<name>.*))?", re.DOTALL)


class Kind(Enum):
    """What a request's URL is about."""

    #: An upload that is under way: ``upload_id`` is in the query.
    SESSION = auto()
    #: Where uploads are begun.
    BEGIN = auto()
    #: A bucket.
    BUCKET = auto()
    #: An object in a bucket.
    OBJECT = auto()
    #: What Google serves there, and this service does not.
    NOTHING = auto()


@frozen(kw_only=True)
class GoogleTarget(Target):
    """What a request is about.

    :ivar upload_type: resumable, media or multipart; None where the query says none of them.
    :ivar bucket: as the URL names it, still percent-encoded.
    :ivar object: the object's name in a URL of the bucket, still percent-encoded.
    """

    kind: Kind
    family: Family = "storage"
    upload_type: str | None = None
    bucket: bytes | None = None
    object: bytes | None = None


def find_target(request: Request) -> GoogleTarget | None:
    """Return what a request is about if it speaks Google's protocol, else None."""
    if request.requestHeaders.hasHeader(b"x-goog-upload-command"):
        return None  # another protocol of Google's, on the same paths
    path = request.path
    upload_type = _upload_type(request)
    session = request.query.get("upload_id", [""])[-1]
    if path.startswith(GDATA):
        return _begin_or_go_on(session, "gdata", upload_type or "resumable")
    bucket = _BUCKET.fullmatch(path)
    if bucket is not None:
        return _in_bucket(path, bucket, session, upload_type)
    if _VIDEOS.fullmatch(path):
        return _begin_or_go_on(session, "youtube", upload_type)
    files = _FILES.fullmatch(path)
    if files is not None:
        if files["file"] is not None and not session:
            return GoogleTarget(kind=Kind.NOTHING, family="drive")
        return _begin_or_go_on(session, "drive", upload_type)
    return _ours(request, session, upload_type)


def _ours(request: Request, session: str, upload_type: str | None) -> GoogleTarget | None:
    ours = _OURS.fullmatch(request.path)
    if ours is None:
        return None
    if not session and upload_type is None and "uploadType" not in request.query:
        return None
    return _begin_or_go_on(session, "storage", upload_type, name=ours["name"] or None)


def _announces(request: Request) -> bool:
    return any(request.requestHeaders.hasHeader(f"x-upload-content-{what}") for what in ("length", "type"))


def _begin_or_go_on(
    session: str, family: Family, upload_type: str | None, *, name: bytes | None = None, bucket: bytes | None = None
) -> GoogleTarget:
    if session:
        return GoogleTarget(kind=Kind.SESSION, family=family, upload_id=session)
    return GoogleTarget(kind=Kind.BEGIN, family=family, upload_type=upload_type, name=name, bucket=bucket)


def _in_bucket(path: bytes, found: re.Match[bytes], session: str, upload_type: str | None) -> GoogleTarget:
    bucket, name = found["bucket"], found["object"]
    if session or (found["rest"] is not None and not name and (upload_type is not None or path.startswith(b"/upload"))):
        return _begin_or_go_on(session, "storage", upload_type, bucket=bucket)
    if name:
        return GoogleTarget(kind=Kind.OBJECT, bucket=bucket, object=name)
    if bucket and found["rest"] is None:
        return GoogleTarget(kind=Kind.BUCKET, bucket=bucket)
    return GoogleTarget(kind=Kind.NOTHING)


def _upload_type(request: Request) -> str | None:
    said = request.query.get("uploadType", request.query.get("upload_protocol", [""]))[-1]
    if not said and request.method == b"POST" and _announces(request):
        return "resumable"  # as node-uploadx begins
    return said if said in UPLOAD_TYPES else None


def bucket_of(target: GoogleTarget) -> str:
    """Return the bucket that a URL names.

    :raises Invalid: it is no percent-encoded UTF-8.
    """
    try:
        return unquote_to_bytes(target.bucket or b"").decode("utf-8")
    except UnicodeDecodeError:
        raise Invalid("the bucket is not percent-encoded UTF-8") from None


def session_uri(request: Request, upload_id: str) -> str:
    """Return the URI of an upload that this request has begun: its own path, for that is what proxies let through."""
    path = quote(request.path, safe="/%:@!$&'()*+,;=~")
    return f"{request.origin.base}{path}?uploadType=resumable&upload_id={upload_id}"
