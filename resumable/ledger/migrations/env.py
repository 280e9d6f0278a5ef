"""Alembic's: runs the migrations on the connection, and in the transaction, that `resumable.ledger.engine.prepare` has."""

from __future__ import annotations

from alembic import context

from resumable.ledger.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
