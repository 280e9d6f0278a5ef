"""The ledger's tables, as the migrations leave them. Nothing here assumes one node, or that parts come in order.

Times are seconds since the epoch. Who changes a table adds a migration in ``migrations/versions``; a test compares.
"""

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
    LargeBinary,
    MetaData,
    Table,
    Text,
    false,
    text,
)

metadata = MetaData()

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
    #: When the last byte was stored: the upload is ``finishing`` since then.
    Column("received", Float(53)),
    #: How often upkeep has taken it up in its present state, and when it may do so again.
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("due", Float(53)),
    #: Whether many connections may write it at once, in any order.
    Column("swarm", Boolean, nullable=False, server_default=false()),
    #: While somebody makes, or removes, the object under its key: the last sign of life of whoever does (opaque, never repeated).
    Column("claim", Text),
    #: The nodes that may be writing it.
    Column("writers", JSON),
    #: Counts the uploads of one owner and name in the order in which the ledger entered them. No node's clock has a say in it.
    Column("generation", Integer, nullable=False),
    #: How often its bytes were begun anew: whoever writes an earlier edition can add nothing to it.
    Column("edition", Integer, nullable=False, server_default="0"),
    #: Whether the last question, before it was to be finished, was answered with a no.
    Column("refused", Boolean, nullable=False, server_default=false()),
    #: Whether its name was freed after it was finished: nobody finds it by that.
    Column("nameless", Boolean, nullable=False, server_default=false()),
    #: What its protocol has to give back to its clients as it came; mostly nothing.
    Column("remembered", JSON),
)

_LIVE_BY_NAME = text("protocol = 'put' AND state IN ('open', 'finishing')")

#: The protocol `put` finds an upload by owner and name, so that there can be one live one; two nodes that start it at
#: once find out here.
Index(
    "uploads_live_by_name",
    uploads.c.owner,
    uploads.c.name,
    unique=True,
    sqlite_where=_LIVE_BY_NAME,
    postgresql_where=_LIVE_BY_NAME,
)
Index("uploads_in_order", uploads.c.owner, uploads.c.name, uploads.c.generation, unique=True)
_CLAIMED = text("claim IS NOT NULL")

#: One object is made under a key at a time, whichever uploads want to.
Index(
    "uploads_one_claim",
    uploads.c.bucket,
    uploads.c.key,
    unique=True,
    sqlite_where=_CLAIMED,
    postgresql_where=_CLAIMED,
)
Index("uploads_by_state", uploads.c.state, uploads.c.updated)
#: The owner is there for `resumable.ledger.statements.ANOTHERS`: an owner may have stored under a key a million times.
Index("uploads_by_object", uploads.c.bucket, uploads.c.key, uploads.c.owner)

pieces = Table(
    "pieces",
    metadata,
    Column("upload_id", Text, ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True),
    Column("first", BigInteger, primary_key=True),
    Column("end", BigInteger, primary_key=True),
    Column("number", Integer),
    Column("etag", Text, nullable=False),
    Column("crc32c", BigInteger),
    #: Offsets within it, with the CRC32C of its bytes up to there (`resumable.uploads.marks`).
    Column("marks", LargeBinary),
)

events = Table(
    "events",
    metadata,
    #: Ascending within an upload in the order in which things happened to it.
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    #: No foreign key: what could not be delivered is kept for longer than the upload.
    Column("upload_id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("data", JSON, nullable=False),
    Column("created", Float(53), nullable=False),
    #: ``due``, ``delivered`` or ``dead``.
    Column("state", Text, nullable=False),
    #: When it was tried for the first time.
    Column("since", Float(53)),
    #: When it may be tried (again).
    Column("due", Float(53), nullable=False),
    #: While somebody is trying it: until when; then it counts as abandoned.
    Column("taken", Float(53)),
    Column("tries", Integer, nullable=False),
    Column("ended", Float(53)),
    #: What was wrong the last time.
    Column("problem", Text),
    #: What the application said, where the client waits for it.
    Column("answer", JSON),
)
Index("events_by_state", events.c.state, events.c.due)
Index("events_by_upload", events.c.upload_id, events.c.seq)

#: One row: by which this ledger's own things in a bucket are told from those of others.
identity = Table("identity", metadata, Column("id", Text, primary_key=True))

#: Work that one node does for all.
leases = Table("leases", metadata, Column("name", Text, primary_key=True), Column("until", Float(53), nullable=False))
