"""``multipart/related`` (RFC 2387) as Google's clients write it: metadata, then the object's bytes. Read part by part.

Lines end in CR LF, or in bare LF (google-api-python-client writes it so). Which of the two the first line says, and the
boundaries that follow have to be like it: else nobody could tell whether a CR before one belongs to the object.
"""

from __future__ import annotations

from collections.abc import Callable

from python_multipart.multipart import parse_options_header
from twisted.web.http_headers import Headers

from resumable.model import Invalid
from resumable.protocols.multipart_body import MultipartBody
from resumable.protocols.multipart_events import PART_HEADERS_LIMIT, MultipartEvents, PartEnd, PartHead
from resumable.protocols.small_body import Pours

#: Metadata, and the object.
PARTS = 2


class RelatedBody(MultipartBody):
    """The two parts of a body. Pouring and back-pressure are those of `MultipartBody`."""

    def __init__(self, body: Pours, content_type: str) -> None:
        """Parameters and errors as of `MultipartBody`."""
        super().__init__(body, content_type, PARTS)
        boundary = parse_options_header(content_type)[1][b"boundary"]
        self._parser = RelatedEvents(boundary)


class RelatedEvents(MultipartEvents):
    """Parses a body as it comes, whichever way its lines end. Segments of the object are handed on as they are, uncopied."""

    def __init__(self, boundary: bytes) -> None:
        super().__init__(boundary, PARTS)
        self._first = b"--" + boundary
        #: What ends a part: the end of a line, and the boundary. Known when the first line has been read.
        self._delimiter = b""
        #: What has come and cannot be understood yet.
        self._rest = b""
        self._begun = 0
        self._step: Callable[[bytes], bytes | None] = self._read_first_line

    def write(self, data: bytes) -> None:
        """Parse a segment.

        :raises Invalid: it is malformed, or beyond a limit. What was sound before that is in `events`.
        """
        left: bytes | None = self._rest + data if self._rest else data
        self._rest = b""
        while left and not self.closed:
            before, step = left, self._step
            left = step(left)
            if left is None:
                self._rest = before
                if len(before) > PART_HEADERS_LIMIT:
                    raise Invalid(f"the multipart body has lines or headers of more than {PART_HEADERS_LIMIT} bytes")

    # Each step takes what has come, and returns what it leaves to the next one; None: it needs more.

    def _read_first_line(self, data: bytes) -> bytes | None:
        """Read the first boundary; empty lines may stand before it."""
        data = data.lstrip(b"\r\n")
        line, end, rest = data.partition(b"\n")
        if not end:
            if not self._first.startswith(line[: len(self._first)]):
                raise Invalid("the multipart body does not begin with its boundary")
            return None
        if line.rstrip(b" \t\r") != self._first:
            raise Invalid("the multipart body does not begin with its boundary")
        self._delimiter = (b"\r\n" if line.endswith(b"\r") else b"\n") + self._first
        self._step = self._read_headers
        return rest

    def _read_headers(self, data: bytes) -> bytes | None:
        """Read the headers of a part, up to the empty line."""
        headers, position = Headers(), 0
        while True:
            end = data.find(b"\n", position)
            if end < 0:
                return None
            line, position = data[position:end].removesuffix(b"\r"), end + 1
            if not line:
                break
            if position > PART_HEADERS_LIMIT:
                raise Invalid(f"the headers of a part take more than {PART_HEADERS_LIMIT} bytes")
            name, colon, value = line.partition(b":")
            try:
                if not colon:
                    raise ValueError
                headers.addRawHeader(name, value.strip(b" \t"))
            except ValueError:
                raise Invalid("a header of a part is malformed") from None
        self._begun += 1
        self.events.append(PartHead(headers, None, None))
        self._step = self._read_data
        return data[position:]

    def _read_data(self, data: bytes) -> bytes | None:
        found = data.find(self._delimiter)
        if found >= 0:
            self._give(data[:found])
            self._step = self._read_boundary
            return data[found + len(self._delimiter) :]
        # What may be the beginning of a boundary waits for what follows. (Its first byte is nowhere else in it.)
        begins = data.rfind(self._delimiter[:1], max(0, len(data) - len(self._delimiter) + 1))
        if begins >= 0 and self._delimiter.startswith(data[begins:]):
            data, self._rest = data[:begins], data[begins:]
        self._give(data)
        return b""

    def _give(self, data: bytes) -> None:
        if data:
            self.events.append(data)
            self.waiting += len(data)

    def _read_boundary(self, data: bytes) -> bytes | None:
        """Read what follows a boundary: two hyphens end the body, the end of the line begins another part."""
        if data.startswith(b"--"):
            if self._begun < PARTS:
                raise Invalid("the multipart body has one part: metadata and the object's bytes are two")
            self.events.append(PartEnd())
            self.closed = True
            return b""
        line, end, rest = data.partition(b"\n")
        if line.strip(b" \t\r-") or len(line) > PART_HEADERS_LIMIT:
            raise Invalid("a line of the multipart body begins with the boundary and goes on")
        if not end:
            return None
        if line.strip(b" \t\r"):
            raise Invalid("a line of the multipart body begins with the boundary and goes on")
        if self._begun == PARTS:
            raise Invalid(f"the multipart body has more than {PARTS} parts")
        self.events.append(PartEnd())
        self._step = self._read_headers
        return rest
