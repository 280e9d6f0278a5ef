"""The page in headless Chromium."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.clients.node import PATIENCE, end, start
from tests.harness import eventually


class Browser:
    """A browser that does what it is told; what it remembers is in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self._profile = directory / "profile"
        # Short: it is the path of a socket too (107 bytes, unix(7)).
        self._home = tempfile.TemporaryDirectory(prefix="page-", ignore_cleanup_errors=True)
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> Browser:
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        if chromium is None:
            pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
        task = {"chromium": chromium, "profile": str(self._profile), "seconds": PATIENCE / 3}
        home = self._home.name
        elsewhere = {"HOME": home, "TMPDIR": home, "XDG_CONFIG_HOME": home, "XDG_CACHE_HOME": home}
        self._process = start("page.mjs", task, **elsewhere)
        assert self._answer() == {"did": "start"}
        return self

    def do(self, name: str, *given: Any) -> Any:
        """Have it do something, and wait until it has."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([name, *given]) + "\n")
        self._process.stdin.flush()
        said = self._answer()
        assert "failed" not in said, f"{name} {given}: {said['failed']}"
        return said.get("value")

    def _answer(self) -> Any:
        assert self._process is not None
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
        assert ready, "the browser does not answer"
        line = self._process.stdout.readline()
        assert line, self._process.stderr.read() if self._process.stderr else ""
        return json.loads(line)

    def remembers(self, text: str) -> None:
        """Wait until localStorage is on the disc: Chromium writes it some seconds later."""
        folder = self._profile / "Default" / "Local Storage"
        eventually(lambda: any(text.encode() in path.read_bytes() for path in folder.rglob("*.log")), seconds=40)

    def crash(self) -> None:
        """SIGKILL to every process of it."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError):
                    if f"--user-data-dir={self._profile}".encode() in (entry / "cmdline").read_bytes():
                        os.kill(int(entry.name), signal.SIGKILL)
        self.close()
        for lock in self._profile.glob("Singleton*"):
            lock.unlink()

    def close(self) -> None:
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                # It closes the browser; at a signal that takes seconds longer.
                self._process.communicate('["stop"]\n', timeout=5)
            end(self._process)
            self._process = None

    def clean(self) -> None:
        self.close()
        self._home.cleanup()
