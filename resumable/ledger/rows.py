"""Rows of the ledger's tables as uploads and pieces."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.exc import IntegrityError

from resumable.ledger.schema import pieces
from resumable.ledger.statements import PIECES
from resumable.model import Conflict, ObjectOptions, Piece, State, Upload


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
    rows = connection.execute(PIECES, {"this": upload_id}).mappings()
    return [as_piece(row) for row in rows]


def as_piece(row: Any) -> Piece:
    """Return the piece in a row of the table."""
    return Piece(row["first"], row["end"], row["number"], row["etag"], row["crc32c"])


def check_same(connection: Connection, upload_id: str, piece: Piece) -> None:
    """Check that the piece of the same range, which is there already, has the same bytes.

    :raises Conflict: its bytes are others.
    """
    which = (pieces.c.upload_id == upload_id, pieces.c.first == piece.first, pieces.c.end == piece.end)
    if connection.execute(select(pieces.c.crc32c).where(*which)).scalar() not in (None, piece.crc32c):
        raise Conflict(f"other bytes were brought of {piece.first}-{piece.end - 1} in this moment")
