"""The snippets of docs/clients.md, of shell and Python, as they stand there."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.blocks import Block, block
from tests.harness import ROOT, Service
from tests.s3servers import MotoServer
from tests.service.conftest import configuration

pytestmark = pytest.mark.process

DATA = random.Random(13).randbytes(7_000_001)
#: The object that each of them stores.
STORED = {
    "curl": "film.mp4",
    "curl-resumes": "broken.mp4",
    "curl-form": "film.mp4",
    "requests-form": "form.mp4",
    "requests": "requests.mp4",
    "tuspy": "tuspy.mp4",
}
SNIPPETS = [block("docs/clients.md", name) for name in STORED]


@pytest.fixture(scope="module")
def store() -> Iterator[MotoServer]:
    with MotoServer() as server:
        yield server


@pytest.fixture(scope="module")
def service(store: MotoServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("docs"), configuration(store)) as started:
        yield started
        assert "Traceback" not in started.log


def test_every_snippet_is_known() -> None:
    page = (ROOT / "docs" / "clients.md").read_text()
    assert len(re.findall(r"^```(?:sh|python)$", page, re.MULTILINE)) == len(SNIPPETS)


@pytest.mark.soak
@pytest.mark.parametrize("snippet", SNIPPETS, ids=STORED)
def test_a_snippet(service: Service, store: MotoServer, tmp_path: Path, snippet: Block) -> None:
    """It ends well, and the object is the file."""
    language, text, key = snippet.language, snippet.text, STORED[snippet.name]
    (tmp_path / "film.mp4").write_bytes(DATA)
    assert "http://localhost:8080/" in text
    text = text.replace("http://localhost:8080/", f"{service.url}/")
    command = ["bash", "-euo", "pipefail", "-c"] if language == "sh" else [sys.executable, "-c"]
    store.boto3().delete_object(Bucket=store.bucket, Key=key)
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    subprocess.run([*command, text], cwd=tmp_path, env=environment, check=True, timeout=60)
    assert store.boto3().get_object(Bucket=store.bucket, Key=key)["Body"].read() == DATA
