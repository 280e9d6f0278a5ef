"""Outages: one line at the beginning and one at the end, on a clock under the test's control."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel, formatEvent, globalLogPublisher

from resumable.outages import AGAIN, AUTH, CALM, DOUBT, EVENTS, LEDGER, STORE, Outages, Part


class Watched:
    """The store under watch, and what the log says of it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.outages = Outages(self.clock)
        self.store = self.outages.store
        self.lines: list[tuple[str, str]] = []

    def __call__(self, event: dict[str, Any]) -> None:
        if event["log_namespace"] == "resumable.outages" and event["log_level"] > LogLevel.debug:
            self.lines.append((event["log_level"].name, formatEvent(event)))

    def take(self) -> list[tuple[str, str]]:
        lines, self.lines = self.lines, []
        return lines

    def begin(self) -> None:
        """Have the store be out since the second 1000."""
        self.store.failed("ConnectionRefusedError to UploadPart")
        self.clock.advance(DOUBT)
        self.store.failed("ConnectionRefusedError to UploadPart")
        assert self.store.out
        assert len(self.take()) == 1


@pytest.fixture
def watched() -> Iterator[Watched]:
    made = Watched()
    globalLogPublisher.addObserver(made)
    yield made
    globalLogPublisher.removeObserver(made)
    made.outages.stop()
    assert made.clock.getDelayedCalls() == []


def test_the_line_at_the_beginning_says_what_since_when_and_what_clients_see(watched: Watched) -> None:
    watched.store.failed("ConnectionRefusedError to UploadPart")
    watched.clock.advance(DOUBT - 0.1)
    watched.store.failed("Silent to UploadPart")
    assert watched.take() == []
    watched.clock.advance(0.1)
    watched.store.failed("ConnectionRefusedError to UploadPart")
    said = (
        "store is out since 1970-01-01T00:16:40Z: ConnectionRefusedError to UploadPart; uploads under way wait, then get "
        "503; what was confirmed is safe, and clients go on from there"
    )
    assert watched.take() == [("warn", said)]


def test_one_line_however_many_fail(watched: Watched) -> None:
    watched.begin()
    for _ in range(1000):
        watched.store.failed("ConnectionRefusedError to PutObject")
        watched.outages.refused(STORE, "the store is in trouble")
        watched.clock.advance(1)
    assert watched.take() == []
    watched.store.worked()
    watched.clock.advance(CALM)
    assert watched.take() == [("info", "store works again after 1003 s: 1000 requests were refused")]
    assert not watched.store.out


def test_a_failure_among_others_that_work_is_no_outage(watched: Watched) -> None:
    for _ in range(100):
        watched.store.failed("InternalError to UploadPart")
        watched.clock.advance(DOUBT - 0.5)
        watched.store.worked()
    assert watched.take() == []


def test_a_client_that_is_refused_after_failures_is_the_beginning(watched: Watched) -> None:
    """No need to wait for a second failure: it was tried again before."""
    watched.store.failed("Silent to PutObject")
    watched.outages.refused(STORE, "the store is in trouble: Silent")
    assert [level for level, _ in watched.take()] == ["warn"]
    watched.clock.advance(2)
    watched.store.worked()
    watched.clock.advance(CALM)
    assert watched.take() == [("info", "store works again after 2 s: 1 requests were refused")]


def test_a_refusal_that_nothing_else_speaks_for(watched: Watched) -> None:
    """One strange object, say: what is tried then works, and there is nothing to tell."""
    watched.store.attempt = trying(watched.store)
    watched.outages.refused(STORE, "the store said that 5 bytes are stored, and has none")
    watched.clock.advance(AGAIN)
    assert watched.take() == []
    assert not watched.store.out


def trying(part: Part) -> Any:
    """A try that works."""

    async def attempt() -> None:
        part.worked()

    return attempt


def test_it_is_not_over_while_calls_still_fail(watched: Watched) -> None:
    """A store that answers every other time fills no log."""
    watched.begin()
    for _ in range(20):
        watched.store.worked()
        watched.clock.advance(CALM - 0.1)
        watched.store.failed("ServiceUnavailable to PutObject")
    assert watched.take() == []
    watched.store.worked()
    watched.clock.advance(CALM)
    assert [level for level, _ in watched.take()] == ["info"]
    watched.clock.advance(3600)
    assert watched.take() == []


def test_nobody_has_to_ask(watched: Watched) -> None:
    """What has failed once is tried from here, so that beginning and end are told although no client comes."""
    works = False
    tries: list[float] = []

    async def attempt() -> None:
        tries.append(watched.clock.seconds())
        if works:
            watched.store.worked()
        else:
            watched.store.failed("ConnectionRefusedError to HeadBucket")
            raise OSError("hidden")

    watched.store.attempt = attempt
    watched.store.failed("ConnectionRefusedError to UploadPart")
    watched.clock.pump([1.0] * 60)
    assert [level for level, _ in watched.take()] == ["warn"]
    assert tries == [1000 + AGAIN * number for number in range(1, 13)]
    works = True
    watched.clock.pump([1.0] * 60)
    assert watched.take() == [("info", "store works again after 65 s: 0 requests were refused")]
    assert len(tries) == 13, "what works is not tried"


def test_a_try_that_hangs_is_alone_and_ends_with_the_service(watched: Watched) -> None:
    ended: list[str] = []
    hanging: Deferred[None] = Deferred(lambda _: ended.append("cancelled"))
    begun: list[int] = []

    async def attempt() -> None:
        begun.append(1)
        await hanging

    watched.store.attempt = attempt
    watched.begin()
    watched.clock.pump([1.0] * 60)
    assert len(begun) == 1
    watched.outages.refused(STORE, "the store is in trouble")
    watched.outages.stop()
    assert ended == ["cancelled"]
    assert watched.take() == [("warn", "store is still out at the end, after 63 s: 1 requests were refused")]
    watched.store.worked()


def test_each_part_has_its_own(watched: Watched) -> None:
    for name in (STORE, LEDGER, AUTH, EVENTS):
        watched.outages.refused(name, "first")
        watched.outages.refused(name, "second")
    begun = [line.partition(" is out")[0] for _, line in watched.take()]
    assert begun == [STORE, LEDGER, AUTH, EVENTS]
    watched.outages.refused("", "of no part")
    watched.outages.refused("moon", "of no part")
    assert watched.take() == []


@pytest.mark.parametrize(
    ("waits", "told"), [(False, "clients notice nothing"), (True, "clients that wait for its answer get 503")]
)
def test_what_clients_see_of_an_application_that_hears_of_events(watched: Watched, waits: bool, told: str) -> None:
    outages = Outages(watched.clock, waits=waits)
    outages.refused(EVENTS, "first")
    outages.refused(EVENTS, "second")
    [(_, line)] = watched.take()
    assert told in line
    outages.stop()
