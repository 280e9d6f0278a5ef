"""Settings of glibc's allocator and of Python's garbage collector."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress

#: ``M_TRIM_THRESHOLD``, ``M_MMAP_THRESHOLD`` and ``M_ARENA_MAX`` of glibc's malloc.h.
_TRIM, _MMAP, _ARENA_MAX = -1, -3, -8
#: In bytes: the free memory kept at the end of the heap, and the size from which a block is a mapping of its own.
KEPT = 64 * 1024 * 1024
OWN = 4 * 1024 * 1024

#: How many new objects make the garbage collector run; 700 by default.
NEW_OBJECTS = 10_000

#: Seconds between two times that free memory is given back. Each costs some milliseconds, and a page fault for each page
#: that is used again.
GIVE_BACK = 30.0

#: The environment variables by which an operator sets the same (mallopt(3)).
CHOSEN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Have glibc keep some of the freed memory of sent segments for the next ones; return whether it does.

    By itself glibc gives it back to the kernel at once, part by part, and gets it from there again. The kernel clears
    each page anew. What an operator has set in the environment stays.

    Threads share one arena. Each would have an arena of its own, with free memory that no other thread uses. Python's
    lock lets only one of them allocate at a time anyway. This has to be called before there are threads: glibc decides
    it when the first one allocates.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in CHOSEN):
        return False
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        if "MALLOC_ARENA_MAX" not in os.environ:
            mallopt(_ARENA_MAX, 1)
        return bool(mallopt(_TRIM, KEPT)) and bool(mallopt(_MMAP, OWN))
    return False


def give_back() -> bool:
    """Give all free memory of glibc's heap back to the kernel; return whether there was some.

    What is kept (see `keep_freed_memory`) is full of holes after a while, between blocks that live longer. Without this
    the process would grow for hours, though no more is in use: each hole stays as large as it ever was.
    """
    with suppress(OSError, AttributeError):
        return bool(ctypes.CDLL(None).malloc_trim(0))
    return False


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """Do not let Python's garbage collector run meanwhile: for imports, which make many objects that stay."""
    ran = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if ran:
            gc.enable()


def spare_the_collector() -> None:
    """Make Python's garbage collector look at fewer objects, and less often: everything stands still meanwhile.

    What is in memory by now (modules, classes, statements) stays to the end, so the collector passes over it. It runs
    when there are some thousand new objects, not some hundred.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS, 10, 10)
