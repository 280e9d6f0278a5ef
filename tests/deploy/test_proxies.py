"""An upload through the proxies people have, with the configurations that stand in deploy/."""

from __future__ import annotations

import random
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.test_files import DEPLOY, program, wrapped
from tests.harness import Client, Service, eventually
from tests.s3servers import MotoServer
from tests.service.conftest import configuration

pytestmark = pytest.mark.soak

DATA = random.Random(9).randbytes(13_000_000)


@pytest.fixture(scope="module")
def service(s3: MotoServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("service"), configuration(s3)) as started:
        yield started
        assert "Traceback" not in started.log


def free_port() -> int:
    with socket.socket() as finder:
        finder.bind(("127.0.0.1", 0))
        return int(finder.getsockname()[1])


def haproxy(directory: Path, service: Service, port: int) -> list[str]:
    text = (DEPLOY / "haproxy.cfg").read_text()
    text = text.replace("bind :80\n", f"bind 127.0.0.1:{port}\n").replace("10.0.0.11:8080", f"127.0.0.1:{service.port}")
    # as many connections as the machine that tests may have
    text = text.replace("maxconn 20000", "maxconn 200").replace(" maxconn 5000", "")
    text = re.sub(r"^ *server two .*\n", "", text, flags=re.MULTILINE)
    (directory / "haproxy.cfg").write_text(text)
    return [program("haproxy"), "-db", "-f", str(directory / "haproxy.cfg")]


def nginx(directory: Path, service: Service, port: int) -> list[str]:
    text = (DEPLOY / "nginx.conf").read_text()
    text = text.replace("listen 80;", f"listen 127.0.0.1:{port};").replace(
        "10.0.0.11:8080", f"127.0.0.1:{service.port}"
    )
    text = re.sub(r"^ *server 10\.0\.0\.12.*\n", "", text, flags=re.MULTILINE)
    return [program("nginx"), "-p", str(directory), "-c", str(wrapped(directory, text))]


class Proxy:
    """The proxy, as far as a client knows it, and the directory it could write bodies into."""

    def __init__(self, port: int, directory: Path) -> None:
        self.port = port
        self.directory = directory

    def on_disc(self) -> int:
        """Bytes in files, but those of its configuration and log."""
        files = (
            p for p in self.directory.rglob("*") if p.is_file() and p.suffix not in (".cfg", ".conf", ".pid", ".log")
        )
        return sum(path.stat().st_size for path in files)


@pytest.fixture(params=[haproxy, nginx], ids=["haproxy", "nginx"])
def proxy(request: pytest.FixtureRequest, service: Service, tmp_path: Path) -> Iterator[Proxy]:
    port = free_port()
    tmp_path.chmod(0o755)
    command = request.param(tmp_path, service, port)
    with (tmp_path / "said.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

    def serves() -> bool:
        assert process.poll() is None, (tmp_path / "said.log").read_text()
        try:
            with Client(port) as client:
                client.head("GET", "/", {})
                return client.answer().status == 200
        except (OSError, AssertionError):
            return False

    try:
        eventually(serves)
        yield Proxy(port, tmp_path)
    finally:
        process.terminate()
        process.wait(20)


def begin(port: int, name: str, offset: int, chunked: bool) -> Client:
    client = Client(port)
    headers = {"Content-Range": f"bytes {offset}-{len(DATA) - 1}/{len(DATA)}"}
    framing = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(len(DATA) - offset)}
    client.head("PUT", f"/upload/{name}", {**headers, **framing})
    return client


def framed(data: bytes, chunked: bool) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data) if chunked else data


def offset_of(port: int, name: str) -> int:
    """How far it is; -1 for an upload nobody knows."""
    with Client(port) as client:
        client.head("PUT", f"/upload/{name}", {"Content-Range": "bytes */*", "Content-Length": "0"})
        answer = client.answer()
    return -1 if answer.status == 404 else int(answer.headers.get("range", "bytes=0--1").removeprefix("bytes=0-")) + 1


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_an_upload_that_breaks_off(proxy: Proxy, service: Service, s3: MotoServer, chunked: bool) -> None:
    """What was sent is in the service while the rest is not sent yet, and nowhere on disc; the upload goes on where it
    broke off; and a client that vanishes is seen to vanish.
    """
    name = f"{proxy.directory.name}"
    first = 2_345_678
    with begin(proxy.port, name, 0, chunked) as client:
        client.send(framed(DATA[:first], chunked))
        # asked of the service itself: the proxy has passed on every byte it has got
        eventually(lambda: offset_of(service.port, name) == first)
        assert proxy.on_disc() == 0
        second = 9_876_543
        client.send(framed(DATA[first:second], chunked))
        eventually(lambda: offset_of(service.port, name) == second)
        client.vanish()
    eventually(lambda: f"name={name!r} bytes=" in service.log)
    assert offset_of(proxy.port, name) == second
    assert proxy.on_disc() == 0
    with begin(proxy.port, name, second, chunked) as client:
        client.send(framed(DATA[second:], chunked) + (b"0\r\n\r\n" if chunked else b""))
        answer = client.answer()
    assert (answer.status, answer.json["size"]) == (200, len(DATA))
    assert s3.boto3().get_object(Bucket=s3.bucket, Key=name)["Body"].read() == DATA
    assert proxy.on_disc() == 0


def test_pages_that_are_not_for_strangers(proxy: Proxy) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        with Client(proxy.port) as client:
            client.head("GET", path, {})
            assert client.answer().status == 404


def test_an_early_answer_comes_early(proxy: Proxy) -> None:
    """A refusal is passed on while the client still sends, and the body is not taken."""
    begun = time.monotonic()
    with Client(proxy.port) as client:
        client.head("PUT", "/upload/early", {"Content-Range": "bytes 5-1/9", "Content-Length": str(1 << 30)})
        client.send(DATA[:1000])
        assert client.answer().status == 400
    assert time.monotonic() - begun < 10
