"""What is closed, and in which order."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from resumable.stack import Closed, Stack


def test_the_last_first_and_one_after_the_other() -> None:
    closed: list[str] = []
    waiting: Deferred[None] = Deferred()
    stack = Stack()
    stack.push("ledger", lambda: closed.append("ledger"))

    async def drain() -> None:
        closed.append("draining")
        await waiting
        closed.append("drained")

    stack.push("connections", drain)
    stack.push("listening", lambda: closed.append("listening"))
    closing = ensureDeferred(stack.close())
    assert closed == ["listening", "draining"]
    waiting.callback(None)
    assert closed == ["listening", "draining", "drained", "ledger"]
    SynchronousTestCase().successResultOf(closing)


@pytest_twisted.ensureDeferred
async def test_closing_again_closes_nothing_twice() -> None:
    closed: list[str] = []
    stack = Stack()
    stack.push("ledger", lambda: closed.append("ledger"))
    await stack.close()
    await stack.close()
    assert closed == ["ledger"]


def test_a_failing_close_is_logged_and_the_rest_is_closed() -> None:
    closed: list[str] = []

    def fail() -> None:
        raise RuntimeError("broken")

    async def fail_later() -> None:
        raise RuntimeError("broken too")

    case = SynchronousTestCase()
    stack = Stack()
    stack.push("first", lambda: closed.append("first"))
    stack.push("second", fail)
    stack.push("third", fail_later)
    stack.push("fourth", lambda: closed.append("fourth"))
    heard: list[LogEvent] = []
    globalLogPublisher.addObserver(heard.append)
    try:
        case.successResultOf(ensureDeferred(stack.close()))
    finally:
        globalLogPublisher.removeObserver(heard.append)
    assert closed == ["fourth", "first"]
    logged = [(event["name"], str(event["log_failure"].value)) for event in heard if "log_failure" in event]
    assert logged == [("third", "broken too"), ("second", "broken")]


@pytest_twisted.ensureDeferred
async def test_nothing_is_started_after_the_end() -> None:
    """A start that goes on though it was to be stopped ends with the next thing: nobody would close that."""
    stack = Stack()
    await stack.close()
    with pytest.raises(Closed):
        stack.push("late", lambda: None)
