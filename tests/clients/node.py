"""Scripts in Node: each is given JSON and prints JSON."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parent / "javascript"
#: Seconds after which a script is killed, whatever it waits for.
PATIENCE = 40.0


def start(script: str, task: Mapping[str, Any]) -> subprocess.Popen[str]:
    """Start a script; skip the test where Node or its packages are not installed."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed (Debian: apt-get install nodejs npm)")
    if not (SCRIPTS / "node_modules").is_dir():
        pytest.skip(f"its packages are not installed (npm ci --prefix {SCRIPTS.name})")
    return subprocess.Popen(
        [node, str(SCRIPTS / script), json.dumps(task)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def result_of(process: subprocess.Popen[str]) -> Any:
    """What it said in its last line, when it has ended."""
    try:
        said, complained = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, complained + said
    return json.loads(said.splitlines()[-1])


def run(script: str, task: Mapping[str, Any]) -> Any:
    """Run a script to its end; what it said."""
    return result_of(start(script, task))
