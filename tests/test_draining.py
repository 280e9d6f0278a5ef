"""The end of the connections when the service stops."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher

from resumable.draining import LEAST, drain


class Connection:
    """A connection with one request under way."""

    def __init__(self, site: Site) -> None:
        self.requests = [object()]
        self.aborted = False
        self.site = site
        site.channels.add(self)

    def answer(self) -> None:
        self.site.channels.discard(self)

    def forceAbortClient(self) -> None:
        self.aborted = True
        self.answer()


class Site:
    def __init__(self) -> None:
        self.channels: set[Connection] = set()
        self.drained = 0

    def drain(self) -> None:
        self.drained += 1


class End:
    """A service with two requests under way that is told to stop, and has 30 s for that."""

    def __init__(self) -> None:
        self.clock, self.site, self.why = Clock(), Site(), ""
        self.first, self.second = Connection(self.site), Connection(self.site)

    def begin(self) -> Deferred[None]:
        return Deferred.fromCoroutine(drain(self.site, self.clock, 30.0, lambda: self.why))

    def wait(self, seconds: float) -> None:
        self.clock.pump([0.05] * round(seconds / 0.05))


@pytest.fixture
def said() -> Iterator[list[str]]:
    found: list[str] = []

    def observe(event: dict[str, Any]) -> None:
        if event["log_namespace"] == "resumable.draining":
            found.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


def test_nothing_is_under_way(said: list[str]) -> None:
    end = End()
    end.site.channels.clear()
    assert end.begin().called
    assert end.site.drained == 1
    assert said == []


def test_what_runs_ends_by_itself(said: list[str]) -> None:
    end = End()
    ending = end.begin()
    end.wait(5)
    end.first.answer()
    end.wait(5)
    assert not ending.called
    end.second.answer()
    end.wait(0.1)
    assert ending.called
    assert (end.first.aborted, end.second.aborted) == (False, False)
    assert said == ["stopping: 2 requests are under way, and have 30 s to end"]


def test_what_does_not_end_in_time_is_cut_off(said: list[str]) -> None:
    end = End()
    ending = end.begin()
    end.first.answer()
    end.wait(29.9)
    assert not ending.called
    end.wait(0.2)
    assert ending.called
    assert end.second.aborted
    assert said[1:] == [
        "1 requests are cut off after 30 s (limits.drain is over): what was confirmed is safe, and clients go on from there"
    ]


def test_where_nothing_can_succeed_nothing_is_waited_for(said: list[str]) -> None:
    """What needs no store has a moment to end, and gets its answer."""
    end = End()
    end.why = "the store is out"
    ending = end.begin()
    end.first.answer()
    end.wait(LEAST - 0.1)
    assert not ending.called
    end.wait(0.2)
    assert ending.called
    assert (end.first.aborted, end.second.aborted) == (False, True)
    assert said[1:] == [
        "1 requests are cut off after 1 s (the store is out): what was confirmed is safe, and clients go on from there"
    ]


def test_it_turns_out_while_others_wait(said: list[str]) -> None:
    end = End()
    ending = end.begin()
    end.wait(6)
    end.why = "the ledger is out"
    end.wait(0.1)
    assert ending.called
    assert "(the ledger is out)" in said[-1]
