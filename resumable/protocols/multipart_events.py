"""What a multipart body says, event by event: python-multipart's parser, with limits. Pure."""

from __future__ import annotations

import logging
from collections import deque

from attrs import frozen
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from twisted.web.http_headers import Headers

from resumable.model import Invalid

#: The most parts that a body may have.
MOST_PARTS = 100
#: The most header fields of a part, and the most bytes that all of them take.
MOST_PART_HEADERS = 16
PART_HEADERS_LIMIT = 8 * 1024

# The parser warns of every malformed body, and a client could fill the log with that.
_SILENT = logging.getLogger(f"{__name__}.parser")
_SILENT.disabled = True


@frozen(eq=False)
class PartHead:
    """The beginning of a part. In what its Content-Disposition names, bytes that are not UTF-8 are U+FFFD."""

    headers: Headers
    name: str | None
    filename: str | None


class PartEnd:
    """The end of the part that began last."""


class MultipartEvents:
    """Parses a body as it comes.

    :ivar events: what was parsed, oldest first. Whoever takes one out counts its bytes out of `waiting`.
    :ivar waiting: bytes of parts in `events`.
    :ivar closed: whether the closing boundary has been read.
    """

    def __init__(self, boundary: bytes, most_parts: int) -> None:
        self.events: deque[bytes | PartHead | PartEnd] = deque()
        self.waiting = 0
        self.closed = False
        self._most_parts = most_parts
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_began,
                "on_header_field": self._header_name_came,
                "on_header_value": self._header_value_came,
                "on_header_end": self._header_ended,
                "on_headers_finished": self._headers_ended,
                "on_part_data": self._data_came,
                "on_part_end": self._part_ended,
                "on_end": self._all_ended,
            },
            max_header_count=MOST_PART_HEADERS,
            max_header_size=PART_HEADERS_LIMIT,
        )
        self._parser.logger = _SILENT
        self._parts = 0
        self._headers = Headers()
        self._name, self._value = bytearray(), bytearray()
        self._header_bytes = 0

    def write(self, data: bytes) -> None:
        """Parse a segment.

        :raises Invalid: it is malformed, or beyond a limit. What was sound before that is in `events`.
        """
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise Invalid(f"the multipart body is malformed: {error}") from None

    def _part_began(self) -> None:
        self._parts += 1
        if self._parts > self._most_parts:
            raise Invalid(f"the multipart body has more than {self._most_parts} parts")
        self._headers = Headers()
        self._header_bytes = 0

    def _header_name_came(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._name += data[start:end]

    def _header_value_came(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._value += data[start:end]

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > PART_HEADERS_LIMIT:
            raise Invalid(f"the headers of a part take more than {PART_HEADERS_LIMIT} bytes")

    def _header_ended(self) -> None:
        try:
            self._headers.addRawHeader(bytes(self._name), bytes(self._value).strip(b" \t"))
        except ValueError:  # no field name
            raise Invalid("a header of a part is malformed") from None
        self._name, self._value = bytearray(), bytearray()

    def _headers_ended(self) -> None:
        options: dict[bytes, bytes] = {}
        for disposition in self._headers.getRawHeaders(b"content-disposition", [])[:1]:
            _, options = parse_options_header(disposition)
        self.events.append(PartHead(self._headers, _text(options.get(b"name")), _text(options.get(b"filename"))))

    def _data_came(self, data: bytes, start: int, end: int) -> None:
        if end > start:
            self.events.append(data[start:end])  # all of it: that is the very object, no copy
            self.waiting += end - start

    def _part_ended(self) -> None:
        self.events.append(PartEnd())

    def _all_ended(self) -> None:
        self.closed = True


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")
