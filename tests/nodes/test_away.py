"""The database server goes away for a while, or ends all connections: nothing is lost, and clients see nothing of it."""

from __future__ import annotations

import base64
import os
import threading
import time
from pathlib import Path

import pytest

from tests.databases import Postgres
from tests.faults.conftest import nothing_left, stored
from tests.faults.loop import DATA
from tests.faults.proxy import FaultyS3
from tests.harness import Client, Service
from tests.service.conftest import configuration

PIECE = 500_000


class Upload(threading.Thread):
    """A client that sends a whole body, at its own pace, and does not try again: whatever happens is not to be its business."""

    def __init__(self, service: Service, name: str, seconds: float) -> None:
        super().__init__()
        self.name = name
        self.status = 0
        self._service = service
        self._pause = seconds * PIECE / len(DATA)
        self.start()

    def run(self) -> None:
        with Client(self._service.port, 120) as client:
            client.head("PUT", f"/upload/{self.name}", {"Content-Length": str(len(DATA))})
            for first in range(0, len(DATA), PIECE):
                client.send(DATA[first : first + PIECE])
                time.sleep(self._pause)
            self.status = client.answer().status


def finished(uploads: list[Upload], store: FaultyS3) -> None:
    for upload in uploads:
        upload.join(120)
    assert [upload.status for upload in uploads] == [200] * len(uploads)
    for upload in uploads:
        assert stored(store, upload.name) == DATA
    nothing_left(store)


@pytest.mark.soak
def test_a_failover(nodes: tuple[Service, Service], store: FaultyS3, postgres: Postgres, name: str) -> None:
    """Again and again all connections are cut, in the middle of whatever is asked of them."""
    uploads = [Upload(nodes[number % 2], f"{name}/{number}", 4.0) for number in range(6)]
    while any(upload.is_alive() for upload in uploads):
        postgres.cut()
        time.sleep(0.3)
    finished(uploads, store)


@pytest.mark.parametrize(("count", "seconds"), [(4, 3.0)])
def test_stopped_for_a_while(
    nodes: tuple[Service, Service], store: FaultyS3, postgres: Postgres, name: str, count: int, seconds: float
) -> None:
    """Bodies stream on, as far as there is memory for them, and everything is finished when the server is back."""
    uploads = [Upload(nodes[number % 2], f"{name}/{number}", seconds * 2 / 3) for number in range(count)]
    time.sleep(seconds / 6)
    postgres.stop()
    # One that begins meanwhile waits as well.
    uploads.append(Upload(nodes[0], f"{name}/late", 1.0))
    time.sleep(seconds)
    postgres.start()
    finished(uploads, store)


def test_a_name_that_no_index_holds(postgres: Postgres, store: FaultyS3, tmp_path: Path) -> None:
    """It is the client's to choose another: nobody is kept waiting as if the server were away. No key is made of it here."""
    name = base64.urlsafe_b64encode(os.urandom(2400)).decode()
    with Service(tmp_path, configuration(store, ledger=postgres.new(), store={"key": "{id}"})) as service:
        began = time.monotonic()
        answer = service.request("PUT", f"/upload/{name}", body=b"x")
        assert 400 <= answer.status < 500
        assert time.monotonic() - began < 20
        assert service.request("PUT", "/upload/short", body=b"x").status == 200
        assert "Traceback" not in service.log
