"""What is measured of the questions to the main application."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.web.http_headers import Headers

from resumable.callbacks.authorizer import Ask, Grant, Refused
from resumable.callbacks.timed import TimedAuthorizer
from resumable.metrics import Metrics
from resumable.model import Unavailable
from tests.scraping import Scrape

ASK = Ask("create", "PUT", "/upload/a", Headers(), "127.0.0.1")


class Slow:
    """Answers when the test says what."""

    def __init__(self) -> None:
        self.answer: Deferred[Grant] = Deferred()
        self.closed = False

    async def authorize(self, ask: Ask) -> Grant:
        assert ask is ASK
        return await self.answer

    async def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        (Grant(owner="alice"), "granted"),
        (Refused(403, Headers(), b""), "refused"),
        (Unavailable("x"), "unavailable"),
        (CancelledError(), None),
    ],
)
def test_each_outcome_with_its_time(said: Grant | Exception, outcome: str | None) -> None:
    """What was said comes through as it is; who went away before the answer is not measured."""
    slow, metrics, clock = Slow(), Metrics(), Clock()
    asked = Deferred.fromCoroutine(TimedAuthorizer(slow, metrics, clock).authorize(ASK))  # type: ignore[arg-type]
    clock.advance(1.5)
    came: list[object] = []
    if isinstance(said, Grant):
        slow.answer.callback(said)
        asked.addCallback(came.append)
    else:
        slow.answer.errback(said)
        asked.addErrback(lambda failure: came.append(failure.value))
    assert came == [said]
    scrape = Scrape.of(metrics)
    sums = {x["outcome"]: total for _, x, total in scrape.samples("resumable_auth_duration_seconds_sum") if total}
    assert sums == ({outcome: 1.5} if outcome else {})


def test_closing_closes_the_other() -> None:
    slow = Slow()
    closing = Deferred.fromCoroutine(TimedAuthorizer(slow, Metrics(), Clock()).close())  # type: ignore[arg-type]
    assert closing.called
    assert slow.closed
