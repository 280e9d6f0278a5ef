"""What the chunks of an upload grow to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Add the column; the chunks of uploads that are there already all have one size."""
    op.add_column("uploads", sa.Column("largest_chunk", sa.BigInteger, nullable=False, server_default="0"))
