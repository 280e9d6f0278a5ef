"""What every test of this room runs under: nothing may be logged as an error unless the test expects it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.logger import LogLevel, globalLogPublisher


@pytest.fixture(autouse=True)
def logged_errors() -> Iterator[list[dict[str, Any]]]:
    """The errors logged so far; a test that expects some clears the list."""
    seen: list[dict[str, Any]] = []

    def observe(event: dict[str, Any]) -> None:
        if event.get("log_level", LogLevel.info) >= LogLevel.error:
            seen.append(event)

    globalLogPublisher.addObserver(observe)
    yield seen
    gc.collect()  # a failed Deferred speaks up when it is collected
    globalLogPublisher.removeObserver(observe)
    if seen:
        pytest.fail(f"logged: {seen[0].get('log_failure') or seen[0].get('log_format')!r}", pytrace=False)
