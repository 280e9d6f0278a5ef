"""The fields of a form that are no files: metadata of the files that follow, and where to go afterwards. Pure."""

from __future__ import annotations

from attrs import define, field

from resumable.model import Invalid, Rejected, TooLarge, Unsupported
from resumable.protocols.multipart_body import Part
from resumable.uploads import values

#: The most bytes of a field's value, of all fields with their names, and the most fields.
FIELD_LIMIT = 4 * 1024
FIELDS_LIMIT = 16 * 1024
MOST_FIELDS = values.MAX_ENTRIES
#: The field that says where the browser is to go afterwards.
REDIRECT = "redirect"
#: The field in which a browser says how the others are encoded (RFC 7578, 4.6). Only UTF-8 is read.
CHARSET = "_charset_"


@define
class Fields:
    """What has come of a form's fields.

    :ivar redirect: where the browser is to go afterwards, if the application allows it; None: nowhere.
    """

    redirect: str | None = None
    _pairs: list[tuple[str, str]] = field(factory=list)
    _size: int = 0

    def add(self, name: str, value: bytes) -> None:
        """Take note of a field.

        :raises TooLarge: there are too many, or too much in them.
        :raises Rejected: it is not UTF-8.
        """
        self._size += len(name.encode("utf-8", "backslashreplace")) + len(value)
        if self._size > FIELDS_LIMIT:
            raise TooLarge(f"the fields of a form may have at most {FIELDS_LIMIT} bytes together")
        try:
            text = value.decode()
        except UnicodeDecodeError:
            raise Rejected("metadata", "the fields of a form have to be UTF-8") from None
        if name == REDIRECT:
            self.redirect = text
        elif name != CHARSET:
            self._pairs.append((name, text))
        if len(self._pairs) > MOST_FIELDS:
            raise TooLarge(f"a form may have at most {MOST_FIELDS} fields")

    def as_metadata(self) -> dict[str, str]:
        """Return the fields so far as the metadata of an upload.

        :raises Rejected: no upload can have such metadata.
        """
        metadata = dict(self._pairs)
        if len(metadata) < len(self._pairs):
            raise Rejected("metadata", "a form must not have a field twice: the fields become the file's metadata")
        with values.from_client():
            return values.check_metadata(metadata)


async def read_field(part: Part) -> tuple[str, bytes]:
    """Return the name and the value of a part that is no file.

    :raises Invalid: it has no name.
    :raises TooLarge: it is too long.
    """
    if part.name is None:
        raise Invalid("a part of the form has no Content-Disposition with a name")
    try:
        return part.name, await part.read(FIELD_LIMIT)
    except TooLarge:
        raise TooLarge(f"a field of a form may have at most {FIELD_LIMIT} bytes; a file needs a filename") from None


def check_encoding(part: Part) -> None:
    """Check that a part's bytes are what is meant.

    :raises Unsupported: they are encoded, as in mail (RFC 7578, 4.7, advises against it).
    """
    for line in part.headers.getRawHeaders(b"content-transfer-encoding", []):
        if line.strip().lower() not in (b"7bit", b"8bit", b"binary"):
            raise Unsupported("Content-Transfer-Encoding", "a part of a form has to be sent as it is: 8bit or binary")
