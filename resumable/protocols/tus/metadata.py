"""``Upload-Metadata`` of tus: what a client says of its file (tus 1.0.0, Creation). Pure."""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Mapping, Sequence

from attrs import frozen

from resumable.model import Invalid, Rejected
from resumable.quoting import quote_briefly
from resumable.uploads import values

#: Keys by which clients name the file and its type: the first is tusd's and Uppy's, the second tus-js-client's own examples'.
NAMES = ("filename", "name")
TYPES = ("filetype", "type")


@frozen
class Metadata:
    """What a client says of its file.

    :ivar written: the header as it came; the client gets it back.
    :ivar name: of the file; None if it does not say.
    :ivar content_type: of the file; None if it does not say.
    :ivar rest: all else, for the object and the main application.
    """

    written: str = ""
    name: str | None = None
    content_type: str | None = None
    rest: Mapping[str, str] = {}


def read_metadata(lines: Sequence[bytes]) -> Metadata:
    """Return what the header says; an absent or empty one says nothing.

    :param lines: the values of the header.
    :raises Invalid: it is malformed.
    :raises Rejected: no object can have such metadata.
    """
    try:
        written = ",".join(line.decode("ascii") for line in lines if line.strip())
    except UnicodeDecodeError:
        raise Invalid("Upload-Metadata is not ASCII") from None
    pairs: dict[str, str] = {}
    for entry in written.split(",") if written else ():
        key, _, encoded = entry.strip().partition(" ")
        if not key or key in pairs:
            raise Invalid(f"Upload-Metadata has an empty key, or one twice: {quote_briefly(key)}")
        pairs[key] = _decoded(key, encoded.strip())
    rest = {key: value for key, value in pairs.items() if key not in (*NAMES, *TYPES)}
    content_type = _first(pairs, TYPES)
    with values.from_client():
        name = _first(pairs, NAMES)
        return Metadata(
            written,
            None if name is None else values.check_name(name),
            None if content_type is None else values.check_content_type(content_type),
            values.check_metadata(rest),
        )


def write_metadata(name: str | None, content_type: str | None, rest: Mapping[str, str]) -> str:
    """Return the header that says this; empty if there is nothing to say. `read_metadata` reads the same out of it.

    :param rest: its names are such that a header can have (`resumable.uploads.values.check_metadata`), which is narrower
        than what tus allows. Those by which a client would name the file or its type are left out: that is said already.
    """
    named = {NAMES[0]: name, TYPES[0]: content_type}
    said = {key: value for key, value in named.items() if value is not None}
    pairs = {**said, **{key: value for key, value in rest.items() if key not in (*NAMES, *TYPES)}}
    # A key without a value has no blank behind it.
    return ",".join(f"{key} {b64encode(value.encode()).decode('ascii')}".rstrip(" ") for key, value in pairs.items())


def _decoded(key: str, encoded: str) -> str:
    try:
        return b64decode(encoded, validate=True).decode("utf-8")
    except (NotBase64, ValueError):
        raise Rejected("metadata", f"Upload-Metadata: {quote_briefly(key)} is not UTF-8 in base64") from None


def _first(pairs: Mapping[str, str], keys: Sequence[str]) -> str | None:
    return next((pairs[key] for key in keys if pairs.get(key)), None)
