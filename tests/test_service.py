"""What the service says of the process that it is in."""

from __future__ import annotations

import resource
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.logger import LogEvent, globalLogPublisher

from resumable.metrics import Metrics
from resumable.service import DESCRIPTORS, Resumable
from resumable.settings import parse_settings


class Nothing:
    """A database that is not there."""

    def start(self) -> None:
        """Nothing to start."""


@pytest.mark.parametrize(
    ("limit", "warned"),
    [
        (1024, True),
        (9_000 + DESCRIPTORS - 1, True),
        (9_000 + DESCRIPTORS, False),
        (2**20, False),
        (resource.RLIM_INFINITY, False),
    ],
)
def test_too_few_file_descriptors(monkeypatch: pytest.MonkeyPatch, limit: int, warned: bool) -> None:
    """One line, which says how many there are, and how many are wanted."""
    monkeypatch.setattr("resumable.service.resource.getrlimit", lambda _: (limit, resource.RLIM_INFINITY))
    heard: list[LogEvent] = []
    settings = parse_settings("store: {kind: embedded}\nauth: open\nlimits: {connections: 9000}", "test", {})
    database: Any = Nothing()

    async def start(_: Resumable) -> None:
        """Nothing more."""

    monkeypatch.setattr(Resumable, "_start", start)
    globalLogPublisher.addObserver(heard.append)
    try:
        Resumable(settings, database, reactor, Metrics()).startService()
    finally:
        globalLogPublisher.removeObserver(heard.append)
    lines = [event for event in heard if "file descriptors" in str(event.get("log_format"))]
    assert len(lines) == warned
    if warned:
        assert (lines[0]["limit"], lines[0]["connections"], lines[0]["reserve"]) == (limit, 9_000, 256)
