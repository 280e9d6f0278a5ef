"""The framing of a request's body: by length or in HTTP chunks, and perhaps in ``aws-chunked`` chunks inside."""

from __future__ import annotations

from collections.abc import Mapping


class Body:
    """Takes a body's bytes as they come.

    :param headers: the request's headers, with names in lower case.
    :param keep: whether to keep the bytes.
    """

    def __init__(self, headers: Mapping[str, str], *, keep: bool) -> None:
        self._kept: list[bytes] | None = [] if keep else None
        self._chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        self._in_trailer = False
        #: Bytes of the body so far, without HTTP's chunk framing.
        self.received = 0
        #: Bytes that have to come before something has to be parsed again.
        self.wanted = 0 if self._chunked else int(headers.get("content-length") or 0)
        self.done = not self._chunked and self.wanted == 0

    @property
    def droppable(self) -> int:
        """How many of the next bytes may be thrown away unread. Call `skip` with the number that were."""
        return self.wanted if self._kept is None else 0

    def skip(self, size: int) -> None:
        """Note that `size` of the droppable bytes were thrown away."""
        self.received += size
        self.wanted -= size
        self.done = not self._chunked and self.wanted == 0

    def take(self, buffer: bytearray) -> bool:
        """Take the body's bytes off the front of the buffer. Return whether the body needs more than there is."""
        while not self.done:
            if self.wanted:
                if not buffer:
                    return True
                data = bytes(buffer[: self.wanted])
                del buffer[: self.wanted]
                if self._kept is not None:
                    self._kept.append(data)
                self.skip(len(data))
                continue
            line, found, rest = buffer.partition(b"\r\n")
            if not found:
                return True
            buffer[:] = rest
            self._line(bytes(line))
        return False

    def _line(self, line: bytes) -> None:
        if self._in_trailer:
            self.done = not line
        elif line:
            self.wanted = int(line.partition(b";")[0], 16)
            self._in_trailer = self.wanted == 0

    def content(self) -> bytes | None:
        """Return the kept bytes without HTTP's framing, or None if they were dropped."""
        return None if self._kept is None else b"".join(self._kept)


def decode_aws_chunks(body: bytes) -> bytes:
    """Return the content of an ``aws-chunked`` body.

    Such a body has ``SIZE[;chunk-signature=…]`` lines, each before its bytes, and trailers at the end.
    """
    parts: list[bytes] = []
    at = 0
    while True:
        end = body.index(b"\r\n", at)
        size = int(body[at:end].partition(b";")[0], 16)
        if size == 0:
            return b"".join(parts)
        parts.append(body[end + 2 : end + 2 + size])
        at = end + 2 + size + 2


def object_size(headers: Mapping[str, str], received: int) -> int:
    """Return the size in bytes of the object in a body of `received` bytes."""
    return int(headers.get("x-amz-decoded-content-length") or received)
