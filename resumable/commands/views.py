"""What is shown of an upload: cells and lines for people, JSON for programs. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from resumable.commands.output import age, size
from resumable.model import Piece
from resumable.timestamps import rfc3339
from resumable.uploads.result import Report
from resumable.uploads.result import as_json as result_as_json

#: In 80 columns an id (22 characters) is whole, and so is a key, which is folded where it is long.
COLUMNS = ("ID", "State", ">Stored", ">Length", ">Idle", "Key")
#: How many ranges people are shown; programs get all of them.
RANGES = 8


def row(report: Report, now: float) -> tuple[str, ...]:
    """Return one line of a list, under `COLUMNS`."""
    upload = report.upload
    return (
        upload.id,
        upload.state.value,
        size(report.coverage.size),
        size(upload.length),
        age(now - upload.updated),
        upload.key,
    )


def details(report: Report, pieces: Sequence[Piece], now: float, *, scheme: str = "s3") -> Iterator[tuple[str, str]]:
    """Yield everything about one upload, as names and values.

    :param scheme: of the object's URL.
    """
    upload, parts = report.upload, sum(piece.number is not None for piece in pieces)
    ranges = [f"{first}-{end - 1}" for first, end in report.coverage.ranges]
    more = f" and {len(ranges) - RANGES} more" if len(ranges) > RANGES else ""
    yield "ID", upload.id
    yield "State", upload.state.value + (f": {upload.reason}" if upload.reason else "")
    yield "Protocol", upload.protocol
    yield "Owner", upload.owner
    yield "Name", upload.name
    yield "Object", f"{scheme}://{upload.bucket}/{upload.key}"
    yield "Length", "not known yet" if upload.length is None else _exact(upload.length)
    yield "Stored", _exact(report.coverage.size)
    yield "Offset", _exact(report.offset)
    yield "Ranges", ", ".join(ranges[:RANGES]) + more
    yield "Pieces", f"{parts} parts of {size(upload.chunk_size)}, {len(pieces) - parts} fragments"
    yield "Multipart", upload.multipart_id or ""
    yield "Type", upload.options.content_type or ""
    yield "Metadata", ", ".join(f"{name}={value}" for name, value in upload.options.metadata.items())
    for name, seconds in (("Created", upload.created), ("Updated", upload.updated), ("Finished", upload.finished)):
        if seconds is not None:
            yield name, f"{rfc3339(seconds)} ({age(now - seconds)} ago)"
    if upload.etag is not None:
        yield "ETag", upload.etag
    if upload.object_generation is not None:
        yield "Generation", upload.object_generation


def _exact(count: int) -> str:
    return f"{count} B" if count < 1024 else f"{count} B ({size(count)})"


def as_json(report: Report) -> dict[str, Any]:
    """Return what ``GET /uploads/ID`` gives, and ``updated``: when something last happened to the upload."""
    return {**result_as_json(report), "updated": rfc3339(report.upload.updated)}


def as_json_with_pieces(report: Report, pieces: Sequence[Piece]) -> dict[str, Any]:
    """Return what `as_json` does, and where the bytes are; ``number`` is null for a fragment, ``last`` is inclusive."""
    upload = report.upload
    return {
        **as_json(report),
        "offset": report.offset,
        "stored": [[first, end - 1] for first, end in report.coverage.ranges],
        "chunk_size": upload.chunk_size,
        "multipart_id": upload.multipart_id,
        "pieces": [
            {"first": piece.first, "last": piece.end - 1, "number": piece.number, "etag": piece.etag}
            for piece in pieces
        ],
    }
