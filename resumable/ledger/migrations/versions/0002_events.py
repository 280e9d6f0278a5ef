"""Events for the main application, and what upkeep has to remember."""

from __future__ import annotations

from secrets import token_hex

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the tables and columns."""
    op.create_table(
        "events",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("upload_id", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
        sa.Column("created", sa.Float(53), nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("since", sa.Float(53)),
        sa.Column("due", sa.Float(53), nullable=False),
        sa.Column("taken", sa.Float(53)),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("ended", sa.Float(53)),
        sa.Column("problem", sa.Text),
        sa.Column("answer", sa.JSON),
    )
    op.create_index("events_by_state", "events", ["state", "due"])
    op.create_index("events_by_upload", "events", ["upload_id", "seq"])
    op.create_table(
        "leases",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("until", sa.Float(53), nullable=False),
    )
    identity = op.create_table("identity", sa.Column("id", sa.Text, primary_key=True))
    op.bulk_insert(identity, [{"id": token_hex(16)}])
    op.add_column("uploads", sa.Column("received", sa.Float(53)))
    op.add_column("uploads", sa.Column("tries", sa.Integer, nullable=False, server_default="0"))
    op.add_column("uploads", sa.Column("due", sa.Float(53)))
    op.create_index("uploads_by_object", "uploads", ["bucket", "key"])
