"""What /proc knows of a process and all its children: CPU time, memory, and bytes written."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")


class ProcessTree:
    """A process with its children and theirs. What has gone away meanwhile counts as far as its parent has waited for it."""

    def __init__(self, pid: int) -> None:
        self._root = pid

    def pids(self) -> list[int]:
        """All that live now, the root first."""
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
        """User and system time of all; of ended children too."""
        ticks = 0
        for pid in self.pids():
            with suppress(OSError):
                ticks += sum(_stat(pid)[11:15])
        return ticks / _TICK

    def forget_peak(self) -> None:
        """Let `peak_memory` begin from now."""
        for pid in self.pids():
            with suppress(OSError):
                (PROC / str(pid) / "clear_refs").write_text("5")

    def peak_memory(self) -> int:
        """The most resident memory, in bytes; the sum over all processes of each one's own peak."""
        return sum(_number(pid, "status", r"VmHWM:\s+(\d+)") * 1024 for pid in self.pids())

    def written(self) -> int:
        """Bytes sent to discs, or to be sent, less what was thrown away before."""
        pids = self.pids()
        written = sum(_number(pid, "io", r"\nwrite_bytes: (\d+)") for pid in pids)
        return written - sum(_number(pid, "io", r"cancelled_write_bytes: (\d+)") for pid in pids)

    def deleted_files(self, folder: Path) -> dict[tuple[int, int], int]:
        """Files that were in `folder`, are open and have no name any more: device and inode to the bytes they take."""
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
    """The numbers in /proc/PID/stat behind name and state: [1] is the parent, [11:15] user and system time, own and of
    ended children. The state stands as 0."""
    fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return [0, *map(int, fields[1:])]


def _number(pid: int, name: str, pattern: str) -> int:
    with suppress(OSError):
        found = re.search(pattern, (PROC / str(pid) / name).read_text())
        return int(found[1]) if found else 0
    return 0
