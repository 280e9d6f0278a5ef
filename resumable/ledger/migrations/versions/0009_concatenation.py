"""Partial uploads, and the uploads that are made of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the columns and the table; no upload that is there already is partial."""
    op.add_column("uploads", sa.Column("partial", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("uploads", sa.Column("sources", sa.JSON))
    op.create_table(
        "uses",
        sa.Column("source_id", sa.Text, primary_key=True),
        sa.Column("upload_id", sa.Text, sa.ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True),
    )
    op.create_index("uses_by_upload", "uses", ["upload_id"])
