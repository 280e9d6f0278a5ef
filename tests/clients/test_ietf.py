"""Other people's clients of the IETF's drafts, and the one in examples/, against the service as it runs."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import file_of, shown, stored
from tests.clients.network import Network
from tests.clients.node import run
from tests.faults.proxy import FaultyS3
from tests.harness import ROOT, Service

pytestmark = [pytest.mark.process, pytest.mark.soak]

DATA = random.Random(19).randbytes((12 << 20) + 345_678)
CHUNK = 5_000_000


@pytest.fixture
def path(tmp_path: Path) -> str:
    return file_of(tmp_path / "file", DATA)


def check(service: Service, store: FaultyS3, url: str, name: str) -> None:
    """The object is what was sent, and the service knows it as finished."""
    upload = shown(service, url)
    assert (upload["state"], upload["protocol"], upload["name"]) == ("finished", "ietf", name)
    assert stored(store, name) == DATA


@pytest.mark.parametrize("protocol", ["ietf-draft-03", "ietf-draft-05"])
@pytest.mark.parametrize("way", ["whole", "chunks", "with the creation"])
def test_tus_js(path: str, network: Network, service: Service, store: FaultyS3, protocol: str, way: str) -> None:
    """It goes on after a break; Node skips the interim answers that its version asks for."""
    name = f"{protocol}/{way}"
    more: dict[str, Any] = {
        "whole": {},
        "chunks": {"chunkSize": CHUNK},
        "with the creation": {"chunkSize": CHUNK, "uploadDataDuringCreation": True},
    }[way]
    network.break_off("PATCH", 2_000_000)
    options = {"endpoint": f"{network.url}/upload", "protocol": protocol, "metadata": {"filename": name}, **more}
    # (From a file's stream version 4.3.1 never says ?1 but where it begins at byte 0.)
    said = run("tus.mjs", {"file": path, "read": "buffer", "options": options})
    assert said["outcome"] == "success", said
    check(service, store, said["url"], name)
    assert len(network.of("HEAD")) == 1


def test_curl_skips_interim_answers(path: str, service: Service, store: FaultyS3) -> None:
    """It says nothing of them, and its status and body are those of the final answer."""
    url = f"{service.url}/upload/by-curl"
    headers = ["-H", "Upload-Complete: ?1", "-H", "Upload-Draft-Interop-Version: 9"]
    command = ["curl", "-sS", "--max-time", "60", "-D", "-", "-T", path, *headers, "-w", "\n%{http_code}", url]
    said = subprocess.run(command, capture_output=True, check=True, timeout=90).stdout.decode()
    assert said.startswith("HTTP/1.1 104 Upload Resumption Supported\r\n")
    *_, result, status = said.split("\n")
    assert status == "200"
    body = said[said.index('{"id"') :].rpartition("\n")[0]
    check(service, store, f"/files/{json.loads(body)['id']}", "by-curl")
    assert result == ""


def test_the_example(path: str, network: Network, service: Service, store: FaultyS3) -> None:
    """A break in its PATCH; it asks where to go on, and ends with the result. Its note is gone."""
    network.break_off("PATCH", 7_000_000)
    command = [sys.executable, str(ROOT / "examples/ietf/upload.py"), path, f"{network.url}/upload/by-example"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)
    assert ended.returncode == 0, ended.stderr
    first, second = (line.split(" from byte ") for line in ended.stderr.splitlines())
    assert (first[0], int(first[1])) == (second[0], 0)
    assert int(second[1]) > 0
    check(service, store, first[0], "by-example")
    assert not Path(f"{path}.upload").exists()
