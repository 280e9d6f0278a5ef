"""How memory is given back: glibc's to the kernel, Python's to the heap."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
from contextlib import suppress

#: ``M_TRIM_THRESHOLD`` and ``M_MMAP_THRESHOLD`` of glibc's malloc.h.
_TRIM, _MMAP = -1, -3
#: Bytes: free memory kept at the end of the heap, and the size from which a block is a mapping of its own.
KEPT = 64 * 1024 * 1024
OWN = 4 * 1024 * 1024

#: Objects made and not freed after which the garbage collector looks at them; 700 by default.
NEW_OBJECTS = 10_000

#: The environment by which an operator chooses (mallopt(3)).
CHOSEN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Keep some of the memory of segments that were sent for those that come next; returns whether glibc does.

    By itself glibc gives it back to the kernel at once, part by part, and has it from there again: the kernel clears each
    page anew. What an operator has set in the environment stays.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in CHOSEN):
        return False
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        return bool(mallopt(_TRIM, KEPT)) and bool(mallopt(_MMAP, OWN))
    return False


def spare_the_collector() -> None:
    """Have Python's garbage collector look at less, and less often: everything stands still meanwhile.

    What is in memory by now (modules, classes, statements) stays to the end: it is passed over. The rest is looked at when
    there are some thousand new objects more, not some hundred.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS, 10, 10)
