"""The database under the ledger: an engine, threads of its own, and what is done when it is away for a while."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import Thread
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import StaticPool
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from resumable.backoff import Backoff
from resumable.ledger.engine import open_engine, prepare
from resumable.ledger.errors import Kind, code_of, kind_of
from resumable.ledger.writer import Writer
from resumable.model import Invalid, Unavailable

T = TypeVar("T")

#: Seconds for which a database server that is away (restarted, failing over) is tried again.
PATIENCE = 45.0
#: The pauses between those tries.
PAUSES = Backoff(0.05, 2.0, jitter=(0.5, 1.0))


class Database:
    """Runs transactions in threads. Those that only read have threads of their own: nobody who asks waits behind those who write.

    :param url: SQLAlchemy database URL; ``sqlite://`` keeps everything in memory.
    :param threads: how many transactions run at a time of those that write, and of those that read. SQLite has one `Writer`,
        and one connection to what is in memory.
    :param patience: seconds for which a database server that is away is tried again.
    """

    _log = Logger()

    def __init__(self, url: str, reactor: Any, *, threads: int = 4, patience: float = PATIENCE) -> None:
        self._reactor = reactor
        self._patience = patience
        self._engine: Engine = open_engine(url)
        #: For connections that somebody keeps: one out of the pool might be to a server of former times.
        self._single = open_engine(url, pooled=False) if self.on_server else self._engine
        #: What is wrong, where that has been said.
        self._wrong = ""
        self._reading = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        #: A database in memory is the one connection to it.
        self._in_memory = isinstance(self._engine.pool, StaticPool)
        self._readers = ThreadPool(minthreads=0, maxthreads=threads, name="ledger-readers")
        self._writers: ThreadPool | Writer
        if self.on_server:
            self._writers = ThreadPool(minthreads=0, maxthreads=threads, name="ledger-writers")
        else:
            self._writers = Writer(self._engine, reactor)

    def prepare(self) -> None:
        """Create or upgrade the tables; blocks, for the time before the reactor runs.

        :raises LedgerError: see `resumable.ledger.engine.prepare`.
        """
        prepare(self._engine)

    def release(self) -> None:
        """Give up open connections (a process about to fork must not hold any); the next call opens new ones."""
        if not self._in_memory:
            self._engine.dispose()

    def start(self) -> None:
        """Start the threads."""
        self._writers.start()
        self._readers.start()

    async def close(self) -> None:
        """Wait for what runs, then close all connections."""
        # Joining threads blocks, so another thread has to do it.
        waiting: Deferred[None] = Deferred()

        def stop() -> None:
            self._writers.stop()
            self._readers.stop()
            self._engine.dispose()
            self._reactor.callFromThread(waiting.callback, None)

        Thread(target=stop, name="ledger-close").start()
        await waiting

    @property
    def on_server(self) -> bool:
        """Whether it is PostgreSQL, which many nodes may share."""
        return self._engine.dialect.name == "postgresql"

    async def connect(self, set_up: Callable[[Any], None]) -> Any:
        """A connection for the caller alone, who closes it: the driver's own, each statement committed by itself.

        :param set_up: called with it in a thread.
        :raises Unavailable: the database is away; this is not tried again.
        """

        def in_thread() -> Any:
            pooled = self._single.raw_connection()
            connection: Any = pooled.driver_connection
            pooled.detach()
            try:
                connection.autocommit = True
                set_up(connection)
            except BaseException:
                connection.close()
                raise
            return connection

        try:
            return await deferToThreadPool(self._reactor, self._readers, in_thread)
        except (DBAPIError, self._engine.dialect.loaded_dbapi.Error) as error:
            raise Unavailable(f"the ledger did not answer: {error}") from None

    async def leave(self) -> None:
        """Open new connections from now on: those that there are may be to a server that is not the right one any more."""
        if self.on_server:
            await deferToThreadPool(self._reactor, self._readers, self._engine.dispose)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns, in a transaction that has been committed when this returns.

        `work` runs in a thread, and again if the database went away in the middle: it may have been committed before, so
        that it has to be such that twice is as good as once.

        :raises IntegrityError: a constraint is violated.
        :raises Invalid: a value is none that the database can hold: too long for an index, or with characters that it lacks.
        :raises Unavailable: the database did not do it, or did and could not say so.
        """
        if isinstance(self._writers, Writer):
            return await self._run(partial(self._writers.run, work), writes=True)
        return await self._run(partial(self._in_pool, self._engine, self._writers, work), writes=True)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """What `work`, which only reads, returns. Errors as `write`."""
        if self._in_memory:  # there is one connection, and it is the writer's
            return await self.write(work)
        return await self._run(partial(self._in_pool, self._reading, self._readers, work))

    def _in_pool(self, engine: Engine, pool: ThreadPool, work: Callable[[Connection], T]) -> Deferred[T]:
        def in_thread() -> T:
            with engine.begin() as connection:
                return work(connection)

        return deferToThreadPool(self._reactor, pool, in_thread)

    async def _run(self, transaction: Callable[[], Deferred[T]], *, writes: bool = False) -> T:
        deadline = self._reactor.seconds() + self._patience
        tries = 0
        while True:
            try:
                result = await transaction()
            except IntegrityError:
                raise
            except (DBAPIError, UnicodeEncodeError, OverflowError) as error:
                tries += 1
                kind = kind_of(error)
                # The driver's words: SQLAlchemy's have the statement's values with them.
                said = " ".join(str(getattr(error, "orig", error)).split())
                if kind is Kind.VALUE:
                    self._log.info("ledger: a value cannot be kept: {error}", error=said)
                    raise Invalid(
                        "a name or another value is too long, or has characters that cannot be kept"
                    ) from None
                if kind is Kind.TROUBLE or self._reactor.seconds() + PAUSES.bound(tries) > deadline:
                    self._complain(said, code_of(error))
                    raise Unavailable("the ledger did not answer") from None
                self._log.debug("ledger: {error}; trying again", error=said)
            else:
                # One that is full or that only reads can still be read.
                if writes and self._wrong:
                    self._wrong = ""
                    self._log.info("ledger: written again")
                return result
            await deferLater(self._reactor, PAUSES.pause(tries))

    def _complain(self, what: str, code: str) -> None:
        """Say what is wrong, once for as long as it is: all who write run into it."""
        if (code or what) != self._wrong:
            self._wrong = code or what
            self._log.error("ledger: {error}", error=what)
        else:
            self._log.debug("ledger: {error}", error=what)
