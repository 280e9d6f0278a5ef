"""Opening the ledger's database: SQLAlchemy engines that are set up for many writers, and up-to-date tables."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import ArgumentError, InvalidatePoolError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool, StaticPool

from resumable.database_url import read_database_url
from resumable.ledger.direct import command
from resumable.ledger.errors import leave_what_is_lost

MIGRATIONS = Path(__file__).with_name("migrations")
#: Seconds to connect to a database server, and to wait for another writer of a SQLite file.
CONNECT = 10
BUSY = 30
#: A server whose machine vanished is noticed after some 25 seconds, whether a transaction is running or not.
_NOTICE_DEATH: dict[str, Any] = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
#: Seconds for which a connection is kept at most: its host's name may by then stand for another server.
RECYCLE = 600
#: Seconds after which a connection that lay idle is tried before it is used. A server that went away in a shorter time
#: is noticed by the transaction, which is then tried again on a new connection.
IDLE = 1.0
#: The advisory lock (PostgreSQL) under which tables are changed, so that nodes that start together wait for each other.
_MIGRATION_LOCK = 7_305_221_860


NO_DRIVER = "PostgreSQL needs a driver that is not installed: pip install 'twisted-resumable[postgresql]'"


class LedgerError(Exception):
    """The ledger cannot be used; the message is for the operator and holds no password."""


def open_engine(url: str, *, pooled: bool = True) -> Engine:
    """Return an engine for `url`: ``sqlite:///FILE``, ``sqlite://`` (in memory) or ``postgresql://USER@HOST/DB``.

    There may be several hosts, with or without ports: ``postgresql://USER@HOST1,HOST2:5433/DB``. The one that takes
    writes is used for as long as it takes them.

    :param pooled: if false, each connection to a server is new, and is closed when it is given back.
    :raises LedgerError: not a database URL, or one whose driver is not installed.
    """
    try:
        parsed = read_database_url(url)
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.get_backend_name() != "sqlite":
            # Prepared statements would not survive a pooler such as pgbouncer between here and the server.
            options: dict[str, Any] = {
                "connect_timeout": CONNECT,
                "prepare_threshold": None,
                "target_session_attrs": "read-write",
                **_NOTICE_DEATH,
            }
            options = {name: value for name, value in options.items() if name not in parsed.query}
            pool: dict[str, Any] = {"pool_recycle": RECYCLE} if pooled else {"poolclass": NullPool}
            server = create_engine(parsed, connect_args=options, **pool)
            if pooled:
                _try_what_was_idle(server)
            event.listen(server, "handle_error", leave_what_is_lost)
            return server
        options = {"connect_args": {"check_same_thread": False, "timeout": BUSY}}
        if parsed.database in (None, "", ":memory:"):
            # Each connection to :memory: is a database of its own, so there may be only one.
            options["poolclass"] = StaticPool
        engine = create_engine(parsed, **options)
    except ImportError as error:
        if error.name != "psycopg":
            raise LedgerError(f"cannot be opened: {error}") from None
        raise LedgerError(NO_DRIVER) from None
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise LedgerError(f"cannot be opened: {error}") from None
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_immediate)
    if "poolclass" not in options:
        event.listen(engine, "handle_error", leave_what_is_lost)
    return engine


def _try_what_was_idle(server: Engine) -> None:
    """Try each connection of the pool that lay idle, as ``pool_pre_ping`` does with every one.

    Under load that would be a round trip more for each transaction, where most make three to six.
    """

    def left(_connection: Any, record: Any) -> None:
        record.info["left"] = monotonic()

    def taken(connection: Any, record: Any, _proxy: Any) -> None:
        since = record.info.get("left")
        if since is not None and monotonic() - since > IDLE:
            try:
                server.dialect.do_ping(connection)
            except server.dialect.loaded_dbapi.Error as error:
                # The pool lets go of all its connections, and hands out a new one.
                raise InvalidatePoolError(str(error)) from None

    event.listen(server, "checkin", left)
    event.listen(server, "checkout", taken)


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    # The driver must not begin transactions by itself. It would begin deferred ones, which fail instead of waiting
    # for the lock when they come to write.
    connection.isolation_level = None
    _set_journal_mode(connection)
    for pragma in ("synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _set_journal_mode(connection: Any) -> None:
    """Have the database write ahead. While another process does the same to a new file, SQLite refuses without waiting."""
    end = monotonic() + BUSY
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or monotonic() > end:
                raise
            sleep(0.02)


def _begin_immediate(connection: Connection) -> None:
    if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        command(connection, "BEGIN IMMEDIATE")


def prepare(engine: Engine, version: str = "head") -> None:
    """Bring the tables up to date, from nothing or from any earlier version.

    :param version: of the tables; ``head`` is the newest.
    :raises LedgerError: the database cannot be reached, or was made by a newer program.
    """
    try:
        with engine.begin() as connection:
            bring_up_to_date(connection, version)
    except SQLAlchemyError as error:
        raise LedgerError(f"cannot be opened: {getattr(error, 'orig', None) or error}") from None


def bring_up_to_date(connection: Connection, version: str = "head") -> None:
    """Bring the tables up to date within the connection's transaction. Parameters and errors as of `prepare`."""
    if _version(connection) != (_newest() if version == "head" else version):
        _upgrade(connection, version)


def _version(connection: Connection) -> str | None:
    """Return the version of the tables, or None if there are no tables, or none that tell their version."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
    return str(found[0]) if len(found) == 1 else None


def _newest() -> str:
    """Return the version of the newest migration: the number that its file's name begins with."""
    return max(path.name for path in (MIGRATIONS / "versions").glob("[0-9]*.py")).partition("_")[0]


def _upgrade(connection: Connection, version: str) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
    # Imported only now: alembic takes a third of a second to import, and a ledger that is up to date does not need it.
    from resumable.ledger.migrate import TooNew, upgrade

    try:
        upgrade(connection, MIGRATIONS, version)
    except TooNew:
        raise LedgerError(
            "was made by a newer resumable (its tables have a version this program does not know); "
            "upgrade the program or use another ledger"
        ) from None
