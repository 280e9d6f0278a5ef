"""What the benchmark needs to know about a server."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from bench.certificates import write_certificate
from bench.clients.protocols import PROTOCOLS
from bench.loads import Load
from bench.processes import Child, free_port
from bench.sink.handle import Sink


class Server:
    """A server that can be started, again and again, in a fresh directory.

    :param sink: the S3 that it writes to.
    """

    name: ClassVar[str]
    #: The protocol that drivers speak with it, and the path that it serves.
    protocol: ClassVar[str]
    path: ClassVar[str]
    #: Whether drivers, and whether the server itself on its way to the sink, speak TLS.
    tls: ClassVar[bool] = False
    store_tls: ClassVar[bool] = False
    #: What the tables say about it.
    about: ClassVar[str]

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.port = 0
        self.directory = Path()
        self._child: Child | None = None

    @classmethod
    def missing(cls) -> str | None:
        """Return a line that says what has to be installed, or None if everything is there."""
        return None

    def can(self, load: Load) -> bool:
        """Say whether it can take the load. Breaks need a protocol that resumes, and slow drivers do not speak TLS."""
        resuming = PROTOCOLS[self.protocol].resumes or not load.breaks
        return resuming and not (self.tls and load.rate)

    def key(self, name: str, session: str) -> str:
        """Return the key of the object that the upload with this name and session has become."""
        return name

    def command(self) -> list[str]:
        """Return the command that starts it on `self.port`, in `self.directory`. This may write files there."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """Return the variables that it needs in addition to the benchmark's own environment.

        By default those that make OpenSSL, Go, the AWS SDKs and Node trust the sink's certificate, which is verified by all.
        """
        if not self.store_tls:
            return {}
        certificate = str(self.sink.certificate)
        return {"SSL_CERT_FILE": certificate, "AWS_CA_BUNDLE": certificate, "NODE_EXTRA_CA_CERTS": certificate}

    def own_certificate(self) -> Path:
        """Write the certificate that it shows clients, and its key, to one file; return that."""
        certificate = self.directory / "certificate.pem"
        write_certificate(certificate)
        return certificate

    @property
    def store_url(self) -> str:
        """The URL at which the server is to reach the sink."""
        return self.sink.tls_url if self.store_tls else self.sink.url

    @property
    def temporary(self) -> Path:
        """The folder for its temporary files."""
        return self.directory / "tmp"

    @property
    def pid(self) -> int:
        """The id of its first process."""
        assert self._child is not None
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether it has been started and has not ended by itself."""
        return self._child is not None and self._child.running

    def start(self, directory: Path) -> None:
        """Start the server in the empty `directory`, and wait until it listens.

        :raises StartFailed: it does not listen.
        """
        self.directory = directory
        self.temporary.mkdir(parents=True)
        self.port = free_port()
        credentials = {
            "AWS_ACCESS_KEY_ID": self.sink.access_key,
            "AWS_SECRET_ACCESS_KEY": self.sink.secret_key,
            "AWS_REGION": self.sink.region,
        }
        environment = {**os.environ, "TMPDIR": str(self.temporary), **credentials, **self.environment()}
        command = self.command()
        self._child = Child(command, log=directory / "log", environment=environment, directory=directory)
        self._child.wait_for_port(self.port)

    def stop(self) -> None:
        """End the server and remove its directory."""
        if self._child is not None:
            self._child.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
