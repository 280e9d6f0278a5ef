"""What the surroundings of the process may do to it: read no log, send signals twice, take its terminal away."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

from tests.harness import ROOT, TWISTD
from tests.s3servers import MotoServer
from tests.service.conftest import configuration


@pytest.mark.soak
@pytest.mark.parametrize("workers", [1, 2])
def test_nobody_reads_the_log(tmp_path: Path, s3: MotoServer, workers: int) -> None:
    """Requests are answered all the same, and the process ends in order, however often it is told to."""
    config = {**configuration(s3), "log": {"level": "debug"}, "workers": workers}
    (tmp_path / "app.yaml").write_text(yaml.safe_dump(config))
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            TWISTD,
            "-n",
            "resumable",
            "--config",
            "app.yaml",
            "--listen",
            "tcp:0:interface=127.0.0.1",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        said = b""
        while not (found := re.search(rb"listening on (http://\S+/)", said)):
            said += os.read(process.stdout.fileno(), 65536)
        long = "x" * 4000
        for _ in range(60):  # some 240 kB of log: nearly four times a pipe
            with pytest.raises(urllib.error.HTTPError):
                urllib.request.urlopen(found[1].decode() + long, timeout=10)
        assert urllib.request.urlopen(found[1].decode() + "healthz", timeout=10).status == 200
        for _ in range(3):
            process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
        said += process.stdout.read()
        assert b"Traceback" not in said
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
