"""Nothing acknowledged is lost, and every byte that arrived is acknowledged: breaking off, silence, coming back, stopping."""

from __future__ import annotations

import os
import random
import resource
import selectors
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.proxy import FaultyS3
from tests.harness import Client, Service, eventually
from tests.s3servers import MotoServer, RcloneServer
from tests.service.conftest import configuration

CHUNK = 6 << 20
DATA = random.Random(3).randbytes(3 * CHUNK + 123_456)


@pytest.fixture(scope="module")
def patient(s3: MotoServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that waits long for silent clients."""
    config = configuration(s3, limits={"idle_timeout": "60s"}, ledger="sqlite:///patient.sqlite3")
    with Service(tmp_path_factory.mktemp("patient"), config) as started:
        yield started
        assert "Traceback" not in started.log


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return f"durable/{request.node.originalname}-{os.urandom(4).hex()}"


def offset_of(service: Service, name: str) -> int:
    """How far the upload is; -1 while the service has not heard of it."""
    answer = service.request("PUT", f"/upload/{name}", {"Content-Range": "bytes */*"})
    if answer.status == 404:
        return -1
    assert answer.status == 308, answer
    return int(answer.headers.get("range", "bytes=0--1").removeprefix("bytes=0-")) + 1


def go_on(service: Service, name: str, offset: int, data: bytes = DATA) -> Any:
    headers = {"Content-Range": f"bytes {offset}-{len(data) - 1}/{len(data)}"}
    return service.request("PUT", f"/upload/{name}", headers, data[offset:])


def stored(s3: MotoServer, name: str) -> bytes:
    return bytes(s3.boto3().get_object(Bucket=s3.bucket, Key=name)["Body"].read())


def fragments(s3: MotoServer) -> list[str]:
    return [o["Key"] for o in s3.boto3().list_objects_v2(Bucket=s3.bucket, Prefix=".resumable/").get("Contents", [])]


def no_fragments(s3: MotoServer) -> None:
    """There are none any more, soon after the client has its answer."""
    eventually(lambda: fragments(s3) == [])


def begin(client: Client, name: str, size: int = len(DATA), **headers: str) -> None:
    client.head("PUT", f"/upload/{name}", {"Content-Length": str(size), **headers})


@pytest.mark.parametrize("sent", [1, 12_345_678, CHUNK - 1, CHUNK, CHUNK + 1, len(DATA) - 1])
def test_byte_exact(patient: Service, s3: MotoServer, name: str, sent: int) -> None:
    """A client that drops at any byte is told that byte, goes on there, and nothing of it stays but the object."""
    with Client(patient.port) as client:
        begin(client, name)
        assert client.send(DATA[:sent]) == sent
        client.socket.shutdown(socket.SHUT_WR)
        eventually(lambda: f"name={name!r} bytes={sent} " in patient.log)
    assert offset_of(patient, name) == sent
    assert go_on(patient, name, sent).status == 200
    assert stored(s3, name) == DATA
    no_fragments(s3)


@pytest.mark.soak
def test_a_silent_writer_is_checkpointed(patient: Service, s3: MotoServer, name: str) -> None:
    """What a client sent before it fell silent is acknowledged; its connection stays, and it may go on with it."""
    with Client(patient.port) as client:
        begin(client, name)
        client.send(DATA[:1_234_567])
        eventually(lambda: offset_of(patient, name) == 1_234_567)
        client.send(DATA[1_234_567 : CHUNK + 10])
        eventually(lambda: offset_of(patient, name) == CHUNK + 10)
        client.send(DATA[CHUNK + 10 :])
        assert client.answer().status == 200
    assert stored(s3, name) == DATA
    no_fragments(s3)


def test_coming_back(patient: Service, s3: MotoServer, name: str) -> None:
    """A new connection ends the old one, which still looks alive, after what that one holds has been stored."""
    with Client(patient.port) as old, Client(patient.port) as new:
        begin(old, name)
        old.send(DATA[:3_000_000])
        eventually(lambda: f"upload started id={_id(patient, name)}" in patient.log)
        time.sleep(0.3)  # so that what was sent has been received; nothing tells a client that
        begin(new, name, len(DATA), **{"Content-Range": f"bytes 0-{len(DATA) - 1}/{len(DATA)}"})
        assert old.answer().status == 409
        assert offset_of(patient, name) == 3_000_000
        new.send(DATA)
        assert new.answer().status == 200
    assert stored(s3, name) == DATA
    no_fragments(s3)


def _id(service: Service, name: str) -> str:
    return str(service.request("GET", f"/upload/{name}").json.get("id"))


def test_small_requests(patient: Service, s3: MotoServer, name: str) -> None:
    """A client that sends half a MiB at a time is told after each how far it is: exactly as far as it sent."""
    step = 1 << 19
    for first in range(0, len(DATA), step):
        end = min(first + step, len(DATA))
        headers = {"Content-Range": f"bytes {first}-{end - 1}/{len(DATA)}"}
        answer = patient.request("PUT", f"/upload/{name}", headers, DATA[first:end])
        if end < len(DATA):
            assert (answer.status, answer.headers["range"]) == (308, f"bytes=0-{end - 1}")
    assert answer.status == 200
    assert stored(s3, name) == DATA
    no_fragments(s3)


def test_cancelled_while_it_is_written(patient: Service, s3: MotoServer, name: str) -> None:
    """DELETE ends whoever is writing; parts and fragments are freed."""
    with Client(patient.port) as client:
        begin(client, name)
        client.send(DATA[: CHUNK + 2_000_000])
        eventually(lambda: offset_of(patient, name) == CHUNK + 2_000_000)
        client.send(DATA[CHUNK + 2_000_000 : CHUNK + 2_500_000])
        assert patient.request("DELETE", f"/upload/{name}").status == 204
        assert client.answer().status == 410
    assert patient.request("GET", f"/upload/{name}").status == 404
    no_fragments(s3)


def test_stopping(tmp_path: Path, s3: MotoServer) -> None:
    """SIGTERM, twice: what has arrived is stored, the client is told to come again, the process ends within its time."""
    service = Service(tmp_path, configuration(s3, limits={"drain": "10s"}))
    with service:
        with Client(service.port) as client, Client(service.port) as idle:
            begin(client, "stop.bin")
            client.send(DATA[: CHUNK + 777])
            eventually(lambda: service.request("GET", "/upload/stop.bin").json.get("offset", 0) >= CHUNK)
            began = time.monotonic()
            os.kill(service.pid, signal.SIGTERM)
            os.kill(service.pid, signal.SIGTERM)
            answer = client.answer()
            assert (answer.status, answer.headers["connection"]) == (503, "close")
            assert "retry-after" in answer.headers
            assert idle.socket.recv(1) == b""
        service.terminate(seconds=12)
        assert "Traceback" not in service.log
        assert time.monotonic() - began < 12
        with pytest.raises(OSError, match="refused"):
            Client(service.port)
    with service:
        assert offset_of(service, "stop.bin") == CHUNK + 777
        assert go_on(service, "stop.bin", CHUNK + 777).status == 200
        no_fragments(s3)
    assert stored(s3, "stop.bin") == DATA


@pytest.mark.soak
def test_stopping_with_something_to_free(tmp_path: Path, s3: MotoServer) -> None:
    """The client has its answer; a store that will not delete does not keep the process, and the next start frees the rest."""
    with FaultyS3(s3) as store:
        service = Service(tmp_path, configuration(store, store={"patience": "2m"}))
        service.advance(0)
        with service:
            with Client(service.port) as client:
                begin(client, "free.bin")
                client.send(DATA[:1000])
            eventually(lambda: offset_of(service, "free.bin") == 1000)
            store.fail("DeleteFragment", "503", 0)
            assert go_on(service, "free.bin", 1000).status == 200
            service.terminate(seconds=12)
            assert len(fragments(s3)) == 1
        store.mend()
        with service:
            service.advance(60)
            no_fragments(s3)
        assert "Traceback" not in service.log


@pytest.mark.soak
def test_memory_is_shared(tmp_path: Path, s3: MotoServer) -> None:
    """More clients than memory is for, all silent in the middle of a chunk: every one of them gets on, and ends right."""
    clients = 40
    config = configuration(s3, limits={"memory": "24MiB", "idle_timeout": "60s"})
    size = CHUNK + 1_000_000
    with Service(tmp_path, config) as service:
        writers = _Writers(service.port, clients, DATA[:size], silent_at=5_000_000)
        writers.run_until_silent()
        before = service.peak_memory()
        writers.finish()
        assert before < (110 + 24 + 16) << 20
        no_fragments(s3)
    for number in range(0, clients, 7):
        assert stored(s3, f"many/{number}") == DATA[:size]


@pytest.mark.soak
def test_a_thousand_silent_connections(tmp_path: Path) -> None:
    """1,000 connections send a MiB each and fall silent, with 64 MiB for all: memory stays in bounds, and all finish."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    data = DATA[: 3 << 19]
    try:
        with RcloneServer() as s3:
            config = configuration(s3, limits={"memory": "64MiB", "idle_timeout": "10m"}, store={"patience": "2m"})
            with Service(tmp_path, config) as service:
                writers = _Writers(service.port, 1000, data, silent_at=1 << 20)
                writers.run_until_silent()
                writers.finish()
                peak = service.peak_memory()
                print(f"\n1,000 silent connections: peak RSS {peak / 2**20:.0f} MiB, {service.cpu_seconds():.1f} s CPU")
                assert peak < (64 << 20) + 1000 * (64 << 10) + (110 << 20)
            for number in range(0, 1000, 97):
                assert s3.boto3().get_object(Bucket=s3.bucket, Key=f"many/{number}")["Body"].read() == data
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class _Writers:
    """Many connections, driven by one loop: each sends up to a byte, is silent, then sends the rest."""

    def __init__(self, port: int, count: int, data: bytes, *, silent_at: int) -> None:
        self._data = memoryview(data)
        self._silent_at = silent_at
        self._sent = [0] * count
        self._sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
        for number, connection in enumerate(self._sockets):
            head = f"PUT /upload/many/{number} HTTP/1.1\r\nHost: t\r\nContent-Length: {len(data)}\r\n\r\n"
            connection.sendall(head.encode())
            connection.setblocking(False)

    def run_until_silent(self) -> None:
        """Send from all until each has sent what it sends before it falls silent."""
        self._send_up_to(self._silent_at)
        time.sleep(5)  # silence

    def finish(self) -> None:
        """Send the rest; every one of them is answered with 200."""
        self._send_up_to(len(self._data))
        for connection in self._sockets:
            connection.settimeout(120)
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
            connection.close()

    def _send_up_to(self, end: int) -> None:
        with selectors.DefaultSelector() as selector:
            for number, connection in enumerate(self._sockets):
                selector.register(connection, selectors.EVENT_WRITE, number)
            deadline = time.monotonic() + 300
            while selector.get_map():
                ready = selector.select(timeout=10)
                assert time.monotonic() < deadline, "nobody gets on"
                for key, _ in ready:
                    sent = self._sent[key.data]
                    self._sent[key.data] += key.fileobj.send(self._data[sent : min(end, sent + 262144)])  # type: ignore[union-attr]
                    if self._sent[key.data] == end:
                        selector.unregister(key.fileobj)
