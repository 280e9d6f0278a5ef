"""What a protocol has to give back to its clients as it came."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the column; uploads that are there already have nothing in it."""
    op.add_column("uploads", sa.Column("remembered", sa.JSON))
