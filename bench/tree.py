"""What /proc tells about a process and all its children: CPU time, memory, and bytes written."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")


class ProcessTree:
    """A process with its children and their children. An ended child counts if its parent has waited for it."""

    def __init__(self, pid: int) -> None:
        self._root = pid

    def pids(self) -> list[int]:
        """Return the ids of all processes that live now, the root first."""
        children: dict[int, list[int]] = {}
        for path in PROC.iterdir():
            if path.name.isdigit():
                with suppress(OSError):
                    children.setdefault(_stat(int(path.name))[1], []).append(int(path.name))
        found, queue = [], [self._root]
        while queue:
            pid = queue.pop()
            found.append(pid)
            queue += children.get(pid, [])
        return found

    def cpu_seconds(self) -> float:
        """Return user and system time of all processes, including ended children."""
        ticks = 0
        for pid in self.pids():
            with suppress(OSError):
                ticks += sum(_stat(pid)[11:15])
        return ticks / _TICK

    def forget_peak(self) -> None:
        """Let `peak_memory` count only from now on."""
        for pid in self.pids():
            with suppress(OSError):
                (PROC / str(pid) / "clear_refs").write_text("5")

    def peak_memory(self) -> int:
        """Return the peak resident memory in bytes: the sum of each process's own peak."""
        return sum(_number(pid, "status", r"VmHWM:\s+(\d+)") * 1024 for pid in self.pids())

    def written(self) -> int:
        """Return the bytes written to discs or still to be written, without those that were thrown away before."""
        pids = self.pids()
        written = sum(_number(pid, "io", r"\nwrite_bytes: (\d+)") for pid in pids)
        return written - sum(_number(pid, "io", r"cancelled_write_bytes: (\d+)") for pid in pids)

    def deleted_files(self, folder: Path) -> dict[tuple[int, int], int]:
        """Return the deleted files of `folder` that are still open: device and inode -> bytes that they take."""
        found = {}
        for pid in self.pids():
            with suppress(OSError):
                for path in (PROC / str(pid) / "fd").iterdir():
                    with suppress(OSError):
                        target = os.readlink(path)
                        if target.startswith(str(folder)) and target.endswith(" (deleted)"):
                            status = path.stat()
                            found[status.st_dev, status.st_ino] = status.st_blocks * 512
        return found


def _stat(pid: int) -> list[int]:
    """Return the numbers in /proc/PID/stat after the name, with 0 for the state.

    [1] is the parent. [11:15] is user and system time, of the process and of its ended children.
    """
    fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return [0, *map(int, fields[1:])]


def _number(pid: int, name: str, pattern: str) -> int:
    with suppress(OSError):
        found = re.search(pattern, (PROC / str(pid) / name).read_text())
        return int(found[1]) if found else 0
    return 0
