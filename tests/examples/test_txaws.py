"""examples/txaws: a program in txAWS's style does its work with `resumable.s3`."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor

from tests.examples.conftest import EXAMPLES
from tests.s3.conftest import BUCKET, boto, endpoint  # noqa: F401 (fixtures)

DATA = random.Random(4).randbytes((9 << 20) + 5)


@pytest.fixture
def archive(endpoint: str, boto: Any, monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: F811
    """The program, with keys and a store in its environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("S3_ENDPOINT", endpoint)
    spec = importlib.util.spec_from_file_location("archive", EXAMPLES / "txaws" / "archive.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@ensureDeferred
async def test_the_archive(archive: Any, boto: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    path, fetched = tmp_path / "backup.tar", tmp_path / "fetched"
    path.write_bytes(DATA)
    await archive.main(reactor, "put", BUCKET, str(path), "archive/backup.tar")
    await archive.main(reactor, "get", BUCKET, "archive/backup.tar", str(fetched))
    assert fetched.read_bytes() == DATA
    capsys.readouterr()
    await archive.main(reactor, "list", BUCKET, "archive/")
    assert capsys.readouterr().out == f"{len(DATA):12}  archive/backup.tar\n"
    await archive.main(reactor, "prune", BUCKET, "archive/", "1")
    assert boto.head_object(Bucket=BUCKET, Key="archive/backup.tar")["ContentLength"] == len(DATA)
    await archive.main(reactor, "prune", BUCKET, "archive/", "-1")
    assert not boto.list_objects_v2(Bucket=BUCKET, Prefix="archive/").get("Contents")
    with pytest.raises(SystemExit, match="get: NoSuchKey"):
        await archive.main(reactor, "get", BUCKET, "archive/none", str(fetched))
    assert fetched.read_bytes() == DATA
    with pytest.raises(SystemExit, match="put: NoSuchBucket"):
        await archive.main(reactor, "put", "no-bucket", str(path))
    assert set(tmp_path.iterdir()) == {path, fetched}
