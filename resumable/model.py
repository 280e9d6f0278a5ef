"""The types that all parts of the service share: an upload, a stored piece, and what can go wrong with them.

Pure values, no I/O, no Twisted. Offsets count bytes from 0; ``first`` is inclusive and ``end`` exclusive everywhere
inside the program (the wire's inclusive ``last`` exists only in ``protocols``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import Enum
from typing import Any

from attrs import field, fields, frozen


class State(str, Enum):
    """Where an upload stands. It only ever moves forward, by compare-and-set in the ledger."""

    OPEN = "open"
    FINISHING = "finishing"
    FINISHED = "finished"
    #: A partial upload whose bytes are in the object of another upload by now. Its own object is gone.
    CONCATENATED = "concatenated"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    FAILED = "failed"


#: Under this name an upload whose length is only announced remembers it (bytes, in digits). See `Upload.announced`.
ANNOUNCED = "upload-length"
#: Under this name an upload remembers the digests that its object is read back for, before anybody is told of it.
READ_BACK = "digest-read-back"

#: The states of an upload that has not ended: its bytes are taken in, or are being made an object.
LIVE = (State.OPEN, State.FINISHING)


#: The types of events that the main application can be told of, by the state that an upload has come into.
EVENTS = {
    State.OPEN: "upload.created",
    State.FINISHED: "upload.finished",
    State.CANCELLED: "upload.cancelled",
    State.EXPIRED: "upload.expired",
    State.FAILED: "upload.failed",
}
#: The type of an event that belongs to no change of state: an upload has more bytes. It is told as it happens, or not at
#: all, and is never in the ledger.
PROGRESS = "upload.progress"


#: Content types that say of a body that it is a form. curl and wget send the first one with any body, also with a file.
FORM_TYPES = frozenset({"application/x-www-form-urlencoded", "application/x-url-encoded", "multipart/form-data"})


def object_type(content_type: str | None) -> str | None:
    """Return the content type if it can be an object's, else None.

    A form's cannot: it describes how a request was sent. A store that believes it (moto does) takes the object's bytes
    for a form, and stores nothing.
    """
    bare = (content_type or "").partition(";")[0].strip().lower()
    return None if bare in FORM_TYPES else content_type


@frozen
class ObjectOptions:
    """What the store is told when an object is created; most of it can never be changed afterwards."""

    content_type: str | None = field(default=None, converter=object_type)
    metadata: Mapping[str, str] = field(factory=dict)
    acl: str | None = None
    storage_class: str | None = None
    cache_control: str | None = None
    content_disposition: str | None = None
    content_encoding: str | None = None
    encryption: str | None = None
    kms_key: str | None = None
    tags: Mapping[str, str] = field(factory=dict)

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any]) -> ObjectOptions:
        """Return the options that a ledger holds.

        Those that an older program did not know get their defaults. Those of a newer program are ignored.
        """
        return cls(**{name: value for name, value in stored.items() if name in OPTIONS})


#: The names of its fields. (To ask attrs each time takes longer than what is done with them.)
OPTIONS = tuple(one.name for one in fields(ObjectOptions))


@frozen
class Piece:
    """A stored byte range ``[first, end)``: a part of the multipart upload, or a fragment (an object of its own)."""

    first: int
    end: int
    #: The part number from 1, or None for a fragment.
    number: int | None
    #: The part's ETag. For a fragment: what tells its object from others of the same range.
    etag: str
    crc32c: int | None = None

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.end - self.first


@frozen
class Upload:
    """One object in the making, as the ledger has it."""

    id: str
    protocol: str
    owner: str
    name: str
    bucket: str
    key: str
    #: Total bytes; None while that is not known.
    length: int | None
    #: Bytes of the first chunk of the grid; fixed for the upload's life.
    chunk_size: int
    created: float
    updated: float
    state: State = State.OPEN
    #: S3's UploadId once a multipart upload was opened.
    multipart_id: str | None = None
    #: Whether fragments were ever stored. If not, there is nothing to look for under the fragments' prefix.
    fragmented: bool = False
    options: ObjectOptions = field(factory=ObjectOptions)
    #: Whether an object already under the key may be replaced.
    overwrite: bool = True
    finished: float | None = None
    etag: str | None = None
    #: What tells the object from all others that its key ever had: a number, in a store that has such.
    object_generation: str | None = None
    crc32c: int | None = None
    #: Why a failed upload failed, for people.
    reason: str | None = None
    #: When the last byte was stored.
    received: float | None = None
    #: How often recovery has taken the upload up in its present state, and when it may do so again (seconds since the
    #: epoch; None: when the upload has been untouched for a while).
    tries: int = 0
    due: float | None = None
    #: Whether many connections may write it at once, in any order.
    swarm: bool = False
    #: While a process makes, or removes, the object under the key: the last sign of life of that process.
    claim: str | None = None
    #: The nodes that may be writing it. Another node tells them before it writes. Empty where nodes cannot tell each
    #: other.
    writers: tuple[int, ...] = ()
    #: How often its bytes were begun anew. A writer of an earlier edition can add nothing to it.
    edition: int = 0
    #: Whether the application said no when it was last asked before the finish.
    refused: bool = False
    #: Whether its name was freed after it was finished. Then it is not found by its name.
    nameless: bool = False
    #: What its protocol has to give back to its clients as it came.
    remembered: Mapping[str, str] = field(factory=dict)
    #: Whether other uploads are going to be made of it. Its object is one of the service's own, under the fragments'
    #: prefix, and is deleted when they are finished.
    partial: bool = False
    #: The ids of the partial uploads whose bytes, one after the other, are its bytes. Nothing else is written into it.
    sources: tuple[str, ...] = ()
    #: The CRC32C of the whole object, as the client has said it: no object is made of other bytes.
    expected_crc32c: int | None = None
    #: Later chunks of the grid, and what is in memory of them: see `resumable.uploads.grid.Cut`. Fixed for the upload's life.
    growth: tuple[tuple[int, int], ...] = ()
    cell: int = 0

    @property
    def alignment(self) -> int:
        """Bytes: ranges that begin and end at multiples of it are stored without more ado."""
        return self.cell or max([self.chunk_size, *(size for _, size in self.growth)])

    @property
    def announced(self) -> int | None:
        """Total bytes, as far as anybody has said: also where a request has yet to say that they are all."""
        if self.length is not None:
            return self.length
        announced = self.remembered.get(ANNOUNCED)
        return None if announced is None else int(announced)

    @property
    def live(self) -> bool:
        """Whether bytes or a finish are still to come."""
        return self.state in LIVE

    @property
    def stored(self) -> bool:
        """Whether all of it is an object, or part of one."""
        return self.state in (State.FINISHED, State.CONCATENATED)

    @property
    def token(self) -> str:
        """The mark in the object's metadata, which shows after a lost answer that this upload was completed.

        It is a hash of the id, so that the object's metadata does not give the upload's URL away.
        """
        return hashlib.sha256(self.id.encode()).hexdigest()[:32]


@frozen
class Event:
    """Something that happened to an upload, for the main application: ``upload.finished`` and the like.

    Its id is made of the upload and the type, since each happens at most once. So every repeat of an event has the same
    id.
    """

    upload_id: str
    type: str
    #: The upload as it stood then, as JSON.
    data: Mapping[str, Any]
    created: float

    @property
    def id(self) -> str:
        """The id by which the application tells repeats."""
        return event_id(self.upload_id, self.type)


def event_id(upload_id: str, event_type: str) -> str:
    """Return the id of an upload's event. It does not give the upload's own id away."""
    return "msg_" + hashlib.sha256(f"{event_type} {upload_id}".encode()).hexdigest()[:32]


class UploadError(Exception):
    """Something about an upload that the client has to be told."""


class NotFound(UploadError):
    """No such upload, or not this owner's."""


class Ended(UploadError):
    """The upload was cancelled, expired or failed: nothing can be added to it any more."""


class Invalid(UploadError):
    """What the client says contradicts itself or what is stored."""


class Rejected(Invalid):
    """A value of the upload is one that no object can have, whoever gave it. ``field`` names it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class PastEnd(Invalid):
    """The body has more bytes than it may: those beyond the end of its range were not taken."""


class Unsupported(Rejected):
    """The body is encoded in a way that cannot be kept with the object."""


class UnsupportedType(UploadError):
    """The body is of another media type than the protocol has for bytes."""


class KeyTaken(UploadError):
    """Another owner's upload stands under the key, and the main application did not choose the key itself."""


class TooLarge(UploadError):
    """Longer than the limit, or than the grid of the upload can hold."""


class Gap(UploadError):
    """The client goes on past what is stored; ``offset`` is where it has to go on."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


class OffsetMismatch(UploadError):
    """The body does not begin at ``offset``, the upload's offset in bytes, as it has to. Nothing of it was taken."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


class DigestMismatch(UploadError):
    """The body's bytes do not match its digest. Nothing of it counts; the offset is as before.

    :ivar algorithm: which digest that was; empty where the client knows.
    :ivar computed: what it would have had to be, in base64.
    """

    def __init__(self, message: str, *, algorithm: str = "", computed: str = "") -> None:
        super().__init__(message)
        self.algorithm = algorithm
        self.computed = computed


class NotAsExpected(DigestMismatch):
    """What is stored is not the object whose checksum the client has said. The upload has failed, and no object is made."""


class Exists(UploadError):
    """There is an object under the key and it may not be replaced."""


class Conflict(UploadError):
    """The client's bytes differ from those stored at the same offsets: its file has changed. Nothing was altered."""


class WrongProtocol(UploadError):
    """The upload was begun with another protocol, and only that protocol may do what was asked for."""


class BegunWith(WrongProtocol):
    """The request may be meant for the protocol that the upload was begun with: that protocol serves it, if it is spoken."""

    def __init__(self, protocol: str) -> None:
        super().__init__(f"the upload was begun with the protocol {protocol}: go on with it there")
        self.protocol = protocol


class NotWritable(UploadError):
    """The upload is made of other uploads: nobody writes into it."""


class Superseded(UploadError):
    """The client has come back on another connection, which now writes the upload."""


class TakenOver(Superseded):
    """Another connection has begun to bring the same bytes. Nothing is wrong with the upload: it goes on from its offset.

    Mostly the client has come back itself. But a request of a connection that it has given up may arrive later than the one by
    which it came back, and then this is the answer to the latter.
    """


class Unavailable(UploadError):
    """The store, the ledger or the application does not work just now. The client should ask again later.

    :ivar retry_after: seconds after which the client may come again.
    :ivar part: which of them does not work at all, by its name in `resumable.outages.Outages`; empty: it may be this request
        alone.
    """

    retry_after: float = 5.0

    def __init__(self, message: str = "", *, part: str = "") -> None:
        super().__init__(message)
        self.part = part


class Replaced(Unavailable):
    """The multipart upload that a part was stored in is not the upload's any more, and the part is gone with it."""


class ShuttingDown(Unavailable):
    """The process is about to end. Another process, or the next one, goes on with the upload."""

    retry_after = 1.0


class InternalError(UploadError):
    """The service has a fault. The log says which; the client is told only that there is one."""


class Interrupted(UploadError):
    """The body broke off: the client vanished (``idle`` False) or fell silent (``idle`` True)."""

    def __init__(self, message: str, *, idle: bool = False) -> None:
        super().__init__(message)
        self.idle = idle
