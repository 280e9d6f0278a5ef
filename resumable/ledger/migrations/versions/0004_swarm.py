"""Uploads that many connections write at once, and who makes an object of one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("uploads", sa.Column("swarm", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("uploads", sa.Column("completing", sa.Float(53)))
