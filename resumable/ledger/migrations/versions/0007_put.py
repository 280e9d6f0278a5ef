"""The protocol of ``PUT /upload/<name>`` is called ``put``, as it is everywhere else."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_LIVE_BY_NAME = sa.text("protocol = 'put' AND state IN ('open', 'finishing')")


def upgrade() -> None:
    """Rename it in the rows, and in the index that keeps one live upload for each name."""
    op.drop_index("uploads_live_by_name", "uploads")
    op.execute("UPDATE uploads SET protocol = 'put' WHERE protocol = 'seed'")
    op.create_index(
        "uploads_live_by_name",
        "uploads",
        ["owner", "name"],
        unique=True,
        sqlite_where=_LIVE_BY_NAME,
        postgresql_where=_LIVE_BY_NAME,
    )
