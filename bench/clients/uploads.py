"""Uploads as fast as the server takes them. Each worker thread keeps one connection."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import count

from bench.clients.job import Job, Report
from bench.clients.protocols import PROTOCOLS, Protocol, Refused
from bench.clients.wire import Address, Connection

#: Seconds for which a server may refuse to tell an upload's offset after the connection broke.
PATIENCE = 30.0
#: Seconds after which a client comes back. Few real clients are quicker.
PAUSE = 0.5


class Uploads:
    """One job's uploads."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._address = Address(job.port, job.tls)
        self._numbers = count()
        self._lock = threading.Lock()
        self._size = 0
        self._sent = 0
        self._answers: list[float] = []
        self._failures: list[str] = []
        self._sessions: dict[str, str] = {}

    def run(self) -> Report:
        """Do all uploads."""
        threads = [threading.Thread(target=self._work) for _ in range(min(self._job.concurrency, self._job.count))]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - started
        return Report(
            seconds=seconds,
            size=self._size,
            sent=self._sent,
            answers=self._answers,
            failures=self._failures,
            sessions=self._sessions,
        )

    def _work(self) -> None:
        protocol = PROTOCOLS[self._job.protocol](self._job.path)
        connection = self._address.connect()
        while True:
            with self._lock:
                number = next(self._numbers)
            if number >= self._job.count:
                break
            try:
                connection = self._upload(protocol, connection, f"{self._job.prefix}{number}")
            except (Refused, OSError) as error:
                with self._lock:
                    self._failures.append(f"{type(error).__name__}: {error}")
                connection.socket.close()
                connection = self._address.connect()
        connection.socket.close()

    def _upload(self, protocol: Protocol, connection: Connection, name: str) -> Connection:
        """Upload one object. Return the connection to go on with."""
        size = self._job.size
        session = protocol.begin(connection, name, size)
        drops = break_points(size, self._job.breaks)
        offset = sent = 0
        answer_took = 0.0
        while offset < size:
            end = min(size, offset + (self._job.request_size or size))
            connection.socket.sendall(protocol.head(session, offset, end, size, resumed=bool(self._job.breaks)))
            drop = next(drops, None)
            if drop is not None:
                stop = max(offset, min(drop, end - 1))
                # If the server broke the connection, ask for the offset just as if the client had dropped it.
                with suppress(ConnectionError):
                    connection.send_body(offset, stop)
                sent += stop - offset
                connection.socket.close()
                time.sleep(PAUSE)
                connection = self._address.connect()
                offset, connection = self._ask(protocol, connection, session)
                continue
            connection.send_body(offset, end)
            sent += end - offset
            last_byte = time.perf_counter()
            protocol.check(connection.answer(), end, size)
            answer_took = time.perf_counter() - last_byte
            offset = end
        with self._lock:
            self._size += size
            self._sent += sent
            self._answers.append(answer_took)
            self._sessions[name] = session
        return connection

    def _ask(self, protocol: Protocol, connection: Connection, session: str) -> tuple[int, Connection]:
        """Ask until the server tells the upload's offset. Return it, and the connection that the answer came on."""
        give_up = time.monotonic() + PATIENCE
        while True:
            try:
                return protocol.offset(connection, session, self._job.size), connection
            except (Refused, ConnectionError):
                if time.monotonic() > give_up:
                    raise
                connection.socket.close()
                time.sleep(0.05)
                connection = self._address.connect()


def break_points(size: int, breaks: int) -> Iterator[int]:
    """Yield the offsets at which the connection is dropped: evenly spread, and odd numbers."""
    for number in range(1, breaks + 1):
        yield size * number // (breaks + 1) | 1
