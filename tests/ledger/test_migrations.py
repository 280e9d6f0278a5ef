"""The tables come from migrations, from nothing and from every earlier version."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest_twisted
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Column, Index, Integer, MetaData, Table, insert, text
from twisted.internet import reactor

from resumable.ledger.database import Database
from resumable.ledger.engine import MIGRATIONS, _newest, open_engine, prepare
from resumable.ledger.ledger import Ledger
from resumable.ledger.schema import metadata, pieces, uploads
from resumable.model import Piece

#: Columns and tables that there were not before there were migrations.
LATER = {
    *("received", "tries", "due", "writers", "swarm"),
    *("claim", "generation", "edition", "refused", "nameless", "marks", "remembered"),
    *("partial", "sources", "expected_crc32c", "growth", "cell", "object_generation"),
}
LATER_INDEXES = {"uploads_by_object", "uploads_in_order", "uploads_one_claim", "uploads_live_segments"}


def test_the_migrations_make_the_tables_of_the_schema(url: str) -> None:
    engine = open_engine(url)
    prepare(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_the_newest_version() -> None:
    """Alembic is not asked for it, and has to be of the same opinion."""
    scripts = ScriptDirectory(str(MIGRATIONS), version_locations=[str(MIGRATIONS / "versions")])
    assert _newest() == scripts.get_current_head()


def test_a_ledger_that_is_up_to_date_starts_without_alembic(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    script = (
        "import sys\nfrom resumable.ledger.engine import open_engine, prepare\n"
        f"prepare(open_engine({url!r}))\nprint('alembic' in sys.modules)"
    )
    said = [subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout for _ in range(2)]
    assert said == [b"True\n", b"False\n"]


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
        if index.name not in LATER_INDEXES:
            where = {f"{name}_where": index.dialect_options[name]["where"] for name in ("sqlite", "postgresql")}
            columns = [former.tables["uploads"].c[c.name] for c in index.columns]
            Index(index.name, *columns, unique=index.unique, **where)
    row = former.tables["uploads"].c
    Index("uploads_by_name", row.owner, row.name, row.created)
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
    found = await ledger.find("", "n", "put")
    assert found is not None
    assert found.id == "u"
    await database.close()


def test_the_order_of_uploads_that_were_there_before(postgres_or_file: str) -> None:
    """What is live is the newest; else the clocks of then are all there is to go by."""
    engine = open_engine(postgres_or_file)
    prepare(engine, "0004")
    rows = [
        ("late", 30.0, "finished"),
        ("live", 10.0, "open"),
        ("early", 20.0, "failed"),
    ]
    with engine.begin() as connection:
        for name, created, state in rows:
            values = {"id": name, "created": created, "state": state}
            connection.execute(
                text(
                    "INSERT INTO uploads (id, protocol, owner, name, bucket, key, chunk_size, state, fragmented, options,"
                    " overwrite, created, updated, completing) VALUES (:id, 'seed', '', 'n', 'b', 'k', 5, :state, false,"
                    " '{}', true, :created, 2.5, 7.5)"
                ),
                values,
            )
    prepare(engine)
    with engine.begin() as connection:
        found = connection.execute(text("SELECT id, generation, claim FROM uploads ORDER BY generation")).all()
    assert [tuple(row) for row in found] == [("early", 1, None), ("late", 2, None), ("live", 3, None)]
    engine.dispose()
