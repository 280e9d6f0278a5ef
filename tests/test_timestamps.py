"""Timestamps as RFC 3339 writes them."""

from __future__ import annotations

from resumable.timestamps import rfc3339


def test_to_the_second() -> None:
    """What is smaller is cut off, not rounded."""
    assert rfc3339(1_700_000_000.999) == "2023-11-14T22:13:20Z"


def test_to_the_microsecond() -> None:
    assert rfc3339(1_700_000_000.25, "microseconds") == "2023-11-14T22:13:20.250000Z"
    assert rfc3339(0, "microseconds") == "1970-01-01T00:00:00.000000Z"
