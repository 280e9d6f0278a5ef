"""Multipart uploads that are being opened, for stores that do not list them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "openings",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("upload_id", sa.Text, nullable=False),
        sa.Column("bucket", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("multipart_id", sa.Text),
        sa.Column("begun", sa.Float(53), nullable=False),
    )
