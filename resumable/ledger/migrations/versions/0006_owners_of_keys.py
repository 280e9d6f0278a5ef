"""The owner of an object's key is found without reading every upload that was stored there."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Put the owner into the index."""
    op.drop_index("uploads_by_object", "uploads")
    op.create_index("uploads_by_object", "uploads", ["bucket", "key", "owner"])
