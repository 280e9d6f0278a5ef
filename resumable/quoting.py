"""What others sent, as a message quotes it: so much that they know it again, and no more. Pure."""

from __future__ import annotations

#: Characters of a quotation, its mark of an omission included.
QUOTED = 100
_MORE = "…"


def quote_briefly(value: object) -> str:
    """Return a text or bytes in quotation marks, or anything else as it is written: at most `QUOTED` characters.

    What is written in ASCII only: no control character and no surrogate gets into a log or an answer.
    """
    if isinstance(value, int) and abs(value) >= 10**QUOTED:
        # Python refuses to write numbers of some thousand digits.
        return f"{'less than -' if value < 0 else 'more than '}10^{QUOTED}"
    if isinstance(value, bytes | bytearray | memoryview):
        value = bytes(value[:QUOTED]).decode("ascii", "backslashreplace") + (_MORE if len(value) > QUOTED else "")
    if not isinstance(value, str):
        return _cut(str(value))
    # What is long is not escaped whole first.
    shown = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in value[:QUOTED])
    return f"'{_cut(shown if len(value) <= QUOTED else shown + _MORE, QUOTED - 2)}'"


def _cut(text: str, most: int = QUOTED) -> str:
    return text if len(text) <= most else text[: most - 1] + _MORE
