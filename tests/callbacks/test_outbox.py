"""The outbox on a real queue: each event arrives at least once, in its upload's order, with one id, whatever dies when."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import Clock, deferLater

from resumable.callbacks.formats import HookResult
from resumable.callbacks.outbox import PAUSES, Outbox
from resumable.callbacks.webhooks import NotDelivered
from resumable.ledger.database import Database
from resumable.ledger.ledger import Ledger
from resumable.ledger.queue import EventQueue
from resumable.metrics import Metrics
from resumable.model import EVENTS, LIVE, Event, State, Unavailable, Upload
from resumable.uploads.events import CREATED, FINISHED, Announcer
from tests.scraping import Scrape

START = 1_000_000.0
UPLOAD = Upload("u1", "tus", "alice", "big.mp4", "bucket", "key", 5, 6 << 20, created=START, updated=START)


class Application:
    """What is told, and what it says: `answer` returns a verdict or raises `NotDelivered`."""

    timeout = 15.0
    shown = "http://app"

    def __init__(self) -> None:
        self.told: list[Event] = []
        self.answer: Callable[[Event], HookResult] = lambda event: HookResult(True, 204)

    async def tell(self, event: Event, *, waiting: bool) -> HookResult:
        await deferLater(reactor, 0)  # type: ignore[arg-type]
        self.told.append(event)
        return self.answer(event)

    async def close(self) -> None:
        """Nothing to close."""


def refuse(reason: str = "answered 500", **how: Any) -> Callable[[Event], HookResult]:
    def answer(event: Event) -> HookResult:
        raise NotDelivered(reason, **how)

    return answer


@pytest.fixture
def database() -> Iterator[Database]:
    opened = Database("sqlite://", reactor)
    opened.prepare()
    opened.start()
    yield opened
    pytest_twisted.blockon(ensureDeferred(opened.close()))


@pytest.fixture
def clock() -> Clock:
    started = Clock()
    started.advance(START)
    return started


class House:
    """An outbox with its ledger, queue, application and clock."""

    def __init__(self, database: Database, clock: Clock, **options: Any) -> None:
        self.clock = clock
        self.app = Application()
        self.queue = EventQueue(database)
        self.ledger = Ledger(database, Announcer(EVENTS.values()))
        self.options = {"give_up_after": 3 * 86400.0, "random": lambda: 0.0, **options}
        self.start()

    def start(self) -> None:
        self.outbox = Outbox(self.queue, self.app, self.clock, **self.options)  # type: ignore[arg-type]
        self.ledger.announced = self.outbox.wake
        self.outbox.start()

    async def until(self, true: Callable[[], Any], *, advance: float = 0.0) -> None:
        """Let things happen until `true`."""
        for _ in range(600):
            if true():
                return
            self.clock.advance(advance)
            await deferLater(reactor, 0.005)  # type: ignore[arg-type]
        raise AssertionError("it did not happen")

    async def quiet(self) -> None:
        """Let everything happen that happens without time passing."""
        for _ in range(8):
            await deferLater(reactor, 0.005)  # type: ignore[arg-type]

    async def finish(self, number: int = 1) -> Upload:
        upload = evolve(UPLOAD, id=f"u{number}")
        await self.ledger.create(upload)
        moved = await self.ledger.move(upload, State.FINISHED, frm=LIVE, updated=self.clock.seconds(), finished=START)
        assert moved is not None
        return moved

    async def stop(self) -> None:
        await self.outbox.stop()


@pytest.fixture
def wiring(database: Database, clock: Clock) -> Iterator[House]:
    made = House(database, clock)
    yield made
    pytest_twisted.blockon(ensureDeferred(made.stop()))


def types(events: list[Event]) -> list[str]:
    return [event.type for event in events]


@pytest_twisted.ensureDeferred
async def test_told_at_once_and_in_order(wiring: House) -> None:
    await wiring.finish()
    await wiring.until(lambda: len(wiring.app.told) == 2)
    assert types(wiring.app.told) == ["upload.created", "upload.finished"]
    assert wiring.app.told[1].data["state"] == "finished"
    await wiring.quiet()
    assert len(wiring.app.told) == 2
    assert {queued.state for queued in await wiring.queue.list()} == {"delivered"}


@pytest_twisted.ensureDeferred
async def test_the_pauses_between_tries(wiring: House) -> None:
    """5 s, 30 s, 2 min, 10 min, 1 h, then every 3 h, until it is a dead letter; the next event of the upload waits for that."""
    wiring.app.answer = refuse()
    await wiring.finish()
    pauses: list[float] = []
    tries = 1
    while True:
        await wiring.until(lambda: len(wiring.app.told) >= tries)  # noqa: B023
        await wiring.quiet()
        newest, oldest = await wiring.queue.list()
        if oldest.state == "dead":
            break
        assert (oldest.tries, newest.tries) == (tries, 0)
        pauses.append(oldest.due - wiring.clock.seconds())
        wiring.clock.advance(pauses[-1] - 0.5)
        await wiring.quiet()
        assert len(wiring.app.told) == tries, "not before it is due"
        wiring.clock.advance(0.5)
        tries += 1
    assert pauses[:6] == pytest.approx(PAUSES, abs=0.1)
    assert {round(pause) for pause in pauses[6:-1]} == {10800}
    assert wiring.clock.seconds() - START == pytest.approx(3 * 86400.0, abs=1)
    assert len({event.id for event in wiring.app.told if event.type == "upload.created"}) == 1
    await wiring.until(lambda: wiring.app.told[-1].type == "upload.finished")
    dead = await wiring.queue.list(states=["dead"])
    assert [(queued.event.type, queued.problem) for queued in dead] == [("upload.created", "answered 500")]


@pytest_twisted.ensureDeferred
async def test_what_the_application_asks_for(wiring: House) -> None:
    """Retry-After makes a pause longer, never shorter; 410 ends the trying."""
    wiring.app.answer = refuse(pause=77.0)
    await wiring.finish()
    await wiring.until(lambda: len(wiring.app.told) == 1)
    await wiring.quiet()
    (queued,) = (q for q in await wiring.queue.list() if q.tries)
    assert queued.due - wiring.clock.seconds() == 77.0
    wiring.app.answer = refuse(pause=1.0)
    wiring.clock.advance(77.0)
    await wiring.until(lambda: len(wiring.app.told) == 2)
    await wiring.quiet()
    (queued,) = (q for q in await wiring.queue.list() if q.tries)
    assert queued.due - wiring.clock.seconds() == 30.0
    wiring.app.answer = refuse("answered 410", gone=True)
    wiring.clock.advance(30.0)
    await wiring.until(lambda: len(wiring.app.told) == 4)
    await wiring.quiet()
    assert {queued.state for queued in await wiring.queue.list()} == {"dead"}


@pytest_twisted.ensureDeferred
async def test_many_at_a_time_but_one_for_each_upload(wiring: House) -> None:
    """While the application is slow, sixteen are under way at the most, of as many uploads."""
    waiting: list[tuple[Event, Deferred[HookResult]]] = []

    async def tell(event: Event, *, waiting_: Any = waiting, **_: Any) -> HookResult:
        answer: Deferred[HookResult] = Deferred()
        waiting_.append((event, answer))
        return await answer

    wiring.app.tell = tell  # type: ignore[method-assign,assignment]
    for number in range(20):
        await wiring.finish(number)
    await wiring.until(lambda: len(waiting) == 16)
    await wiring.quiet()
    assert len(waiting) == 16
    assert len({event.upload_id for event, _ in waiting}) == 16
    done = 0
    while done < 40:
        await wiring.until(lambda: waiting)
        event, answer = waiting.pop(0)
        assert event.upload_id not in [other.upload_id for other, _ in waiting]
        answer.callback(HookResult(True, 204))
        done += 1
        await wiring.until(lambda: waiting or done == 40)  # noqa: B023


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["take", "tell", "delivered", "try_later"])
@pytest_twisted.ensureDeferred
async def test_dying_at_each_step(database: Database, clock: Clock, step: str, when: str) -> None:
    """The process dies before or after any step: its successor tells what is due, in order, with the same ids."""
    wiring = House(database, clock)
    failures = [refuse()] if step == "try_later" else []

    def answer(event: Event) -> HookResult:
        return failures.pop()(event) if failures else HookResult(True, 204)

    wiring.app.answer = answer
    where: Any = wiring.app if step == "tell" else wiring.queue
    work = getattr(where, step)
    dead: list[int] = []

    async def dying(*args: Any, **options: Any) -> Any:
        if step == "take" and not dead and not await wiring.queue.list(states=["due"]):
            return await work(*args, **options)
        if dead or when == "before":
            dead.append(1)
            await Deferred()
        result = await work(*args, **options)
        dead.append(1)
        await Deferred()
        return result

    setattr(where, step, dying)
    await wiring.finish()
    await wiring.until(lambda: dead)
    delattr(where, step)
    wiring.clock.advance(60.0)  # what the dead one had taken is free again
    wiring.start()
    await wiring.until(lambda: "upload.finished" in types(wiring.app.told), advance=1.0)
    await wiring.quiet()
    told = types(wiring.app.told)
    assert told == sorted(told), "created before finished"
    assert len({event.id for event in wiring.app.told}) == 2
    assert {queued.state for queued in await wiring.queue.list()} == {"delivered"}
    await wiring.stop()


@pytest_twisted.ensureDeferred
async def test_stopping_lets_a_try_end(database: Database, clock: Clock) -> None:
    """A try under way gets a moment; one that takes longer is due again at once after the next start."""
    wiring = House(database, clock)
    wiring.app.answer = lambda event: HookResult(True, 204)
    never: Deferred[HookResult] = Deferred()

    async def tell(event: Event, *, waiting: bool) -> HookResult:
        return await never

    wiring.app.tell = tell  # type: ignore[method-assign]
    await wiring.finish()
    await wiring.until(lambda: wiring.outbox._tries)
    stopping = ensureDeferred(wiring.stop())
    await wiring.quiet()
    assert not stopping.called
    clock.advance(5.0)
    await stopping
    (first,) = [queued for queued in await wiring.queue.list() if queued.tries]
    assert (first.state, first.taken, first.problem) == ("due", None, "the service was stopped")
    assert first.due <= clock.seconds()


# Clients that wait


@pytest_twisted.ensureDeferred
async def test_a_client_hears_the_applications_answer(database: Database, clock: Clock) -> None:
    """Now, and when it asks again; the application is told once."""
    wiring = House(database, clock, wait=True)
    said = HookResult(True, 201, (("Content-Type", "text/plain"),), b"\xff thanks")
    wiring.app.answer = lambda event: said
    upload = await wiring.finish()
    assert await wiring.outbox.await_verdict(upload.id) == said
    assert await wiring.outbox.await_verdict(upload.id) == said
    assert types(wiring.app.told) == ["upload.created", "upload.finished"]
    assert await wiring.outbox.await_verdict("unknown") is None
    await wiring.stop()


@pytest_twisted.ensureDeferred
async def test_a_client_waits_while_others_try(database: Database, clock: Clock) -> None:
    """Two ask at once, and the outbox is at it already: one try, one answer for all."""
    wiring = House(database, clock, wait=True)
    answer: Deferred[HookResult] = Deferred()
    told: list[str] = []

    async def tell(event: Event, *, waiting: bool) -> HookResult:
        told.append(event.type)
        return await answer if event.type == "upload.finished" else HookResult(True)

    wiring.app.tell = tell  # type: ignore[method-assign]
    upload = await wiring.finish()
    asking = [ensureDeferred(wiring.outbox.await_verdict(upload.id)) for _ in range(2)]
    await wiring.until(lambda: "upload.finished" in told)
    await wiring.quiet()
    answer.callback(HookResult(True, 200, (), b"ok"))
    await wiring.until(lambda: all(one.called for one in asking), advance=0.1)
    assert [(await one).body for one in asking] == [b"ok", b"ok"]  # type: ignore[union-attr]
    assert told == ["upload.created", "upload.finished"]
    await wiring.stop()


@pytest_twisted.ensureDeferred
async def test_a_client_asks_again(database: Database, clock: Clock) -> None:
    """The application cannot be reached, then says no, then yes: each time the client asks, it is asked; the event stays due."""
    wiring = House(database, clock, wait=True)
    wiring.app.answer = refuse("cannot be reached")
    upload = await wiring.finish()
    with pytest.raises(Unavailable, match="cannot be reached"):
        await wiring.outbox.await_verdict(upload.id)
    wiring.app.answer = lambda event: HookResult(True) if event.type == "upload.created" else refuse(
        "answered 422", verdict=HookResult(False, 422, (), b"no")
    )(event)  # fmt: skip
    no = await wiring.outbox.await_verdict(upload.id)
    assert no is not None
    assert (no.status, no.body) == (422, b"no")
    assert [queued.state for queued in await wiring.queue.list()] == ["due", "delivered"]
    wiring.app.answer = lambda event: HookResult(True, 200, (), b"yes")
    yes = await wiring.outbox.await_verdict(upload.id)
    assert yes is not None
    assert yes.body == b"yes"
    await wiring.stop()


@pytest_twisted.ensureDeferred
async def test_what_is_counted(database: Database, clock: Clock) -> None:
    """Each try, what came of it, and how long an event was on its way; one that is told at last was retried before."""
    metrics = Metrics()
    wiring = House(database, clock, metrics=metrics, give_up_after=100.0)
    wiring.app.answer = lambda event: refuse()(event) if len(wiring.app.told) == 1 else HookResult(True, 204)
    await wiring.finish()
    await wiring.until(lambda: len(wiring.app.told) == 1)
    await wiring.until(lambda: len(wiring.app.told) == 3, advance=0.5)
    await wiring.quiet()
    scrape = Scrape.of(metrics)
    assert scrape.get("resumable_webhook_tries_total", type="upload.created") == 2
    assert scrape.get("resumable_webhook_tries_total", type="upload.finished") == 1
    outcomes = {(x["type"], x["outcome"]) for _, x, n in scrape.samples("resumable_webhook_deliveries_total") if n}
    assert outcomes == {(CREATED, "retried"), (CREATED, "delivered"), (FINISHED, "delivered")}
    assert scrape["resumable_webhook_delivery_lag_seconds_count"] == 2
    assert 10 <= scrape["resumable_webhook_delivery_lag_seconds_sum"] <= 20
    wiring.app.answer = refuse(gone=True)
    await wiring.finish(2)
    await wiring.until(lambda: len(wiring.app.told) == 5)
    await wiring.quiet()
    assert Scrape.of(metrics).get("resumable_webhook_deliveries_total", outcome="dead") == 2
    await wiring.stop()


@pytest_twisted.ensureDeferred
async def test_an_answer_that_cannot_be_judged(database: Database, clock: Clock) -> None:
    """By a fault of ours: it is a try that failed, with the pauses and the end of those."""
    wiring = House(database, clock, give_up_after=100.0)

    def fail(event: Event) -> HookResult:
        raise UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")

    wiring.app.answer = fail
    await wiring.finish()
    await wiring.until(lambda: len(wiring.app.told) == 1)
    await wiring.quiet()
    (tried,) = [queued for queued in await wiring.queue.list() if queued.tries]
    assert (tried.state, tried.taken, tried.due - clock.seconds()) == ("due", None, PAUSES[0])
    assert "UnicodeEncodeError" in str(tried.problem)
    await wiring.until(lambda: len(wiring.app.told) == 8, advance=2.0)
    await wiring.quiet()
    assert {queued.state for queued in await wiring.queue.list()} == {"dead"}
    await wiring.stop()


@pytest_twisted.ensureDeferred
async def test_a_client_hears_that_it_cannot_be_judged(database: Database, clock: Clock) -> None:
    wiring = House(database, clock, wait=True)

    def fail(event: Event) -> HookResult:
        if event.type == "upload.finished":
            raise RecursionError
        return HookResult(True)

    wiring.app.answer = fail
    upload = await wiring.finish()
    with pytest.raises(Unavailable):
        await wiring.outbox.await_verdict(upload.id)
    assert types(wiring.app.told)[:2] == ["upload.created", "upload.finished"]
    await wiring.stop()
