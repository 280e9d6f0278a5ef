"""The header Retry-After (RFC 9110, 10.2.3): a number of seconds, or a date. Pure."""

from __future__ import annotations

from datetime import timezone
from email.utils import parsedate_to_datetime

#: Digits that are read of a number: a longer one is a pause of years in any case.
DIGITS = 9


def retry_after(value: str | None, now: float) -> float:
    """Return the seconds for which the header asks to be left alone; 0 if it is absent, past, or cannot be read.

    :param value: the header's value.
    :param now: seconds since the epoch.
    """
    value = (value or "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:DIGITS])
    try:
        date = parsedate_to_datetime(value)
        # HTTP's dates are in UTC, also where an old format does not say so.
        date = date if date.tzinfo is not None else date.replace(tzinfo=timezone.utc)
        return max(0.0, date.timestamp() - now)
    except (ValueError, OverflowError):
        return 0.0
