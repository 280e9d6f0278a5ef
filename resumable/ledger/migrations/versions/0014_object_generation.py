"""What the store calls the object, where an object has a number that its key never has twice."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Add the column; of objects that are there already it is not known."""
    op.add_column("uploads", sa.Column("object_generation", sa.Text))
