"""Readiness: parts that work, fail, hang and come back, on a clock under the test's control."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import Logger

from resumable.model import Unavailable
from resumable.stores.port import StoreError, StoreUnavailable
from resumable.upkeep.readiness import FRESH, LIMIT, ProbeStatus, Readiness


class Part:
    """Does what it is told to when it is tried; None: nothing, until `ended` is fired."""

    def __init__(self) -> None:
        self.tried = 0
        self.does: Exception | str | None = "work"
        self.ended: Deferred[None] = Deferred()

    async def __call__(self) -> None:
        self.tried += 1
        if isinstance(self.does, Exception):
            raise self.does
        if self.does is None:
            self.ended = Deferred()
            await self.ended


class Watched:
    """Two parts under watch, and what was told of them."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.ledger, self.store = Part(), Part()
        self.told: list[tuple[str, bool]] = []
        probes = {"ledger": self.ledger, "store": self.store}
        self.readiness = Readiness(self.clock, probes, lambda *what: self.told.append(what))  # type: ignore[arg-type]

    def begin(self) -> Deferred[dict[str, ProbeStatus]]:
        return Deferred.fromCoroutine(self.readiness.look())

    def look(self) -> dict[str, ProbeStatus]:
        """An answer that is there at once."""
        asked = self.begin()
        assert asked.called
        return result(asked)


def result(asked: Deferred[Any]) -> Any:
    assert asked.called
    return asked.result


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_all_is_well(watched: Watched) -> None:
    assert watched.look() == {"ledger": ProbeStatus(True, 1000), "store": ProbeStatus(True, 1000)}
    assert watched.told == [("ledger", True), ("store", True)]


def test_asking_often_costs_nothing(watched: Watched) -> None:
    for _ in range(1000):
        watched.look()
    watched.clock.advance(FRESH - 0.1)
    watched.look()
    assert (watched.ledger.tried, watched.store.tried) == (1, 1)
    watched.clock.advance(0.1)
    watched.look()
    assert (watched.ledger.tried, watched.store.tried) == (2, 2)


def test_many_who_ask_at_once_share_one_try(watched: Watched) -> None:
    watched.store.does = None
    asked = [watched.begin() for _ in range(50)]
    assert watched.store.tried == 1
    assert not any(one.called for one in asked)
    watched.store.ended.callback(None)
    assert all(result(one)["store"].ok for one in asked)


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (StoreError("AccessDenied", "User: arn:aws:iam::123:user/hidden may not", 403), "AccessDenied"),
        (StoreUnavailable("ConnectionRefusedError", "hidden"), "ConnectionRefusedError"),
        (Unavailable("the ledger did not answer"), "the ledger did not answer"),
    ],
)
def test_what_fails_and_since_when(watched: Watched, trouble: Exception, reason: str) -> None:
    """The verdict keeps its beginning as long as it stands; a store's own words, which may hold names, are left out."""
    watched.look()
    watched.store.does = trouble
    watched.clock.advance(10)
    assert watched.look()["store"] == ProbeStatus(False, 1010, reason)
    watched.clock.advance(10)
    verdicts = watched.look()
    assert verdicts["store"] == ProbeStatus(False, 1010, reason)
    assert verdicts["ledger"] == ProbeStatus(True, 1000)
    watched.store.does = "work"
    watched.clock.advance(10)
    assert watched.look()["store"] == ProbeStatus(True, 1030)
    assert [ok for part, ok in watched.told if part == "store"] == [True, False, False, True]


def test_a_part_that_hangs_keeps_nobody_waiting(watched: Watched) -> None:
    """The first who asks waits a little, all others not at all; and while a try hangs no other is begun."""
    watched.ledger.does = None
    asked = watched.begin()
    watched.clock.advance(LIMIT - 0.1)
    assert not asked.called
    watched.clock.advance(0.1)
    assert result(asked)["ledger"] == ProbeStatus(False, 1000 + LIMIT, "no answer within 3 s")
    assert result(asked)["store"].ok
    for _ in range(5):
        watched.clock.advance(FRESH)
        assert not watched.look()["ledger"].ok
    assert watched.ledger.tried == 1
    watched.ledger.ended.callback(None)
    assert watched.look()["ledger"] == ProbeStatus(True, watched.clock.seconds())
    watched.clock.advance(FRESH)
    watched.ledger.does = "work"
    watched.look()
    assert watched.ledger.tried == 2
    assert watched.clock.getDelayedCalls() == []


def test_draining_is_not_ready(watched: Watched) -> None:
    watched.clock.advance(5)
    watched.readiness.drain()
    watched.clock.advance(5)
    assert watched.look()["service"] == ProbeStatus(False, 1005, "draining")


def test_draining_while_somebody_waits(watched: Watched) -> None:
    """Whoever has asked before is told what is so when it is told."""
    watched.store.does = None
    asked = watched.begin()
    watched.readiness.drain()
    watched.store.ended.callback(None)
    assert not result(asked)["service"].ok


def test_a_try_that_is_faulty_itself(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake of ours is logged with its traceback, told by its kind alone, and does not end the watching."""
    logged = []
    monkeypatch.setattr(Logger, "failure", lambda *_, **what: logged.append(what))
    watched.store.does = KeyError("hidden")
    assert watched.look()["store"] == ProbeStatus(False, 1000, "KeyError")
    assert logged == [{"part": "store"}]
    watched.store.does = "work"
    watched.clock.advance(FRESH)
    assert watched.look()["store"].ok
