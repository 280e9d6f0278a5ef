"""The tables come from migrations, from nothing and from every earlier version."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest_twisted
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, Index, Integer, MetaData, Table, insert, text
from twisted.internet import reactor

from resumable.ledger.database import Database
from resumable.ledger.engine import open_engine, prepare
from resumable.ledger.ledger import Ledger
from resumable.ledger.schema import metadata, pieces, uploads
from resumable.model import Piece

#: Columns and tables that there were not before there were migrations.
LATER = {"received", "tries", "due", "writers", "swarm", "completing"}


def test_the_migrations_make_the_tables_of_the_schema(url: str) -> None:
    engine = open_engine(url)
    prepare(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_nodes_that_start_together(postgres_or_file: str) -> None:
    """Each finds the tables made, whoever makes them."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: prepare(open_engine(postgres_or_file)), range(4)))


@pytest_twisted.ensureDeferred
async def test_a_ledger_from_before_there_were_migrations(postgres_or_file: str) -> None:
    """What is in it stays, and is what it was."""
    engine = open_engine(postgres_or_file)
    former = MetaData()
    for table in (uploads, pieces):
        columns = [Column(c.name, c.type, primary_key=c.primary_key, nullable=c.nullable) for c in table.columns]
        copied = Table(table.name, former, *(c for c in columns if c.name not in LATER))
    for index in uploads.indexes:
        if index.name != "uploads_by_object":
            where = {f"{name}_where": index.dialect_options[name]["where"] for name in ("sqlite", "postgresql")}
            columns = [former.tables["uploads"].c[c.name] for c in index.columns]
            Index(index.name, *columns, unique=index.unique, **where)
    version = Table("resumable_schema", former, Column("version", Integer, nullable=False))
    with engine.begin() as connection:
        former.create_all(connection)
        connection.execute(insert(version).values(version=1))
        connection.execute(
            text(
                "INSERT INTO uploads (id, protocol, owner, name, bucket, key, chunk_size, state, fragmented, options, overwrite,"
                " created, updated) VALUES ('u', 'seed', '', 'n', 'b', 'k', 5, 'open', false, '{}', true, 1.5, 2.5)"
            )
        )
        connection.execute(insert(copied).values(upload_id="u", first=0, end=5, number=1, etag="e"))
    engine.dispose()
    database = Database(postgres_or_file, reactor)
    database.prepare()
    database.start()
    ledger = Ledger(database)
    upload = await ledger.get("u")
    assert upload is not None
    assert (upload.name, upload.updated, upload.tries, upload.due) == ("n", 2.5, 0, None)
    assert await ledger.pieces("u") == [Piece(0, 5, 1, "e")]
    await database.close()
