"""Child processes of the benchmark. Each starts in a process group of its own, and is ended with all its children."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parent.parent


class StartFailed(Exception):
    """A process did not start. The message has the end of its log."""


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free at the moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Say whether somebody accepts connections on the port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def python_environment() -> dict[str, str]:
    """Return the environment for a Python child that has to find this checkout's packages."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path}


class Child:
    """A running command.

    :param log: where its output goes.
    :param environment: the whole environment.
    """

    def __init__(
        self, command: Sequence[str], *, log: Path, environment: Mapping[str, str], directory: Path | None = None
    ) -> None:
        self.log = log
        self._name = Path(command[0]).name
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                cwd=directory,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The first process of the group."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the first process of the group is running."""
        return self._process.poll() is None

    def wait_for_port(self, port: int, *, seconds: float = 60.0) -> None:
        """Wait until the command listens on the port.

        :raises StartFailed: it has ended, or does not listen after `seconds`.
        """
        end = time.monotonic() + seconds
        while not listens(port):
            if not self.running or time.monotonic() > end:
                self.stop()
                tail = self.log.read_text(errors="replace")[-2000:]
                raise StartFailed(f"{self._name} does not listen on port {port}:\n{tail}")
            time.sleep(0.02)

    def stop(self, *, seconds: float = 5.0) -> None:
        """Ask the command to end. After `seconds`, kill the whole group."""
        if self.running:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()


def run_python(module: str, stdin: str, *, timeout: float) -> str:
    """Run ``python -m MODULE`` to its end, and return its output.

    :raises RuntimeError: it failed or took longer than `timeout` seconds.
    """
    command = [sys.executable, "-m", module]
    try:
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, env=python_environment(), timeout=timeout
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{module}: not done after {timeout:.0f} s") from None
    if done.returncode:
        raise RuntimeError(f"{module}: {done.stderr[-2000:]}")
    return done.stdout
