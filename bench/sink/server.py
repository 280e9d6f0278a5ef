"""The sink's HTTP server: one thread, a selector, and bodies that the kernel throws away unread (``MSG_TRUNC``)."""

from __future__ import annotations

import heapq
import json
import selectors
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from attrs import evolve, frozen

from bench.sink.framing import Body, decode_aws_chunks, object_size
from bench.sink.state import Request, Response, State

#: Bytes dropped or read at once.
BLOCK = 1 << 20
_SCRATCH = bytearray(BLOCK)
_ZEROS = memoryview(bytes(BLOCK))


class Connection:
    """One client's connection."""

    def __init__(self, sink: SinkServer, sock: socket.socket) -> None:
        self._sink = sink
        self.socket = sock
        self._buffer = bytearray()
        self._outgoing: deque[memoryview] = deque()
        self._head: Request | None = None
        self._body: Body | None = None

    def on_event(self, mask: int) -> None:
        """Read or write, as the socket is ready for it."""
        try:
            if mask & selectors.EVENT_WRITE:
                self._flush()
            if mask & selectors.EVENT_READ:
                self._read()
        except (ConnectionError, TimeoutError):
            self._sink.forget(self)

    def _read(self) -> None:
        if self._body is not None and not self._buffer and self._body.droppable:
            size = self._drop(min(self._body.droppable, BLOCK))
            self._body.skip(size)
        else:
            data = self.socket.recv(BLOCK if self._body is not None else 65536)
            size = len(data)
            self._buffer += data
        if size == 0:
            self._sink.forget(self)
            return
        self._parse()

    def _drop(self, most: int) -> int:
        """Throw away up to `most` bytes of a body, and return how many."""
        return self.socket.recv_into(_SCRATCH, most, socket.MSG_TRUNC)

    def _parse(self) -> None:
        while True:
            if self._body is None:
                head, found, rest = self._buffer.partition(b"\r\n\r\n")
                if not found:
                    return
                self._buffer = rest
                self._begin(bytes(head).decode("latin-1"))
            assert self._body is not None
            if self._body.take(self._buffer):
                return
            self._end()

    def _begin(self, head: str) -> None:
        first, *lines = head.split("\r\n")
        method, target, _ = first.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        url = urlsplit(target)
        path, query = unquote(url.path), dict(parse_qsl(url.query, keep_blank_values=True))
        self._head = Request(method, path, query, headers)
        announced = int(headers.get("x-amz-decoded-content-length") or headers.get("content-length") or BLOCK)
        # Only a PUT's body is an object's content. A POST's body has to be read.
        self._body = Body(headers, keep=method != "PUT" or self._sink.state.keeps(path, announced))
        if headers.get("expect", "").lower() == "100-continue":
            self._send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _end(self) -> None:
        assert self._head is not None
        assert self._body is not None
        content = self._body.content()
        if content is not None and "aws-chunked" in self._head.headers.get("content-encoding", ""):
            content = decode_aws_chunks(content)
        size = len(content) if content is not None else object_size(self._head.headers, self._body.received)
        request = evolve(self._head, size=size, body=content)
        self._head = self._body = None
        response = self._sink.respond(request)
        if response.delay:
            self._sink.later(response.delay, self, request, response)
        else:
            self.reply(request, response)

    def reply(self, request: Request, response: Response) -> None:
        """Send the answer."""
        length = len(response.body) + response.zeros
        lines = [f"HTTP/1.1 {response.status} -", *(f"{name}: {value}" for name, value in response.headers.items())]
        if response.status != 204:
            lines.append(f"Content-Length: {length}")
        self._send("\r\n".join([*lines, "", ""]).encode("latin-1") + response.body)
        zeros = response.zeros if request.method != "HEAD" else 0
        while zeros:
            self._outgoing.append(_ZEROS[: min(zeros, BLOCK)])
            zeros -= len(self._outgoing[-1])
        self._flush()

    def _send(self, data: bytes) -> None:
        self._outgoing.append(memoryview(data))
        self._flush()

    def _flush(self) -> None:
        try:
            while self._outgoing:
                data = self._outgoing[0]
                sent = self.socket.send(data)
                if sent < len(data):
                    self._outgoing[0] = data[sent:]
                else:
                    self._outgoing.popleft()
        except BlockingIOError:
            pass
        self._sink.watch(self, writing=bool(self._outgoing))


class TlsConnection(Connection):
    """One client's connection over TLS. Bodies have to be decrypted to be thrown away."""

    socket: ssl.SSLSocket

    def on_event(self, mask: int) -> None:
        """Read or write, as the socket is ready for it. What OpenSSL has read ahead does not show in the selector."""
        try:
            super().on_event(mask)
            while self.socket.fileno() >= 0 and self.socket.pending():
                super().on_event(selectors.EVENT_READ)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except ssl.SSLError:
            self._sink.forget(self)

    def _drop(self, most: int) -> int:
        # OpenSSL returns one record of 16 KiB for each call.
        size = 0
        with suppress(ssl.SSLWantReadError):
            while size < most and (more := self.socket.recv_into(_SCRATCH, most - size)):
                size += more
            return size
        if not size:
            raise ssl.SSLWantReadError
        return size

    def _flush(self) -> None:
        try:
            super()._flush()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            self._sink.watch(self, writing=True)


@frozen
class _Listening:
    """A socket that listens, and what makes a connection of what it accepts."""

    listener: socket.socket
    accept: Callable[[socket.socket], Connection]


class SinkServer:
    """Listens on 127.0.0.1 until it is killed.

    :param tls_port: where it listens for TLS, if there is a `certificate` (a file that has the key, too).
    """

    def __init__(self, port: int = 0, *, tls_port: int = 0, certificate: Path | None = None) -> None:
        self.state = State()
        self._selector = selectors.DefaultSelector()
        self._waiting: list[tuple[float, int, Connection, Request, Response]] = []
        self.port = self._listen(port, self._accept)
        self.tls_port: int | None = None
        if certificate is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(certificate)
            self.tls_port = self._listen(tls_port, self._accept_tls)

    def _listen(self, port: int, accept: Callable[[socket.socket], Connection]) -> int:
        listening = socket.create_server(("127.0.0.1", port), backlog=4096)
        listening.setblocking(False)
        self._selector.register(listening, selectors.EVENT_READ, _Listening(listening, accept))
        chosen: int = listening.getsockname()[1]
        return chosen

    def run(self) -> None:
        """Serve for ever."""
        while True:
            timeout = max(0.0, self._waiting[0][0] - time.monotonic()) if self._waiting else None
            for key, mask in self._selector.select(timeout):
                if isinstance(key.data, _Listening):
                    self._connect(key.data)
                else:
                    key.data.on_event(mask)
            while self._waiting and self._waiting[0][0] <= time.monotonic():
                _, _, connection, request, response = heapq.heappop(self._waiting)
                if connection.socket.fileno() >= 0:
                    connection.reply(request, response)

    def _connect(self, listening: _Listening) -> None:
        # A client may be gone before it is accepted.
        with suppress(BlockingIOError, ConnectionError):
            sock, _ = listening.listener.accept()
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = listening.accept(sock)
            self._selector.register(connection.socket, selectors.EVENT_READ, connection)

    def _accept(self, sock: socket.socket) -> Connection:
        return Connection(self, sock)

    def _accept_tls(self, sock: socket.socket) -> Connection:
        # The handshake is done by the first reads.
        return TlsConnection(self, self._context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False))

    def watch(self, connection: Connection, *, writing: bool) -> None:
        """Ask the selector for what the connection waits for."""
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0)
        if self._selector.get_key(connection.socket).events != events:
            self._selector.modify(connection.socket, events, connection)

    def forget(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        self._selector.unregister(connection.socket)
        connection.socket.close()

    def later(self, seconds: float, connection: Connection, request: Request, response: Response) -> None:
        """Send the answer after `seconds`."""
        entry = (time.monotonic() + seconds, id(request), connection, request, response)
        heapq.heappush(self._waiting, entry)

    def respond(self, request: Request) -> Response:
        """Return the answer: to the benchmark itself for paths below ``/-/``, otherwise what S3 would answer."""
        if not request.path.startswith("/-/"):
            return self.state.answer(request)
        what, query = request.path.removeprefix("/-/"), request.query
        if what == "reset":
            self.state.reset()
        elif what == "set":
            self.state.keep = query.get("keep") == "1"
            self.state.delay = float(query.get("delay", 0))
            self.state.forget = query.get("forget") == "1"
            self.state.drop = query.get("drop") == "1"
        elif what == "counts":
            return Response(200, json.dumps({"calls": self.state.counts, "bytes": self.state.bytes}).encode())
        elif what == "digest":
            return Response(200, self.state.digest(query["key"]).encode())
        elif what != "allow":
            return Response(404)
        return Response(200)
