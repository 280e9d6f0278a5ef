"""The header fields of Resumable Uploads for HTTP: structured fields (RFC 9651), and what the drafts call them. Pure.

A field whose value is malformed, or of another type, counts as absent (draft-12, 4.1): nothing here raises.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen
from http_sfv.item import Item
from twisted.web.http_headers import Headers

#: The interop versions whose drafts are answered as they ask: 3 is draft-01, 9 is draft-12.
VERSIONS = range(3, 10)
#: The only version that says ``Upload-Incomplete``, which is the opposite of ``Upload-Complete``, and leaves it out at the end.
INVERTED = 3
#: The first version with progress in interim answers, and the first whose PATCH has a media type.
PROGRESS = 5
PARTIAL_UPLOAD = 6
#: The last version whose PATCH is answered 201 as a creation is, and whose HEAD and DELETE say nothing of the state.
CREATED = 6
#: The versions that know the problem type of an upload which is complete, and that whose limit of time is called ``expires``.
COMPLETED = range(6, 9)
EXPIRES = 6

#: The media type of a PATCH (draft-12, 6).
MEDIA_TYPE = "application/partial-upload"


@frozen
class Fields:
    """What a request says in its head about the upload.

    :ivar version: the interop version, if it is among `VERSIONS`.
    :ivar drafted: whether it names any version at all.
    :ivar complete: whether the upload is complete with this request; None: it does not say.
    :ivar offset: where the body begins (bytes).
    :ivar length: of the whole upload (bytes).
    :ivar inverted: whether it says, and is told, the opposite: what is incomplete.
    """

    version: int | None = None
    drafted: bool = False
    complete: bool | None = None
    offset: int | None = None
    length: int | None = None
    inverted: bool = False

    @property
    def interim(self) -> bool:
        """Whether an interim answer may be sent: only to who names a version that is spoken here."""
        return self.version is not None

    @property
    def progress(self) -> bool:
        """Whether interim answers may tell how far the upload is."""
        return self.version is not None and self.version >= PROGRESS

    @property
    def asks_type(self) -> bool:
        """Whether a PATCH has to have the media type. Without a version that is how it will be in the end."""
        return self.version is None or self.version >= PARTIAL_UPLOAD

    @property
    def old(self) -> bool:
        """Whether the version is one of those that answer every PATCH with 201, and forbid to say the state in a question."""
        return self.version is not None and self.version <= CREATED

    @property
    def knows_completed(self) -> bool:
        """Whether the version has a problem type for an upload that is complete already."""
        return self.version in COMPLETED

    def completeness(self, complete: bool) -> dict[str, str]:
        """Return the header that says whether the upload is complete, as the client calls it."""
        if self.inverted:
            return {"Upload-Incomplete": "?0" if complete else "?1"}
        return {"Upload-Complete": "?1" if complete else "?0"}


def read_fields(headers: Headers) -> Fields:
    """Return what a request says; what is malformed it does not say."""
    number = _integer(headers, "upload-draft-interop-version")
    version = number if number in VERSIONS else None
    complete, incomplete = _boolean(headers, "upload-complete"), _boolean(headers, "upload-incomplete")
    inverted = incomplete is not None and complete is None
    if version == INVERTED:
        inverted = True
        complete = complete if incomplete is None else not incomplete
    elif inverted:
        complete = not incomplete
    return Fields(
        version=version,
        drafted=number is not None,
        complete=complete,
        offset=_natural(headers, "upload-offset"),
        length=_natural(headers, "upload-length"),
        inverted=inverted,
    )


def limits(version: int | None, max_size: int, seconds: float | None = None) -> dict[str, str]:
    """Return ``Upload-Limit`` (draft-12, 4.1.4).

    :param max_size: bytes that an upload may have.
    :param seconds: until it is ended if nobody goes on with it; None: nothing is said of that.
    """
    said = f"max-size={max_size}"
    if seconds is not None:
        said += f", {'expires' if version == EXPIRES else 'max-age'}={max(0, int(seconds))}"
    return {"Upload-Limit": said}


def _natural(headers: Headers, name: str) -> int | None:
    value = _integer(headers, name)
    return value if value is not None and value >= 0 else None


def _integer(headers: Headers, name: str) -> int | None:
    value = _item(headers.getRawHeaders(name.encode("ascii"), []))
    return value if type(value) is int else None


def _boolean(headers: Headers, name: str) -> bool | None:
    value = _item(headers.getRawHeaders(name.encode("ascii"), []))
    return value if isinstance(value, bool) else None


def _item(lines: Sequence[bytes]) -> object:
    """Return the bare item that a field is; None where it is none. Its parameters mean nothing (RFC 9651, 3.1.2)."""
    if not lines:
        return None
    item = Item()
    try:
        # Several lines are one value (RFC 9651, 4.2), which is no item then.
        item.parse(b", ".join(lines))
    except (ValueError, IndexError, OverflowError):
        return None
    return item.value
