"""What Retry-After asks for."""

from __future__ import annotations

import pytest

from resumable.retry_after import retry_after

#: 1994-11-06 08:49:37 UTC.
THEN = 784_111_777.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("9" * 5000, 999_999_999.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 60.0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 60.0),
        ("Sun Nov  6 08:49:37 1994", 60.0),
        ("Sun, 06 Nov 1994 08:48:37 GMT", 0.0),
        ("Sun, 06 Nov 1984 08:49:37 GMT", 0.0),
        (None, 0.0),
        *((junk, 0.0) for junk in ("", "soon", "-5", "1.5", "١٢", "Sun, 99 Nov 1994 08:49:37 GMT", "9" * 9 + "x")),
    ],
)
def test_retry_after(value: str | None, seconds: float) -> None:
    assert retry_after(value, THEN - 60) == seconds


def test_wherever_the_machine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest form of a date names no time zone, and is in UTC."""
    import time

    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert retry_after("Sun Nov  6 08:49:37 1994", THEN - 60) == 60.0
    finally:
        monkeypatch.undo()
        time.tzset()
