"""What the memory of this process looks like from inside: a thread that writes a line of JSON every few seconds.

It is started in the service's own process, because only there Python's allocator and glibc's can be asked.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import re
import sys
import threading
import time
from pathlib import Path

from resumable.malloc import keep_freed_memory

#: The names of what is read from /proc, in bytes.
STATUS = {"rss": "VmRSS", "hwm": "VmHWM", "anonymous": "RssAnon", "file": "RssFile"}


FIELDS = (
    "arena",
    "ordblks",
    "smblks",
    "hblks",
    "hblkhd",
    "usmblks",
    "fsmblks",
    "uordblks",
    "fordblks",
    "keepcost",
)


class MallInfo(ctypes.Structure):
    """``struct mallinfo2`` of glibc's malloc.h."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in FIELDS)


def sample() -> dict[str, float]:
    """Return the figures of this moment: seconds, bytes and counts.

    - ``rss``, ``hwm``, ``anonymous``, ``file``, ``pss``: what the kernel counts;
    - ``blocks``: objects in Python's own allocator; ``objects``: those that the garbage collector knows;
    - ``heap``: bytes that glibc has from the kernel in its arenas, ``used`` and ``free`` of them, ``top`` of the free ones
      at the end of the main arena; ``mapped`` besides, in blocks with a mapping of their own.
    """
    status = Path("/proc/self/status").read_text()
    figures: dict[str, float] = {"time": time.time(), "cpu": time.process_time()}
    for name, field in STATUS.items():
        figures[name] = _kilobytes(field, status)
    figures["pss"] = _kilobytes("Pss", Path("/proc/self/smaps_rollup").read_text())
    figures["threads"] = threading.active_count()
    figures["blocks"] = sys.getallocatedblocks()
    figures["objects"] = sum(gc.get_count()) + gc.get_freeze_count()
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except AttributeError:  # another C library, or a glibc before 2.33
        return figures
    mallinfo2.restype = MallInfo
    info = mallinfo2()
    heap = {"heap": info.arena, "used": info.uordblks, "free": info.fordblks, "top": info.keepcost}
    return {**figures, **heap, "mapped": info.hblkhd}


def _kilobytes(field: str, text: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def watch(path: Path, every: float) -> None:
    """Append a sample to the file at `path` every so many seconds, for as long as the process lives."""

    def run() -> None:
        with path.open("a", buffering=1) as file:
            while True:
                file.write(json.dumps(sample()) + "\n")
                _write_details(path.with_suffix(".xml"))
                time.sleep(every)

    # glibc decides on the number of arenas at the first thread, and this is the first.
    keep_freed_memory()
    threading.Thread(target=run, name="memory probe", daemon=True).start()


def _write_details(path: Path) -> None:
    """Write what glibc says of each arena (malloc_info(3)) to `path`, in place of what was there."""
    libc = ctypes.CDLL(None)
    libc.fopen.restype = ctypes.c_void_p
    file = libc.fopen(os.fsencode(path), b"w")
    if file:
        libc.malloc_info(0, ctypes.c_void_p(file))
        libc.fclose(ctypes.c_void_p(file))


def main() -> None:
    """Run twistd with the arguments after the first two: the file for samples, and the seconds between them."""
    path, every, *arguments = sys.argv[1:]
    watch(Path(path), float(every))
    sys.argv = ["twistd", *arguments]
    from twisted.scripts.twistd import run

    run()


if __name__ == "__main__":
    main()
