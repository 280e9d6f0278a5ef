"""Workers under every kind of endpoint, and every way twistd is run."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.harness import ROOT, TWISTD, eventually
from tests.s3servers import MotoServer
from tests.service.conftest import configuration
from tests.web.test_sockets import certificate
from tests.workers.conftest import alive, pids

#: twistd with a socket such as systemd passes: at 3, and the number of the very process that is to take it.
SYSTEMD = (
    "import os, socket, sys; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen();"
    "os.dup2(s.fileno(), 3); os.set_inheritable(3, True); print('PORT', s.getsockname()[1], flush=True);"
    "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1', LISTEN_FDNAMES='web');"
    f"os.execv(sys.executable, [sys.executable, '-c', {TWISTD!r}, *sys.argv[1:]])"
)


class Running:
    """twistd, however it was started, that logs into a file."""

    def __init__(self, directory: Path, arguments: list[str], program: str = TWISTD, **environment: str) -> None:
        self.log_path = directory / "log"
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", program, *arguments],
                cwd=directory,
                env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def workers(self) -> dict[int, int]:
        def both() -> dict[int, int] | None:
            assert self.process.poll() is None, self.log
            found = pids(self.log)
            return found if len(found) == 2 else None

        return eventually(both, seconds=60)

    def port(self) -> int:
        return int(eventually(lambda: re.search(r"listening on https?://127\.0\.0\.1:(\d+)/", self.log))[1])

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)


def put(connection: http.client.HTTPConnection, name: str) -> int:
    connection.request("PUT", f"/upload/{name}", b"hello")
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def app(directory: Path, s3: MotoServer, listen: str, workers: int = 2) -> list[str]:
    (directory / "app.yaml").write_text(yaml.safe_dump(configuration(s3, workers=workers, listen=listen)))
    return ["-n", "resumable", "--config", "app.yaml"]


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(str(self.path))


@pytest.mark.soak
def test_a_socket_in_the_file_system(tmp_path: Path, s3: MotoServer) -> None:
    """Its mode is what was asked for, and it stays when one of those who share it dies or ends."""
    path = tmp_path / "up.sock"
    running = Running(tmp_path, app(tmp_path, s3, "unix:up.sock:mode=600"))
    try:
        before = running.workers()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert put(UnixConnection(path), "unix/a") == 200
        os.kill(before[1], signal.SIGTERM)
        again = eventually(lambda: (found := pids(running.log))[1] != before[1] and found)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert [put(UnixConnection(path), f"unix/{n}") for n in range(4)] == [200] * 4
    finally:
        running.stop()
    assert not path.exists()
    assert not any(map(alive, again.values()))
    assert "Traceback" not in running.log


def test_tls(tmp_path: Path, s3: MotoServer) -> None:
    """Each worker reads key and certificate, and does its own handshakes."""
    (tmp_path / "one.pem").write_bytes(certificate())
    listen = "ssl:0:privateKey=one.pem:certKey=one.pem:interface=127.0.0.1"
    running = Running(tmp_path, app(tmp_path, s3, listen))
    try:
        running.workers()
        context = ssl.create_default_context(cafile=str(tmp_path / "one.pem"))
        context.check_hostname = False
        port = running.port()
        for n in range(4):
            assert put(http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=context), f"tls/{n}") == 200
    finally:
        running.stop()
    assert "Traceback" not in running.log


@pytest.mark.soak
def test_a_socket_from_systemd(tmp_path: Path, s3: MotoServer) -> None:
    """The parent is given it, its children share it."""
    running = Running(tmp_path, app(tmp_path, s3, "systemd:domain=INET:name=web"), SYSTEMD)
    try:
        before = running.workers()
        port = int(re.search(r"PORT (\d+)", running.log)[1])  # type: ignore[index]
        os.kill(before[1], signal.SIGKILL)
        for n in range(4):
            assert put(http.client.HTTPConnection("127.0.0.1", port, timeout=30), f"systemd/{n}") == 200
        eventually(lambda: pids(running.log)[1] != before[1])
    finally:
        running.stop()
    assert "Traceback" not in running.log


def test_without_the_socket_systemd_would_pass(tmp_path: Path, s3: MotoServer) -> None:
    running = Running(tmp_path, app(tmp_path, s3, "systemd:domain=INET:name=web"))
    assert running.process.wait(60) == 1
    assert "cannot start: listen: systemd:domain=INET:name=web: the service manager has passed" in running.log
    assert "Traceback" not in running.log


@pytest.mark.soak
def test_as_a_daemon(tmp_path: Path, s3: MotoServer) -> None:
    """With a pidfile and a log file, which all workers' lines are in."""
    arguments = app(tmp_path, s3, "tcp:0:interface=127.0.0.1")[1:]
    started = Running(tmp_path, ["--pidfile", "up.pid", "--logfile", "log", *arguments])
    assert started.process.wait(60) == 0
    children = eventually(lambda: len(found := pids(started.log)) == 2 and found, seconds=60)
    parent = int((tmp_path / "up.pid").read_text())
    try:
        assert put(http.client.HTTPConnection("127.0.0.1", started.port(), timeout=30), "daemon") == 200
        # The parent writes what workers say, a moment later.
        eventually(lambda: re.search(r"\[worker \d, resumable\.\S+#info\] upload finished", started.log))
    finally:
        os.kill(parent, signal.SIGTERM)
    eventually(lambda: not any(map(alive, [parent, *children.values()])), seconds=30)
    assert not (tmp_path / "up.pid").exists()
    assert "Traceback" not in started.log


#: Has every process that changes tables say so.
MIGRATES = """
import os
from alembic import command
upgrade = command.upgrade
def told(*arguments):
    with open("migrated", "a") as file:
        print(os.getpid(), file=file)
    upgrade(*arguments)
command.upgrade = told
"""


def test_the_tac_file(tmp_path: Path, s3: MotoServer) -> None:
    """And the ledger's tables are changed once, by the parent."""
    app(tmp_path, s3, "tcp:0:interface=127.0.0.1")
    (tmp_path / "sitecustomize.py").write_text(MIGRATES)
    environment = {"RESUMABLE_CONFIG": "app.yaml", "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    running = Running(tmp_path, ["-ny", str(ROOT / "resumable.tac")], **environment)
    try:
        running.workers()
        assert put(http.client.HTTPConnection("127.0.0.1", running.port(), timeout=30), "tac") == 200
    finally:
        running.stop()
    assert (tmp_path / "migrated").read_text() == f"{running.process.pid}\n"
    assert "Traceback" not in running.log


@pytest.mark.soak
def test_workers_that_cannot_start(tmp_path: Path, s3: MotoServer) -> None:
    """None of them ever takes a connection, and each says why: the whole ends with exit status 1."""
    listen = "ssl:0:privateKey=one.pem:certKey=one.pem:interface=127.0.0.1"
    arguments = app(tmp_path, s3, listen)
    # The key can be read when the sockets are bound, and not any more when the workers look for it.
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if 'resumable.workers.child' in sys.orig_argv and os.path.exists('one.pem'): os.rename('one.pem', 'gone.pem')\n"
    )
    (tmp_path / "one.pem").write_bytes(certificate())
    running = Running(tmp_path, arguments, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert running.process.wait(60) == 1
    assert "cannot start: the workers do not start" in running.log
    assert re.search(r"\[worker \d, .*\] cannot start: .*one\.pem", running.log)


def test_a_port_that_is_taken(tmp_path: Path, s3: MotoServer) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        arguments = app(tmp_path, s3, f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1")
        running = Running(tmp_path, arguments)
        assert running.process.wait(60) == 1
    assert "cannot start: listen: tcp:" in running.log
    assert "Traceback" not in running.log


@pytest.mark.soak
@pytest.mark.parametrize(("way", "workers"), [("path", 2), ("abstract", 1)])
def test_the_service_manager_is_told(tmp_path: Path, s3: MotoServer, way: str, workers: int) -> None:
    """systemd's Type=notify, once: ready when connections are taken, and not before; stopping when it is told to."""
    address = str(tmp_path / "notify") if way == "path" else f"@{tmp_path}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address.replace("@", "\0"))
        manager.settimeout(60)
        arguments = app(tmp_path, s3, "tcp:0:interface=127.0.0.1", workers)
        running = Running(tmp_path, arguments, NOTIFY_SOCKET=address)
        try:
            assert manager.recv(100) == b"READY=1"
            assert "resumable listening on" in running.log
            running.process.terminate()
            assert manager.recv(100) == b"STOPPING=1"
        finally:
            running.stop()
        manager.settimeout(0.2)
        with pytest.raises(TimeoutError):
            manager.recv(100)


@pytest.mark.soak
def test_drain_delay(tmp_path: Path, s3: MotoServer) -> None:
    """Told to stop, it says so on /readyz, and takes connections for so long; also at a path in the file system."""
    config = configuration(s3, workers=2, listen=["unix:up.sock", "tcp:0:interface=127.0.0.1"])
    config["limits"] = {"drain_delay": "3s"}
    (tmp_path / "app.yaml").write_text(yaml.safe_dump(config))
    running = Running(tmp_path, ["-n", "resumable", "--config", "app.yaml"])
    try:
        children = running.workers()
        port = running.port()
        begun = time.monotonic()
        running.process.terminate()
        time.sleep(1)
        asked = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        asked.request("GET", "/readyz")
        answer = asked.getresponse()
        assert (answer.status, json.load(answer)["parts"]["service"]["ok"]) == (503, False)
        asked.close()
        assert put(UnixConnection(tmp_path / "up.sock"), "delay/unix") == 200
        assert put(http.client.HTTPConnection("127.0.0.1", port, timeout=30), "delay/tcp") == 200
        running.process.wait(30)
        assert time.monotonic() - begun >= 3
    finally:
        running.stop()
    assert not any(map(alive, children.values()))
    assert not (tmp_path / "up.sock").exists()
