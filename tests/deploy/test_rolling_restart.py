"""A rolling restart: nodes on one ledger are restarted in turn under their clients, who lose nothing."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.balancer import Balancer
from tests.harness import Answer, Client, Service
from tests.s3servers import MotoServer
from tests.service.conftest import configuration

CHUNK = 5 << 20
#: A chunk and a bit, and how it is sent: a slice (bytes) and a pause (seconds).
DATA = random.Random(5).randbytes(CHUNK + 1_234_567)
SLICE, PAUSE = 100_000, 0.1
CLIENTS = 8


class Slow:
    """A client that asks and goes on, slowly, upload after upload; it knows what it may be told."""

    def __init__(self, balancer: Balancer, number: int) -> None:
        self._balancer = balancer
        self._number = number
        self.finished: list[str] = []
        self.told: set[int] = set()
        self.broken_off = 0
        self.error: Exception | None = None

    def run(self, over: threading.Event) -> None:
        try:
            while not over.is_set():
                name = f"rolling/{time.monotonic()}-{self._number}"
                self._upload(name)
                self.finished.append(name)
        except Exception as error:
            self.error = error

    def _upload(self, name: str) -> None:
        known, deadline = 0, time.monotonic() + 120
        while True:
            assert time.monotonic() < deadline, f"{name} does not get on"
            answer = self._send(name, known)
            if answer is not None and answer.status == 200:
                return
            answer = self._ask(name)
            if answer is None or answer.status == 503:
                time.sleep(0.1)
            elif answer.status == 200:
                return
            elif answer.status == 404:
                assert known == 0, "what was acknowledged is forgotten"
            else:
                assert answer.status == 308, answer
                offset = int(answer.headers.get("range", "bytes=0--1").removeprefix("bytes=0-")) + 1
                assert offset >= known, f"{known} were acknowledged, and now {offset}"
                known = offset

    def _ask(self, name: str) -> Answer | None:
        headers = {"Content-Range": "bytes */*", "Content-Length": "0"}
        return self._request(name, headers, b"")

    def _send(self, name: str, offset: int) -> Answer | None:
        headers = {
            "Content-Range": f"bytes {offset}-{len(DATA) - 1}/{len(DATA)}",
            "Content-Length": str(len(DATA) - offset),
        }
        answer = self._request(name, headers, DATA[offset:])
        assert answer is None or answer.status in (200, 308, 503), answer
        return answer

    def _request(self, name: str, headers: dict[str, str], body: bytes) -> Answer | None:
        """The answer, or None where the connection was closed without one."""
        try:
            with Client(self._balancer.port) as client:
                client.head("PUT", f"/upload/{name}", headers)
                for begin in range(0, len(body), SLICE):
                    part = body[begin : begin + SLICE]
                    if client.send(part) < len(part):
                        break
                    time.sleep(PAUSE)
                answer = client.answer()
        except (ConnectionError, AssertionError):
            self.broken_off += 1
            return None
        self.told.add(answer.status)
        return answer


class Knocker:
    """Comes all the time with a connection of its own, and notes those that are not answered."""

    def __init__(self, balancer: Balancer) -> None:
        self._balancer = balancer
        self.answered = 0
        self.turned_away: list[object] = []

    def run(self, over: threading.Event) -> None:
        while not over.wait(0.02):
            try:
                with Client(self._balancer.port) as client:
                    client.head("GET", "/healthz", {})
                    answer: object = client.answer()
            except (OSError, AssertionError) as error:
                answer = error
            if isinstance(answer, Answer) and answer.status == 200:
                self.answered += 1
            else:
                self.turned_away.append(answer)


def node(directory: Path, s3: MotoServer) -> Service:
    directory.mkdir()
    config: dict[str, Any] = configuration(
        s3,
        ledger=f"sqlite:///{directory.parent}/ledger.sqlite3",
        store={"chunk_size": "5MiB"},
        limits={"drain": "20s", "drain_delay": "2s"},
    )
    return Service(directory, config)


@pytest.mark.soak
@pytest.mark.parametrize("times", [2])
def test_a_rolling_restart_loses_nothing(s3: MotoServer, tmp_path: Path, times: int) -> None:
    """Two nodes restarted in turn under eight clients: every object is right, and nobody is told anything but
    how far the upload is, that it is done, or to come again.
    """
    with node(tmp_path / "a", s3) as one, node(tmp_path / "b", s3) as two, Balancer([one, two]) as balancer:
        over = threading.Event()
        clients = [Slow(balancer, number) for number in range(CLIENTS)]
        knocker = Knocker(balancer)
        threads = [threading.Thread(target=client.run, args=(over,)) for client in (knocker, *clients)]
        for thread in threads:
            thread.start()
        for service in (one, two) * times:
            time.sleep(1)
            service.terminate()
            service.start()
            time.sleep(0.5)
        over.set()
        for thread in threads:
            thread.join()
        assert [client.error for client in clients if client.error] == []
        assert knocker.answered
        assert knocker.turned_away == []
        # a balancer that looked at /readyz in time never ran into a node that had gone
        assert (balancer.refused, balancer.missed) == (0, 0)
        finished = [name for client in clients for name in client.finished]
        told: set[int] = set().union(*(client.told for client in clients))
        assert told >= {200, 308, 503}, "no restart met an upload"
        assert told <= {200, 308, 404, 503}
        assert len(finished) >= CLIENTS
        boto3 = s3.boto3()
        for name in finished:
            assert boto3.get_object(Bucket=s3.bucket, Key=name)["Body"].read() == DATA
        for service in (one, two):
            assert "Traceback" not in service.log
            service.terminate()
    assert boto3.list_multipart_uploads(Bucket=s3.bucket).get("Uploads", []) == []
    assert boto3.list_objects_v2(Bucket=s3.bucket, Prefix=".resumable/").get("Contents", []) == []
