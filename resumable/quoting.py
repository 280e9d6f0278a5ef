"""How messages quote what others sent: enough for them to recognise it, and no more. Pure."""

from __future__ import annotations

#: Characters of a quotation, the mark for an omission included.
QUOTED = 100
_MORE = "…"


def quote_briefly(value: object) -> str:
    """Return text or bytes in quotation marks, and anything else as ``str`` writes it: at most `QUOTED` characters.

    What is not printable is escaped, so no control character and no surrogate gets into a log or an answer. Values of
    other types must be ones that ``str`` writes in ASCII.
    """
    if isinstance(value, int) and abs(value) >= 10**QUOTED:
        # Python refuses to write numbers of some thousand digits.
        return f"{'less than -' if value < 0 else 'more than '}10^{QUOTED}"
    if isinstance(value, bytes | bytearray | memoryview):
        value = bytes(value[:QUOTED]).decode("ascii", "backslashreplace") + (_MORE if len(value) > QUOTED else "")
    if not isinstance(value, str):
        return _cut(str(value))
    # It is cut before it is escaped, since it may be long.
    shown = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in value[:QUOTED])
    return f"'{_cut(shown if len(value) <= QUOTED else shown + _MORE, QUOTED - 2)}'"


def _cut(text: str, most: int = QUOTED) -> str:
    return text if len(text) <= most else text[: most - 1] + _MORE
