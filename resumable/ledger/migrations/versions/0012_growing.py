"""How the chunks of an upload grow, and how much of a large one is in memory."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Add the columns; the chunks of uploads that are there already all have one size, and fit."""
    op.add_column("uploads", sa.Column("growth", sa.JSON))
    op.add_column("uploads", sa.Column("cell", sa.BigInteger, nullable=False, server_default="0"))
