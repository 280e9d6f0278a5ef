"""Uploads and pieces."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

LIVE_BY_NAME = sa.text("protocol = 'seed' AND state IN ('open', 'finishing')")


def upgrade() -> None:
    """Create the tables.

    A ledger that is older than the migrations has them, and one table more that is not needed any more.
    """
    if sa.inspect(op.get_bind()).has_table("resumable_schema"):
        op.drop_table("resumable_schema")
        return
    op.create_table(
        "uploads",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("protocol", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("bucket", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("length", sa.BigInteger),
        sa.Column("chunk_size", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("multipart_id", sa.Text),
        sa.Column("fragmented", sa.Boolean, nullable=False),
        sa.Column("options", sa.JSON, nullable=False),
        sa.Column("overwrite", sa.Boolean, nullable=False),
        sa.Column("created", sa.Float(53), nullable=False),
        sa.Column("updated", sa.Float(53), nullable=False),
        sa.Column("finished", sa.Float(53)),
        sa.Column("etag", sa.Text),
        sa.Column("crc32c", sa.BigInteger),
        sa.Column("reason", sa.Text),
    )
    op.create_index(
        "uploads_live_by_name",
        "uploads",
        ["owner", "name"],
        unique=True,
        sqlite_where=LIVE_BY_NAME,
        postgresql_where=LIVE_BY_NAME,
    )
    op.create_index("uploads_by_name", "uploads", ["owner", "name", "created"])
    op.create_index("uploads_by_state", "uploads", ["state", "updated"])
    op.create_table(
        "pieces",
        sa.Column("upload_id", sa.Text, sa.ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("first", sa.BigInteger, primary_key=True),
        sa.Column("end", sa.BigInteger, primary_key=True),
        sa.Column("number", sa.Integer),
        sa.Column("etag", sa.Text, nullable=False),
        sa.Column("crc32c", sa.BigInteger),
    )
