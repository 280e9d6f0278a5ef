"""Many connections through HAProxy to three nodes on one PostgreSQL, of which one is killed and one restarted meanwhile."""

from __future__ import annotations

import hashlib
import random
import re
import subprocess
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

from tests.databases import Postgres
from tests.deploy.test_files import DEPLOY, program
from tests.deploy.test_proxies import free_port
from tests.faults.proxy import FaultyS3
from tests.harness import Answer, Client, Service, eventually
from tests.receiver import SECRET, Receiver
from tests.s3servers import MotoServer
from tests.service.conftest import configuration

pytestmark = pytest.mark.soak

CONNECTIONS = 8
PATH = "/upload/swarm/through-a-balancer.bin"


def haproxy(directory: Path, ports: list[int], port: int) -> list[str]:
    """The configuration that we ship, with these nodes."""
    text = (DEPLOY / "haproxy.cfg").read_text()
    text = text.replace("bind :80\n", f"bind 127.0.0.1:{port}\n")
    text = text.replace("maxconn 20000", "maxconn 200").replace(" maxconn 5000", "")
    text = re.sub(r"^ *server .*\n", "", text, flags=re.MULTILINE)
    text += "".join(f"    server node{number} 127.0.0.1:{port}\n" for number, port in enumerate(ports))
    (directory / "haproxy.cfg").write_text(text)
    return [program("haproxy"), "-db", "-f", str(directory / "haproxy.cfg")]


class Swarm:
    """A client on many connections: each brings ranges until every byte of them is acknowledged."""

    def __init__(self, port: int, data: bytes) -> None:
        self._port = port
        self._data = data
        self._lock = threading.Lock()
        chance = random.Random(3)
        cuts = sorted({0, len(self._data), *(chance.randrange(1, len(self._data)) for _ in range(60))})
        self._work = [
            (first, min(len(self._data), end + chance.choice([0, 0, 70_000]))) for first, end in pairwise(cuts)
        ]
        chance.shuffle(self._work)
        self.statuses: set[int] = set()
        self.errors: list[BaseException] = []

    def run(self) -> None:
        threads = [threading.Thread(target=self._bring_all) for _ in range(CONNECTIONS)]
        for thread in threads:
            thread.start()
        self.threads = threads

    def _bring_all(self) -> None:
        try:
            while True:
                with self._lock:
                    if not self._work:
                        return
                    first, end = self._work.pop()
                self._bring(first, end)
        except BaseException as error:
            self.errors.append(error)

    def _bring(self, first: int, end: int) -> None:
        until = time.monotonic() + 120
        while (first := self._missing(first, end)) < end:
            assert time.monotonic() < until, f"{first}-{end} does not get on"
            self._request({"Content-Range": f"bytes {first}-{end - 1}/{len(self._data)}"}, self._data[first:end])

    def _missing(self, first: int, end: int) -> int:
        """The first byte of the range that is not acknowledged; its end if there is none."""
        answer = self._request({"Content-Range": "bytes */*"})
        while answer is None or answer.status not in (200, 308, 404):
            time.sleep(0.1)
            answer = self._request({"Content-Range": "bytes */*"})
        if answer.status == 200:
            return end
        for low, high in re.findall(r"(\d+)-(\d+)", answer.headers.get("range", "")):
            if int(low) <= first <= int(high):
                first = int(high) + 1
        return min(first, end)

    def _request(self, headers: dict[str, str], body: bytes = b"") -> Answer | None:
        try:
            with Client(self._port, 20) as client:
                head = {"Upload-Swarm": "?1", "Content-Length": str(len(body)), "Connection": "close", **headers}
                client.head("PUT", PATH, head)
                for at in range(0, len(body), 262_144):
                    client.send(body[at : at + 262_144])
                    time.sleep(0.004)
                answer = client.answer()
        except (OSError, AssertionError):
            return None
        self.statuses.add(answer.status)
        return answer

    def query(self) -> Answer | None:
        return self._request({"Content-Range": "bytes */*"})


def test_nodes_come_and_go(tmp_path: Path) -> None:
    """The object is right, it was completed once, and the application was told once."""
    data = b"".join(random.Random(number).randbytes(100_000_000) for number in range(3))
    ports = [free_port() for _ in range(3)]
    front = free_port()
    with Postgres() as postgres, MotoServer() as s3, FaultyS3(s3) as store, Receiver() as receiver:
        events = {"url": receiver.url, "secret": SECRET}
        config = configuration(store, ledger=postgres.new(), events=events, limits={"drain_delay": "4s"})
        nodes = []
        for number, port in enumerate(ports):
            (tmp_path / str(number)).mkdir()
            nodes.append(Service(tmp_path / str(number), config, port=port))
        balancer = subprocess.Popen(
            haproxy(tmp_path, ports, front), stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
        )
        try:
            with nodes[0], nodes[1], nodes[2]:
                swarm = Swarm(front, data)
                eventually(swarm.query)
                swarm.run()
                eventually(lambda: store.counts["UploadPart"] > 5)
                nodes[0].kill()
                time.sleep(1)
                nodes[1].terminate()
                nodes[1].start()
                nodes[0].start()
                for thread in swarm.threads:
                    thread.join(180)
                assert swarm.errors == []
                answer = eventually(swarm.query)
                assert (answer.status, answer.json["size"]) == (200, len(data))
                eventually(lambda: receiver.heard)
                time.sleep(1)
                assert [heard.type for heard in receiver.heard] == ["upload.finished"]
                stored = s3.boto3().get_object(Bucket=s3.bucket, Key="swarm/through-a-balancer.bin")["Body"].read()
                assert hashlib.sha256(stored).digest() == hashlib.sha256(data).digest()
                assert store.counts["Complete"] == 1
                assert swarm.statuses <= {200, 308, 404, 503, 502, 504}
                client = s3.boto3()
                fragments = {"Bucket": s3.bucket, "Prefix": ".resumable/"}
                eventually(lambda: not client.list_objects_v2(**fragments).get("Contents"), seconds=45)
                for node in nodes:
                    assert "Traceback" not in node.log
            assert client.list_multipart_uploads(Bucket=s3.bucket).get("Uploads", []) == []
        finally:
            balancer.terminate()
            balancer.wait(20)
