"""What is read from /proc is what processes have used."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.disc import DiscWatch
from bench.tree import ProcessTree

pytestmark = pytest.mark.process

MIB = 1 << 20
#: Runs the second argument as Python in a child and waits for it.
PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]])"


def child(program: str, *arguments: str) -> subprocess.Popen[bytes]:
    """A Python program that says when it is ready, in a child of a child, and lives until its input is closed."""
    program += "\nprint('ready', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", PARENT, "import sys\n" + program, *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    """Let it end."""
    process.communicate(timeout=30)


def test_the_cpu_time_and_memory_of_children_count() -> None:
    """Servers with workers are not cheaper for having them."""
    burn = "import time\nwhile time.process_time() < 0.3: pass\nfilled = b'x' * (50 << 20)"
    process = child(burn)
    tree = ProcessTree(process.pid)
    assert len(tree.pids()) == 2
    assert 0.3 <= tree.cpu_seconds() < 1.0
    assert tree.peak_memory() > 60 * MIB
    end(process)


def test_a_peak_is_of_the_load_alone() -> None:
    """What was used before, to start or to warm up, is forgotten."""
    process = child("filled = b'x' * (50 << 20)\ndel filled")
    tree = ProcessTree(process.pid)
    before = tree.peak_memory()
    tree.forget_peak()
    assert tree.peak_memory() < before - 40 * MIB
    end(process)


@pytest.mark.parametrize("deleted", [True, False])
def test_temporary_files_are_seen_deleted_or_not(tmp_path: Path, *, deleted: bool) -> None:
    """A file without a name takes as much of the disc as one that has one."""
    program = (
        "import os\nfile = open(sys.argv[1] + '/spool', 'wb')\nfile.write(b'x' * (5 << 20)); file.flush()\n"
        "if sys.argv[2] == 'True': os.unlink(file.name)"
    )
    process = child(program, str(tmp_path), str(deleted))
    with DiscWatch(tmp_path, ProcessTree(process.pid)) as watch:
        time.sleep(0.2)
    end(process)
    assert 5 * MIB <= watch.peak < 6 * MIB


def test_files_elsewhere_do_not_count(tmp_path: Path) -> None:
    """A ledger or a log is no temporary file."""
    process = child("open(sys.argv[1] + '/log', 'wb').write(b'x' * 4096)", str(tmp_path))
    (tmp_path / "tmp").mkdir()
    with DiscWatch(tmp_path / "tmp", ProcessTree(process.pid)) as watch:
        time.sleep(0.2)
    end(process)
    assert watch.peak == 0
