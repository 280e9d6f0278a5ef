"""How the ledger's database is opened: SQLAlchemy engines, set up for many writers, and the version check."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, insert, make_url, select
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from resumable.ledger.schema import VERSION, metadata, schema


class LedgerError(Exception):
    """The ledger cannot be used; the message is for the operator and holds no password."""


def open_engine(url: str) -> Engine:
    """An engine for `url`.

    :raises LedgerError: not a database URL, or one whose driver is not installed.
    """
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() != "sqlite":
            return create_engine(parsed, pool_pre_ping=True)
        options: dict[str, Any] = {"connect_args": {"check_same_thread": False, "timeout": 30}}
        if parsed.database in (None, "", ":memory:"):
            # Each connection to :memory: is a database of its own: there may be only one.
            options["poolclass"] = StaticPool
        engine = create_engine(parsed, **options)
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise LedgerError(f"cannot be opened: {error}") from None
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_immediate)
    return engine


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    # The driver must not begin transactions by itself: it would begin deferred ones, and those cannot wait their turn
    # when they turn to writing.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_immediate(connection: Connection) -> None:
    if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def prepare(engine: Engine) -> None:
    """Create the tables where there are none, and look at the version of those that are there.

    :raises LedgerError: the database cannot be reached, or was made by a newer program.
    """
    try:
        with engine.begin() as connection:
            metadata.create_all(connection)
            version = connection.execute(select(schema.c.version)).scalar()
            if version is None:
                connection.execute(insert(schema).values(version=VERSION))
    except SQLAlchemyError as error:
        raise LedgerError(f"cannot be opened: {getattr(error, 'orig', None) or error}") from None
    if version is not None and version > VERSION:
        raise LedgerError(
            f"was made by a newer resumable (schema {version}, this program knows up to {VERSION}); "
            "upgrade the program or use another ledger"
        )
