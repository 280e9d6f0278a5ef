"""Open files: a thousand connections need more than the usual limit."""

from __future__ import annotations

import resource


def raise_file_limit() -> int:
    """Allow this process and its children as many open files as the hard limit has; returns how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
