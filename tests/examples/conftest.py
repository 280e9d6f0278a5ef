"""An example's application and the service beside it, both as processes, with the example's own configuration."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest
import yaml
from attrs import frozen

from tests.harness import ROOT, Service, eventually
from tests.receiver import SECRET

EXAMPLES = ROOT / "examples"


def free_port() -> int:
    with socket.socket() as finder:
        finder.bind(("127.0.0.1", 0))
        return int(finder.getsockname()[1])


def environment(**more: str) -> dict[str, str]:
    """What examples are run with: the tests' own Python first, and this package in the path."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin"])
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "WEBHOOK_SECRET": SECRET, **more}


@frozen
class Framework:
    """How an example's application is started, as its first lines say; PORT stands for the port."""

    name: str
    command: Sequence[str]


FRAMEWORKS = [
    Framework("flask", ["-m", "flask", "--app", f"{EXAMPLES}/flask/app.py", "run", "--port", "PORT"]),
    Framework("fastapi", ["-m", "uvicorn", "--app-dir", f"{EXAMPLES}/fastapi", "app:app", "--port", "PORT"]),
    Framework("django", [f"{EXAMPLES}/django/app.py", "runserver", "--noreload", "127.0.0.1:PORT"]),
    Framework("klein", [f"{EXAMPLES}/klein/app.py", "PORT"]),
]


@frozen
class Running:
    """An application that runs, with the service that asks and tells it."""

    name: str
    directory: Path
    url: str
    service: Service

    @property
    def database(self) -> Path:
        """Where it stores what it is told."""
        return self.directory / "uploads.sqlite3"

    @property
    def store(self) -> str:
        """The URL of the service's bucket."""
        found = re.search(r"embedded S3 at (http://127\.0\.0\.1:\d+)", self.service.log)
        assert found, self.service.log
        return f"{found[1]}/uploads"


def answers(url: str) -> bool:
    """Whether anything answers there."""
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except HTTPError:
        return True
    except (URLError, OSError):
        return False
    return True


@pytest.fixture(scope="module", params=FRAMEWORKS, ids=lambda framework: framework.name)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    framework: Framework = request.param
    for module in (framework.name, "uvicorn" if framework.name == "fastapi" else framework.name):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed (pip install -e '.[examples]')")
    directory, port = tmp_path_factory.mktemp(framework.name), free_port()
    text = (EXAMPLES / framework.name / "config.yaml").read_text()
    text, changed = re.subn(r"(http://127\.0\.0\.1:)(5000|8000)\b", rf"\g<1>{port}", text)
    assert changed == 3
    command = [sys.executable, *(argument.replace("PORT", str(port)) for argument in framework.command)]
    with (directory / "said.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=directory, env=environment(), stdout=log, stderr=subprocess.STDOUT)
    try:
        with Service(directory, yaml.safe_load(text), WEBHOOK_SECRET=SECRET) as service:

            def serves() -> bool:
                assert process.poll() is None, (directory / "said.log").read_text()
                return answers(f"http://127.0.0.1:{port}/allow_upload")

            eventually(serves)
            yield Running(framework.name, directory, f"http://127.0.0.1:{port}", service)
            assert "Traceback" not in service.log
    finally:
        process.kill()
        process.wait()
