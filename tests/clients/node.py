"""Scripts in Node: each is given JSON and prints JSON."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.harness import ROOT

SCRIPTS = Path(__file__).parent / "javascript"
#: Those in JavaScript.
SNIPPETS = re.findall(r"^```js\n(.*?)^```$", (ROOT / "docs" / "clients.md").read_text(), re.DOTALL | re.MULTILINE)
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


def run_snippet(directory: Path, client: str, replaced: Mapping[str, str]) -> str:
    """Run the snippet of docs/clients.md that installs a client, in a directory; what it printed.

    :param replaced: what stands in the snippet, each once, and what it is in the test.
    """
    text = next(one for one in SNIPPETS if f"npm install {client}\n" in one)
    for former, new in replaced.items():
        assert text.count(former) == 1, former
        text = text.replace(former, new)
    # The packages that `firebase` only hands on: it installs all that Firebase has.
    text = text.replace(' "firebase/', ' "@firebase/')
    (directory / "node_modules").symlink_to(SCRIPTS / "node_modules")
    (directory / "snippet.mjs").write_text(text)
    node = shutil.which("node") or "node"
    ran = subprocess.run([node, "snippet.mjs"], cwd=directory, capture_output=True, text=True, timeout=PATIENCE)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


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
