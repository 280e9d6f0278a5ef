"""Starting: faulty configurations, ways to be run, and what is logged."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.harness import ROOT, TWISTD, Service, eventually
from tests.s3servers import MotoServer
from tests.service.conftest import configuration


def twistd(directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", TWISTD, *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_problem_on_a_line(tmp_path: Path) -> None:
    (tmp_path / "app.yaml").write_text("store: {kind: s3, buckt: x}\nlimits: {max_size: huge}\n")
    ended = twistd(tmp_path, "-n", "resumable", "--config", "app.yaml")
    assert ended.returncode == 1
    lines = ended.stderr.splitlines()
    assert "app.yaml: store.bucket: required" in lines
    assert "app.yaml: auth: required (auth: open lets everyone upload)" in lines
    assert any(line.startswith("app.yaml: store.buckt: unknown key") and "bucket" in line for line in lines)
    assert any(line.startswith("app.yaml: limits.max_size: ") for line in lines)
    assert len(lines) == 4


def test_a_newer_ledger(tmp_path: Path, s3: MotoServer) -> None:
    with sqlite3.connect(tmp_path / "ledger.sqlite3") as ledger:
        ledger.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        ledger.execute("INSERT INTO alembic_version VALUES ('9999')")
    (tmp_path / "app.yaml").write_text(yaml.safe_dump(configuration(s3)))
    for arguments in (["-n", "resumable", "--config", "app.yaml"], ["-ny", str(ROOT / "resumable.tac")]):
        ended = twistd(tmp_path, *arguments, RESUMABLE_CONFIG="app.yaml")
        assert ended.returncode == 1
        assert "made by a newer resumable (" in ended.stderr
        assert "Traceback" not in ended.stderr + ended.stdout


def test_a_port_that_is_taken(tmp_path: Path, s3: MotoServer) -> None:
    (tmp_path / "app.yaml").write_text(yaml.safe_dump(configuration(s3)))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        ended = twistd(tmp_path, "-n", "resumable", "--config", "app.yaml", "--listen", listen)
    assert ended.returncode == 1
    assert "cannot start: listen: " in ended.stdout
    assert "Another program listens there" in ended.stdout
    assert "Traceback" not in ended.stdout + ended.stderr


def test_help_shows_examples(tmp_path: Path) -> None:
    ended = twistd(tmp_path, "resumable", "--help")
    assert ended.returncode == 0
    assert "twistd -n resumable --config config/app.yaml" in ended.stdout


def test_the_tac_file(tmp_path: Path, s3: MotoServer) -> None:
    """`twistd -ny resumable.tac` with the configuration from the environment."""
    config = configuration(s3, listen="tcp:0:interface=127.0.0.1", ledger="sqlite://")
    (tmp_path / "tac.yaml").write_text(yaml.safe_dump(config))
    process = subprocess.Popen(
        [sys.executable, "-c", TWISTD, "-ny", str(ROOT / "resumable.tac")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "RESUMABLE_CONFIG": "tac.yaml"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert any("resumable listening on http://127.0.0.1:" in line for line in process.stdout)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]


@pytest.mark.parametrize("secret", ["test-secret"])
def test_json_log(tmp_path: Path, s3: MotoServer, secret: str) -> None:
    """Every line is an object; an upload's has its fields; secrets are nowhere."""
    with Service(tmp_path, configuration(s3, log={"format": "json"})) as service:
        service.request("PUT", "/upload/j%0D.txt", None, b"hello")
        answer = service.request("PUT", "/upload/j.txt", None, b"hello")
        eventually(lambda: "upload finished" in service.log)
        events = [json.loads(line) for line in service.log.splitlines()]
        finished = next(event for event in events if event["message"].startswith("upload finished"))
        assert (finished["id"], finished["name"], finished["bytes"]) == (answer.json["id"], "j.txt", 5)
        assert isinstance(finished["seconds"], float)
        assert secret not in service.log
        service.terminate()


@pytest.mark.soak
def test_a_store_that_is_away(tmp_path: Path, s3: MotoServer) -> None:
    """The service starts; an upload is told 503 when patience is over, and leaves a clear line."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        config = configuration(s3, store={"endpoint": f"http://127.0.0.1:{nobody.getsockname()[1]}", "patience": "1s"})
        with Service(tmp_path, config) as service:
            answer = service.request("PUT", "/upload/away.txt", None, b"hello")
            assert (answer.status, answer.json["status"]) == (503, 503)
            assert "retry-after" in answer.headers
            assert "Traceback" not in service.log
