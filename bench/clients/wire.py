"""HTTP/1.1 on a blocking socket, only as much of it as the drivers need."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping

from attrs import frozen

from bench.clients.data import pieces


@frozen
class Answer:
    """A final answer."""

    status: int
    #: Lower-case names.
    headers: Mapping[str, str]
    body: bytes


@frozen
class Address:
    """Where the server is."""

    port: int
    tls: bool = False

    def connect(self, timeout: float = 120.0) -> Connection:
        """Open a new connection."""
        return Connection(self, timeout)


def head(method: str, path: str, headers: Mapping[str, str | int]) -> bytes:
    """Return a request's head."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


class Connection:
    """One connection, kept alive from request to request."""

    def __init__(self, address: Address, timeout: float) -> None:
        self.socket = socket.create_connection(("127.0.0.1", address.port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if address.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            # The certificate is the benchmark's own. Only the cost of the cipher is measured.
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            self.socket = context.wrap_socket(self.socket)
        self._received = bytearray()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def request(self, method: str, path: str, headers: Mapping[str, str | int], body: bytes = b"") -> Answer:
        """Send a request with a small body, and return its answer."""
        self.socket.sendall(head(method, path, {**headers, "Content-Length": len(body)}) + body)
        return self.answer(method)

    def send_body(self, first: int, end: int) -> None:
        """Send the upload's bytes from `first` to `end` (exclusive)."""
        for view in pieces(first, end):
            self.socket.sendall(view)

    def answer(self, method: str = "PUT") -> Answer:
        """Return the next answer that is not an interim one.

        :raises ConnectionError: the server closed the connection before the answer was complete.
        """
        while True:
            while b"\r\n\r\n" not in self._received:
                self._more()
            answer_head, _, self._received = self._received.partition(b"\r\n\r\n")
            first, *lines = answer_head.decode("latin-1").split("\r\n")
            status = int(first.split()[1])
            if status >= 200:
                break
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if method == "HEAD" or status in (204, 304):
            return Answer(status, headers, b"")
        if "chunked" in headers.get("transfer-encoding", ""):
            return Answer(status, headers, self._chunks())
        return Answer(status, headers, self._take(int(headers.get("content-length", 0))))

    def _chunks(self) -> bytes:
        body = b""
        while True:
            while b"\r\n" not in self._received:
                self._more()
            line, _, self._received = self._received.partition(b"\r\n")
            chunk = self._take(int(line, 16) + 2)[:-2]
            if not chunk:
                return body
            body += chunk

    def _take(self, size: int) -> bytes:
        while len(self._received) < size:
            self._more()
        data = bytes(self._received[:size])
        del self._received[:size]
        return data

    def _more(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("closed before the answer was complete")
        self._received += data
