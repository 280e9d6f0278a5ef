"""The sink as the benchmark's main process sees it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote
from urllib.request import Request, urlopen

from bench.certificates import write_certificate
from bench.processes import Child, free_port, python_environment


class Sink:
    """A running sink.

    :param directory: where its log goes.
    """

    #: The credentials that servers are given. The sink checks neither.
    access_key = "bench-key"
    secret_key = "bench-secret"
    bucket = "bench"
    region = "us-east-1"

    def __init__(self, directory: Path) -> None:
        self.port, tls_port = free_port(), free_port()
        #: The certificate of the sink's TLS, which servers are to trust.
        self.certificate = directory / "sink.pem"
        write_certificate(self.certificate)
        command = [sys.executable, "-m", "bench.sink", "--port", str(self.port)]
        command += ["--tls-port", str(tls_port), "--certificate", str(self.certificate)]
        self._child = Child(command, log=directory / "sink.log", environment=python_environment())
        self._child.wait_for_port(self.port)
        self.url = f"http://127.0.0.1:{self.port}"
        self.tls_url = f"https://127.0.0.1:{tls_port}"

    @property
    def allow_url(self) -> str:
        """The URL for auth callbacks. It grants everything, in place of a main application."""
        return f"{self.url}/-/allow"

    def reset(self) -> None:
        """Forget all objects and counts, keep nothing, answer at once."""
        self._ask("reset")

    def configure(self, *, keep: bool = False, delay: float = 0.0, forget: bool = False, drop: bool = False) -> None:
        """Set whether bodies are kept, the seconds to wait before a body is answered, and whether objects are forgotten.

        :param forget: only count objects that are made; do not remember them.
        :param drop: drop also the pieces of uploads that broke off. Clients have to send zeros then, as which they are read.
        """
        self._ask(f"set?keep={int(keep)}&delay={delay}&forget={int(forget)}&drop={int(drop)}")

    def calls(self) -> Mapping[str, int]:
        """Return the number of S3 calls since the last reset, by name."""
        calls: dict[str, int] = json.loads(self._ask("counts"))["calls"]
        return calls

    def digest(self, key: str) -> str:
        """Return ``SIZE CRC32`` of a kept object."""
        return self._ask(f"digest?key={quote(key, safe='')}").decode()

    def _ask(self, what: str) -> bytes:
        with urlopen(Request(f"{self.url}/-/{what}", method="POST"), timeout=30) as answer:
            body: bytes = answer.read()
            return body

    def stop(self) -> None:
        """End the sink."""
        self._child.stop()
