"""A machine's clocks as a test has them, for every Python process that finds this in its path.

Two numbers of seconds stand in the file that $TEST_CLOCK names: by how much all clocks have gone on, and by how much somebody
has set the system's clock besides. In place before anything else is imported: nobody keeps the real ones.
"""

from __future__ import annotations

import mmap
import os
import struct
import time

if "TEST_CLOCK" in os.environ:
    _file = os.open(os.environ["TEST_CLOCK"], os.O_RDONLY)
    _set = mmap.mmap(_file, 16, prot=mmap.PROT_READ)
    os.close(_file)
    _time, _monotonic = time.time, time.monotonic

    def _system() -> float:
        return _time() + sum(struct.unpack("dd", _set[:16]))

    def _steady() -> float:
        return _monotonic() + struct.unpack("d", _set[:8])[0]

    time.time, time.monotonic = _system, _steady
