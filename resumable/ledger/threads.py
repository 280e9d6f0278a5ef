"""The threads of a SQLite database: one that writes, and one for what is quickly read.

All work that waits to be written shares one transaction, and one write to the disc. A thread pool would take longer for
one quick look than the database does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from attrs import define, field
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")

#: How many jobs are taken at a time. More in one transaction would keep other processes waiting for the database too long.
MOST = 16


@define(eq=False)
class _Job:
    work: Callable[[Connection], Any]
    done: Deferred[Any] = field(factory=Deferred)
    outcome: Any = None


class _DatabaseThread:
    """A thread with a connection of its own, which does what it is given in the order in which it comes."""

    name: str

    def __init__(self, engine: Engine, reactor: Any) -> None:
        self._engine = engine
        self._reactor = reactor
        self._waiting: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._connection: Connection | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread = Thread(target=self._loop, name=self.name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Wait until all work that was asked for is done. Blocks."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()

    def run(self, work: Callable[[Connection], T]) -> Deferred[T]:
        """Run `work` in the thread, and return its result. Fail with what it or the database raises."""
        job = _Job(work)
        self._waiting.put(job)
        return job.done

    def _loop(self) -> None:
        going_on = True
        while going_on:
            jobs, going_on = self._take()
            if jobs:
                self._do(jobs)
                self._reactor.callFromThread(_tell, jobs)
        self._disconnect()

    def _take(self) -> tuple[list[_Job], bool]:
        """Wait for work. Return up to `MOST` jobs that are waiting, and whether more may come."""
        jobs: list[_Job] = []
        while len(jobs) < MOST:
            try:
                job = self._waiting.get(block=not jobs)
            except Empty:
                break
            if job is None:
                return jobs, False
            jobs.append(job)
        return jobs, True

    def _do(self, jobs: Sequence[_Job]) -> None:
        raise NotImplementedError

    def _connect(self) -> Connection:
        """Return the connection. It is kept, since taking one from the pool takes as long as a statement."""
        if self._connection is None:
            self._connection = self._engine.connect()
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class Writer(_DatabaseThread):
    """Runs work in transactions. A result is returned once the transaction is committed.

    Work runs again if other work in the same transaction failed.
    """

    name = "ledger-writer"

    def _do(self, jobs: Sequence[_Job]) -> None:
        """Do all jobs in one transaction. If one fails, it is left out and the others begin again."""
        left = list(jobs)
        while left:
            at_work: _Job | None = None
            try:
                connection = self._connect()
                with connection.begin():
                    for at_work in left:
                        at_work.outcome = at_work.work(connection)
                    at_work = None
                return
            except Exception as error:
                # If no job was at work the database itself failed, for all of them. Each try alone would wait for its
                # lock.
                failed = left if at_work is None else [at_work]
                for one in failed:
                    one.outcome = Failure(error)
                left = [one for one in left if one not in failed]
                if at_work is None or getattr(error, "connection_invalidated", False):
                    self._disconnect()


class Reader(_DatabaseThread):
    """Runs work that looks up a few rows, each look by itself.

    :param engine: each statement is a transaction.
    """

    name = "ledger-reader"

    def _do(self, jobs: Sequence[_Job]) -> None:
        for job in jobs:
            try:
                connection = self._connect()
                job.outcome = job.work(connection)
                if connection.in_transaction():
                    connection.rollback()
            except Exception as error:
                job.outcome = Failure(error)
                if isinstance(error, DBAPIError):
                    self._disconnect()


def _tell(jobs: Sequence[_Job]) -> None:
    for job in jobs:
        # `Deferred.callback` treats an outcome that is a Failure as an errback would.
        job.done.callback(job.outcome)
