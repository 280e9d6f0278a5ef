"""Names of uploads in URLs. Pure."""

from __future__ import annotations

import unicodedata
from urllib.parse import unquote_to_bytes

from resumable.model import Invalid


def parse_name(path: bytes) -> str:
    """The name that the raw rest of a URL's path spells: percent-encoded UTF-8, with slashes.

    :raises Invalid: it is no UTF-8, is empty, has control characters, or segments that a file system would take for
        something else (``.``, ``..``).
    """
    try:
        return check_name(unquote_to_bytes(path).decode("utf-8"))
    except UnicodeDecodeError:
        raise Invalid("the name is not percent-encoded UTF-8") from None


def check_name(name: str) -> str:
    """The name, if an upload may have it.

    :raises Invalid: as `parse_name`.
    """
    if not name:
        raise Invalid("the name is empty")
    if any(unicodedata.category(character) == "Cc" for character in name):
        raise Invalid("the name has control characters")
    if any(segment in (".", "..") for segment in name.split("/")):
        raise Invalid("the name has a segment '.' or '..'")
    return name
