"""What the benchmark wants to know of a server."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from bench.clients.protocols import PROTOCOLS
from bench.loads import Load
from bench.processes import Child, free_port
from bench.sink.handle import Sink


class Server:
    """A server that can be started, again and again, in a fresh directory.

    :param sink: the S3 it writes to.
    """

    name: ClassVar[str]
    #: The protocol drivers speak with it, and the path it is at.
    protocol: ClassVar[str]
    path: ClassVar[str]
    tls: ClassVar[bool] = False
    #: What the tables say about it.
    about: ClassVar[str]

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.port = 0
        self.directory = Path()
        self._child: Child | None = None

    @classmethod
    def missing(cls) -> str | None:
        """What has to be installed for it, in a line; None if everything is there."""
        return None

    def can(self, load: Load) -> bool:
        """Whether it can do that: resuming takes a protocol that resumes, and slow drivers speak no TLS."""
        resuming = PROTOCOLS[self.protocol].resumes or not load.breaks
        return resuming and not (self.tls and load.rate)

    def key(self, name: str, session: str) -> str:
        """The key of the object that the upload called `name`, at `session`, has become."""
        return name

    def command(self) -> list[str]:
        """How it is started on `self.port`, in `self.directory`; may write files there."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """What it needs in its environment besides what the benchmark itself has."""
        return {}

    @property
    def temporary(self) -> Path:
        """The folder for temporary files that it is given."""
        return self.directory / "tmp"

    @property
    def pid(self) -> int:
        """Its first process."""
        assert self._child is not None
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether it has been started and has not ended by itself."""
        return self._child is not None and self._child.running

    def start(self, directory: Path) -> None:
        """Start it in the empty `directory` and wait until it listens.

        :raises StartFailed: it does not.
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
        """End it and remove its directory."""
        if self._child is not None:
            self._child.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
