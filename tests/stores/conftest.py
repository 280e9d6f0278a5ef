"""The servers that the store's calls are tried on, and a guard against errors that nobody saw."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.logger import LogLevel, globalLogPublisher

from tests.s3servers import MotoServer, RcloneServer, S3Server


@pytest.fixture(scope="session", params=[MotoServer, RcloneServer], ids=lambda kind: kind.name)
def s3(request: pytest.FixtureRequest) -> Iterator[S3Server]:
    with request.param() as server:
        yield server


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[Any]]:
    """What was logged; an error that a test leaves in it fails the test."""
    events: list[Any] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    # Failures that nobody handled are logged when they are collected.
    gc.collect()
    globalLogPublisher.removeObserver(events.append)
    errors = [event for event in events if event.get("log_level", LogLevel.info) >= LogLevel.error]
    if errors:
        pytest.fail(f"logged: {errors[0].get('log_failure') or errors[0]}", pytrace=False)
