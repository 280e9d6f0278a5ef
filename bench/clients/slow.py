"""Many slow connections, paced by one loop, while another process asks status queries."""

from __future__ import annotations

import multiprocessing
import selectors
import time
from collections import deque
from collections.abc import Sequence
from itertools import cycle
from multiprocessing.connection import Connection as Pipe

from bench.clients.data import pieces
from bench.clients.job import Job, Report
from bench.clients.protocols import PROTOCOLS, Refused
from bench.clients.wire import Address, Connection

#: How often each connection sends in a second.
TICKS = 10
#: Seconds after which a server that neither takes bytes nor answers is given up.
SILENCE = 60.0
#: The number of uploads that status queries ask about. Nobody writes them meanwhile, because some servers end the
#: request that is writing an upload when somebody asks about it.
ASKED = 10
#: Bytes of each that are stored, and its length in bytes.
ASKED_STORED, ASKED_SIZE = 65536, 131072


class Trickle:
    """One slow upload."""

    def __init__(self, connection: Connection, size: int) -> None:
        self.connection = connection
        self.sent = 0
        self.last_byte = 0.0
        self._size = size

    def feed(self, allowed: int) -> bool:
        """Send until at most `allowed` bytes are sent in all. Return whether everything is sent."""
        try:
            for view in pieces(self.sent, min(allowed, self._size)):
                self.sent += self.connection.socket.send(view)
        except BlockingIOError:
            pass
        return self.sent == self._size


class SlowUploads:
    """One job's slow uploads."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._protocol = PROTOCOLS[job.protocol](job.path)
        self._address = Address(job.port, job.tls)
        self._answers: list[float] = []
        self._failures: list[str] = []
        self._moved = 0.0

    def run(self) -> Report:
        """Do all uploads, and ask the status queries meanwhile."""
        theirs, ours = multiprocessing.get_context("fork").Pipe()
        asked = self._begin_asked() if self._job.queries and self._protocol.resumes else []
        asking = multiprocessing.get_context("fork").Process(target=ask, args=(self._job, asked, theirs))
        if asked:
            asking.start()
        theirs.close()
        started = time.perf_counter()
        self._pace([self._open(number) for number in range(self._job.count)])
        seconds = time.perf_counter() - started
        statuses: list[float] = []
        if asking.pid is not None:
            ours.send("stop")
            statuses, failures = ours.recv()
            self._failures += failures
            asking.join()
        done = self._job.size * len(self._answers)
        return Report(
            seconds=seconds, size=done, sent=done, answers=self._answers, statuses=statuses, failures=self._failures
        )

    def _begin_asked(self) -> list[str]:
        """Begin the uploads to ask about, store half of each, and return their sessions."""
        sessions = []
        with self._address.connect() as connection:
            for number in range(ASKED):
                session = self._protocol.begin(connection, f"{self._job.prefix}asked{number}", ASKED_SIZE)
                connection.socket.sendall(self._protocol.head(session, 0, ASKED_STORED, ASKED_SIZE))
                connection.send_body(0, ASKED_STORED)
                self._protocol.check(connection.answer(), ASKED_STORED, ASKED_SIZE)
                sessions.append(session)
        return sessions

    def _open(self, number: int) -> Trickle:
        connection = self._address.connect()
        session = self._protocol.begin(connection, f"{self._job.prefix}{number}", self._job.size)
        connection.socket.sendall(self._protocol.head(session, 0, self._job.size, self._job.size))
        connection.socket.setblocking(False)
        return Trickle(connection, self._job.size)

    def _pace(self, trickles: list[Trickle]) -> None:
        selector = selectors.DefaultSelector()
        for trickle in trickles:
            selector.register(trickle.connection.socket, selectors.EVENT_READ, trickle)
        rounds = deque(trickles)
        begun = self._moved = time.perf_counter()
        turns = 0
        while rounds or selector.get_map():
            now = time.perf_counter() - begun
            # Feed all connections in turn, each of them TICKS times a second.
            due = int(now * TICKS * len(trickles)) - turns
            for _ in range(min(due, len(rounds))):
                trickle = rounds.popleft()
                if self._feed(trickle, int(now * self._job.rate) + self._job.rate // TICKS, selector):
                    rounds.append(trickle)
            turns += max(0, due)
            for key, _ in selector.select(0.002 if rounds else 0.1):
                self._answered(key.data, selector)
            if time.perf_counter() - self._moved > SILENCE:
                for trickle in trickles:
                    self._failed(trickle, selector, TimeoutError(f"nothing moved for {SILENCE:.0f} s"))
                return

    def _feed(self, trickle: Trickle, allowed: int, selector: selectors.BaseSelector) -> bool:
        """Feed an upload. Return whether there is more to send."""
        sent = trickle.sent
        try:
            if not trickle.feed(allowed):
                if trickle.sent > sent:
                    self._moved = time.perf_counter()
                return True
        except OSError as error:
            self._failed(trickle, selector, error)
        trickle.last_byte = time.perf_counter()
        return False

    def _answered(self, trickle: Trickle, selector: selectors.BaseSelector) -> None:
        sock = trickle.connection.socket
        sock.settimeout(10)
        try:
            answer = trickle.connection.answer()
            self._protocol.check(answer, self._job.size, self._job.size)
        except (OSError, Refused) as error:
            self._failed(trickle, selector, error)
            return
        self._moved = time.perf_counter()
        self._answers.append(self._moved - trickle.last_byte)
        selector.unregister(sock)
        sock.close()

    def _failed(self, trickle: Trickle, selector: selectors.BaseSelector, error: Exception) -> None:
        sock = trickle.connection.socket
        if sock.fileno() >= 0:
            self._failures.append(f"{type(error).__name__}: {error}")
            selector.unregister(sock)
            sock.close()


def ask(job: Job, sessions: Sequence[str], pipe: Pipe) -> None:
    """Ask about uploads until told to stop, in a process of its own.

    Then send the seconds of each query, and the failures.
    """
    protocol = PROTOCOLS[job.protocol](job.path)
    took: list[float] = []
    failures: list[str] = []
    try:
        with Address(job.port).connect(timeout=SILENCE) as connection:
            for session in cycle(sessions):
                started = time.perf_counter()
                offset = protocol.offset(connection, session, ASKED_SIZE)
                took.append(time.perf_counter() - started)
                if offset != ASKED_STORED:
                    failures.append(f"a status query said {offset}")
                if pipe.poll(1 / job.queries):
                    break
    except (OSError, Refused) as error:
        failures.append(f"status query: {type(error).__name__}: {error}")
    pipe.recv()
    pipe.send((took, failures))
