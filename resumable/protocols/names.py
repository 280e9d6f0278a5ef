"""Names of uploads in URLs. Pure."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from resumable.model import Invalid
from resumable.uploads import values


def parse_name(path: bytes) -> str:
    """Return the name that the raw rest of a URL's path spells: percent-encoded UTF-8, with slashes.

    :raises Invalid: it is no UTF-8, or is what no upload may be called (see `resumable.uploads.values.check_name`).
    """
    try:
        return check_name(unquote_to_bytes(path).decode("utf-8"))
    except UnicodeDecodeError:
        raise Invalid("the name is not percent-encoded UTF-8") from None


def check_name(name: str) -> str:
    """Return the name, if an upload may have it.

    :raises Invalid: as `parse_name`.
    """
    with values.from_client():
        return values.check_name(name)
