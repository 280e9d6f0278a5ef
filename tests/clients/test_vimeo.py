"""Vimeo's Python clients against the service as it runs: PyVimeo as it is, and what its old version sent."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

import pytest
import requests
from vimeo import VimeoClient

from tests.clients.conftest import stored
from tests.faults.proxy import FaultyS3
from tests.harness import Service

pytestmark = pytest.mark.process

DATA = random.Random(12).randbytes((13 << 20) + 345_678)


@pytest.mark.parametrize("chunk", [5_000_003, 200 << 20])
def test_pyvimeo(service: Service, store: FaultyS3, tmp_path: Path, chunk: int) -> None:
    """PyVimeo asks for a ticket, and goes on with tus at its link."""
    path = tmp_path / "clip.mp4"
    path.write_bytes(DATA)
    client = VimeoClient(token="token")
    client.API_ROOT = f"http://127.0.0.1:{service.port}/vimeo"
    uri = client.upload(str(path), data={"name": f"pyvimeo-{chunk}", "chunk_size": chunk})
    assert uri.startswith("/videos/")
    assert stored(store, f"pyvimeo-{chunk}") == DATA


class OldClient:
    """The requests of PyVimeo 0.4.1's upload mixin, which does not run on Python 3: one after the other, as it makes them."""

    def __init__(self, root: str) -> None:
        self.root = root

    def upload(self, file: io.BytesIO, size: int, breaks_at: int | None = None) -> str | None:
        """:param breaks_at: bytes after which the first body ends."""
        ticket = requests.post(
            self.root + "/me/videos",
            data=json.dumps({"type": "streaming"}),
            params={"fields": "upload_link,complete_uri,user.upload_quota.space.free"},
            headers={"Content-Type": "application/json", "Accept": "application/vnd.vimeo.*;version=3.2"},
            timeout=30,
        )
        assert ticket.status_code == 201
        said = ticket.json()
        assert size <= said["user"]["upload_quota"]["space"]["free"]
        last_byte = 0
        while last_byte < size:
            file.seek(last_byte)
            body = file.read(breaks_at or -1)
            breaks_at = None
            headers = {"Content-Range": f"bytes: {last_byte}-{size}/{size}"}
            sent = requests.put(said["upload_link"], data=body, headers=headers, timeout=30)
            assert sent.status_code == 200
            progress = requests.put(said["upload_link"], headers={"Content-Range": "bytes */*"}, timeout=30)
            last_byte = int(progress.headers["Range"].split("-")[1])
        done = requests.delete(self.root + said["complete_uri"], timeout=30)
        assert done.status_code == 201
        return done.headers.get("Location")


@pytest.mark.parametrize("breaks_at", [None, 7_000_001])
def test_the_old_mixin(service: Service, store: FaultyS3, breaks_at: int | None) -> None:
    client = OldClient(f"http://127.0.0.1:{service.port}/vimeo")
    location = client.upload(io.BytesIO(DATA), len(DATA), breaks_at)
    assert location is not None
    assert stored(store, location.removeprefix("/videos/")) == DATA
