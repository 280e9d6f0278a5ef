"""Header values with parameters, as ``Content-Type`` and ``Content-Disposition`` of a form's parts have them. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

#: ``; name=value``. A quoted value may hold semicolons.
_PARAMETER = re.compile(r';\s*([^\s=;"]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;]*))', re.DOTALL)
#: What is escaped in a quoted value. Browsers leave the backslashes of ``C:\film.mp4`` alone, so no others are taken out.
_ESCAPED = re.compile(r'\\(["\\])')


def read_parameters(value: str) -> tuple[str, dict[str, str]]:
    """Return what stands before the parameters, in small letters, and the parameters by their names in small letters.

    The first parameter of a name counts. What cannot be read is left out.
    """
    parameters: dict[str, str] = {}
    for name, quoted, bare in _PARAMETER.findall(value):
        parameters.setdefault(name.lower(), _ESCAPED.sub(r"\1", quoted) if quoted else bare.strip())
    return value.partition(";")[0].strip().lower(), parameters


def read_file_name(parameters: Mapping[str, str]) -> str | None:
    """Return the file name in a Content-Disposition's parameters, ``filename*`` first (RFC 6266, 4.3); None without one."""
    extended = _decode_extended(parameters.get("filename*", ""))
    return parameters.get("filename") if extended is None else extended


def last_segment(file_name: str) -> str:
    r"""Return a file name without the folders before it, whether ``/`` or ``\`` separates them (RFC 7578, 4.2)."""
    return re.split(r"[/\\]", file_name)[-1]


def _decode_extended(value: str) -> str | None:
    """Return the text of an extended value (RFC 8187, 3.2): ``UTF-8''na%C3%AFve.txt``; None if it is none."""
    charset, _, rest = value.partition("'")
    _, quote, encoded = rest.partition("'")
    if not quote or charset.lower() not in ("utf-8", "iso-8859-1"):
        return None
    try:
        return unquote_to_bytes(encoded).decode(charset)
    except UnicodeDecodeError:
        return None
