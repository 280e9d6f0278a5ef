"""Memory that was freed is kept for what comes next, within limits; and what will not be freed is not looked at."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

#: Lets go of 48 MiB in segments as sockets bring them, three times, and counts the page faults of the third.
PROGRAM = """
import resource
from resumable.malloc import keep_freed_memory
{call}
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    segments = [b"x" * (1 << 20) for _ in range(48)]
    del segments
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(call: str, **environment: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(call=call)], env=environment, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_what_was_freed_is_used_again() -> None:
    """Without a page fault for each page, as there is by default."""
    assert faults("keep_freed_memory()") < 1000 < faults("")


def test_an_operator_who_has_chosen_is_left_alone() -> None:
    """The environment goes before."""
    assert faults("assert not keep_freed_memory()", MALLOC_TRIM_THRESHOLD_="0") > 1000


def test_the_collector_passes_over_what_is_there_and_not_over_what_comes() -> None:
    program = """
import gc, weakref
from resumable.malloc import NEW_OBJECTS, spare_the_collector
class Thing: pass
spare_the_collector()
assert gc.get_freeze_count() > 1000 > len(gc.get_objects())
thing = Thing(); thing.itself = thing
gone = weakref.ref(thing)
del thing
things = [Thing() for _ in range(2 * NEW_OBJECTS)]
assert gone() is None
"""
    subprocess.run([sys.executable, "-c", program], check=True)
