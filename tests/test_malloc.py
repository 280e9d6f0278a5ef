"""Memory that was freed is kept for what comes next, within limits; and what will not be freed is not looked at."""

from __future__ import annotations

import gc
import platform
import subprocess
import sys

import pytest

from resumable.malloc import collector_at_rest

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


#: Fills the heap with blocks, lets go of every second one, and prints how much is resident before and after, in bytes.
HOLES = """
from pathlib import Path
from resumable.malloc import give_back, keep_freed_memory
keep_freed_memory()
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
blocks = [b"x" * 65536 for _ in range(1000)]
del blocks[::2]
before = resident()
assert give_back()
print(before - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_holes_between_what_lives_are_given_back() -> None:
    """They are never at the end of the heap, where glibc gives memory back by itself."""
    done = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 25 * 2**20


#: Starts threads that allocate at the same time, and prints how many arenas there are.
THREADS = """
import ctypes, threading
from resumable.malloc import keep_freed_memory
keep_freed_memory()
ready = threading.Barrier(4)
def allocate():
    ready.wait()
    blocks = [b"x" * 65536 for _ in range(50)]
    ready.wait()
threads = [threading.Thread(target=allocate) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
out = libc.fdopen(1, b"w")
libc.malloc_info(0, ctypes.c_void_p(out))
libc.fflush(ctypes.c_void_p(out))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
@pytest.mark.parametrize(("chosen", "arenas"), [({}, 1), ({"MALLOC_ARENA_MAX": "2"}, 2)])
def test_threads_share_an_arena_unless_the_operator_wants_more(chosen: dict[str, str], arenas: int) -> None:
    """What one thread has freed is there for the next."""
    done = subprocess.run([sys.executable, "-c", THREADS], env=chosen, capture_output=True, text=True, check=True)
    assert done.stdout.count("<heap nr=") == arenas


def test_the_collector_rests_and_then_goes_on() -> None:
    """Also after a failure; and it stays off where it was off."""

    def fail() -> None:
        with collector_at_rest():
            assert not gc.isenabled()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert gc.isenabled()
    gc.disable()
    try:
        with collector_at_rest():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
