"""Moments since this machine was started. Processes of one machine can compare them, and nobody can set their clock."""

from __future__ import annotations

import os
import time
from functools import lru_cache
from pathlib import Path
from secrets import token_hex

#: Holds a new value each time the machine is started; its containers have the same value.
_BOOT = Path("/proc/sys/kernel/random/boot_id")
#: Processes in another time namespace have another clock, though the machine is the same.
_NAMESPACE = Path("/proc/self/ns/time")


@lru_cache(maxsize=1)
def machine() -> str | None:
    """Return a text that names this start of the machine and its monotonic clock; None where it cannot be known."""
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
    """Return a text that was never used before; `seconds_since` tells its age."""
    return f"{token_hex(8)}.{machine() or ''}.{time.monotonic():.3f}"


def seconds_since(word: str) -> float:
    """Return the age in seconds of a text from `moment`; 0 if it is from another machine or cannot be read."""
    _, _, stamp = word.partition(".")
    whose, _, then = stamp.partition(".")
    here = machine()
    if here is None or whose != here:
        return 0.0
    try:
        return max(time.monotonic() - float(then), 0.0)
    except ValueError:
        return 0.0
