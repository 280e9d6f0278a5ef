"""Requests that cannot be understood, or are too long: what is wrong with them, and the answer that says so."""

from __future__ import annotations

from http import HTTPStatus

from twisted.web.http import HTTPChannel, _ChunkedTransferDecoder, datetimeToString
from twisted.web.http_headers import Headers

from resumable.protocols.response import NO_STORE, Answer, raw_headers
from resumable.web.access import REQUEST_ID
from resumable.web.chunked import ChunkedDecoder


def closing(answer: Answer, request_id: str) -> Headers:
    """Return the headers of an answer that a connection gives by itself, and after which it closes."""
    headers = raw_headers(answer.headers)
    headers.setRawHeaders(b"connection", [b"close"])
    headers.setRawHeaders(b"content-length", [b"%d" % len(answer.body)])
    headers.setRawHeaders(b"date", [datetimeToString()])
    headers.setRawHeaders(*NO_STORE)
    headers.setRawHeaders(REQUEST_ID, [request_id.encode("ascii")])
    return headers


class RefusingChannel(HTTPChannel):
    """An HTTP channel that says what is wrong with a request, where Twisted's says only that something is, or nothing.

    It is strict about the length of a head and about where a body ends.
    """

    def _refuse(self, status: int, detail: str) -> None:
        """Answer what cannot be understood, and close."""
        raise NotImplementedError

    def _make_chunked_decoder(self) -> ChunkedDecoder:
        """Return the decoder for the body of the request whose head is being read."""
        raise NotImplementedError

    def lineReceived(self, line: bytes) -> None:
        """Read a line of the head, unless the head grows too long (RFC 6585, 5; RFC 9110, 15.5.15)."""
        if self._receivedHeaderSize + len(line) > self.totalHeadersSize:
            self._refuse_length()
        else:
            super().lineReceived(line)

    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse a single line longer than the whole head may be; our base would close without a word."""
        self._refuse_length()

    def _refuse_length(self) -> None:
        if self._receivedHeaderSize:
            self._refuse(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                f"The header fields take more than {self.totalHeadersSize} bytes.",
            )
        else:
            self._refuse(
                HTTPStatus.REQUEST_URI_TOO_LONG, f"The request line takes more than {self.totalHeadersSize} bytes."
            )

    def _maybeChooseTransferDecoder(self, header: bytes, data: bytes) -> bool:
        """Choose as our base does, but refuse what it lets pass.

        That is a number of more digits than Python converts; and ``identity``, which is no transfer coding any more, and
        beside Content-Length leaves in doubt where the body ends.
        """
        if header == b"Transfer-Encoding" and data.lower() != b"chunked":
            return bool(self._failChooseTransferDecoder())
        try:
            chosen = bool(super()._maybeChooseTransferDecoder(header, data))
        except ValueError:
            return bool(self._failChooseTransferDecoder())
        if isinstance(self._transferDecoder, _ChunkedTransferDecoder):
            self._transferDecoder = self._make_chunked_decoder()
        return chosen

    def _failChooseTransferDecoder(self) -> bool:
        """Refuse a body whose end is in doubt (RFC 9112, 6.3): it could smuggle a request past a proxy."""
        self._refuse(
            HTTPStatus.BAD_REQUEST,
            "Content-Length or Transfer-Encoding is malformed, not supported, or given more than once.",
        )
        return super()._failChooseTransferDecoder()

    def _respondToBadRequestAndDisconnect(self) -> None:
        """Say what is wrong where our base says only that something is."""
        if self._receivedHeaderCount > self.maxHeaders:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"There are more than {self.maxHeaders} fields.")
        elif not hasattr(self, "_command"):
            self._refuse(HTTPStatus.BAD_REQUEST, "The request line is malformed.")
        elif self.line_mode:
            self._refuse(HTTPStatus.BAD_REQUEST, "A header field is malformed.")
        else:
            self._refuse(HTTPStatus.BAD_REQUEST, "The chunked transfer coding of the body is malformed.")
