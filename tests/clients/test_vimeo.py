"""Vimeo's Python clients against the service as it runs: PyVimeo, its old version 0.4.1, and what that one wants to send."""

from __future__ import annotations

import importlib
import io
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from vimeo import VimeoClient

from tests.clients.conftest import file_of, stored
from tests.clients.network import Network, wait_for
from tests.faults.proxy import FaultyS3
from tests.harness import Service

pytestmark = pytest.mark.process

#: Where PyVimeo 0.4.1 is.
OLD = Path(__file__).parent / ".pyvimeo-0.4.1"
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


# The old streaming protocol


@pytest.fixture
def old() -> Iterator[Any]:
    """PyVimeo 0.4.1, unchanged. It has the name of the present one, and so it is installed in a directory of its own."""
    if not (OLD / "vimeo").is_dir():
        pytest.skip(f"it is not there (pip install --no-deps --target tests/clients/{OLD.name} PyVimeo==0.4.1)")
    present = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "vimeo"}
    sys.path.insert(0, str(OLD))
    try:
        module = importlib.import_module("vimeo")
        assert "0.4.1" in module.VimeoClient.USER_AGENT
        yield module
    finally:
        sys.path.remove(str(OLD))
        for name in [name for name in sys.modules if name.partition(".")[0] == "vimeo"]:
            del sys.modules[name]
        sys.modules.update(present)


def old_client(old: Any, url: str) -> Any:
    client = old.VimeoClient(token="token")
    client.API_ROOT = f"{url}/vimeo"
    return client


@pytest.mark.soak
@pytest.mark.parametrize("size", [5, len(DATA)])
def test_old_pyvimeo(old: Any, service: Service, store: FaultyS3, tmp_path: Path, size: int) -> None:
    """It says ``bytes: 0-SIZE/SIZE``, reads how many bytes there are, and deletes the ticket."""
    location = old_client(old, service.url).upload(file_of(tmp_path / "clip.mp4", DATA[:size]))
    assert stored(store, location.removeprefix("/videos/")) == DATA[:size]


@pytest.mark.soak
def test_old_pyvimeo_with_an_empty_file(old: Any, service: Service, tmp_path: Path) -> None:
    """It sends nothing but the end, as it would if its bytes had gone nowhere: that is refused, and it says so."""
    with pytest.raises(old.exceptions.VideoCreationFailure, match="0 of so far unknown bytes have come"):
        old_client(old, service.url).upload(file_of(tmp_path / "clip.mp4", b""))


@pytest.mark.soak
@pytest.mark.parametrize("fault", ["reset", "503", "lost", "lost at the end"])
def test_old_pyvimeo_when_the_network_breaks(
    old: Any, network: Network, store: FaultyS3, tmp_path: Path, fault: str
) -> None:
    """It raises, whatever happens: it goes on only after a timeout, and sets none. Its program uploads the file again, with
    another ticket, and that is not disturbed by the first.
    """
    path = file_of(tmp_path / "clip.mp4", DATA)
    planned = {
        "reset": lambda: network.break_off("PUT", 7_000_001),
        "503": lambda: network.refuse("PUT"),
        "lost": lambda: network.lose_answer("PUT"),
        "lost at the end": lambda: network.lose_answer("DELETE"),
    }[fault]()
    client = old_client(old, network.url)
    with pytest.raises((requests.ConnectionError, old.exceptions.VideoUploadFailure)):
        client.upload(path)
    wait_for(planned)
    location = client.upload(path)
    assert stored(store, location.removeprefix("/videos/")) == DATA
    assert len(network.of("POST")) == 2


class OldClient:
    """What PyVimeo 0.4.1 wants to send when a body ends early, one request after the other.

    The client itself runs on this Python, but cannot be made to go on. It asks how far the upload is and makes another pass only
    after a timeout, and it asks requests for none (``timeout=None``); any other failure comes out of ``upload``. And it does not
    seek: what a second pass sends begins where the first one has read to, not where its Content-Range says. This one seeks.
    """

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
def test_the_old_protocol_goes_on(service: Service, store: FaultyS3, breaks_at: int | None) -> None:
    client = OldClient(f"http://127.0.0.1:{service.port}/vimeo")
    location = client.upload(io.BytesIO(DATA), len(DATA), breaks_at)
    assert location is not None
    assert stored(store, location.removeprefix("/videos/")) == DATA
