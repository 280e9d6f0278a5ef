"""Moments of this machine since it was started: processes of one machine can compare them, and nobody can set their clock."""

from __future__ import annotations

import os
import time
from functools import lru_cache
from pathlib import Path
from secrets import token_hex

#: Another value each time the machine is started; its containers have the same.
_BOOT = Path("/proc/sys/kernel/random/boot_id")
#: Processes in another time namespace have another clock, though the machine is the same.
_NAMESPACE = Path("/proc/self/ns/time")


@lru_cache(maxsize=1)
def machine() -> str | None:
    """Return a word for this machine since its start and for its monotonic clock; None where neither can be known."""
    try:
        boot = _BOOT.read_text().strip().replace("-", "")
    except OSError:
        return None
    try:
        namespace = os.stat(_NAMESPACE).st_ino
    except OSError:  # a kernel without time namespaces
        namespace = 0
    return f"{boot}{namespace:x}"


def moment() -> str:
    """Return a word that was never used before; `seconds_since` tells how long ago that was."""
    return f"{token_hex(8)}.{machine() or ''}.{time.monotonic():.3f}"


def seconds_since(word: str) -> float:
    """Return for how many seconds a word of `moment` has been there, as far as is known: 0 if it is another machine's."""
    _, _, stamp = word.partition(".")
    whose, _, then = stamp.partition(".")
    here = machine()
    if here is None or whose != here:
        return 0.0
    try:
        return max(time.monotonic() - float(then), 0.0)
    except ValueError:
        return 0.0
