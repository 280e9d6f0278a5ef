"""Clients of many kinds for as long as wanted: ``python -m bench.clients.mixed JOB``, the job as JSON.

Each client has a protocol and a connection of its own. It makes one upload after the other, of any length, and breaks
some of them off. A line of JSON says every minute how far they are; the last one is the result.
"""

from __future__ import annotations

import json
import math
import random
import sys
import threading
import time
from contextlib import suppress

from attrs import asdict, define, field, frozen

from bench.clients.protocols import PROTOCOLS, Protocol, Refused
from bench.clients.uploads import PATIENCE
from bench.clients.wire import Address, Connection
from bench.limits import raise_file_limit

#: Seconds after which an upload that a PUT began and that is not known was never begun.
NOT_BEGUN = 2.0
#: The status where an upload goes on at another byte.
CONFLICT = 409
#: Seconds between two lines.
TELL = 60.0
#: The most failures that are told in words.
WORDS = 20


@frozen(kw_only=True)
class MixedJob:
    """An order to the clients."""

    port: int
    #: Protocol and path of each client.
    clients: list[tuple[str, str]]
    #: Seconds, and uploads a minute of all clients together.
    seconds: float
    rate: float
    #: The fewest and the most bytes of an upload. Small ones are as many as large ones: lengths are drawn on a
    #: logarithmic scale.
    least: int
    most: int
    #: The share of the uploads that break off once, 0 to 1.
    broken: float
    seed: int = 1


@define
class Progress:
    """What has happened so far."""

    uploads: int = 0
    resumed: int = 0
    #: Bytes of finished uploads.
    size: int = 0
    failed: int = 0
    #: The first failures, one line for each.
    failures: list[str] = field(factory=list)


class MixedClients:
    """Does a job."""

    def __init__(self, job: MixedJob) -> None:
        self._job = job
        self._lock = threading.Lock()
        self._end = time.monotonic() + job.seconds
        self.progress = Progress()

    def run(self) -> None:
        """Do all uploads, and tell of them every minute."""
        threads = [threading.Thread(target=self._client, args=(number,)) for number in range(len(self._job.clients))]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            until = time.monotonic() + TELL
            for thread in threads:
                thread.join(max(0.0, until - time.monotonic()))
            self.tell()

    def tell(self) -> None:
        """Print a line."""
        with self._lock:
            print(json.dumps(asdict(self.progress)), flush=True)

    def _client(self, number: int) -> None:
        kind, path = self._job.clients[number]
        protocol = PROTOCOLS[kind](path)
        dice = random.Random(self._job.seed * 1000 + number)
        pace = 60 * len(self._job.clients) / self._job.rate
        connection = Address(self._job.port).connect()
        due, count = time.monotonic(), 0
        while (now := time.monotonic()) < self._end:
            # A client that is behind does not catch up: the rate is the most, not the mean.
            due = max(due + pace, now)
            try:
                connection = self._upload(protocol, connection, f"soak-{number}-{count}", dice)
            except (Refused, OSError) as error:
                self._failed(f"{kind}: {type(error).__name__}: {error}")
                connection.socket.close()
                connection = Address(self._job.port).connect()
            count += 1
            time.sleep(max(0.0, min(due, self._end) - time.monotonic()))
        connection.socket.close()

    def _failed(self, line: str) -> None:
        with self._lock:
            self.progress.failed += 1
            if len(self.progress.failures) < WORDS:
                self.progress.failures.append(line)

    def _upload(self, protocol: Protocol, connection: Connection, name: str, dice: random.Random) -> Connection:
        """Make one upload. Return the connection to go on with."""
        job = self._job
        size = round(math.exp(dice.uniform(math.log(job.least), math.log(job.most))))
        breaks = dice.random() < job.broken
        session = protocol.begin(connection, name, size)
        offset = 0
        if breaks:
            stop = dice.randrange(size)
            connection.socket.sendall(protocol.head(session, 0, size, size, resumed=True))
            with suppress(ConnectionError):
                connection.send_body(0, stop)
            connection.socket.close()
            offset, connection = self._come_back(protocol, session, size)
        while offset < size:
            connection.socket.sendall(protocol.head(session, offset, size, size, resumed=breaks))
            connection.send_body(offset, size)
            answer = connection.answer()
            if not (breaks and answer.status == CONFLICT):
                protocol.check(answer, size, size)
                break
            # More was stored since the offset was told: bytes that had been on their way when the connection broke.
            connection.socket.close()
            offset, connection = self._come_back(protocol, session, size)
        with self._lock:
            self.progress.uploads += 1
            self.progress.resumed += breaks
            self.progress.size += size
        return connection

    def _come_back(self, protocol: Protocol, session: str, size: int) -> tuple[int, Connection]:
        """Ask on new connections until the server tells the offset. Return it, and the connection.

        A server that knows nothing of a PUT may have seen no more of it than its end: it is sent again.
        """
        give_up = time.monotonic() + (NOT_BEGUN if protocol.name == "put" else PATIENCE)
        while True:
            connection = Address(self._job.port).connect()
            try:
                return protocol.offset(connection, session, size), connection
            except (Refused, ConnectionError):
                if time.monotonic() > give_up:
                    if protocol.name == "put":
                        return 0, connection
                    connection.socket.close()
                    raise
                connection.socket.close()
                time.sleep(0.02)


def main() -> None:
    """Do the job of the first argument."""
    raise_file_limit()
    MixedClients(MixedJob(**json.loads(sys.argv[1]))).run()


if __name__ == "__main__":
    main()
