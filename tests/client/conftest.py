"""A scripted server on loopback, a file, and a client whose pauses are short."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define
from twisted.internet import reactor

from resumable.backoff import Backoff
from resumable.client import Result, api, upload
from resumable.client.http import Http
from resumable.client.patience import Patience
from resumable.client.tracker import Progress
from tests.client.server import PutServer

R: Any = reactor
MIB = 1024 * 1024
#: More than two of the server's chunks, and no multiple of anything.
DATA = random.Random(7).randbytes(20 * MIB + 12_345)


@define
class Bench:
    """A server, and a file to upload to it."""

    server: PutServer
    url: str
    path: Path
    state: Path
    seen: list[Progress]

    async def upload(self, **options: Any) -> Result:
        """Upload the file, with the options of `resumable.client.upload`."""
        source = options.pop("source", str(self.path))
        given = {"state": self.state, "progress": self.seen.append, "retry_for": 5.0, "http": Http(R, 8), **options}
        try:
            return await upload(source, self.url, reactor=R, **given)
        finally:
            await given["http"].close()

    @property
    def stored(self) -> bytes:
        """The object, as it is on the server."""
        kept = self.server.uploads["/upload/film.bin"]
        assert kept.finished
        return bytes(kept.data)

    def records(self) -> list[str]:
        """The texts of what is remembered."""
        return [one.read_text() for one in sorted(self.state.glob("*.json"))]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    short = Backoff(first=0.01, longest=0.05, jitter=(0.0, 1.0))
    monkeypatch.setattr(api, "Patience", functools.partial(Patience, backoff=short))
    server = PutServer()
    port = R.listenTCP(0, server, interface="127.0.0.1")
    path = tmp_path / "film.bin"
    path.write_bytes(DATA)
    yield Bench(server, f"http://127.0.0.1:{port.getHost().port}/upload/film.bin", path, tmp_path / "state", [])
    port.stopListening()
    for connection in list(server.connections):
        connection.transport.abortConnection()  # type: ignore[union-attr]
    # The reactor lets go of a connection later, in the next test that runs it; 160 tests are 3 GB.
    server.uploads.clear()
    for request in server.requests:
        request.body.clear()
