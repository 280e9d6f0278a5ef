"""Who makes the object under a key, the order of uploads of one name, and what bytes are compared by."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_CLAIMED = sa.text("claim IS NOT NULL")

#: Before this version only clocks told the order of uploads.
_COUNT = """
UPDATE uploads SET generation = counted.number FROM (
    SELECT id, row_number() OVER (
        PARTITION BY owner, name ORDER BY state IN ('open', 'finishing'), created, id
    ) AS number FROM uploads
) AS counted WHERE counted.id = uploads.id
"""


def upgrade() -> None:
    """Add the columns. An object that was being made is claimed anew."""
    op.drop_column("uploads", "completing")
    op.add_column("uploads", sa.Column("claim", sa.Text))
    op.add_column("uploads", sa.Column("generation", sa.Integer, nullable=False, server_default="0"))
    op.execute(_COUNT)
    op.add_column("uploads", sa.Column("edition", sa.Integer, nullable=False, server_default="0"))
    op.add_column("uploads", sa.Column("refused", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("uploads", sa.Column("nameless", sa.Boolean, nullable=False, server_default=sa.false()))
    op.drop_index("uploads_by_name", "uploads")
    op.create_index("uploads_in_order", "uploads", ["owner", "name", "generation"], unique=True)
    op.create_index(
        "uploads_one_claim",
        "uploads",
        ["bucket", "key"],
        unique=True,
        sqlite_where=_CLAIMED,
        postgresql_where=_CLAIMED,
    )
    op.add_column("pieces", sa.Column("marks", sa.LargeBinary))
