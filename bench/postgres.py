"""A PostgreSQL for the benchmark."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def postgres() -> Iterator[str]:
    """Run a PostgreSQL with its own defaults, and give its URL."""
    from pgserver import postgres_server

    with tempfile.TemporaryDirectory(prefix="bench-pg-") as directory:
        server = postgres_server.get_server(directory, cleanup_mode="stop")
        try:
            yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        finally:
            server.cleanup()
