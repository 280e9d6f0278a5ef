"""The server of this project, set up as in production: auth callback (the sink always grants), ledger in SQLite."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import attrs
import yaml

from bench.postgres import postgres
from bench.processes import python_environment
from bench.servers.server import Server
from bench.units import MIB
from resumable.settings import Settings

TWISTD = "import sys; sys.argv[0] = 'twistd'; from twisted.scripts.twistd import run; run()"


class Resumable(Server):
    """One process, plain HTTP, CRC32C."""

    name = "resumable"
    protocol = "put"
    path = "/upload/"
    about = "this server: one process, CRC32C, auth callback, SQLite ledger"
    workers: ClassVar[int] = 1
    checksum: ClassVar[str] = "crc32c"
    #: Bytes of a part; None for the default.
    chunk_size: ClassVar[int | None] = None

    @property
    def ledger(self) -> Path:
        """The ledger's file."""
        return self.directory / "ledger.sqlite3"

    @property
    def ledger_url(self) -> str:
        """The ledger's URL, as the settings have it."""
        return f"sqlite:///{self.ledger}"

    def configuration(self) -> dict[str, Any]:
        """Return the settings that the server runs with."""
        settings: dict[str, Any] = {
            "listen": self._endpoint(),
            "store": {
                "bucket": self.sink.bucket,
                "endpoint": self.store_url,
                "access_key": self.sink.access_key,
                "secret_key": self.sink.secret_key,
                "checksum": self.checksum,
            },
            "ledger": self.ledger_url,
            "auth": {"url": self.sink.allow_url},
        }
        if self.workers > 1:
            settings["workers"] = self.workers
        if self.chunk_size is not None:
            settings["store"]["chunk_size"] = self.chunk_size
        return settings

    def _endpoint(self) -> str:
        return f"tcp:{self.port}:interface=127.0.0.1"

    def command(self) -> list[str]:
        (self.directory / "app.yaml").write_text(yaml.safe_dump(self.configuration()))
        return [sys.executable, "-c", TWISTD, "-n", "resumable", "--config", "app.yaml"]

    def environment(self) -> Mapping[str, str]:
        return {"PYTHONPATH": python_environment()["PYTHONPATH"], **super().environment()}


class ResumableTus(Resumable):
    """The same server, spoken to in tus."""

    name = "resumable-tus"
    about = "this server speaking tus, as its peers tusd and @tus/server do"
    protocol = "tus"
    path = "/files/"


class ResumableGoogle(Resumable):
    """The same server, spoken to in Google's protocol."""

    name = "resumable-google"
    about = "this server speaking Google's protocol, as its peer uploadx does"
    protocol = "google"
    path = "/upload"


class ResumableWithoutChecksums(Resumable):
    """The same server without CRC32C."""

    name = "resumable-nocrc"
    about = "this server with store.checksum: none"
    checksum = "none"


class ResumableLargeChunks(Resumable):
    """The same server with larger parts: fewer S3 requests, more memory."""

    name = "resumable-32m"
    about = "this server with store.chunk_size: 32MiB"
    chunk_size = 32 * MIB


class ResumableTls(Resumable):
    """The same server over TLS."""

    name = "resumable-tls"
    about = "this server over TLS"
    tls = True

    def _endpoint(self) -> str:
        certificate = self.own_certificate()
        return f"ssl:{self.port}:interface=127.0.0.1:privateKey={certificate}:certKey={certificate}"


class ResumableStoreTls(Resumable):
    """The same server with TLS to the store."""

    name = "resumable-store-tls"
    about = "this server with TLS to the store"
    store_tls = True


class ResumableStoreTlsLargeChunks(ResumableLargeChunks):
    """The same server with TLS to the store and larger parts."""

    name = "resumable-32m-store-tls"
    about = "this server with store.chunk_size: 32MiB and TLS to the store"
    store_tls = True


class ResumableBothTls(ResumableTls):
    """The same server over TLS and with TLS to the store."""

    name = "resumable-both-tls"
    about = "this server over TLS, with TLS to the store"
    store_tls = True


class ResumablePostgres(Resumable):
    """The same server with its ledger in PostgreSQL, whose own CPU time is not counted."""

    name = "resumable-postgres"
    about = "this server with its ledger in PostgreSQL (only this server's CPU is counted)"
    _database: ExitStack

    @classmethod
    def missing(cls) -> str | None:
        return None if find_spec("pgserver") and find_spec("psycopg") else "pgserver and psycopg (pip)"

    @property
    def ledger_url(self) -> str:
        return self._url

    def start(self, directory: Path) -> None:
        with ExitStack() as database:
            self._url = database.enter_context(postgres())
            super().start(directory)
            self._database = database.pop_all()

    def stop(self) -> None:
        super().stop()
        self._database.close()


class ResumableTwoWorkers(Resumable):
    """The same server with two processes."""

    name = "resumable-2"
    about = "this server with workers: 2"
    workers = 2

    @classmethod
    def missing(cls) -> str | None:
        if "workers" in attrs.fields_dict(Settings):
            return None
        return "a version of resumable that knows the setting `workers`"
