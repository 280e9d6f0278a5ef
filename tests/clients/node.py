"""Scripts in Node: each is given JSON and prints JSON."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parent / "javascript"
#: Seconds after which a script is killed, whatever it waits for.
PATIENCE = 60.0


def start(script: str, task: Mapping[str, Any], **environment: str) -> subprocess.Popen[str]:
    """Start a script; skip the test where Node or its packages are not installed."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed (Debian: apt-get install nodejs npm)")
    if not (SCRIPTS / "node_modules").is_dir():
        pytest.skip("its packages are not installed (npm ci --prefix tests/clients/javascript)")
    return subprocess.Popen(
        [node, str(SCRIPTS / script), json.dumps(task)],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def result_of(process: subprocess.Popen[str]) -> Any:
    """What it said in its last line, when it has ended."""
    try:
        said, complained = process.communicate(timeout=PATIENCE)
    finally:
        end(process)
    assert process.returncode == 0, complained + said
    return json.loads(said.splitlines()[-1])


def order(process: subprocess.Popen[str], what: str) -> None:
    """Have it do something, and wait until it says that it has."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{what}\n")
    process.stdin.flush()
    ready, _, _ = select.select([process.stdout], [], [], PATIENCE)
    assert ready, f"it does not do {what}"
    assert json.loads(process.stdout.readline()) == {"did": what}


def end(process: subprocess.Popen[str]) -> None:
    """End it: by a signal that lets it close its browser, and else without asking."""
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def run(script: str, task: Mapping[str, Any]) -> Any:
    """Run a script to its end; what it said."""
    return result_of(start(script, task))
