"""What a newcomer does: the README's first upload, with curl, killed half-way; and what the service needs for it."""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from tests.harness import Application, Client, Service, eventually
from tests.s3servers import MotoServer, RcloneServer, S3Server
from tests.service.conftest import configuration

SIZE = 100_000_000
CHUNK = 6 << 20


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("big") / "big.bin"
    path.write_bytes(random.Random(2).randbytes(SIZE))
    return path


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def run(*command: str | Path) -> bytes:
    """What the command says; it has to succeed."""
    return subprocess.run(command, capture_output=True, check=True, timeout=60).stdout


def address(service: Service, name: str) -> str:
    """Where the log says that the object can be read."""
    pattern = re.search(r"Read an object back with: curl (\S+)/NAME", service.log)
    assert pattern is not None
    return f"{pattern[1]}/{quote(name)}"


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_as_in_the_readme(tmp_path: Path, big: Path) -> None:
    """Embedded default, curl killed half-way, query, resume from where it stopped, read back with curl."""
    with Service(tmp_path, None) as service:
        url = f"{service.url}/upload/big.bin"
        curl = subprocess.Popen(["curl", "-sT", big, "--limit-rate", "40M", url])
        eventually(lambda: service.request("GET", "/upload/big.bin").json.get("offset", 0) > SIZE // 3)
        curl.kill()
        curl.wait()
        eventually(lambda: "upload interrupted" in service.log)
        query = ["curl", "-si", "-X", "PUT", "-H", "Content-Range: bytes */*", url]
        answer = subprocess.run(query, capture_output=True, text=True, check=True).stdout
        assert answer.startswith("HTTP/1.1 308 Resume Incomplete\n")
        offset = int(re.search(r"\nRange: bytes=0-(\d+)\n", answer)[1]) + 1  # type: ignore[index]
        assert SIZE // 3 < offset < SIZE
        answer = subprocess.run(
            f"tail -c +{offset + 1} {big} | curl -sT - -H 'Content-Range: bytes {offset}-{SIZE - 1}/{SIZE}' {url}",
            shell=True,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert '"state": "finished"' in answer
        assert sha256(run("curl", "-sf", address(service, "big.bin"))) == sha256(big.read_bytes())
        assert service.terminate() in (0, -15)
        assert "Traceback" not in service.log


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service as it comes, with nothing configured."""
    with Service(tmp_path_factory.mktemp("embedded"), None) as started:
        yield started
        assert "Traceback" not in started.log


def read_back(service: Service, name: str, data: bytes) -> None:
    """Read the object as the log says: whole, in part, and its head alone."""
    url = address(service, name)
    assert run("curl", "-sf", url) == data
    assert f"\r\ncontent-length: {len(data)}\r\n" in run("curl", "-sfI", url).decode().lower()
    if data:
        assert run("curl", "-sf", "-r", "0-2", url) == data[:3]


NAMES = [
    "six.txt",
    "with space",
    "ünï/日本語 🎈",
    "100%",
    "%2F%41",
    "a+b",
    "q?a=b&c#d",
    ".well-known/jwks.json",
]


@pytest.mark.soak
@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("name", NAMES)
def test_a_small_file_can_be_read_where_the_log_says(embedded: Service, tmp_path: Path, name: str) -> None:
    (tmp_path / "six").write_bytes(b"sixsix")
    run("curl", "-sfT", tmp_path / "six", f"{embedded.url}/upload/{quote(name)}")
    read_back(embedded, name, b"sixsix")


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1])
@pytest.mark.parametrize("how", ["-T", "--data-binary"])
def test_any_size_can_be_read_where_the_log_says(
    embedded: Service, tmp_path: Path, big: Path, size: int, how: str
) -> None:
    """``--data-binary`` says that what it sends is a form."""
    data, file = big.read_bytes()[:size], tmp_path / "file"
    file.write_bytes(data)
    name = f"{size} {how}"
    what = ["-T", str(file)] if how == "-T" else ["-X", "PUT", "--data-binary", f"@{file}"]
    run("curl", "-sf", *what, f"{embedded.url}/upload/{quote(name)}")
    read_back(embedded, name, data)


@pytest.mark.skipif(shutil.which("wget") is None, reason="needs wget")
def test_with_wget(embedded: Service, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"sixsix")
    url = f"{embedded.url}/upload/wget.txt"
    run("wget", "-q", "-O", "-", "--method=PUT", f"--body-file={tmp_path / 'file'}", url)
    assert run("wget", "-q", "-O", "-", address(embedded, "wget.txt")) == b"sixsix"


FORMS = [
    "application/x-www-form-urlencoded",
    "Application/X-WWW-Form-Urlencoded ; a=b",
    "multipart/form-data; boundary=x",
]
#: What a form looks like, and what one of a store's own calls does.
FORM = b"key=value&file=x&Action=AssumeRoleWithSAML&Version=2009-04-15"


@pytest.fixture(scope="module", params=[MotoServer, RcloneServer], ids=["moto", "rclone"])
def on_each_store(
    request: pytest.FixtureRequest, application: Application, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Service, S3Server]]:
    """A service that asks the application, on one kind of store and on the other."""
    with request.param() as store:
        config = configuration(store, auth={"url": application.url, "cache": 0})
        with Service(tmp_path_factory.mktemp("forms"), config) as service:
            yield service, store
            assert "Traceback" not in service.log


@pytest.mark.soak
@pytest.mark.parametrize("content_type", FORMS)
@pytest.mark.parametrize("size", [0, 6, len(FORM), CHUNK + 1])
@pytest.mark.parametrize("said_by", ["request", "session", "application"])
def test_what_calls_itself_a_form_is_stored_as_it_is(
    on_each_store: tuple[Service, S3Server],
    application: Application,
    big: Path,
    said_by: str,
    size: int,
    content_type: str,
) -> None:
    """The store is not told of the type, whoever has said it, and the object is what was sent."""
    service, store = on_each_store
    data = (FORM + big.read_bytes()[:size])[:size]
    name = f"{said_by} {size} {FORMS.index(content_type)}"
    path, headers = f"/upload/{quote(name)}", {"Content-Type": content_type}
    if said_by == "application":
        application.grant(content_type=content_type)
        headers = {}
    elif said_by == "session":
        if size == 0:
            pytest.skip("no range has no bytes")
        said = {"name": name, "length": size, "content_type": content_type}
        created = service.request("POST", "/uploads", {}, json.dumps(said).encode())
        path = urlsplit(created.headers["location"]).path
        headers["Content-Range"] = f"bytes 0-{size - 1}/{size}"
    answer = service.request("PUT", path, headers, data)
    assert (answer.status, answer.json["size"], answer.json["content_type"]) == (200, size, None)
    found = store.boto3().get_object(Bucket=store.bucket, Key=name)
    assert found["Body"].read() == data
    assert "form" not in found["ContentType"]


@pytest.mark.parametrize("content_type", [None, FORMS[0], FORMS[2]])
@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1])
@pytest.mark.parametrize("framing", ["length", "chunked", "expect"])
def test_however_it_comes_it_is_stored_as_it_is(
    on_each_store: tuple[Service, S3Server], big: Path, framing: str, size: int, content_type: str | None
) -> None:
    service, store = on_each_store
    data, name = big.read_bytes()[:size], f"{framing} {size} {content_type}"
    framed = {"Transfer-Encoding": "chunked"} if framing == "chunked" else {"Content-Length": str(size)}
    expect = "100-continue" if framing == "expect" else None
    with Client(service.port) as client:
        client.head("PUT", f"/upload/{quote(name)}", {**framed, "Content-Type": content_type, "Expect": expect})
        for first in range(0, size, 1_000_003):
            piece = data[first : first + 1_000_003]
            client.send(b"%x\r\n%s\r\n" % (len(piece), piece) if framing == "chunked" else piece)
        if framing == "chunked":
            client.send(b"0\r\n\r\n")
        answer = client.answer()
    assert (answer.status, answer.json["size"]) == (200, size)
    assert store.boto3().get_object(Bucket=store.bucket, Key=name)["Body"].read() == data


@pytest.mark.soak
def test_killed_again_and_again(tmp_path: Path, s3: MotoServer, big: Path) -> None:
    """The service itself is killed; started again on the same ledger it goes on with what it acknowledged."""
    data = big.read_bytes()[:40_000_000]
    service = Service(tmp_path, configuration(s3))
    offset, lives = 0, 0
    while offset < len(data):
        lives += 1
        assert lives < 10
        with service:
            answer = service.request("PUT", "/upload/k.bin", {"Content-Range": f"bytes */{len(data)}"})
            told = int(answer.headers.get("range", "0--1").rpartition("-")[2]) + 1 if answer.status == 308 else 0
            assert told >= offset
            offset = told
            with Client(service.port) as client:
                headers = {"Content-Range": f"bytes {offset}-{len(data) - 1}/{len(data)}"}
                client.head("PUT", "/upload/k.bin", {**headers, "Content-Length": str(len(data) - offset)})
                piece = data[offset : offset + 2 * CHUNK + 1_000_000]
                client.send(piece)
                if offset + len(piece) == len(data):
                    assert client.answer().status == 200
                    break
                before = offset
                eventually(lambda: service.request("GET", "/upload/k.bin").json.get("offset", 0) > before)  # noqa: B023
    assert s3.boto3().get_object(Bucket=s3.bucket, Key="k.bin")["Body"].read() == data


@pytest.mark.soak
@pytest.mark.parametrize("length_said", [True, False])
def test_nothing_touches_the_disc(tmp_path: Path, s3: MotoServer, big: Path, length_said: bool) -> None:
    """Through 200 MB the temporary folder of the process stays empty, and no file grows but log and ledger."""
    data = big.read_bytes()
    with Service(tmp_path, configuration(s3)) as service, Client(service.port) as client:
        head = {"Content-Length": str(2 * SIZE)} if length_said else {"Transfer-Encoding": "chunked"}
        client.head("PUT", "/upload/disc.bin", head)
        seen = set()
        for _ in range(2):
            for first in range(0, SIZE, 4_000_000):
                piece = data[first : first + 4_000_000]
                client.send(piece if length_said else b"%x\r\n%s\r\n" % (len(piece), piece))
                seen.update(path.name for path in service.temporary.iterdir())
                seen.update(_open_files(service))
        if not length_said:
            client.send(b"0\r\n\r\n")
        assert client.answer().status == 200
    assert seen == set()


def _open_files(service: Service) -> Iterator[str]:
    """Regular files that the process has open for more than reading, deleted ones too, but for its log and ledger."""
    for link in Path(f"/proc/{service.pid}/fd").iterdir():
        try:
            target = str(link.readlink())
            flags = int(re.search(r"flags:\s+(\d+)", Path(f"/proc/{service.pid}/fdinfo/{link.name}").read_text())[1], 8)  # type: ignore[index]
        except FileNotFoundError:
            continue
        ours = target == str(service.log_path) or "ledger.sqlite3" in target
        if target.startswith("/") and not target.startswith(("/dev/", "/proc/")) and flags & 3 and not ours:
            yield target


@pytest.mark.soak
def test_a_gibibyte_in_bounded_memory(tmp_path: Path, big: Path) -> None:
    """1 GiB through the running service: peak memory under the budget and 110 MiB. Prints the CPU it took."""
    block = big.read_bytes()[: 64 << 20]
    with RcloneServer() as s3, Service(tmp_path, configuration(s3)) as service:
        before, began = service.cpu_seconds(), time.monotonic()
        with Client(service.port) as client:
            client.head("PUT", "/upload/gib.bin", {"Content-Length": str(1 << 30)})
            for _ in range(16):
                client.send(block)
            answer = client.answer()
        assert (answer.status, answer.json["size"]) == (200, 1 << 30)
        used, lasted = service.cpu_seconds() - before, time.monotonic() - began
        peak = service.peak_memory()
        print(f"\n1 GiB: {used:.2f} s CPU, {lasted:.1f} s, peak RSS {peak / 2**20:.0f} MiB")
        assert peak < 366 << 20
