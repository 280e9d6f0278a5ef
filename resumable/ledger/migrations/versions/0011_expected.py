"""What the client says the whole object's CRC32C is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add the column; of uploads that are there already nobody has said it."""
    op.add_column("uploads", sa.Column("expected_crc32c", sa.BigInteger))
