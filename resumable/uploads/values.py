"""What a name, an owner, a key, a metadata entry and a header may be. This is the one place that decides it. Pure.

The checks run before an upload is created. Each raises `Unfit`, and the caller knows whose value it was. A client's bad
value is answered with 400 (`from_client`). A bad value of the main application makes its answer unusable.

A value has to survive everything that holds it: JSON, both databases, headers, and the XML of S3's listings. Keys also
obey MinIO's rules (no empty segment, and none that is ``.`` or ``..`` once blanks are stripped), so that an upload may
change its store.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from resumable.model import ObjectOptions, Rejected, Unsupported
from resumable.stores.disposition import is_disposition
from resumable.stores.s3.options import METADATA, encode_tags, header_sizes
from resumable.stores.xmlapi.options import TOKEN_SYNTAX, encode_metadata

#: Bytes of UTF-8. S3 takes keys of up to 1024. An owner and a name together have to fit into PostgreSQL's indexes.
MAX_KEY = MAX_NAME = MAX_OWNER = 1024
#: Entries of metadata. Some servers limit the number of headers: Python's, and with it moto, refuses more than 100 with
#: a bare 431.
MAX_ENTRIES = 64
#: Bytes of all metadata: S3's 2 KB, less the service's own entry. Names count with their prefix, as MinIO counts them,
#: and values as they are encoded.
MAX_METADATA = 2048 - len(METADATA + "resumable-token") - 32
#: Bytes of a header's value, as it is sent.
MAX_HEADER = 4096
#: Bytes of all the headers that an object is created with, as they are sent and signed: S3's 8 KB for a PUT, less what
#: the service says itself (a session token alone may take 2 KB).
MAX_HEADERS = 5 * 1024
#: The beginning of the names of the service's own metadata.
RESERVED = "resumable-"
#: S3's limits for tags: how many, characters of a name, and characters of a value.
MAX_TAGS, MAX_TAG, MAX_TAG_VALUE = 10, 128, 256

#: Control characters, lone surrogates (no encoding has them) and noncharacters (XML cannot hold some of them).
_NO_TEXT = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF))
    + "]"
)
_WORD = re.compile(r"[A-Za-z0-9_-]{1,128}\Z")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,254}\Z")
#: Characters that are written as %XX in an owner's segment of a key: those that end a segment or spoil a key, and %
#: itself.
_NOT_IN_SEGMENT = re.compile("[%/\x00-\x1f\x7f-\x9f]")
#: The headers of an object that a client or the main application may choose, and that may be long.
_CHOSEN = ("metadata", "tags", "content_disposition", "content_type", "content_encoding")
#: Header fields of an answer that belong to its connection, or to the framing of its body.
_FRAMING = frozenset(
    {
        "connection",
        "content-length",
        "date",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


class Unfit(ValueError):
    """A value that no upload can have. `field` names it; the message does not quote it."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field} {why}")
        self.field = field


class UnfitEncoding(Unfit):
    """A Content-Encoding that cannot be kept with an object."""


@contextmanager
def from_client() -> Iterator[None]:
    """Turn `Unfit` into an error for the client.

    :raises Rejected: in place of `Unfit`.
    """
    try:
        yield
    except UnfitEncoding as unfit:
        raise Unsupported(unfit.field, str(unfit)) from None
    except Unfit as unfit:
        raise Rejected(unfit.field, str(unfit)) from None


def is_text(value: object) -> bool:
    """Return whether the value is a text that JSON, databases, headers and XML can hold."""
    return isinstance(value, str) and _NO_TEXT.search(value) is None


def check_text(field: str, value: object, *, most: int = MAX_HEADER) -> str:
    """Return the value if it is a text of 1 to `most` bytes of UTF-8."""
    if not isinstance(value, str) or not value or not is_text(value):
        raise Unfit(field, "must be a text, not empty and without control characters or noncharacters")
    if len(value) > most or len(value.encode()) > most:
        raise Unfit(field, f"must have at most {most} bytes")
    return value


def check_name(name: object) -> str:
    """Return the upload's name if it is a text without a segment ``.`` or ``..``."""
    checked = check_text("name", name, most=MAX_NAME)
    if any(segment in (".", "..") for segment in checked.split("/")):
        raise Unfit("name", "must not have a segment '.' or '..'")
    return checked


def check_owner(owner: object) -> str:
    """Return the owner: any text, even with slashes and dots (see `owner_segment`).

    Empty stands for nobody in particular.
    """
    if not is_text(owner):
        raise Unfit("owner", "must be a text without control characters or noncharacters")
    return check_text("owner", owner, most=MAX_OWNER) if owner else ""


def owner_segment(owner: str) -> str:
    """Return the owner as one segment of a key. No two owners share a segment, and a plain owner is its own segment."""
    segment = _NOT_IN_SEGMENT.sub(lambda found: f"%{ord(found[0]):02X}", owner)
    return segment.replace(".", "%2E") if segment.strip() in (".", "..") else segment


def check_bucket(bucket: object) -> str:
    """Return the bucket's name if it can be one."""
    if not isinstance(bucket, str) or not _BUCKET.match(bucket):
        raise Unfit("bucket", "must be a bucket's name, of letters, digits and . _ : -")
    return bucket


def check_key(key: object, *, field: str = "key", most: int = MAX_KEY) -> str:
    """Return the object's key.

    :param field: what is named if it does not fit: what the key was made of.
    :param most: bytes that the store takes.
    """
    checked = check_text(field, key, most=most)
    segments = checked.split("/")
    if not all(segments):
        raise Unfit(field, "must not make a key with empty segments (// or a slash at an end)")
    if any(segment.strip() in (".", "..") for segment in segments):
        raise Unfit(field, "must not make a key with a segment '.' or '..'")
    return checked


def check_parts(made: str, *, owner: str, name: str, most: int = MAX_KEY) -> None:
    """Check that a key is not too long. If it is, blame the longer one of owner and name.

    :param made: the key.
    :param owner: the owner's segment of it.
    :param most: bytes that the store takes.
    """
    if len(made.encode()) > most and len(owner.encode()) > len(name.encode()):
        raise Unfit("owner", f"leaves too few of the {most} bytes of the object's key for the name")
    if len(made.encode()) > most:
        raise Unfit("name", f"must make a key of at most {most} bytes, including what stands before and after it")


def check_metadata(metadata: object) -> dict[str, str]:
    """Return the metadata if its names can be header names, its values are texts, and S3 takes as much in all."""
    if not isinstance(metadata, Mapping) or not all(is_text(text) for pair in metadata.items() for text in pair):
        raise Unfit("metadata", "must be an object of texts without control characters or noncharacters")
    if len(metadata) > MAX_ENTRIES:
        raise Unfit("metadata", f"must have at most {MAX_ENTRIES} entries")
    size, seen = 0, set[str]()
    for name, value in metadata.items():
        if not TOKEN_SYNTAX.match(name):
            raise Unfit("metadata", "must have names that a header can have: letters, digits and !#$%&'*+-.^_`|~")
        if name.lower().startswith(RESERVED):
            raise Unfit("metadata", f"must not have names that begin with {RESERVED!r}: those are the service's own")
        if name.lower() in seen:
            raise Unfit("metadata", "must not have a name twice (stores do not tell capitals from small letters)")
        seen.add(name.lower())
        size += len(METADATA) + len(name) + len(encode_metadata(value))
        if size > MAX_METADATA:
            what = f"names with {METADATA} before each, and encoded values"
            raise Unfit("metadata", f"must have at most {MAX_METADATA} bytes: {what}")
    return dict(metadata)


def overlaid(client: Mapping[str, str], application: Mapping[str, str]) -> dict[str, str]:
    """Return the client's metadata, overridden by the main application's. Names are compared without regard to case."""
    taken = {name.lower() for name in application}
    return {**{name: value for name, value in client.items() if name.lower() not in taken}, **application}


def check_word(field: str, value: object) -> str:
    """Return the value if it is a word, as ``acl`` and ``storage_class`` have to be."""
    checked = check_text(field, value)
    if not _WORD.match(checked):
        raise Unfit(field, "must be a word of letters, digits, - and _")
    return checked


def check_content_type(value: object) -> str:
    """Return the content type if it is a text of the right length. Its meaning is not checked."""
    return check_text("content_type", value, most=1024)


def check_disposition(value: object, *, field: str = "content_disposition") -> str:
    """Return the content disposition. If it is not ASCII, its parameters must be parsable."""
    checked = check_text(field, value, most=MAX_HEADER // 4)
    if not is_disposition(checked):
        raise Unfit(field, "must be a type and parameters (RFC 6266) to have characters that are not ASCII")
    return checked


def check_content_encoding(value: object, *, field: str = "content_encoding") -> str | None:
    """Return the content codings as a comma-separated list, or None if there are none.

    :raises UnfitEncoding: it is no such list, or has ``aws-chunked``, which only frames a body for S3.
    """
    if not isinstance(value, str) or len(value) > 255:
        raise UnfitEncoding(field, "must be a list of content codings")
    words = [word.strip(" \t") for word in value.split(",")]
    named = [word for word in words if word]
    if not all(TOKEN_SYNTAX.match(word) for word in named):
        raise UnfitEncoding(field, "must be a list of content codings")
    if any(word.lower() == "aws-chunked" for word in named):
        raise UnfitEncoding(field, "must not be aws-chunked: bytes are stored as they come")
    return ", ".join(word for word in named if word.lower() != "identity") or None


def check_tags(tags: object, *, field: str = "tags") -> dict[str, str]:
    """Return the tags if S3 takes them."""
    if not isinstance(tags, Mapping) or not all(is_text(text) for pair in tags.items() for text in pair):
        raise Unfit(field, "must be an object of texts without control characters or noncharacters")
    if len(tags) > MAX_TAGS:
        raise Unfit(field, f"must be at most {MAX_TAGS}")
    if not all(0 < len(name) <= MAX_TAG and len(value) <= MAX_TAG_VALUE for name, value in tags.items()):
        raise Unfit(field, f"must have names of up to {MAX_TAG} characters and values of up to {MAX_TAG_VALUE}")
    if len(encode_tags(tags)) > MAX_HEADER:
        raise Unfit(field, f"must have at most {MAX_HEADER} bytes when percent-encoded for a header")
    return dict(tags)


def check_options(options: ObjectOptions) -> None:
    """Check all that an object is to be created with, whoever chose it."""
    check_metadata(options.metadata)
    check_tags(options.tags)
    if options.content_type:
        check_content_type(options.content_type)
    if options.content_disposition:
        check_disposition(options.content_disposition)
    if options.content_encoding:
        check_content_encoding(options.content_encoding)
    sizes = header_sizes(options)
    if sum(sizes.values()) > MAX_HEADERS:
        # Blame the largest of those that are not chosen by the settings alone.
        largest = max(_CHOSEN, key=lambda kind: sizes.get(kind, 0))
        why = f"must leave room for the object's other headers: together they have at most {MAX_HEADERS} bytes"
        raise Unfit(largest, why)


def answer_headers(said: Iterable[tuple[Any, Any]]) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """Sort the header fields that the main application wants in an answer to a client.

    :return: the fields that the answer can have, and the names of those that are left out, because they belong to the
        connection or are not ASCII.
    """
    kept, dropped = [], []
    for name, value in said:
        text = str(value) if type(value) is int else value
        named = isinstance(name, str) and TOKEN_SYNTAX.match(name) and name.lower() not in _FRAMING
        # ASCII only: there is no agreement on what other bytes mean (RFC 9110, 5.5).
        if named and is_text(text) and text.isascii() and len(text) <= MAX_HEADER:
            kept.append((name, text))
        else:
            dropped.append(ascii(name)[:60])
    return tuple(kept), tuple(dropped)
