"""What the application has said is remembered for the very same question, for a time, and in bounds."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.web.http_headers import Headers

from resumable.callbacks import authorization_cache as memories
from resumable.callbacks.authorization_cache import Memory
from resumable.callbacks.authorizer import Refused
from resumable.model import Unavailable

REFUSED = Refused(403, Headers(), b"")


class Bench:
    """An application that answers when the test says so, and one who asks it."""

    def __init__(self, seconds: float = 30.0) -> None:
        self.clock = Clock()
        self.memory: Memory[str] = Memory(seconds, self.clock)
        self.open: list[Deferred[str]] = []

    async def _ask(self) -> str:
        answer: Deferred[str] = Deferred()
        self.open.append(answer)
        return await answer

    def ask(self, **question: Any) -> list[Any]:
        """Ask; the list gets the outcome."""
        got: list[Any] = []
        headers = Headers({name: value if isinstance(value, list) else [value] for name, value in question.items()})
        Deferred.fromCoroutine(self.memory.recall(headers, self._ask)).addCallbacks(
            got.append, lambda failure: got.append(failure.value)
        )
        return got

    def learn(self, word: str = "yes", **question: Any) -> None:
        """Have a question asked and answered."""
        got = self.ask(**question)
        self.open.pop().callback(word)
        assert got == [word]


def test_a_yes_counts_for_its_time() -> None:
    """To the second, from the moment it was asked for."""
    bench = Bench()
    got = bench.ask(a="1")
    bench.clock.advance(5)
    bench.open.pop().callback("yes")
    assert got == ["yes"]
    bench.clock.advance(24.9)
    assert bench.ask(a="1") == ["yes"]
    assert bench.open == []
    bench.clock.advance(0.1)
    bench.learn("no more", a="1")
    assert bench.ask(a="1") == ["no more"]


def test_a_clock_that_is_set_back_makes_no_word_last() -> None:
    bench = Bench()
    bench.clock.advance(1000)
    bench.learn(a="1")
    bench.clock.rightNow = 500.0
    assert bench.ask(a="1") == []
    assert len(bench.open) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"authorization": "Bearer bob", "x": "1"},
        {"authorization": "Bearer alice", "x": "2"},
        {"authorization": "Bearer alice"},
        {"authorization": ["Bearer alice", "Bearer bob"], "x": "1"},
        {"authorization": "Bearer alice", "x": "1", "y": ""},
        {"authorization": "Bearer alice ", "x": "1"},
        {"authorization": "bearer alice", "x": "1"},
        {"cookie": "Bearer alice", "x": "1"},
        {"authorization": "Bearer alice', b'x", "x": "1"},
    ],
)
def test_another_question_is_asked(other: dict[str, Any]) -> None:
    """One byte more, less or elsewhere in what the application is shown, and it is asked."""
    bench = Bench()
    bench.learn(authorization="Bearer alice", x="1")
    got = bench.ask(**other)
    assert (got, len(bench.open)) == ([], 1)
    assert bench.ask(x="1", authorization="Bearer alice") == ["yes"], "the order of headers means nothing"


@pytest.mark.parametrize("error", [REFUSED, Unavailable("down")])
def test_only_a_yes_is_remembered(error: Exception) -> None:
    """A refusal or trouble is the answer of those who asked, and of nobody after them."""
    bench = Bench()
    both = [bench.ask(a="1"), bench.ask(a="1")]
    assert len(bench.open) == 1
    bench.open.pop().errback(error)
    assert both == [[error], [error]]
    bench.learn(a="1")


def test_a_refusal_ends_no_word_that_is_remembered_elsewhere() -> None:
    bench = Bench()
    bench.learn(a="1")
    got = bench.ask(a="2")
    bench.open.pop().errback(REFUSED)
    assert got == [REFUSED]
    assert bench.ask(a="1") == ["yes"]


def test_the_same_question_is_asked_once_at_a_time() -> None:
    bench = Bench()
    same = [bench.ask(a="1") for _ in range(5)]
    other = bench.ask(a="2")
    assert len(bench.open) == 2
    bench.open[0].callback("one")
    bench.open[1].callback("two")
    assert (same, other) == ([["one"]] * 5, ["two"])


def test_off() -> None:
    """With 0 each question is asked, also while the same one is under way."""
    bench = Bench(0)
    bench.learn(a="1")
    bench.ask(a="1")
    bench.ask(a="1")
    assert len(bench.open) == 2


def test_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is room for so many; a word that was asked for anew is not old."""
    monkeypatch.setattr(memories, "MOST", 3)
    bench = Bench()
    bench.learn(a="1")
    bench.learn(a="2")
    bench.clock.advance(29)
    bench.learn(a="3")
    bench.clock.advance(1)
    bench.learn("anew", a="1")
    bench.learn(a="4")
    assert len(bench.memory._words) == 3, "2 has run out"
    bench.learn(a="5")
    assert [bench.ask(a=key) for key in "145"] == [["anew"], ["yes"], ["yes"]]
    assert bench.ask(a="3") == []


def test_no_credentials_lie_in_memory() -> None:
    """What is kept of a question is a hash that cannot be guessed at without this process's key."""
    bench, again = Bench(), Bench()
    bench.learn(authorization="hunter2")
    again.learn(authorization="hunter2")
    assert "hunter2" not in repr(vars(bench.memory))
    assert bench.memory._words.keys() != again.memory._words.keys()
