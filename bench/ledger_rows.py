"""A server whose ledger is full: open uploads of many owners, each with one stored part, untouched for a day."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from bench.servers.resumable import Resumable
from bench.sink.handle import Sink
from bench.units import MIB
from resumable.ledger.engine import open_engine, prepare
from resumable.ledger.schema import pieces, uploads

CHUNK = 6 * MIB
#: Rows written at once.
BATCH = 10_000


class FullLedger(Resumable):
    """The server of this project, started on a ledger with `rows` open uploads."""

    def __init__(self, sink: Sink, rows: int) -> None:
        super().__init__(sink)
        self._rows = rows

    def command(self) -> list[str]:
        fill(self.ledger, self._rows)
        return super().command()


def fill(ledger: Path, rows: int) -> None:
    """Make a ledger with `rows` open uploads."""
    engine = open_engine(f"sqlite:///{ledger}")
    prepare(engine)
    for first in range(0, rows, BATCH):
        numbers = range(first, min(rows, first + BATCH))
        with engine.begin() as connection:
            connection.execute(insert(uploads), [_upload(number) for number in numbers])
            connection.execute(insert(pieces), [_piece(number) for number in numbers])
    engine.dispose()


def _upload(number: int) -> dict[str, Any]:
    yesterday = time.time() - 86400
    return {
        "id": f"filled-{number}",
        "protocol": "put",
        "owner": f"owner-{number % 1000}",
        "name": f"file-{number}",
        "bucket": "bench",
        "key": f"owner-{number % 1000}/file-{number}",
        "length": 100 * MIB,
        "chunk_size": CHUNK,
        "state": "open",
        "multipart_id": f"multipart-{number}",
        "fragmented": False,
        "options": {},
        "overwrite": True,
        "created": yesterday,
        "updated": yesterday,
    }


def _piece(number: int) -> dict[str, Any]:
    return {"upload_id": f"filled-{number}", "first": 0, "end": CHUNK, "number": 1, "etag": '"part"', "crc32c": 0}
