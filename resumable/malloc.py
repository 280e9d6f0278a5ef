"""Settings of glibc's allocator and of Python's garbage collector."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
from contextlib import suppress

#: ``M_TRIM_THRESHOLD`` and ``M_MMAP_THRESHOLD`` of glibc's malloc.h.
_TRIM, _MMAP = -1, -3
#: In bytes: the free memory kept at the end of the heap, and the size from which a block is a mapping of its own.
KEPT = 64 * 1024 * 1024
OWN = 4 * 1024 * 1024

#: How many new objects make the garbage collector run; 700 by default.
NEW_OBJECTS = 10_000

#: The environment variables by which an operator sets the same (mallopt(3)).
CHOSEN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Have glibc keep some of the freed memory of sent segments for the next ones; return whether it does.

    By itself glibc gives it back to the kernel at once, part by part, and gets it from there again. The kernel clears
    each page anew. What an operator has set in the environment stays.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in CHOSEN):
        return False
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        return bool(mallopt(_TRIM, KEPT)) and bool(mallopt(_MMAP, OWN))
    return False


def spare_the_collector() -> None:
    """Make Python's garbage collector look at fewer objects, and less often: everything stands still meanwhile.

    What is in memory by now (modules, classes, statements) stays to the end, so the collector passes over it. It runs
    when there are some thousand new objects, not some hundred.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS, 10, 10)
