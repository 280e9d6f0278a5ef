"""Work that is done once for all who ask while it runs."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from resumable.single_flight import SingleFlight

case = SynchronousTestCase()


class Work:
    """Work that ends when the test says so."""

    def __init__(self) -> None:
        self.begun: list[Deferred[str]] = []
        self.cancelled = 0

    async def __call__(self) -> str:
        ending: Deferred[str] = Deferred()
        self.begun.append(ending)
        try:
            return await ending
        except CancelledError:
            self.cancelled += 1
            raise


def ask(flights: SingleFlight[str], work: Work) -> Deferred[str]:
    return Deferred.fromCoroutine(flights.join("key", work))


def test_all_who_ask_meanwhile_share_it_and_the_next_starts_anew() -> None:
    flights, work = SingleFlight[str](), Work()
    asked = [ask(flights, work) for _ in range(3)]
    assert len(work.begun) == 1
    assert flights.running("key")
    work.begun[0].callback("done")
    assert [case.successResultOf(each) for each in asked] == ["done"] * 3
    assert not flights.running("key")
    ask(flights, work)
    assert len(work.begun) == 2


def test_what_it_raises_each_of_them_gets() -> None:
    flights, work = SingleFlight[str](), Work()
    asked = [ask(flights, work) for _ in range(3)]
    work.begun[0].errback(ValueError("no"))
    assert [str(case.failureResultOf(each, ValueError).value) for each in asked] == ["no"] * 3


def test_who_stops_waiting_takes_nothing_away_from_the_others() -> None:
    """Whoever it is: the first too, who started it."""
    flights, work = SingleFlight[str](), Work()
    first, second, third = (ask(flights, work) for _ in range(3))
    first.cancel()
    third.cancel()
    case.failureResultOf(first, CancelledError)
    case.failureResultOf(third, CancelledError)
    work.begun[0].callback("done")
    assert case.successResultOf(second) == "done"
    assert work.cancelled == 0


def test_work_that_nobody_waits_for_is_cancelled() -> None:
    flights, work = SingleFlight[str](), Work()
    first, second = ask(flights, work), ask(flights, work)
    first.cancel()
    second.cancel()
    assert work.cancelled == 1
    case.failureResultOf(first, CancelledError)
    case.failureResultOf(second, CancelledError)
    assert not flights.running("key")


def test_who_asks_while_cancelled_work_ends_starts_anew() -> None:
    flights: SingleFlight[str] = SingleFlight()
    tidying: Deferred[None] = Deferred()
    work = Work()

    async def tidy() -> str:
        try:
            return await work()
        finally:
            await tidying

    first = Deferred.fromCoroutine(flights.join("key", tidy))
    first.cancel()
    case.assertNoResult(first)
    second = ask(flights, work)
    gone = ask(flights, work)
    gone.cancel()
    case.failureResultOf(gone, CancelledError)
    assert len(work.begun) == 1
    tidying.callback(None)
    case.failureResultOf(first, CancelledError)
    work.begun[1].callback("anew")
    assert case.successResultOf(second) == "anew"


def test_work_that_goes_on_to_its_end() -> None:
    """Who asks again meanwhile gets what comes of it."""
    flights, work = SingleFlight[str](to_end=True), Work()
    first = ask(flights, work)
    first.cancel()
    case.failureResultOf(first, CancelledError)
    assert flights.running("key")
    second = ask(flights, work)
    work.begun[0].callback("done")
    assert case.successResultOf(second) == "done"
    assert (len(work.begun), work.cancelled) == (1, 0)
