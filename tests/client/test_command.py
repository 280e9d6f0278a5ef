"""``resumable put`` as people run it, against the real service with its embedded store."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.client.conftest import DATA, MIB
from tests.commands.conftest import RESUMABLE
from tests.docs.blocks import block
from tests.harness import ROOT, Service, eventually

pytestmark = pytest.mark.process

#: What docs/put.md shows of the Python API.
EXAMPLE = block("docs/put.md", "python")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("service"), None) as started:
        yield started
        assert "Traceback" not in started.log
        assert "Unhandled" not in started.log


class Shell:
    """Somebody at a shell, in a folder of their own."""

    def __init__(self, folder: Path, service: Service) -> None:
        self.folder = folder
        self.service = service
        self.url = f"{service.url}/upload/{folder.name}/"
        self._environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(folder / "state")}

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        return self.start_python("-c", RESUMABLE, *arguments, **options)

    def start_python(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        command = [sys.executable, *arguments]
        return subprocess.Popen(command, cwd=self.folder, env=self._environment, **given)

    def put(self, *arguments: str, **options: Any) -> tuple[int, str, str]:
        """Run ``resumable put``; return the exit status, standard output and standard error."""
        with self.start("put", *arguments, **options) as process:
            try:
                out, err = process.communicate(timeout=60)
            except BaseException:
                process.kill()
                raise
        assert b"Traceback" not in err, err.decode()
        return process.returncode, (out or b"").decode(), (err or b"").decode()

    def file(self, name: str = "film.bin", data: bytes = DATA) -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return name

    def stored(self, name: str) -> bytes:
        """The object of a name in the folder's URL."""
        found = re.search(r"embedded S3 at (http://127\.0\.0\.1:\d+)", self.service.log)
        assert found is not None
        with urllib.request.urlopen(f"{found[1]}/uploads/{self.folder.name}/{name}") as answer:
            return bytes(answer.read())

    def acknowledged(self, name: str) -> int:
        """How far an upload is; 0 if there is none."""
        answer = self.service.request("GET", f"/upload/{self.folder.name}/{name}")
        return int(answer.json["offset"]) if answer.status == 200 else 0


@pytest.fixture
def shell(service: Service, tmp_path: Path) -> Shell:
    folder = tmp_path / f"work-{os.urandom(4).hex()}"
    folder.mkdir()
    return Shell(folder, service)


@pytest.mark.parametrize("connections", ["1", "4"])
def test_a_file(shell: Shell, connections: str) -> None:
    """Nothing is said but what is asked for. Of a folder without files it is said that nothing was there."""
    (shell.folder / "nothing").mkdir()
    assert shell.put("nothing", shell.url) == (0, "", "nothing: there is no file in it\n")
    status, out, err = shell.put(shell.file(), shell.url, "--connections", connections, "--json")
    assert (status, err) == (0, "")
    said = json.loads(out)
    assert (said["file"], said["url"], said["state"]) == ("film.bin", f"{shell.url}film.bin", "finished")
    assert said["result"]["size"] == len(DATA)
    assert shell.stored("film.bin") == DATA
    assert list((shell.folder / "state" / "resumable").iterdir()) == []
    assert shell.put("film.bin", shell.url) == (0, "", "")


def test_folders_and_standard_input(shell: Shell) -> None:
    shell.file("in/a b.txt", b"one")
    shell.file("in/deep/two", b"")
    status, out, err = shell.put("in", shell.file(), shell.url, "--json")
    assert (status, err) == (0, "")
    assert [json.loads(line)["file"] for line in out.splitlines()] == ["in/a b.txt", "in/deep/two", "film.bin"]
    assert (shell.stored("in/a%20b.txt"), shell.stored("in/deep/two"), shell.stored("film.bin")) == (b"one", b"", DATA)
    with (shell.folder / "film.bin").open("rb") as file:
        assert shell.put("-", f"{shell.url}piped", stdin=file) == (0, "", "")
    assert shell.stored("piped") == DATA


def test_ctrl_c_and_again(shell: Shell) -> None:
    """130, and how to go on; the same command goes on. No token is left on the disc."""
    name = shell.file()
    again = ("-H", "Authorization: Bearer secret", name, f"{shell.url}x?token=secret", "--json")
    with shell.start("put", "--limit-rate", "8M", *again) as process:
        eventually(lambda: shell.acknowledged("x") > 6 * MIB)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "the same command goes on" in err.decode()
    said = json.loads(out)
    assert (said["state"], said["error"]) == ("interrupted", {"status": None, "detail": "interrupted"})
    left = [one.read_text() for one in (shell.folder / "state" / "resumable").iterdir()]
    assert left
    assert not any("secret" in one for one in left)
    before = shell.acknowledged("x")
    status, _, err_ = shell.put(*again)
    assert (status, err_) == (0, "")
    assert before > 6 * MIB
    assert shell.stored("x") == DATA


@pytest.mark.soak
def test_two_at_once(shell: Shell) -> None:
    """The second says so, with exit status 1. The first goes on."""
    name = shell.file()
    with shell.start("put", "--limit-rate", "2M", name, shell.url) as process:
        eventually(lambda: shell.acknowledged(name) > 0)
        status, out, err = shell.put(name, shell.url, "--json")
        assert (status, json.loads(out)["state"]) == (1, "failed")
        assert "another process" in err
        before = shell.acknowledged(name)
        eventually(lambda: shell.acknowledged(name) > before)
        process.kill()


def test_refused_and_others_stored(shell: Shell) -> None:
    """One of three has a name that the service takes from nobody: 1, and the others are stored."""
    shell.file("in/1", b"a")
    shell.file("in/2\x01", b"b")
    shell.file("in/3", b"c")
    status, out, err = shell.put("in", shell.url, "--json")
    assert status == 1
    lines = [json.loads(line) for line in out.splitlines()]
    assert [one["state"] for one in lines] == ["finished", "failed", "finished"]
    assert lines[1]["error"]["status"] == 400
    assert lines[1]["error"]["detail"] in err
    assert "\x01" not in err


def test_gives_up(shell: Shell) -> None:
    """Nobody listens there: 3, and why."""
    files = (shell.file(), shell.file("two.bin", b"x"), shell.file("three.bin", b"x"))
    status, out, err = shell.put("--retry-for", "300ms", *files, "http://127.0.0.1:9/", "--json")
    assert status == 3
    said = [json.loads(line) for line in out.splitlines()]
    assert [(one["file"], one["state"]) for one in said] == [(file, "gave up") for file in files]
    assert all("no progress for 0.3 s" in one["error"]["detail"] for one in said)
    assert "no answer: nobody listens there (connection refused)" in err
    # The others are no news for people.
    assert err.splitlines()[-1] == "not tried: 2 more"
    assert "two.bin" not in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("missing", "http://h/"),
        ("film.bin", "film.bin", "http://h/upload/x"),
        (".", "http://h/upload/x"),
        ("-", "http://h/"),
        ("film.bin", "ftp://h/"),
        ("film.bin",),
        ("film.bin", "http://h/", "--limit-rate", "fast"),
        ("film.bin", "http://h/", "-H", "nonsense"),
        ("film.bin", "http://h/", "-H", "Content-Length: 5"),
        ("film.bin", "http://h/", "--connections", "0"),
    ],
)
def test_wrong_use(shell: Shell, arguments: tuple[str, ...]) -> None:
    shell.file(data=b"x")
    status, out, err = shell.put(*arguments)
    assert (status, out) == (2, "")
    assert "Error: " in err


def test_bars_on_a_terminal(shell: Shell) -> None:
    """The name, the size and the speed, on standard error."""
    ours, theirs = pty.openpty()
    with shell.start("put", "--limit-rate", "30M", shell.file(), shell.url, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        try:
            while data := os.read(ours, 65_536):
                shown += data
        except OSError:
            pass  # the other side is closed
        assert process.wait(20) == 0
    os.close(ours)
    assert b"film.bin" in shown
    assert re.search(rb"MB/s", shown)


def test_help_imports_little() -> None:
    """A client needs neither a database nor the store's libraries."""
    program = (
        "import sys, contextlib; from resumable.commands import main\n"
        "with contextlib.suppress(SystemExit): main(['put', '--help'])\n"
        "print(sorted({one.partition('.')[0] for one in sys.modules} & {'sqlalchemy', 'botocore', 'moto', 'alembic'}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("shell_name", ["bash", "zsh", "fish"])
def test_completion(shell: Shell, shell_name: str) -> None:
    with shell.start("completion", shell_name) as process:
        out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, b"")
    assert f"_RESUMABLE_COMPLETE={shell_name}_complete".encode() in out


def test_the_example_of_the_documentation(shell: Shell) -> None:
    """docs/put.md: what it shows of the Python API can be run as it is."""
    (shell.folder / "example.py").write_text(EXAMPLE.text)
    with shell.start_python("example.py", shell.file(), f"{shell.url}example.bin") as process:
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, b"")
    assert out.strip()
    assert shell.stored("example.bin") == DATA


@pytest.mark.soak
def test_memory_does_not_grow_with_the_file(shell: Shell) -> None:
    """A file of 200 MB of holes: the client's memory stays far below that."""
    path = shell.folder / "holes"
    with path.open("wb") as file:
        file.truncate(200 * MIB)
    with shell.start("put", "holes", shell.url, "--connections", "4") as process:
        peaks = []
        # Not what the kernel accounts to a child: that counts what its parent had when it was made.
        while found := re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text()):
            peaks.append(int(found[1]) * 1024)
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.02)
                break
    assert process.returncode == 0
    assert MIB < max(peaks) < 110 * MIB
    answer = shell.service.request("GET", f"/upload/{shell.folder.name}/holes")
    assert answer.json["size"] == 200 * MIB
    assert hashlib.sha256(shell.stored("holes")).digest() == hashlib.sha256(bytes(200 * MIB)).digest()
