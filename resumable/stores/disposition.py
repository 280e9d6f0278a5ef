"""``Content-Disposition`` in a header, which is ASCII: other file names become ``filename*`` (RFC 6266, RFC 8187).

Pure.
"""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote

_TYPE = re.compile(r"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*(?=;|\Z)")
#: A parameter. Values with blanks or other special characters should be in quotes, but often are not.
_PARAMETER = re.compile(r"""\s*;\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;"]*))\s*(?=;|\Z)""")
#: What RFC 8187 leaves as it is, besides letters and digits.
_ATTRIBUTE = "!#$&+-.^_`|~"


def is_disposition(value: str) -> bool:
    """Return whether a header can hold the value: it is ASCII, or its parameters can be parsed."""
    return value.isascii() or _read(value) is not None


def encode_disposition(value: str) -> str:
    """Return the value in the form for a header.

    Each parameter that is not ASCII is given twice: in ASCII for old programs, and with ``*`` in UTF-8. A value that
    cannot be parsed loses its characters that are not ASCII.
    """
    value = value.strip()
    if value.isascii() and value.isprintable():
        return value
    read = _read(value)
    if read is None:
        return _in_ascii(value)
    kind, parameters = read
    named = {name.lower() for name, _ in parameters}
    said = [kind]
    for name, text in parameters:
        if text.isascii() and text.isprintable():
            said.append(f"{name}={text if name.endswith('*') else _quoted(text)}")
        else:
            said.append(f"{name.removesuffix('*')}={_quoted(_in_ascii(text).replace('%', '_'))}")
            if f"{name.lower()}*" not in named:
                encoded = quote(text, safe=_ATTRIBUTE, errors="replace")
                said.append(f"{name.removesuffix('*')}*=UTF-8''{encoded}")
    return "; ".join(said)


def _read(value: str) -> tuple[str, list[tuple[str, str]]] | None:
    """Return the type and the parameters, or None if they cannot be parsed."""
    kind = _TYPE.match(value)
    if kind is None:
        return None
    parameters: list[tuple[str, str]] = []
    at = kind.end()
    while at < len(value):
        found = _PARAMETER.match(value, at)
        if found is None:
            return (kind[1], parameters) if not value[at:].strip(" \t;") else None
        quoted = found[2]
        text = found[3].strip() if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        parameters.append((found[1], text))
        at = found.end()
    return kind[1], parameters


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _in_ascii(text: str) -> str:
    """Return the text without accents, and with ``_`` for characters that have no ASCII letter."""
    bare = (one for one in unicodedata.normalize("NFKD", text) if not unicodedata.combining(one))
    return "".join(one if one.isascii() and one.isprintable() else "_" for one in bare)
