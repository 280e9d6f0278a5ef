"""Timestamps as text: RFC 3339, always in UTC. Pure."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Literal


def rfc3339(seconds: float, timespec: Literal["seconds", "milliseconds", "microseconds"] = "seconds") -> str:
    """Return a moment as RFC 3339 writes it, in UTC: ``2026-01-31T12:00:00Z``.

    :param seconds: since the epoch.
    :param timespec: the smallest unit that is written; what is smaller is cut off.
    """
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return moment.replace(tzinfo=None).isoformat(timespec=timespec) + "Z"
