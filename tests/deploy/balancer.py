"""A load balancer of the simplest kind: it forwards connections to nodes in turn, and leaves out those not ready."""

from __future__ import annotations

import itertools
import selectors
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress

from tests.harness import Service

#: Seconds between looks at whether a node is ready.
LOOK = 0.2


class Balancer:
    """Listens between ``__enter__`` and ``__exit__``, on `port`."""

    def __init__(self, nodes: Sequence[Service]) -> None:
        self._nodes = nodes
        self._next = itertools.count()
        self._ready: list[bool] = [True] * len(nodes)
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port: int = self._listener.getsockname()[1]
        #: Connections for which no node was to be had, and those that a node refused which had said it was ready.
        self.refused = 0
        self.missed = 0

    def __enter__(self) -> Balancer:
        for work in (self._accept, self._look):
            threading.Thread(target=work, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._listener.close()

    def _look(self) -> None:
        while not self._over.wait(LOOK):
            for index, node in enumerate(self._nodes):
                try:
                    self._ready[index] = node.request("GET", "/readyz").status == 200
                except (OSError, AssertionError):
                    self._ready[index] = False

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = self._connect()
        if server is None:
            self.refused += 1
            client.close()
            return
        with client, server, suppress(OSError):
            _forward(client, server)

    def _connect(self) -> socket.socket | None:
        first = next(self._next)
        for step in range(len(self._nodes)):
            index = (first + step) % len(self._nodes)
            if self._ready[index]:
                try:
                    return socket.create_connection(("127.0.0.1", self._nodes[index].port), 5)
                except OSError:
                    self.missed += 1
        return None


def _forward(client: socket.socket, server: socket.socket) -> None:
    """Both ways until both have ended. What a client sends that has its answer already goes nowhere: were its connection
    closed instead, the answer could be lost on the way.
    """
    other = {client: server, server: client}
    with selectors.DefaultSelector() as selector:
        for one in other:
            selector.register(one, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                one: socket.socket = key.fileobj  # type: ignore[assignment]
                try:
                    data = one.recv(65536)
                except ConnectionError:
                    data = b""
                if not data:
                    selector.unregister(one)
                with suppress(OSError):
                    if data:
                        other[one].sendall(data)
                    else:
                        other[one].shutdown(socket.SHUT_WR)
