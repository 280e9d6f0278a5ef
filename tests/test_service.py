"""What the service says of the process that it is in."""

from __future__ import annotations

import resource
from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, LogLevel, globalLogPublisher

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


class Reactor:
    """What a start that has failed does to the reactor."""

    def __init__(self) -> None:
        self.stopped = 0

    def callWhenRunning(self, call: Callable[[], object]) -> None:
        call()

    def stop(self) -> None:
        self.stopped += 1


@pytest.mark.parametrize("stubborn", [False, True])
@pytest_twisted.ensureDeferred
async def test_stop_while_it_starts(monkeypatch: pytest.MonkeyPatch, stubborn: bool) -> None:
    """What was started is closed, and nothing more is started; that is no failure."""
    closed: list[str] = []
    starting: Deferred[None] = Deferred()

    async def start(service: Resumable) -> None:
        service._stack.push("first", lambda: closed.append("first"))
        try:
            await starting
        except CancelledError:
            if not stubborn:
                raise
            await deferLater(reactor, 0)  # type: ignore[arg-type]
        service._stack.push("second", lambda: closed.append("second"))
        closed.append("started the second")

    monkeypatch.setattr(Resumable, "_start", start)
    settings = parse_settings("store: {kind: embedded}\nauth: open", "test", {})
    database: Any = Nothing()
    fake = Reactor()
    heard: list[LogEvent] = []
    globalLogPublisher.addObserver(heard.append)
    try:
        service = Resumable(settings, database, fake, Metrics())
        service.startService()
        await service.stopService()
        await deferLater(reactor, 0.01)  # type: ignore[arg-type]
    finally:
        globalLogPublisher.removeObserver(heard.append)
    assert closed == ["first"]
    assert fake.stopped == 0
    assert [event for event in heard if event["log_level"] >= LogLevel.error] == []
