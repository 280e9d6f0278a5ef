"""The protocol ``segments`` finds an upload by owner and name, as ``put`` does: one live upload of each."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_LIVE_SEGMENTS = sa.text("protocol = 'segments' AND state IN ('open', 'finishing')")


def upgrade() -> None:
    """Add the index; there are no such uploads yet."""
    op.create_index(
        "uploads_live_segments",
        "uploads",
        ["owner", "name"],
        unique=True,
        sqlite_where=_LIVE_SEGMENTS,
        postgresql_where=_LIVE_SEGMENTS,
    )
