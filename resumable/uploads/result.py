"""An upload as JSON: the result that clients and the main application get, and the report while it goes on. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attrs import frozen

from resumable.crc32c_text import encode_crc32c
from resumable.model import Piece, State, Upload
from resumable.timestamps import rfc3339
from resumable.uploads.coverage import Coverage


@frozen
class Report:
    """An upload and how far it is."""

    upload: Upload
    coverage: Coverage
    #: When it will be ended if nothing more comes of it (seconds since the epoch).
    expires: float | None = None

    @classmethod
    def of_finished(cls, upload: Upload) -> Report:
        """Return the report of an upload whose object exists: all of it is stored."""
        return cls(upload, Coverage.whole(upload.length or 0))

    @classmethod
    def of(cls, upload: Upload, pieces: Iterable[Piece], expires: float | None = None) -> Report:
        """Return the report of an upload with these pieces. Of one that is stored as a whole they do not matter."""
        return cls.of_finished(upload) if upload.stored else cls(upload, Coverage.of(pieces), expires)

    @property
    def offset(self) -> int:
        """How many bytes from the start are acknowledged."""
        return self.coverage.offset

    @property
    def complete(self) -> bool:
        """Whether every byte is stored (which is not yet to say that the object exists)."""
        return self.upload.length is not None and self.coverage.covers(0, self.upload.length)

    @property
    def finished(self) -> bool:
        """Whether the object exists."""
        return self.upload.state is State.FINISHED


def as_json(report: Report) -> dict[str, Any]:
    """Return the upload as its owner may see it: the result of a finished one, the state of any other."""
    upload = report.upload
    shown: dict[str, Any] = {
        "id": upload.id,
        "state": upload.state.value,
        "protocol": upload.protocol,
        "owner": upload.owner,
        "name": upload.name,
    }
    if report.finished:
        shown["size"] = upload.length
    else:
        shown["length"] = upload.announced
        shown["offset"] = report.offset
        shown["stored"] = [[first, end - 1] for first, end in report.coverage.ranges]
        shown["chunk_size"] = upload.alignment
    shown.update(bucket=upload.bucket, key=upload.key)
    if report.finished:
        shown["etag"] = upload.etag
        if upload.object_generation is not None:
            shown["generation"] = upload.object_generation
        shown["checksum"] = {} if upload.crc32c is None else {"crc32c": encode_crc32c(upload.crc32c)}
    shown.update(
        content_type=upload.options.content_type,
        metadata=dict(upload.options.metadata),
        created=_timestamp(upload.created),
    )
    if report.finished:
        shown["finished"] = _timestamp(upload.finished)
    if upload.partial:
        shown["concat"] = "partial"
    elif upload.sources:
        shown.update(concat="final", partial_uploads=list(upload.sources))
    if report.expires is not None:
        shown["expires"] = _timestamp(report.expires)
    if upload.reason is not None:
        shown["reason"] = upload.reason
    return shown


def _timestamp(seconds: float | None) -> str | None:
    """RFC 3339 in UTC, to the second."""
    return None if seconds is None else rfc3339(seconds)
