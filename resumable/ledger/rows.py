"""Rows of the ledger's tables as uploads and pieces."""

from __future__ import annotations

from typing import Any

from attrs import fields
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from resumable.ledger.direct import run
from resumable.ledger.statements import CRC32C, PIECES, piece_at
from resumable.model import OPTIONS, Conflict, ObjectOptions, Piece, State, Upload

#: (Of `attrs.asdict` most of the time goes into looking for values that have fields of their own.)
_FIELDS = tuple(field.name for field in fields(Upload))


def as_row(upload: Upload) -> dict[str, Any]:
    """Return the columns of an upload, by their names."""
    row = {name: getattr(upload, name) for name in _FIELDS}
    options = {name: getattr(upload.options, name) for name in OPTIONS}
    options["metadata"], options["tags"] = dict(upload.options.metadata), dict(upload.options.tags)
    remembered, sources = dict(upload.remembered) or None, list(upload.sources) or None
    growth = [list(step) for step in upload.growth] or None
    return {
        **row,
        "state": upload.state.value,
        "options": options,
        "remembered": remembered,
        "sources": sources,
        "growth": growth,
    }


def as_upload(row: Any) -> Upload:
    """Return the upload in a row of the table."""
    values = {**row, "state": State(row["state"]), "options": ObjectOptions.from_stored(row["options"])}
    values.pop("generation", None)
    writers, sources = tuple(row["writers"] or ()), tuple(row.get("sources") or ())
    growth = tuple((number, size) for number, size in row.get("growth") or ())
    remembered = row.get("remembered") or {}
    return Upload(**{**values, "writers": writers, "sources": sources, "growth": growth, "remembered": remembered})


def violated_index(error: IntegrityError) -> str:
    """Return the unique index that was violated: its name on PostgreSQL, its columns on SQLite, without any values."""
    diagnosis = getattr(error.orig, "diag", None)
    return str(error.orig) if diagnosis is None else str(diagnosis.constraint_name)


def stored_pieces(connection: Connection, upload_id: str) -> list[Piece]:
    """Return the pieces of an upload, ordered by their first byte."""
    return [as_piece(row) for row in run(connection, PIECES, {"this": upload_id}).rows]


def as_piece(row: Any) -> Piece:
    """Return the piece in a row of the table."""
    return Piece(row["first"], row["end"], row["number"], row["etag"], row["crc32c"])


def check_same(connection: Connection, upload_id: str, piece: Piece) -> None:
    """Check that the piece of the same range, which is there already, has the same bytes.

    :raises Conflict: its bytes are others.
    """
    there = run(connection, CRC32C, piece_at(upload_id, piece.first, piece.end)).first()
    if there is not None and there["crc32c"] not in (None, piece.crc32c):
        raise Conflict(f"other bytes were brought of {piece.first}-{piece.end - 1} in this moment")
