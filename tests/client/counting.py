"""A balancer in front of several nodes that reads along: which ranges are brought, and which were acknowledged before."""

from __future__ import annotations

import itertools
import re
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

from typing_extensions import Self

from resumable.client.ranges import Range, merge, missing, parse_range, size_of

#: Seconds that a client has to read an answer before what it says is held against it.
GRACE = 0.5


class Balancer:
    """Hands connections to the nodes in turn. All requests through it have to be about one upload.

    :ivar taken: bytes of bodies that came from clients.
    :ivar again: bytes that a request set out to bring though an answer had told that they are stored.
    """

    def __init__(self, ports: Sequence[int]) -> None:
        self.taken = 0
        self.again = 0
        self.used: set[int] = set()
        self._ports = itertools.cycle(ports)
        self._told: list[tuple[float, list[Range]]] = []
        self._lock = threading.Lock()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                port = next(self._ports)
                self.used.add(port)
                node = socket.create_connection(("127.0.0.1", port))
                for work in (self._requests, self._answers):
                    threading.Thread(target=self._until_the_end, args=(work, client, node), daemon=True).start()

    @staticmethod
    def _until_the_end(work: object, client: socket.socket, node: socket.socket) -> None:
        assert callable(work)
        try:
            with suppress(OSError):
                work(client, node)
        finally:
            for one in (client, node):
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def _requests(self, client: socket.socket, node: socket.socket) -> None:
        held, left = b"", 0
        while data := client.recv(262_144):
            node.sendall(data)
            held += data
            while held:
                if left:
                    body = min(left, len(held))
                    held, left = held[body:], left - body
                    with self._lock:
                        self.taken += body
                elif b"\r\n\r\n" in held:
                    head, _, held = held.partition(b"\r\n\r\n")
                    found = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
                    left = int(found[1]) if found else 0
                    self._look(head)
                else:
                    break

    def _look(self, head: bytes) -> None:
        found = re.search(rb"(?i)\r\ncontent-range: *bytes (\d+)-(\d+)", head)
        if found is not None:
            first, end = int(found[1]), int(found[2]) + 1
            with self._lock:
                told = [one for at, ranges in self._told if at < time.monotonic() - GRACE for one in ranges]
                self.again += end - first - size_of(missing(merge(told), first, end))

    def _answers(self, client: socket.socket, node: socket.socket) -> None:
        while data := node.recv(65_536):
            # Told when it is on its way to the client. An answer of this service comes in one piece.
            for found in re.findall(rb"(?i)\r\nrange: *(bytes=[0-9,-]+)", data):
                with self._lock:
                    self._told.append((time.monotonic(), parse_range(found.decode()) or []))
            client.sendall(data)
