"""The ledger's tables, as the migrations leave them. Nothing here assumes one node, or that parts come in order.

Times are seconds since the epoch. Whoever changes a table has to add a migration in ``migrations/versions``; a test
compares.
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
    #: When the last byte was stored, and the upload became ``finishing``.
    Column("received", Float(53)),
    #: How often upkeep has taken it up in its present state, and when it may take it up again.
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("due", Float(53)),
    #: Whether many connections may write it at once, in any order.
    Column("swarm", Boolean, nullable=False, server_default=false()),
    #: Set while somebody makes or removes the object under its key: their last sign of life (opaque, never repeated).
    Column("claim", Text),
    #: The nodes that may be writing it.
    Column("writers", JSON),
    #: Counts the uploads of one owner and name in the order in which the ledger entered them. It depends on no node's
    #: clock.
    Column("generation", Integer, nullable=False),
    #: How often its bytes were begun anew. Writers of an earlier edition can add nothing to it.
    Column("edition", Integer, nullable=False, server_default="0"),
    #: Whether the main application refused when it was last asked before the finish.
    Column("refused", Boolean, nullable=False, server_default=false()),
    #: Whether its name was freed after it was finished: it is not found by that name any more.
    Column("nameless", Boolean, nullable=False, server_default=false()),
    #: What its protocol has to give back to its clients as it came; mostly nothing.
    Column("remembered", JSON),
    #: Whether other uploads are going to be made of it.
    Column("partial", Boolean, nullable=False, server_default=false()),
    #: The ids of the partial uploads that it is made of, in their order.
    Column("sources", JSON(none_as_null=True)),
    #: The whole object's CRC32C, as the client has said it.
    Column("expected_crc32c", BigInteger),
    #: Later chunks of the grid: a list of number and bytes. NULL: all have one size.
    Column("growth", JSON),
    Column("cell", BigInteger, nullable=False, server_default="0"),
    #: The object's generation, in a store that has such numbers.
    Column("object_generation", Text),
)

#: The protocol `put` finds an upload by owner and name, so there may be only one live upload of each. If two nodes
#: start the same one at once, this index stops the second. The same goes for `segments`, whose first segments come at
#: once, and to several nodes.
for _index, _protocol in (("uploads_live_by_name", "put"), ("uploads_live_segments", "segments")):
    _live = text(f"protocol = '{_protocol}' AND state IN ('open', 'finishing')")
    Index(_index, uploads.c.owner, uploads.c.name, unique=True, sqlite_where=_live, postgresql_where=_live)
Index("uploads_in_order", uploads.c.owner, uploads.c.name, uploads.c.generation, unique=True)
_CLAIMED = text("claim IS NOT NULL")

#: Only one upload at a time has the claim to a key.
Index(
    "uploads_one_claim",
    uploads.c.bucket,
    uploads.c.key,
    unique=True,
    sqlite_where=_CLAIMED,
    postgresql_where=_CLAIMED,
)
Index("uploads_by_state", uploads.c.state, uploads.c.updated)
#: `resumable.ledger.statements.ANOTHERS` needs the owner in it: an owner may have stored under a key a million times.
Index("uploads_by_object", uploads.c.bucket, uploads.c.key, uploads.c.owner)

#: Which uploads are made of a partial one: an index of `uploads.sources`.
uses = Table(
    "uses",
    metadata,
    Column("source_id", Text, primary_key=True),
    Column("upload_id", Text, ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True),
)
Index("uses_by_upload", uses.c.upload_id)

pieces = Table(
    "pieces",
    metadata,
    Column("upload_id", Text, ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True),
    Column("first", BigInteger, primary_key=True),
    Column("end", BigInteger, primary_key=True),
    Column("number", Integer),
    Column("etag", Text, nullable=False),
    Column("crc32c", BigInteger),
    #: Offsets within the piece, each with the CRC32C of its bytes up to there (`resumable.uploads.marks`).
    Column("marks", LargeBinary),
)

events = Table(
    "events",
    metadata,
    #: Ascending within an upload in the order in which things happened to it.
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    #: No foreign key: an event that could not be delivered is kept for longer than the upload.
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
    #: Set while somebody is trying it: when the try counts as abandoned.
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

#: One row: the id that tells this ledger's own things in a bucket from those of other ledgers.
identity = Table("identity", metadata, Column("id", Text, primary_key=True))

#: Work that one node does for all.
leases = Table("leases", metadata, Column("name", Text, primary_key=True), Column("until", Float(53), nullable=False))

#: Multipart uploads that are being opened, where the store does not list them (`resumable.ledger.openings`).
openings = Table(
    "openings",
    metadata,
    Column("id", Text, primary_key=True),
    #: No foreign key: what an upload has left in the store is looked for also when the upload is forgotten.
    Column("upload_id", Text, nullable=False),
    Column("bucket", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("multipart_id", Text),
    Column("begun", Float(53), nullable=False),
)
