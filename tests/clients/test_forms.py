"""curl's ``-F`` and requests' ``files=``, unchanged, against the service as it runs; and what a large form takes."""

from __future__ import annotations

import io
import json
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from bench.disc import DiscWatch
from bench.sink.handle import Sink
from bench.tree import ProcessTree
from tests.harness import Application, Client, Service
from tests.s3servers import MotoServer
from tests.service.conftest import configuration

pytestmark = pytest.mark.process

#: More than a chunk, and more than curl sends without asking (``Expect: 100-continue``).
DATA = random.Random(12).randbytes((6 << 20) + 345_678)
REDIRECT = "https://app.example.com/done"


@pytest.fixture(scope="module")
def store() -> Iterator[MotoServer]:
    with MotoServer() as server:
        yield server


@pytest.fixture(scope="module")
def service(store: MotoServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    application = Application()
    application.grant(redirect=[REDIRECT])
    config = configuration(store, auth={"url": application.url, "cache": 0})
    with Service(tmp_path_factory.mktemp("forms"), config) as started:
        yield started
        assert "Traceback" not in started.log
        assert list(started.temporary.iterdir()) == []
    application.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "naïve file.bin"
    path.write_bytes(DATA)
    return path


def stored(store: MotoServer, name: str) -> tuple[bytes, dict[str, Any]]:
    found = store.boto3().get_object(Bucket=store.bucket, Key=name)
    return bytes(found["Body"].read()), found


def curl(*arguments: str) -> Any:
    """The answer, as JSON, and its status."""
    ran = subprocess.run(
        ["curl", "-sS", "--max-time", "60", "-w", "\n%{http_code} %{redirect_url}", *arguments],
        capture_output=True,
        check=True,
    )
    body, _, status = ran.stdout.decode().rpartition("\n")
    return status.strip(), json.loads(body) if body.strip() else None


def test_curl(service: Service, store: MotoServer, file: Path) -> None:
    """Fields, a type of its own, several files, and a name that is not ASCII."""
    status, said = curl("-F", "title=A title", "-F", f"file=@{file};type=video/mp4", f"{service.url}/upload")
    assert (status, said["name"], said["metadata"]) == ("200", file.name, {"title": "A title"})
    data, found = stored(store, file.name)
    assert data == DATA
    assert (found["ContentType"], found["Metadata"]["title"]) == ("video/mp4", "A title")
    status, said = curl("-F", f'a=@{file};filename=a"b;c', "-F", f"b=@{file}", f"{service.url}/upload/curl/")
    assert status == "200"
    assert [one["size"] for one in said["uploads"]] == [len(DATA)] * 2
    assert said["uploads"][1]["name"] == f"curl/{file.name}"


def test_curl_from_a_pipe(service: Service, store: MotoServer, file: Path) -> None:
    """Chunked: nobody knows how much comes."""
    status, _ = curl("-F", f"f=@{file}", "-H", "Transfer-Encoding: chunked", f"{service.url}/upload/piped")
    assert status == "200"
    assert stored(store, "piped")[0] == DATA


def test_curl_is_sent_on(service: Service, file: Path) -> None:
    status, _ = curl("-F", f"f=@{file}", "-F", f"redirect={REDIRECT}?ok", f"{service.url}/upload/redirected")
    assert status == f"303 {REDIRECT}?ok"


def test_requests(service: Service, store: MotoServer, file: Path) -> None:
    with file.open("rb") as opened:
        files = [("a", ("ä.bin", opened, "a/b")), ("b", ("b", io.BytesIO(b""))), ("c", ("c", b"c"))]
        answer = requests.post(f"{service.url}/upload", data={"k": "ü"}, files=files, timeout=60)
    assert answer.status_code == 200, answer.text
    assert [(one["name"], one["metadata"]) for one in answer.json()["uploads"]] == [
        (name, {"k": "ü"}) for name in ("ä.bin", "b", "c")
    ]
    assert stored(store, "ä.bin")[0] == DATA
    assert stored(store, "b")[0] == b""


@pytest.mark.soak
def test_a_refusal(service: Service, file: Path) -> None:
    """It reaches a client that is still sending."""
    with file.open("rb") as opened:
        answer = requests.post(f"{service.url}/upload", data={"k": "v" * 5000}, files={"f": opened}, timeout=60)
    assert (answer.status_code, answer.headers["Content-Type"]) == (413, "application/problem+json")


@pytest.mark.soak
def test_a_large_form(tmp_path: Path) -> None:
    """Three files of a GiB in one form: within the budget of memory, and nothing on the disc. Prints the CPU of a GiB."""
    gib, budget, segment = 1 << 30, 64 << 20, random.Random(3).randbytes(1 << 20)
    sink = Sink(tmp_path)
    config = configuration(sink_as_store(sink), limits={"memory": budget})
    try:
        with Service(tmp_path, config) as service, Client(service.port, 120) as client:
            assert service.request("PUT", "/upload/warm", body=segment).status == 200
            began = service.cpu_seconds()
            client.head("PUT", "/upload/plain", {"Content-Length": str(gib)})
            for _ in range(gib // len(segment)):
                client.socket.sendall(segment)
            assert client.answer().status == 200
            between = service.cpu_seconds()
            heads = [part_head(number) for number in range(3)]
            length = sum(map(len, heads)) + 3 * gib + len(END)
            with DiscWatch(service.temporary, ProcessTree(service.pid)) as disc:
                fields = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}", "Content-Length": str(length)}
                client.head("POST", "/upload", fields)
                for head in heads:
                    client.socket.sendall(head)
                    for _ in range(gib // len(segment)):
                        client.socket.sendall(segment)
                client.socket.sendall(END)
                answer = client.answer()
            plain, form = between - began, (service.cpu_seconds() - between) / 3
            peak = service.peak_memory()
            print(f"\n1 GiB: plain {plain:.2f} s CPU, form {form:.2f} s, peak RSS {peak >> 20} MiB")
            assert [one["size"] for one in answer.json["uploads"]] == [gib] * 3
            assert disc.peak == 0
            # The program itself takes some 90 MiB.
            assert peak < budget + (100 << 20)
    finally:
        sink.stop()


#: As long as a browser's.
BOUNDARY = "----WebKitFormBoundary7MA4YWxkTrZu0gW"
END = f"\r\n--{BOUNDARY}--\r\n".encode()


def part_head(number: int) -> bytes:
    """What stands between two files."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="f"; filename="f{number}"\r\n\r\n'
    return f"\r\n{head}".encode()


def sink_as_store(sink: Sink) -> Any:
    class Store:
        bucket, endpoint, access_key, secret_key = sink.bucket, sink.url, sink.access_key, sink.secret_key

    return Store
