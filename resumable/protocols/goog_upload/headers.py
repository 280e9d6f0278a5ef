"""What the headers ``X-Goog-Upload-*`` of a request say. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection

from twisted.web.http_headers import Headers

from resumable.model import Invalid
from resumable.quoting import quote_briefly

COMMAND = b"x-goog-upload-command"
PROTOCOL = b"x-goog-upload-protocol"
OFFSET = b"x-goog-upload-offset"
#: Where a client says the length of the file, the most usual first. The last one is that of Google Photos.
LENGTHS = (b"x-goog-upload-header-content-length", b"x-goog-upload-content-length", b"x-goog-upload-raw-size")
#: The same of its type.
TYPES = (b"x-goog-upload-header-content-type", b"x-goog-upload-content-type")
FILE_NAME = b"x-goog-upload-file-name"

#: What a request may want: these words, alone or together.
COMMANDS: Collection[frozenset[str]] = (
    frozenset({"start"}),
    frozenset({"upload"}),
    frozenset({"upload", "finalize"}),
    frozenset({"finalize"}),
    frozenset({"query"}),
    frozenset({"cancel"}),
)

_NUMBER = re.compile(rb"\d{1,19}", re.ASCII)


def read_command(headers: Headers) -> frozenset[str] | None:
    """Return the words of ``X-Goog-Upload-Command``; None without one.

    :raises Invalid: it is no command, or they do not go together.
    """
    lines = headers.getRawHeaders(COMMAND)
    if not lines:
        return None
    said = b",".join(lines)
    words = frozenset(word.strip(b" \t").decode("latin-1").lower() for word in said.split(b","))
    if words not in COMMANDS:
        raise Invalid(
            f"X-Goog-Upload-Command {quote_briefly(said)} is none of start, upload, finalize, query, cancel"
            " and 'upload, finalize'"
        )
    return words


def read_protocol(headers: Headers) -> str:
    """Return the word of ``X-Goog-Upload-Protocol``, in small letters; empty without one."""
    lines = headers.getRawHeaders(PROTOCOL, [])
    return lines[-1].strip(b" \t").decode("latin-1").lower() if lines else ""


def read_number(headers: Headers, *names: bytes) -> int | None:
    """Return the number of bytes that the first of the headers says that is there; None without any.

    :raises Invalid: it is not digits alone, or stands there twice.
    """
    for name in names:
        lines = headers.getRawHeaders(name, [])
        if len(lines) > 1 or (lines and not _NUMBER.fullmatch(lines[0])):
            raise Invalid(f"{name.decode().title()} {quote_briefly(lines[0])} is not a number of bytes")
        if lines:
            return int(lines[0])
    return None


def read_text(headers: Headers, *names: bytes) -> str | None:
    """Return what the first of the headers says that is there and not empty; None without any.

    :raises Invalid: it is no UTF-8.
    """
    for name in names:
        lines = headers.getRawHeaders(name, [])
        if lines and lines[-1]:
            try:
                return lines[-1].decode("utf-8")
            except UnicodeDecodeError:
                raise Invalid(f"{name.decode().title()} is not UTF-8") from None
    return None
