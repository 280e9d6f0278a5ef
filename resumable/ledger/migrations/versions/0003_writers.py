"""Which nodes may be writing an upload."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column."""
    op.add_column("uploads", sa.Column("writers", sa.JSON))
