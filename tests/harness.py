"""The real service for tests: a twistd process, clients that break off, and an application that answers callbacks."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
TWISTD = "import sys; sys.argv[0] = 'twistd'; from twisted.scripts.twistd import run; run()"
#: With this in the path, clocks go on when the test says so, and are set.
WITH_CLOCK = ROOT / "tests" / "system_clock"


def eventually(ask: Callable[[], Any], *, seconds: float = 20.0) -> Any:
    """What `ask` returns once that is true; fails after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer:
            return answer
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


class Service:
    """``twistd -n resumable`` as a child process, in a directory of its own, which it may be started in again."""

    def __init__(
        self,
        directory: Path,
        config: Mapping[str, Any] | None,
        *,
        port: int = 0,
        tls: Path | None = None,
        **environment: str,
    ) -> None:
        """
        :param directory: where it runs; its log, configuration and temporary folder are there.
        :param config: the configuration; None for the embedded default.
        :param port: where it listens; 0 for a free port, which may be another one at the next start.
        :param tls: a key and its certificate; with them it speaks TLS.
        """
        self.directory = directory
        self.temporary = directory / "tmp"
        self.temporary.mkdir(exist_ok=True)
        self.log_path = directory / "log"
        self._environment = environment
        self._secure = tls is not None
        listen = f"tcp:{port}" if tls is None else f"ssl:{port}:privateKey={tls}:certKey={tls}"
        self._arguments = ["--listen", f"{listen}:interface=127.0.0.1"]
        if config is not None:
            (directory / "app.yaml").write_text(yaml.safe_dump(dict(config)))
            self._arguments += ["--config", "app.yaml"]
        self._process: subprocess.Popen[bytes] | None = None
        self._clock: Path | None = None
        self.port = 0

    def advance(self, seconds: float) -> None:
        """Have so much time pass at once. The first time has to be before the start."""
        self._change_clocks(seconds, 0.0)

    @property
    def ahead(self) -> float:
        """Seconds by which its clocks have gone on at the test's word."""
        assert self._clock is not None
        return float(struct.unpack("dd", self._clock.read_bytes())[0])

    def set_system_clock(self, seconds: float) -> None:
        """Set the system's clock forward, or back, by so much; no time passes. The first time has to be before the start."""
        self._change_clocks(0.0, seconds)

    def _change_clocks(self, passed: float, by_hand: float) -> None:
        if self._clock is None:
            self._clock = self.directory / "clock"
            self._clock.write_bytes(struct.pack("dd", 0.0, 0.0))
        ahead, aside = struct.unpack("dd", self._clock.read_bytes())
        with self._clock.open("r+b") as file:
            file.write(struct.pack("dd", ahead + passed, aside + by_hand))
        if self.running and self.port:
            # It sleeps until what is due by its own reckoning; a connection wakes it.
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=5).close()

    def start(self) -> Service:
        """Start it and wait until it listens."""
        environment = {**os.environ, "TMPDIR": str(self.temporary), "PYTHONPATH": str(ROOT), **self._environment}
        said = self.log_path.stat().st_size if self.log_path.exists() else 0
        if self._clock is not None:
            environment["TEST_CLOCK"] = str(self._clock)
            environment["PYTHONPATH"] = os.pathsep.join([str(WITH_CLOCK), str(ROOT)])
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", TWISTD, "-n", "resumable", *self._arguments],
                cwd=self.directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

        def listening() -> Any:
            assert self._process is not None
            assert self._process.poll() is None, self.log
            return re.search(r"resumable listening on https?://127\.0\.0\.1:(\d+)/", self.log[said:])

        self.port = int(eventually(listening, seconds=60)[1])
        return self

    __enter__ = start

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether there is a process."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """Everything it has logged."""
        return self.log_path.read_text(errors="replace")

    @property
    def url(self) -> str:
        return f"{'https' if self._secure else 'http'}://127.0.0.1:{self.port}"

    def kill(self) -> None:
        """SIGKILL: it can do nothing about it."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def terminate(self, *, seconds: float = 40.0) -> int:
        """SIGTERM, as an operator would; returns the exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout=seconds)

    def peak_memory(self) -> int:
        """The most resident memory it ever had, in bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]

    def cpu_seconds(self) -> float:
        """User and system time it has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def client(self, seconds: float = 30.0) -> Client:
        """A new connection to it, over TLS if it speaks that."""
        return Client(self.port, seconds, secure=self._secure)

    def request(self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Answer:
        """One request on a connection of its own, with no other headers than Host and those given."""
        with self.client() as client:
            client.head(method, path, {"Content-Length": str(len(body)), **(headers or {})})
            client.send(body)
            return client.answer()


class Answer:
    """An answer off the wire."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def __repr__(self) -> str:
        return f"<{self.status} {self.headers} {self.body[:300]!r}>"


class Client:
    """A raw connection: sends what it is told, as far as it is told, and can vanish anywhere."""

    def __init__(self, port: int, seconds: float = 30.0, *, secure: bool = False) -> None:
        """
        :param seconds: how long it waits for anything to happen.
        :param secure: whether it speaks TLS, and believes everybody.
        """
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=seconds)
        if secure:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.socket = context.wrap_socket(self.socket)
        self._received = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        if isinstance(self.socket, ssl.SSLSocket):
            # With TLS's tickets unread the kernel would reset the connection, and what was sent last might be lost.
            with contextlib.suppress(OSError):
                self.socket.setblocking(False)
                while self.socket.recv(65536):
                    pass
        self.socket.close()

    def head(self, method: str, path: str, headers: Mapping[str, str | None]) -> None:
        """Send a request's head; a header with the value None is left out."""
        lines = [f"{method} {path} HTTP/1.1", "Host: test"]
        lines += [f"{name}: {value}" for name, value in headers.items() if value is not None]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))

    def send(self, data: bytes) -> int:
        """Send; a server that no longer reads is not an error here, its answer says why. Returns the bytes sent."""
        sent = 0
        try:
            while sent < len(data):
                sent += self.socket.send(data[sent : sent + 65536])
        except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
            pass
        return sent

    def vanish(self) -> None:
        """Close with a reset, as when a process is killed with bytes unread."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()

    def answer(self) -> Answer:
        """The next answer that is not interim."""
        while True:
            while b"\r\n\r\n" not in self._received:
                self._more()
            head, self._received = self._received.split(b"\r\n\r\n", 1)
            first, *lines = head.decode("latin-1").split("\r\n")
            status = int(first.split()[1])
            if status >= 200:
                break
        headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
        length = int(headers.get("content-length", 0))
        while len(self._received) < length:
            self._more()
        body, self._received = self._received[:length], self._received[length:]
        return Answer(status, headers, body)

    def _more(self) -> None:
        data = self.socket.recv(65536)
        assert data, f"closed before the answer was complete: {self._received!r}"
        self._received += data


class Application:
    """The main application: answers auth callbacks as the test says, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        #: Called with the headers (lower case) of each question; returns status, headers and body.
        self.answer: Callable[[dict[str, str]], tuple[int, dict[str, str], bytes]] = lambda _: (200, {}, b"")
        application = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                application.asked.append(headers)
                status, extra, body = application.answer(headers)
                if status == 0:
                    self.close_connection = True
                    return
                self.send_response(status)
                for name, value in {**extra, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/allow"

    def grant(self, **said: Any) -> None:
        """From now on say yes, with this JSON."""
        body = json.dumps(said).encode()
        self.answer = lambda _: (200, {"Content-Type": "application/json"}, body)

    def refuse(self, status: int, body: bytes = b"", **headers: str) -> None:
        """From now on say no."""
        self.answer = lambda _: (status, headers, body)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
