"""A newcomer's first hour, outside the checkout: a wheel, then the README's and the tutorial's commands as they stand.

Other than there: the wheel is installed without what it needs, which is taken from the tests' own environment, and the ports
are free ones.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import frozen

from tests.docs.blocks import block
from tests.examples.conftest import free_port
from tests.harness import ROOT, eventually

pytestmark = [pytest.mark.soak, pytest.mark.process]

RUN = block("README.md", "run")
BREAK, ASK, GO_ON, READ_BACK = (block("README.md", name) for name in ("break", "ask", "go-on", "read-back"))
UPLOAD, PUT, PAGE, APPLICATION, CONFIGURATION, REFUSED, LET_IN = (
    block("docs/tutorial.md", name)
    for name in ("upload", "put", "page", "application", "configuration", "refused", "let-in")
)
#: What a wheel is built of.
PACKAGE = ["resumable", "twisted", "setup.py", "pyproject.toml", "README.md", "LICENSE"]
TWISTD = "#!{python}\nfrom twisted.scripts.twistd import run\nrun()\n"
SECRET = "whsec_" + b64encode(b"0123456789abcdef01234567").decode()


@frozen
class Newcomer:
    """Somebody with a folder, and a virtual environment in it."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """What commands are run in: nothing in it leads to the checkout."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        home = str(self.folder)
        left_out = ("PYTHONPATH", "VIRTUAL_ENV", "RESUMABLE_CONFIG", "XDG_STATE_HOME")
        kept = {name: value for name, value in os.environ.items() if name not in left_out}
        return {**kept, "PATH": path, "HOME": home, "WEBHOOK_SECRET": SECRET}

    def run(self, command: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a command of the shell, which ends with this status."""
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert ended.returncode == status, ended.stdout + ended.stderr
        return ended

    def start(self, command: str) -> subprocess.Popen[bytes]:
        """Start a command that does not end by itself; what it says goes to a file `said`."""
        with (self.folder / "said").open("wb") as said:
            return subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=self.folder, env=self.environment, stdout=said, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def said(self, pattern: str) -> str:
        """Wait for what matches `pattern` among what the last command that was started says; its first group."""
        found = eventually(lambda: re.search(pattern, (self.folder / "said").read_text()), seconds=60)
        return str(found[1])


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Newcomer:
    """Has done the first two of the README's three commands."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("newcomer")
    for name in PACKAGE:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "dropin.cache"))
        else:
            shutil.copy(ROOT / name, source / name)
    person = Newcomer(folder)
    make, install, _ = RUN.text.strip().split(" && ")
    person.run(make)
    person.run(f".venv/bin/pip wheel -q --no-deps -w {source}/dist {source}")
    (wheel,) = (source / "dist").glob("twisted_resumable-*.whl")
    assert install.endswith(" install -e '.[demo]'")
    person.run(install.replace("-e '.[demo]'", f"-q --no-deps {wheel}"))
    # What it needs, after what was installed here. (A checkout that is installed as editable is not found in this way.)
    (site,) = (folder / ".venv" / "lib").glob("python3*/site-packages")
    (site / "zz_needs.pth").write_text(sysconfig.get_path("purelib") + "\n")
    twistd = folder / ".venv" / "bin" / "twistd"
    twistd.write_text(TWISTD.format(python=folder / ".venv" / "bin" / "python"))
    twistd.chmod(0o755)
    return person


@frozen
class Demo:
    """The service that the README's third command starts, and its S3."""

    service: str
    store: str


@pytest.fixture(scope="module")
def demo(newcomer: Newcomer) -> Iterator[Demo]:
    command = RUN.text.strip().split(" && ")[2]
    process = newcomer.start(f"{command} --listen tcp:0:interface=127.0.0.1")
    try:
        service = newcomer.said(r"resumable listening on (http://127\.0\.0\.1:\d+)/")
        yield Demo(service, newcomer.said(r"embedded S3 at (http://127\.0\.0\.1:\d+)"))
        assert "Traceback" not in (newcomer.folder / "said").read_text()
    finally:
        process.terminate()
        process.wait(60)


def test_what_is_run_is_what_was_installed(newcomer: Newcomer) -> None:
    where = newcomer.run(".venv/bin/python -c 'import resumable; print(resumable.__file__)'").stdout
    assert where.startswith(str(newcomer.folder / ".venv"))


def test_the_first_upload(newcomer: Newcomer, demo: Demo) -> None:
    """It breaks off (curl's status 28), goes on, and is what was sent."""
    newcomer.run(BREAK.at(service=demo.service), status=28)
    told = newcomer.run(ASK.at(service=demo.service)).stdout
    assert told.startswith("HTTP/1.1 308 Resume Incomplete\n")
    assert 1_000_000 < int(re.search(r"\nRange: bytes=0-(\d+)\n", told)[1]) < 99_999_999  # type: ignore[index]
    answer = newcomer.run(GO_ON.at(service=demo.service)).stdout
    assert '"state": "finished"' in answer
    assert '"size": 100000000' in answer
    assert newcomer.run(READ_BACK.at(store=demo.store)).stdout == "the same\n"


def test_the_tutorials_uploads(newcomer: Newcomer, demo: Demo) -> None:
    assert newcomer.run(UPLOAD.at(service=demo.service, store=demo.store)).stdout.endswith("the same\n")
    newcomer.run(PUT.at(service=demo.service))


@pytest.mark.parametrize("size", [0, 6])
def test_a_small_file(newcomer: Newcomer, demo: Demo, size: int) -> None:
    (newcomer.folder / "small").write_bytes(b"sixsix"[:size])
    newcomer.run(f".venv/bin/resumable put small {demo.service}/upload/small-{size}")
    assert newcomer.run(f"curl -sf {demo.store}/uploads/small-{size}").stdout == "sixsix"[:size]


def test_the_page(demo: Demo) -> None:
    """And the module that the tutorial's page imports, under the names that it imports."""
    with urllib.request.urlopen(f"{demo.service}/", timeout=20) as page:
        assert b"<html" in page.read()
    imported = re.search(r'import \{ (\w+) \} from "http://127\.0\.0\.1:8080(/[\w.]+)"', PAGE.text)
    assert imported is not None
    with urllib.request.urlopen(f"{demo.service}{imported[2]}", timeout=20) as module:
        assert f"export class {imported[1]} ".encode() in module.read()


MISTAKES = """
listen: 8080
trusted_proxies: [everywhere]
workers: 0
store: {buckt: b}
ledger: mysql://u@h/db
auth: {url: "https://a.example/", timeout: soon}
events: {url: "https://a.example/", secret: hunter2}
limits: {max_size: huge}
log: {level: loud}
"""
TOLD = [
    "listen: must be text (put it in quotes)",
    "trusted_proxies[0]: must be a network such as 10.0.0.0/8, an address, or unix",
    "workers: must be a whole number from 1 to 256",
    "store.buckt: unknown key; did you mean bucket?",
    "store.bucket: required",
    "ledger: must be sqlite:///FILE or postgresql://USER@HOST/DB",
    "auth.timeout: must be a duration such as 500ms, 30s, 5m, 2h, 7d or a plain number of seconds",
    "events.secret: must be whsec_ and the base64 of 24 to 64 bytes",
    "limits.max_size: must be a size such as 6MiB, 5GB or a plain number of bytes",
    "log.level: must be debug, info, warn or error",
]


def test_a_configuration_with_ten_mistakes(newcomer: Newcomer) -> None:
    """A line for each, with its place, and no secret in any."""
    (newcomer.folder / "wrong.yaml").write_text(MISTAKES)
    ended = newcomer.run(".venv/bin/resumable check --config wrong.yaml", status=1)
    assert ended.stderr.splitlines() == [f"wrong.yaml: {line}" for line in TOLD]
    assert ended.stdout == ""


def test_an_application_that_decides(newcomer: Newcomer) -> None:
    """The tutorial's second half: a stranger is refused, alice is let in, and the application hears of it."""
    port, asked = free_port(), "http://127.0.0.1:5000"
    (newcomer.folder / "app.py").write_text(APPLICATION.text.replace('("127.0.0.1", 5000)', f'("127.0.0.1", {port})'))
    written = CONFIGURATION.text.replace(asked, f"http://127.0.0.1:{port}").replace("tcp:8080:", "tcp:0:")
    assert asked not in written
    (newcomer.folder / "app.yaml").write_text(written)
    with (newcomer.folder / "heard").open("wb") as heard:
        application = subprocess.Popen(
            [".venv/bin/python", "app.py"], cwd=newcomer.folder, env=newcomer.environment, stdout=heard
        )
    process = newcomer.start(".venv/bin/twistd --pidfile second.pid -n resumable --config app.yaml")
    try:
        service = newcomer.said(r"resumable listening on (http://127\.0\.0\.1:\d+)/")
        (newcomer.folder / "film.mp4").write_bytes(b"a film")
        assert "HTTP/1.1 401 " in newcomer.run(REFUSED.at(service=service)).stdout
        assert '"key": "alice/film.mp4"' in newcomer.run(LET_IN.at(service=service)).stdout
        eventually(lambda: "upload.finished alice/film.mp4 6\n" in (newcomer.folder / "heard").read_text())
        assert newcomer.run(".venv/bin/resumable check --config app.yaml").stdout.count(": ok") == 5
    finally:
        for one in (process, application):
            one.terminate()
            one.wait(60)
