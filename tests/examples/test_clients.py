"""The clients in examples/: they upload, break off, go on, and say what was refused."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.examples.conftest import EXAMPLES, environment
from tests.harness import Application, Service, eventually

pytestmark = [pytest.mark.process, pytest.mark.soak]

DATA = random.Random(17).randbytes(3_000_000)


@pytest.fixture(scope="module")
def application() -> Iterator[Application]:
    """An application that wants a token."""

    def answer(headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        if headers.get("authorization") == "Bearer alice-token":
            return 200, {"Content-Type": "application/json"}, b'{"owner": "alice"}'
        return 401, {}, b"sign in first"

    started = Application()
    started.answer = answer
    yield started
    started.close()


@pytest.fixture(scope="module")
def service(application: Application, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    config = {
        "store": {"kind": "embedded", "bucket": "uploads"},
        "ledger": "sqlite://",
        "auth": {"url": application.url},
    }
    with Service(tmp_path_factory.mktemp("service"), config) as started:
        yield started
        assert "Traceback" not in started.log


def stored(service: Service, key: str) -> bytes:
    found = re.search(r"embedded S3 at (http://127\.0\.0\.1:\d+)", service.log)
    assert found
    with urlopen(f"{found[1]}/uploads/{key}") as answer:
        return bytes(answer.read())


def curl(service: Service, path: Path, name: str, *options: str, token: str = "alice-token") -> list[str]:
    url = f"{service.url}/upload/{name}"
    return [str(EXAMPLES / "curl/upload.sh"), str(path), url, "-H", f"Authorization: Bearer {token}", *options]


def run(command: list[str], directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=directory, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("size", [0, 1, len(DATA)])
def test_curl(service: Service, tmp_path: Path, size: int) -> None:
    """Files of any size; and another file of the same size to the same URL, when the first has been finished."""
    (tmp_path / "a").write_bytes(DATA[:size])
    # curl would take this name for those of two files.
    (tmp_path / "b{1,2}[3]").write_bytes(DATA[::-1][:size])
    for name in ("a", "b{1,2}[3]"):
        ended = run(curl(service, tmp_path / name, f"curl-{size}"), tmp_path)
        assert ended.returncode == 0, ended.stderr
        assert f'"size": {size}' in ended.stdout
        assert stored(service, f"alice/curl-{size}") == (tmp_path / name).read_bytes()


def test_curl_that_breaks_off(service: Service, tmp_path: Path) -> None:
    """It sends nothing again that was stored."""
    (tmp_path / "film").write_bytes(DATA)
    ended = run(curl(service, tmp_path / "film", "cut", "--limit-rate", "1500k", "--max-time", "1"), tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert stored(service, "alice/cut") == DATA
    begun_at = [int(number) for number in re.findall(r"going on at byte (\d+)", ended.stderr)]
    assert begun_at, ended.stderr
    assert begun_at[0] > 500_000
    assert begun_at == sorted(set(begun_at))


def test_curl_that_is_refused(service: Service, tmp_path: Path) -> None:
    (tmp_path / "film").write_bytes(DATA)
    ended = run(curl(service, tmp_path / "film", "refused", token="bob-token"), tmp_path)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "sign in first" in ended.stderr


def tuspy(service: Service, path: Path, token: str = "alice-token") -> list[str]:
    return [sys.executable, str(EXAMPLES / "tuspy/upload.py"), str(path), f"{service.url}/files/", token]


def test_tuspy(service: Service, tmp_path: Path) -> None:
    (tmp_path / "tuspy").write_bytes(DATA)
    ended = run(tuspy(service, tmp_path / "tuspy"), tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert stored(service, "alice/tuspy") == DATA
    assert [path.name for path in tmp_path.iterdir()] == ["tuspy"]


def test_tuspy_that_is_killed(service: Service, tmp_path: Path) -> None:
    """Run again, it goes on with the same upload; for another file, or when the upload is gone, it begins a new one."""
    film = tmp_path / "killed"
    # Large enough not to be over before the kill.
    with film.open("wb") as file:
        file.truncate(200 << 20)
    process = subprocess.Popen(tuspy(service, film), cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    url = process.stdout.readline().split()[0]
    upload = f"/uploads/{url.rpartition('/')[2]}"
    alice = {"Authorization": "Bearer alice-token"}
    eventually(lambda: service.request("GET", upload, alice).json["offset"] > 0)
    process.kill()
    process.communicate()
    assert service.request("GET", upload, alice).json["state"] == "open"

    ended = run(tuspy(service, film), tmp_path)
    assert ended.returncode == 0, ended.stderr
    again, offset = re.fullmatch(r"(\S+) from byte (\d+)\n", ended.stdout).groups()  # type: ignore[union-attr]
    assert again == url
    assert int(offset) > 0
    assert service.request("GET", upload, alice).json["state"] == "finished"


def test_tuspy_whose_upload_is_gone(service: Service, tmp_path: Path) -> None:
    film = tmp_path / "gone"
    film.write_bytes(DATA)
    seen = film.stat()
    file = f'{{"endpoint": "{service.url}/files/", "size": {seen.st_size}, "modified": {seen.st_mtime_ns}}}'
    (tmp_path / "gone.upload").write_text(f'{{"file": {file}, "url": "{service.url}/files/nothing"}}')
    ended = run(tuspy(service, film), tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert stored(service, "alice/gone") == DATA


def test_tuspy_that_is_refused(service: Service, tmp_path: Path) -> None:
    (tmp_path / "refused").write_bytes(DATA)
    ended = run(tuspy(service, tmp_path / "refused", token="bob-token"), tmp_path)
    assert ended.returncode == 1
    assert "sign in first" in ended.stderr
    assert "Traceback" not in ended.stderr
