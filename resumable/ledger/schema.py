"""The ledger's tables. Nothing here assumes one node, or that parts come in order."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    text,
)

#: Raised with every change of the tables; a ledger with a higher one was made by a newer program.
VERSION = 1

metadata = MetaData()

schema = Table("resumable_schema", metadata, Column("version", Integer, nullable=False))

uploads = Table(
    "uploads",
    metadata,
    Column("id", Text, primary_key=True),
    Column("protocol", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("bucket", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("length", BigInteger),
    Column("chunk_size", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("multipart_id", Text),
    Column("fragmented", Boolean, nullable=False),
    Column("options", JSON, nullable=False),
    Column("overwrite", Boolean, nullable=False),
    Column("created", Float(53), nullable=False),
    Column("updated", Float(53), nullable=False),
    Column("finished", Float(53)),
    Column("etag", Text),
    Column("crc32c", BigInteger),
    Column("reason", Text),
)

_LIVE_BY_NAME = text("protocol = 'seed' AND state IN ('open', 'finishing')")

#: The seed's protocol finds an upload by owner and name, so that there can be one live one; two nodes that start it at
#: once find out here.
Index(
    "uploads_live_by_name",
    uploads.c.owner,
    uploads.c.name,
    unique=True,
    sqlite_where=_LIVE_BY_NAME,
    postgresql_where=_LIVE_BY_NAME,
)
Index("uploads_by_name", uploads.c.owner, uploads.c.name, uploads.c.created)
Index("uploads_by_state", uploads.c.state, uploads.c.updated)

pieces = Table(
    "pieces",
    metadata,
    Column("upload_id", Text, ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True),
    Column("first", BigInteger, primary_key=True),
    Column("end", BigInteger, primary_key=True),
    Column("number", Integer),
    Column("etag", Text, nullable=False),
    Column("crc32c", BigInteger),
)
