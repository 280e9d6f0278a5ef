"""Alembic's entry: runs the migrations in the transaction of `resumable.ledger.engine.prepare`."""

from __future__ import annotations

from alembic import context

from resumable.ledger.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
