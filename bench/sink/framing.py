"""How a request's body is framed: by its length or in HTTP chunks, and within that perhaps in ``aws-chunked`` ones."""

from __future__ import annotations

from collections.abc import Mapping


class Body:
    """Takes a body's bytes as they come.

    :param headers: the request's, lower-case names.
    :param keep: whether to keep them.
    """

    def __init__(self, headers: Mapping[str, str], *, keep: bool) -> None:
        self._kept: list[bytes] | None = [] if keep else None
        self._chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        self._in_trailer = False
        #: Bytes of the body so far, without HTTP's chunk lines.
        self.received = 0
        #: Bytes that come before something has to be parsed again.
        self.wanted = 0 if self._chunked else int(headers.get("content-length") or 0)
        self.done = not self._chunked and self.wanted == 0

    @property
    def droppable(self) -> int:
        """Bytes that may be thrown away unseen now; tell `skip` how many were."""
        return self.wanted if self._kept is None else 0

    def skip(self, size: int) -> None:
        """`size` of the droppable bytes are gone."""
        self.received += size
        self.wanted -= size
        self.done = not self._chunked and self.wanted == 0

    def take(self, buffer: bytearray) -> bool:
        """Take what belongs to the body off the buffer's front; returns whether it wants more than there is."""
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
        """The kept bytes as they are framed within HTTP, or None if they were dropped."""
        return None if self._kept is None else b"".join(self._kept)


def decode_aws_chunks(body: bytes) -> bytes:
    """The content of an ``aws-chunked`` body: ``SIZE[;chunk-signature=…]`` lines, each before its bytes, then trailers."""
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
    """Bytes of the object in a body of `received` bytes."""
    return int(headers.get("x-amz-decoded-content-length") or received)
