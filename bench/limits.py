"""The limit on open files: a thousand connections need more than is usual."""

from __future__ import annotations

import resource


def raise_file_limit() -> int:
    """Raise the limit on open files to the hard limit, for this process and its children. Return the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
