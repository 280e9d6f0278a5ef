"""The database under the ledger: an engine, its threads, and new tries while the database is away."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
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
from resumable.ledger.errors import LOST, Kind, code_of, kind_of
from resumable.ledger.threads import Reader, Writer
from resumable.model import Invalid, Unavailable
from resumable.outages import LEDGER, Reports

T = TypeVar("T")

#: Seconds for which a database server that is away (restarted, failing over) is tried again.
PATIENCE = 45.0
#: The pauses between those tries.
PAUSES = Backoff(0.05, 2.0, jitter=(0.5, 1.0))


class Database:
    """Runs transactions in threads. Reads have their own threads, so that they do not wait for writes.

    :param url: SQLAlchemy database URL; ``sqlite://`` keeps everything in memory.
    :param threads: how many writing transactions run at a time, and how many reading ones. SQLite has one `Writer`, and one
        `Reader` for what is quick; a database in memory has one connection.
    :param patience: seconds for which a database server that is away is tried again.
    """

    _log = Logger()

    def __init__(self, url: str, reactor: Any, *, threads: int = 4, patience: float = PATIENCE) -> None:
        self._reactor = reactor
        self._patience = patience
        self._engine: Engine = open_engine(url)
        #: For connections that are kept long. One from the pool might lead to a server that is no longer the primary.
        self._single = open_engine(url, pooled=False) if self.on_server else self._engine
        #: Told whether the database works. None: it is logged here.
        self.reports: Reports | None = None
        #: What is wrong, once it has been logged; empty otherwise.
        self._wrong = ""
        #: Each statement is a transaction.
        self._by_statement = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        #: A database in memory lives only in its one connection.
        self._in_memory = isinstance(self._engine.pool, StaticPool)
        self._readers = ThreadPool(minthreads=0, maxthreads=threads, name="ledger-readers")
        self._writers: ThreadPool | Writer
        self._reader: Reader | None = None
        if self.on_server:
            self._writers = ThreadPool(minthreads=0, maxthreads=threads, name="ledger-writers")
        else:
            self._writers = Writer(self._engine, reactor)
            if not self._in_memory:
                self._reader = Reader(self._by_statement, reactor)

    def prepare(self) -> None:
        """Create or upgrade the tables. Blocks: call it before the reactor runs.

        :raises LedgerError: see `resumable.ledger.engine.prepare`.
        """
        prepare(self._engine)

    def release(self) -> None:
        """Give up open connections; the next call opens new ones. A process that is about to fork must not hold any."""
        if not self._in_memory:
            self._engine.dispose()

    def start(self) -> None:
        """Start the threads."""
        self._writers.start()
        self._readers.start()
        if self._reader is not None:
            self._reader.start()

    async def close(self) -> None:
        """Wait for what runs, then close all connections."""
        # Joining threads blocks, so another thread has to do it.
        waiting: Deferred[None] = Deferred()

        def stop() -> None:
            self._writers.stop()
            self._readers.stop()
            if self._reader is not None:
                self._reader.stop()
            self._engine.dispose()
            self._reactor.callFromThread(waiting.callback, None)

        Thread(target=stop, name="ledger-close").start()
        await waiting

    @property
    def on_server(self) -> bool:
        """Whether it is PostgreSQL, which many nodes may share."""
        return self._engine.dialect.name == "postgresql"

    async def connect(self, set_up: Callable[[Any], None]) -> Any:
        """Return a connection of the driver's, in autocommit mode. The caller has it alone, and closes it.

        :param set_up: called in a thread, with the connection.
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
            raise Unavailable(f"the ledger did not answer: {error}", part=LEDGER) from None

    async def leave(self) -> None:
        """Open new connections from now on. The present ones may lead to a server that is no longer the primary."""
        if self.on_server:
            await deferToThreadPool(self._reactor, self._readers, self._engine.dispose)

    async def write(self, work: Callable[[Connection], T], *, single: bool = False) -> T:
        """Run `work` in a transaction, and return its result once the transaction has been committed.

        `work` runs in a thread. It runs again if the database went away in the middle, although the first transaction
        may have been committed. So running it twice must do the same as running it once.

        :param single: each statement of `work` may be a transaction of its own, which a server makes of it by itself. Mostly
            there is one, and the server is asked once in place of three times.
        :raises IntegrityError: a constraint is violated.
        :raises Invalid: the database cannot hold a value: it is too long for an index, or has characters that it cannot
            store.
        :raises Unavailable: the database did not answer. The transaction may or may not have been committed.
        """
        # What is written may have the id of the request that is being served.
        context = copy_context()

        def within(connection: Connection) -> T:
            return context.run(work, connection)

        if isinstance(self._writers, Writer):
            return await self._run(partial(self._writers.run, within), writes=True)
        engine = self._by_statement if single else self._engine
        return await self._run(partial(self._in_pool, engine, self._writers, within), writes=True)

    async def read(self, work: Callable[[Connection], T], *, quick: bool = False) -> T:
        """Run `work`, which only reads, and return its result. Raise as `write` does.

        :param quick: it looks up a few rows by an index, so that others can wait for it.
        """
        if self._in_memory:  # the only connection is the writer's
            return await self.write(work)
        if quick and self._reader is not None:
            return await self._run(partial(self._reader.run, work))
        return await self._run(partial(self._in_pool, self._by_statement, self._readers, work))

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
                # The driver's message: SQLAlchemy's would include the statement's values.
                said = " ".join(str(getattr(error, "orig", error)).split())
                if kind is Kind.VALUE:
                    self._log.info("ledger: a value cannot be kept: {error}", error=said)
                    raise Invalid(
                        "a name or another value is too long, or has characters that cannot be kept"
                    ) from None
                if kind is Kind.TROUBLE or self._reactor.seconds() + PAUSES.bound(tries) > deadline:
                    self._complain(said, code_of(error))
                    raise Unavailable("the ledger did not answer", part=LEDGER) from None
                if self.reports is not None and code_of(error) not in LOST:
                    self.reports.failed(said)
                self._log.debug("ledger: {error}; trying again", error=said)
            else:
                # A read does not show that: a full or read-only database can still be read.
                if writes and self.reports is not None:
                    self.reports.worked()
                elif writes and self._wrong:
                    self._wrong = ""
                    self._log.info("ledger: written again")
                return result
            await deferLater(self._reactor, PAUSES.pause(tries))

    def _complain(self, what: str, code: str) -> None:
        """Log what is wrong, once for as long as it lasts: every write runs into it."""
        if self.reports is not None:
            self.reports.failed(what)
        elif (code or what) != self._wrong:
            self._wrong = code or what
            self._log.error("ledger: {error}", error=what)
        else:
            self._log.debug("ledger: {error}", error=what)
