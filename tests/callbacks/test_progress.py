"""Telling of progress: the newest, at most once a second and one call at a time, and never at anybody's cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel, globalLogPublisher

from resumable.callbacks.formats import HookResult
from resumable.callbacks.progress import LONGEST_REST, MOST_WAITING, PARALLEL, REST, ProgressTeller
from resumable.callbacks.webhooks import NotDelivered
from resumable.metrics import Metrics
from resumable.model import PROGRESS, Event, Upload
from resumable.uploads.coverage import Coverage
from resumable.uploads.result import Report
from tests.scraping import Scrape

UPLOAD = Upload("u0", "tus", "alice", "big.mp4", "bucket", "key", 1000, 16, created=0.0, updated=0.0)


class Application:
    """What is told, and the calls that it has not answered yet."""

    def __init__(self) -> None:
        self.told: list[Event] = []
        self.waiting: list[Deferred[HookResult]] = []
        #: Answers at once, or, where it is None, when the test wants it.
        self.answer: Callable[[Event], HookResult] | None = lambda event: HookResult(True, 204)

    async def tell(self, event: Event, *, waiting: bool) -> HookResult:
        assert not waiting
        self.told.append(event)
        if self.answer is not None:
            return self.answer(event)
        call: Deferred[HookResult] = Deferred()
        self.waiting.append(call)
        return await call

    @property
    def offsets(self) -> list[int]:
        return [event.data["offset"] for event in self.told]


class House:
    """A teller, and uploads that get on when the test says so."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.app = Application()
        self.metrics = Metrics()
        self.teller = ProgressTeller(self.app, self.clock, metrics=self.metrics)  # type: ignore[arg-type]
        self.offsets: dict[str, int | None] = {}
        self.stopped: list[tuple[str, str]] = []

    def move(self, offset: int | None, upload_id: str = "u0") -> None:
        """Let the upload have so many bytes; None: it has ended."""
        self.offsets[upload_id] = offset

        def report() -> Report | None:
            so_far = self.offsets[upload_id]
            return None if so_far is None else Report(evolve(UPLOAD, id=upload_id), Coverage.whole(so_far))

        self.teller.moved(upload_id, report, lambda reason: self.stopped.append((upload_id, reason)))

    def counted(self) -> dict[str, float]:
        samples = Scrape.of(self.metrics).samples("resumable_webhook_deliveries_total")
        return {labels["outcome"]: number for _, labels, number in samples if labels["type"] == PROGRESS}

    def nothing_left(self) -> bool:
        """Say whether the teller keeps nothing, and has nothing to do."""
        teller = self.teller
        return not (teller._watched or teller._queue or teller._calls or self.clock.getDelayedCalls())


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture
def warnings() -> Iterator[list[Any]]:
    """All that is logged above the level of debug."""
    seen: list[Any] = []

    def observe(event: Any) -> None:
        if event["log_level"] > LogLevel.debug:
            seen.append(event)

    globalLogPublisher.addObserver(observe)
    yield seen
    globalLogPublisher.removeObserver(observe)


def test_at_most_once_a_second(house: House) -> None:
    """The first at once; then the newest of each second, and nothing where there is nothing new."""
    for offset in (1, 2, 3):
        house.move(offset)
    assert house.app.offsets == [1]
    house.clock.advance(0.99)
    assert house.app.offsets == [1]
    house.move(4)
    house.clock.advance(0.02)
    assert house.app.offsets == [1, 4]
    house.clock.advance(1)
    assert house.nothing_left()
    house.move(5)
    assert house.app.offsets == [1, 4, 5]


def test_what_is_told(house: House) -> None:
    """The result's shape with the offset, as it is when it is told; each with an id of its own."""
    house.clock.advance(77.0)
    house.move(1)
    house.move(2)
    house.offsets["u0"] = 3
    house.clock.advance(1)
    one, other = house.app.told
    assert (one.type, one.upload_id, one.created, other.created) == (PROGRESS, "u0", 77.0, 78.0)
    assert (other.data["offset"], other.data["length"], other.data["state"]) == (3, 1000, "open")
    assert other.data["stored"] == [[0, 2]]
    assert one.id != other.id
    assert one.id.startswith("msg_")
    assert one.id == one.id, "it is asked for the header and for the signature"


def test_a_slow_application(house: House) -> None:
    """One call at a time; when it is answered, the newest is told, and a second after the last at the earliest."""
    house.app.answer = None
    house.move(1)
    house.clock.advance(7)
    for offset in range(2, 9):
        house.move(offset)
        house.clock.advance(1)
    assert house.app.offsets == [1]
    house.app.waiting.pop().callback(HookResult(True))
    assert house.app.offsets == [1, 8]
    house.app.waiting.pop().callback(HookResult(True))
    house.move(9)
    assert house.app.offsets == [1, 8]
    house.clock.advance(1)
    assert house.app.offsets == [1, 8, 9]


def test_of_each_upload(house: House) -> None:
    """One upload does not wait for another, as long as there are few."""
    house.app.answer = None
    house.move(1, "a")
    house.move(2, "b")
    assert house.app.offsets == [1, 2]


def test_the_end_of_an_upload(house: House) -> None:
    """What waits is dropped; and what comes after it, as a body's last word may, is not told."""
    house.move(1)
    house.move(2)
    house.teller.ended("u0")
    assert house.nothing_left()
    house.move(None)
    house.clock.advance(1)
    assert house.app.offsets == [1]
    assert house.nothing_left()


def test_the_end_of_an_upload_that_is_heard_of_late(house: House) -> None:
    """It was ended by another node, and nobody has said so."""
    house.move(1)
    house.move(2)
    house.offsets["u0"] = None
    house.clock.advance(1)
    house.clock.advance(1)
    assert house.app.offsets == [1]
    assert house.nothing_left()


def test_the_end_during_a_call(house: House) -> None:
    house.app.answer = None
    house.move(1)
    house.move(2)
    house.teller.ended("u0")
    house.app.waiting.pop().callback(HookResult(True))
    house.clock.advance(5)
    assert house.app.offsets == [1]
    assert house.nothing_left()


@pytest.mark.parametrize("error", [NotDelivered("cannot be reached"), ZeroDivisionError()])
def test_a_dead_application(house: House, error: Exception, warnings: list[Any]) -> None:
    """It is not told again; the next news, after a rest, are. Nobody is warned, and all is counted."""

    def fail(event: Event) -> HookResult:
        raise error

    house.app.answer = fail
    house.move(1)
    house.clock.advance(2)
    assert house.app.offsets == [1]
    house.move(2)
    house.clock.advance(REST - 2.5)
    house.move(3)
    assert house.app.offsets == [1]
    house.app.answer = lambda event: HookResult(True)
    house.clock.advance(0.6)
    assert house.app.offsets == [1, 3]
    house.clock.advance(1)
    assert house.nothing_left()
    assert house.counted() == {"failed": 1, "delivered": 1}
    assert Scrape.of(house.metrics).get("resumable_webhook_tries_total", type=PROGRESS) == 2
    assert Scrape.of(house.metrics)["resumable_webhook_delivery_lag_seconds_count"] == 0
    assert warnings == []


@pytest.mark.parametrize(("asked", "rest"), [(5.0, REST), (30.0, 30.0), (1e9, LONGEST_REST)])
def test_a_refusing_application(house: House, asked: float, rest: float) -> None:
    """``Retry-After`` makes the rest longer, up to a bound."""

    def refuse(event: Event) -> HookResult:
        raise NotDelivered("answered 429", pause=asked)

    house.app.answer = refuse
    house.move(1)
    house.move(2)
    house.clock.advance(rest - 0.1)
    assert house.app.offsets == [1]
    house.clock.advance(0.2)
    assert house.app.offsets == [1, 2]


def test_many_uploads(house: House) -> None:
    """So many calls and no more; the others have their turn in their order, before those that had one."""
    house.app.answer = None
    names = [f"u{number}" for number in range(3 * PARALLEL)]
    for name in names:
        house.move(1, name)
    assert len(house.app.waiting) == PARALLEL
    house.clock.advance(1)
    for name in names:
        house.move(2, name)
    for _ in names:
        house.app.waiting.pop(0).callback(HookResult(True))
        assert len(house.app.waiting) == PARALLEL
    assert [event.upload_id for event in house.app.told[: len(names)]] == names
    # Those that waited were told the newer offset at once.
    assert house.app.offsets[: len(names)] == [1] * PARALLEL + [2] * (2 * PARALLEL)


def test_uploads_that_end_while_they_wait_for_their_turn(house: House) -> None:
    house.app.answer = None
    for number in range(PARALLEL + 3):
        house.move(1, f"u{number}")
    house.teller.ended(f"u{PARALLEL}")
    house.offsets[f"u{PARALLEL + 1}"] = None
    house.app.waiting.pop(0).callback(HookResult(True))
    assert house.app.told[-1].upload_id == f"u{PARALLEL + 2}"
    assert len(house.app.told) == PARALLEL + 1


def test_far_too_many_uploads(house: House) -> None:
    """An application that answers nothing takes no more memory than for so many."""
    house.app.answer = None
    for number in range(PARALLEL + MOST_WAITING + 50):
        house.move(1, f"u{number}")
    assert len(house.teller._watched) == PARALLEL + MOST_WAITING
    assert len(house.teller._queue) == MOST_WAITING


def test_a_hook_that_stops_an_upload(house: House) -> None:
    house.app.answer = lambda event: HookResult(True, stop="no project")
    house.move(1)
    assert house.stopped == [("u0", "no project")]


@pytest_twisted.ensureDeferred
async def test_stopping(house: House, warnings: list[Any]) -> None:
    """All is dropped: what waits, and the call under way."""
    house.app.answer = None
    for number in range(PARALLEL + 2):
        house.move(1, f"u{number}")
        house.move(2, f"u{number}")
    calls = list(house.app.waiting)
    await house.teller.stop()
    assert all(call.called for call in calls)
    assert house.nothing_left()
    house.move(3)
    assert len(house.app.told) == PARALLEL
    assert house.nothing_left()
    assert house.counted() == {}
    assert warnings == []
    for call in calls:
        call.addErrback(lambda failure: failure.trap(CancelledError))


@pytest.mark.parametrize("offset", [5, None])
def test_many_that_are_answered_for_at_once(house: House, warnings: list[Any], offset: int | None) -> None:
    """Thousands waited for their turn, and then each is told of, or has nothing to tell, without any waiting."""
    answer, house.app.answer = house.app.answer, None
    for number in range(PARALLEL + 3000):
        house.move(5, f"u{number}")
    for number in range(PARALLEL, PARALLEL + 3000):
        house.offsets[f"u{number}"] = offset
    house.app.answer = answer
    house.app.waiting.pop().callback(HookResult(True, 204))
    assert warnings == []
    assert len(house.teller._queue) == 0
    assert len(house.app.told) == PARALLEL + (3000 if offset else 0)
    for call in house.app.waiting:
        call.callback(HookResult(True, 204))
    house.clock.advance(1.1)
    assert house.nothing_left()
