"""A real PostgreSQL for tests, out of the package pgserver: no root, no port, a directory of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from typing_extensions import Self

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about $XDG_RUNTIME_DIR
    import pgserver
    from pgserver._commands import POSTGRES_BIN_PATH, pg_ctl


def on_each_ledger(metafunc: pytest.Metafunc, *, plain: Collection[str], never: Collection[str] = ()) -> None:
    """Have tests that use the fixture `ledger_url` run on SQLite, and on PostgreSQL in the longer tests.

    :param plain: names of tests that always run on both.
    :param never: names of tests that are about SQLite.
    """
    if "ledger_url" in metafunc.fixturenames:
        name = metafunc.function.__name__
        on_server = pytest.param("postgresql", marks=() if name in plain else pytest.mark.soak)
        kinds = ["sqlite"] if name in never else ["sqlite", on_server]
        metafunc.parametrize("ledger_url", kinds, indirect=True)


class Postgres:
    """A server that runs between ``__enter__`` and ``__exit__``."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._server: Any = None

    def __enter__(self) -> Self:
        self._directory = tempfile.mkdtemp(prefix="pg-")
        self._server = pgserver.get_server(self._directory, cleanup_mode="stop")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.cleanup()
        shutil.rmtree(self._directory, ignore_errors=True)

    def stop(self) -> None:
        """Stop it, as for a restart: whoever is connected is thrown out."""
        pg_ctl(["-w", "-m", "fast", "stop"], pgdata=self._server.pgdata, user=self._server.system_user)

    def start(self) -> None:
        """Start it again, with all that is in it."""
        self._server.ensure_postgres_running()

    def cut(self) -> None:
        """End every connection, as a failover does."""
        self._server.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid();")

    def only_read(self, only: bool = True) -> None:
        """Have it refuse to write, on connections that are there too, as a former primary does; or take that back."""
        self._server.psql(f"ALTER SYSTEM SET default_transaction_read_only = {'on' if only else 'off'};")
        self._server.psql("SELECT pg_reload_conf();")

    @contextmanager
    def standby(self) -> Iterator[Postgres]:
        """Another server, which follows this one and can be promoted."""
        other = Postgres()
        other._directory = tempfile.mkdtemp(prefix="pg-")
        try:
            copied = [
                "-D",
                other._directory,
                "-h",
                self._directory,
                "-U",
                "postgres",
                "-R",
                "-c",
                "fast",
                "-X",
                "stream",
            ]
            subprocess.run([str(POSTGRES_BIN_PATH / "pg_basebackup"), *copied], check=True, stdin=subprocess.DEVNULL)
            # What belongs to the process that it was copied from.
            for name in (".handle_pids.json", "postmaster.pid", ".s.PGSQL.5432.lock"):
                Path(other._directory, name).unlink(missing_ok=True)
            if self._server.system_user is not None:  # root may not run a server
                for path in [Path(other._directory), *Path(other._directory).rglob("*")]:
                    shutil.chown(path, self._server.system_user)
            other._server = pgserver.get_server(other._directory, cleanup_mode="stop")
            yield other
        finally:
            if other._server is not None:
                other._server.cleanup()
            shutil.rmtree(other._directory, ignore_errors=True)

    def psql(self, query: str, url: str) -> str:
        """What it says, a line for each row, in the database that a URL (of whichever server) names."""
        path = str(POSTGRES_BIN_PATH / "psql")
        where = ["-h", self._directory, "-U", "postgres", "-d", url.partition("@/")[2].partition("?")[0]]
        return subprocess.run([path, *where, "-Atc", query], capture_output=True, text=True, check=False).stdout

    def promote(self) -> None:
        """It is the primary from now on."""
        pg_ctl(["-w", "promote"], pgdata=self._server.pgdata, user=self._server.system_user)

    def beside(self, url: str) -> str:
        """The database of another server's URL, on whichever of the two can be written."""
        return f"{url},{self._directory}"

    def new(self) -> str:
        """The URL of a new, empty database."""
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        self._server.psql(f"CREATE DATABASE {name};")
        return f"postgresql://postgres:@/{name}?host={self._directory}"
