"""Where the clients of X-Goog-Upload send their requests to, and which of Google's services they take the place for. Pure."""

from __future__ import annotations

import re
from enum import Enum
from urllib.parse import quote, unquote_to_bytes

from attrs import frozen

from resumable.protocols.base import Target


class Service(Enum):
    """Whose clients go there: that says what the last answer looks like."""

    FIREBASE = "Firebase"
    GEMINI = "Gemini"
    PHOTOS = "Google Photos"
    #: None in particular.
    ANY = "any"


@frozen
class Place(Target):
    """What a request is about.

    :ivar name: what the path says, percent-encoded; None if it says none.
    :ivar bucket: what the client calls the bucket. It decides nothing.
    """

    service: Service = Service.ANY
    bucket: str | None = None


@frozen
class StoredObject(Target):
    """An object that is asked about.

    :ivar bucket: as in `Place`.
    """

    bucket: str | None = None


_FIREBASE = re.compile(rb"/v0/b/([^/]+)/o(?:/(.+))?", re.DOTALL)
_GEMINI = re.compile(rb"/upload/v1[a-z0-9]*/files", re.ASCII)
#: Other services of Google: what follows is no name.
_GOOGLE = re.compile(rb"/upload/(?:storage|drive|youtube)/v\d", re.ASCII)
_PREFIX = b"/upload/"
_PHOTOS = b"/v1/uploads"


def place_of(path: bytes, upload_id: str | None) -> Place | None:
    """Return what a path means; None if nobody's client goes there.

    :param upload_id: what the query says.
    """
    firebase = _FIREBASE.fullmatch(path)
    if firebase is not None:
        return Place(firebase[2], upload_id, Service.FIREBASE, _bucket(firebase))
    if _GEMINI.fullmatch(path):
        return Place(None, upload_id, Service.GEMINI)
    if path == _PHOTOS:
        return Place(None, upload_id, Service.PHOTOS)
    if path == _PREFIX[:-1] or _GOOGLE.match(path):
        return Place(None, upload_id)
    if path.startswith(_PREFIX):
        return Place(path[len(_PREFIX) :] or None, upload_id)
    return None


def object_of(path: bytes) -> StoredObject | None:
    """Return the object of Firebase's that a path names; None if it names none."""
    firebase = _FIREBASE.fullmatch(path)
    return None if firebase is None or firebase[2] is None else StoredObject(firebase[2], bucket=_bucket(firebase))


def _bucket(firebase: re.Match[bytes]) -> str:
    return unquote_to_bytes(firebase[1]).decode("utf-8", "replace")


def upload_url(base: str, path: bytes, upload_id: str) -> str:
    """Return the URL of an upload: the one at which it was begun, with its id."""
    where = quote(path, safe="/%:@!$&'()*+,;=")
    return f"{base}{where}?upload_id={quote(upload_id, safe='')}&upload_protocol=resumable"
