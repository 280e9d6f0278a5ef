"""The embedded store: it serves, it says why it does not, and it does not outlive its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import pytest_twisted

from resumable.model import ObjectOptions
from resumable.stores import embedded
from resumable.stores.embedded import EmbeddedS3
from resumable.stores.s3 import S3Store
from tests.stores.fakes import R

COMMAND = [sys.executable, "-m", "resumable.stores.embedded"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    ) as process:
        yield process
        process.kill()


@pytest_twisted.ensureDeferred
async def test_it_serves_and_ends() -> None:
    server = EmbeddedS3(R)
    endpoint = await server.start()
    store = S3Store(R, endpoint=endpoint, access_key="any", secret_key="any")
    await store.create_bucket("bucket")
    await store.put_object("bucket", "k", [b"x"], ObjectOptions())
    assert await store.get_object("bucket", "k", limit=2**20) == [b"x"]
    await store.close()
    await server.stop()
    await server.stop()
    with pytest.raises(OSError, match="refused"):
        urlopen(endpoint)


def test_it_ends_with_its_parent(child: subprocess.Popen[bytes]) -> None:
    assert child.stdout is not None
    assert child.stdin is not None
    port = int(child.stdout.readline())
    child.send_signal(signal.SIGINT)
    with urlopen(f"http://127.0.0.1:{port}/") as answer:
        assert answer.status == 200
    child.stdin.close()
    assert child.wait(5) == 0
    assert child.stderr is not None
    assert child.stderr.read() == b""


def test_it_ends_when_it_is_told_to(child: subprocess.Popen[bytes]) -> None:
    assert child.stdout is not None
    assert child.stdout.readline()
    child.terminate()
    assert child.wait(5) == -signal.SIGTERM


@pytest_twisted.ensureDeferred
async def test_moto_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "moto").mkdir()
    (tmp_path / "moto" / "__init__.py").write_text("raise ImportError('no moto')")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(RuntimeError) as caught:
        await EmbeddedS3(R).start()
    assert str(caught.value) == "the embedded store needs moto: pip install 'resumable[demo]'"


@pytest_twisted.ensureDeferred
async def test_it_dies_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "moto").mkdir()
    (tmp_path / "moto" / "__init__.py").write_text("raise RuntimeError('the dog ate it')")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(RuntimeError, match=r"(?s)ended.*exit code 1.*the dog ate it"):
        await EmbeddedS3(R).start()


@pytest_twisted.ensureDeferred
async def test_it_never_says_its_port(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "moto").mkdir()
    (tmp_path / "moto" / "__init__.py").write_text("import time; time.sleep(60)")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(embedded, "START", 0.2)
    monkeypatch.setattr(embedded, "STOP", 0.1)
    server: Any = EmbeddedS3(R)
    with pytest.raises(RuntimeError, match=r"did not start within 0\.2 s"):
        await server.start()
