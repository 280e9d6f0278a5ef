"""What a multipart body says, event by event: a push parser for RFC 2046, 5.1, with limits. Pure.

Python's parsers for these bodies are not used. The standard library's needs the whole body. python-multipart takes neither a
preamble nor lines that end in a bare LF, and a body full of almost-boundaries costs it a third of a microsecond a byte, in
which nobody else is served.

Here each segment is searched by functions written in C. A segment without a boundary is passed on as the very object it is.
"""

from __future__ import annotations

import re
from collections import deque
from enum import Enum, auto

from attrs import frozen
from twisted.web.http_headers import Headers

from resumable.model import Invalid
from resumable.protocols.parameters import read_file_name, read_parameters

#: The most parts that a body may have.
MOST_PARTS = 100
#: The most header fields of a part, and the most bytes that all of them take.
MOST_PART_HEADERS = 16
PART_HEADERS_LIMIT = 8 * 1024
#: The most bytes up to the end of the first boundary's line.
PREAMBLE_LIMIT = 8 * 1024
#: Blanks that may follow a boundary on its line (RFC 2046 sets no limit, and nobody sends any).
_PADDING = rb"[ \t]{0,16}"
#: RFC 2046, 5.1.1, and what else people have put there; never a line's end.
_BOUNDARY = re.compile(rb"[ -~]{0,69}[!-~]")


@frozen(eq=False)
class PartHead:
    """The beginning of a part."""

    headers: Headers
    name: str | None
    filename: str | None


class PartEnd:
    """The end of the part that began last."""


class _State(Enum):
    #: Before the first boundary.
    PREAMBLE = auto()
    HEADERS = auto()
    DATA = auto()
    #: After the closing boundary.
    CLOSED = auto()


class MultipartEvents:
    """Parses a body as it comes.

    The line of the first boundary says how lines end in all of the body: in CR LF, as they should, or in LF alone, as
    Python's email package writes them. In a body of the first kind an LF alone is data; in one of the second kind a CR is.

    :ivar events: what was parsed, oldest first. Whoever takes one out counts its bytes out of `waiting`.
    :ivar waiting: bytes of parts in `events`.
    """

    def __init__(self, boundary: bytes, most_parts: int) -> None:
        """
        :param boundary: without the dashes before it.
        :raises Invalid: no such boundary is possible.
        """
        if not _BOUNDARY.fullmatch(boundary):
            raise Invalid("the boundary of a multipart body has 1 to 70 characters of ASCII, and no blank at its end")
        self.events: deque[bytes | PartHead | PartEnd] = deque()
        self.waiting = 0
        self._boundary = b"--" + re.escape(boundary)
        self._first = re.compile(rb"(?:\A|\n)" + self._boundary + rb"(?:--|" + _PADDING + rb"(\r?\n))")
        self._dashed = b"--" + boundary
        self._longest_first = 1 + len(self._dashed) + 16 + 2
        self._most_parts = most_parts
        self._parts = 0
        self._state = _State.PREAMBLE
        # The preamble, or a part's headers with the end of the line before them, as far as they have come.
        self._lines = bytearray()
        self._line_count = 0  # of those of the part's headers that have ended
        # What may be the beginning of a boundary's line, at the end of the last segment; the first bytes of it may not be data.
        self._held = b""
        self._no_data = 0

    @property
    def closed(self) -> bool:
        """Whether the closing boundary has been read."""
        return self._state is _State.CLOSED

    def write(self, data: bytes) -> None:
        """Parse a segment.

        :raises Invalid: it is malformed, or beyond a limit. What was sound before that is in `events`.
        """
        at = 0
        while at < len(data) and self._state is not _State.CLOSED:
            if self._state is _State.DATA:
                at = self._take_data(data, at)
            elif self._state is _State.HEADERS:
                at = self._take_headers(data, at)
            else:
                at = self._take_preamble(data, at)

    # Before the first part

    def _take_preamble(self, data: bytes, at: int) -> int:
        """Look for the first boundary. Return where in `data` to go on."""
        before = len(self._lines)
        self._lines += data[at : at + PREAMBLE_LIMIT - before]
        # Not from its beginning each time: the segments may be a byte long.
        found = self._first.search(self._lines, max(0, before - self._longest_first))
        if found is None:
            if len(self._lines) >= PREAMBLE_LIMIT:
                raise Invalid(f"the multipart body does not begin with its boundary, nor within {PREAMBLE_LIMIT} bytes")
            return len(data)
        self._ends_line(bytes(found[1] or b"\r\n"))
        at += found.end() - before
        if found[1] is None:
            self._close()
        else:
            self._begin_part()
        return at

    def _ends_line(self, line_end: bytes) -> None:
        """Take note how lines end."""
        self._line_end = line_end
        self._delimiter = line_end + self._dashed
        rest = rb"(?:--|" + _PADDING + line_end + rb")"
        self._line = re.compile(line_end + self._boundary + rest)
        # What of such a line may stand at the end of a segment, once all of the delimiter is there.
        self._begun = re.compile(rb"-|" + _PADDING + rb"\r?" if line_end == b"\r\n" else rb"-|" + _PADDING)
        self._longest = len(self._delimiter) + 16 + len(line_end)

    # A part's headers

    def _begin_part(self) -> None:
        self._parts += 1
        if self._parts > self._most_parts:
            raise Invalid(f"the multipart body has more than {self._most_parts} parts")
        self._state = _State.HEADERS
        # So that an empty line ends the headers also where there are none.
        self._lines, self._line_count = bytearray(self._line_end), 0

    def _take_headers(self, data: bytes, at: int) -> int:
        """Look for the empty line. Return where in `data` to go on."""
        before, blank = len(self._lines), 2 * self._line_end
        self._lines += data[at : at + PART_HEADERS_LIMIT + len(blank) + 1 - before]
        found = self._lines.find(blank, max(0, before - len(blank)))
        if found < 0:
            if len(self._lines) > PART_HEADERS_LIMIT + len(blank):
                raise Invalid(f"the headers of a part take more than {PART_HEADERS_LIMIT} bytes")
            self._line_count += self._lines.count(self._line_end, before + 1 - len(self._line_end))
            _check_count(self._line_count)
            return len(data)
        self.events.append(read_head(bytes(self._lines[:found]).split(self._line_end)[1:]))
        self._state = _State.DATA
        # The empty line also ends the line before a boundary that follows at once: the part is empty then.
        self._held, self._no_data = self._line_end, len(self._line_end)
        return at + found + len(blank) - before

    # A part's bytes

    def _take_data(self, data: bytes, at: int) -> int:
        """Pass on bytes up to a boundary's line. Return where in `data` to go on."""
        if self._held:
            line = self._held + data[at : at + self._longest - len(self._held)]
            found = self._line.match(line)
            if found is not None:
                at += found.end() - len(self._held)
                self._end_part(found[0])
                return at
            if self._may_begin(line):
                self._held = line
                return len(data)
            # No boundary can begin within what was held: it has one line's end, at its beginning.
            self._emit(self._held[self._no_data :])
            self._held, self._no_data = b"", 0
        candidate = data.find(self._delimiter, at)
        found = None if candidate < 0 else self._line.search(data, candidate)
        if found is not None:
            self._emit(data[at : found.start()])
            self._end_part(found[0])
            return found.end()
        hold = self._unsure_from(data, at)
        self._emit(data[at:hold])  # all of it: that is the very object, no copy
        self._held = data[hold:]
        return len(data)

    def _unsure_from(self, data: bytes, at: int) -> int:
        """Return the offset from which the end of `data` may be the beginning of a boundary's line; its length if none is."""
        candidate = data.find(self._delimiter[:1], max(at, len(data) - self._longest))
        while candidate >= 0:
            if self._may_begin(data[candidate:]):
                return candidate
            candidate = data.find(self._delimiter[:1], candidate + 1)
        return len(data)

    def _may_begin(self, tail: bytes) -> bool:
        """Say whether bytes may be the beginning of a boundary's line, and not all of it."""
        if len(tail) <= len(self._delimiter):
            return self._delimiter.startswith(tail)
        return tail.startswith(self._delimiter) and self._begun.fullmatch(tail, len(self._delimiter)) is not None

    def _emit(self, data: bytes) -> None:
        if data:
            self.events.append(data)
            self.waiting += len(data)

    def _end_part(self, line: bytes) -> None:
        """Take note of a boundary's line."""
        self._held, self._no_data = b"", 0
        self.events.append(PartEnd())
        if line.endswith(b"--") and len(line) == len(self._delimiter) + 2:
            self._close()
        else:
            self._begin_part()

    def _close(self) -> None:
        self._state = _State.CLOSED
        self._lines = bytearray()


def read_head(lines: list[bytes]) -> PartHead:
    """Return what the lines of a part's headers say.

    :raises Invalid: they are malformed or too many, or the Content-Disposition is not UTF-8.
    """
    headers = Headers()
    _check_count(len(lines))
    for line in _unfolded(lines):
        name, colon, value = line.partition(b":")
        if not colon or re.search(rb"[\r\n\0]", value):
            raise Invalid("a header of a part is malformed")
        try:
            headers.addRawHeader(name, value.strip(b" \t"))
        except ValueError:  # no field name
            raise Invalid("a header of a part is malformed") from None
    parameters: dict[str, str] = {}
    for disposition in headers.getRawHeaders(b"content-disposition", [])[:1]:
        try:
            _, parameters = read_parameters(disposition.decode())
        except UnicodeDecodeError:
            raise Invalid("the Content-Disposition of a part is not UTF-8") from None
    return PartHead(headers, _unescaped(parameters.get("name")), _unescaped(read_file_name(parameters)))


def _check_count(lines: int) -> None:
    if lines > MOST_PART_HEADERS:
        raise Invalid(f"a part has more than {MOST_PART_HEADERS} lines of headers")


def _unfolded(lines: list[bytes]) -> list[bytes]:
    """Return the lines, with those that begin with a blank put to the end of the line before (RFC 5322, 2.2.3)."""
    whole: list[bytes] = []
    for line in lines:
        if line[:1] in (b" ", b"\t") and whole:
            whole[-1] += b" " + line.strip(b" \t")
        else:
            whole.append(line)
    return whole


def _unescaped(text: str | None) -> str | None:
    """Return a name as it was before the browser wrote a quotation mark as ``%22`` (WHATWG HTML, 4.10.21.8)."""
    return None if text is None else text.replace("%22", '"')
