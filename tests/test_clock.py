"""Two clocks: what each is for, and that every process of the service has them."""

from __future__ import annotations

import ast
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.interfaces import IReactorTime
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import Clock

from resumable import clock
from resumable.clock import LONG, MOST, Moments, now, run_on_monotonic_time

ROOT = Path(__file__).parent.parent
HOUR = 3600.0


class Times:
    """The system's clock and the one that nobody can set, in place of the real ones."""

    def __init__(self) -> None:
        self.system, self.steady = 1_700_000_000.0, 5_000.0

    def time(self) -> float:
        return self.system

    def monotonic(self) -> float:
        return self.steady

    def advance(self, seconds: float) -> None:
        self.system += seconds
        self.steady += seconds


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Times:
    made = Times()
    monkeypatch.setattr(clock, "time", made)
    return made


@pytest.fixture
def reactor(times: Times) -> Iterator[Any]:
    """A reactor that does not run, by the system's clock as Twisted's are."""
    made: Any = SelectReactor()
    made.seconds = times.time
    yield made
    made.removeAll()
    for reader in list(made._internalReaders):
        reader.connectionLost(None)


def test_a_clock_that_is_set_moves_no_delay(times: Times, reactor: Any) -> None:
    run_on_monotonic_time(reactor)
    rung: list[str] = []
    reactor.callLater(5, rung.append, "later")
    times.system -= HOUR
    assert reactor.timeout() == 5
    times.advance(5)
    reactor.runUntilCurrent()
    assert rung == ["later"]
    reactor.callLater(5, rung.append, "much later")
    times.system += 2 * HOUR
    reactor.runUntilCurrent()
    assert rung == ["later"]
    assert now(reactor) == times.system


@pytest.mark.parametrize("steady", [5_000.0, 3_400_000_000.0])
def test_what_is_waiting_goes_on_waiting_for_as_long(times: Times, reactor: Any, steady: float) -> None:
    """Whether the other clock shows more or less; in their order, one that was given up among them."""
    times.steady = steady
    rung: list[int] = []
    calls = [reactor.callLater(seconds, rung.append, seconds) for seconds in (30, 10, 40, 20)]
    reactor.runUntilCurrent()
    calls[0].cancel()
    reactor.callLater(15, rung.append, 15)
    run_on_monotonic_time(reactor)
    run_on_monotonic_time(reactor)
    seen = []
    for _ in range(40):
        times.advance(1)
        reactor.runUntilCurrent()
        seen.append(len(rung))
    assert rung == [10, 15, 20, 40]
    assert [seen.index(count) + 1 for count in (1, 2, 3, 4)] == rung


def test_what_is_put_off_counts_by_the_new_clock(times: Times, reactor: Any) -> None:
    """A call from before the switch knows no other clock than the reactor's."""
    rung: list[str] = []
    call = reactor.callLater(10, rung.append, "x")
    run_on_monotonic_time(reactor)
    call.reset(3)
    times.advance(2)
    reactor.runUntilCurrent()
    assert rung == []
    times.advance(1)
    reactor.runUntilCurrent()
    assert rung == ["x"]


class Both(Clock):
    """Twisted's clock for tests, and a system's clock that can be set."""

    def __init__(self) -> None:
        super().__init__()
        self.set_by = 1_000_000.0

    def wall(self) -> float:
        return self.seconds() + self.set_by


def test_a_clock_for_tests_is_both() -> None:
    one = Clock()
    one.advance(7)
    assert now(one) == 7  # type: ignore[arg-type]
    assert now(Both()) == 1_000_000  # type: ignore[arg-type]


def moments() -> tuple[Both, Moments[str]]:
    both = Both()
    as_clock: IReactorTime = both  # type: ignore[assignment]
    return both, Moments(as_clock)


@pytest.mark.parametrize("step", [-HOUR, HOUR, -2.0])
def test_moments_after_a_step(step: float) -> None:
    both, kept = moments()
    kept.enter("a", both.wall() + 5)
    kept.enter("b", both.wall() + 50)
    kept.forget("b")
    both.advance(2)
    assert kept.after_a_step() is None
    both.set_by += step
    assert kept.after_a_step() == {"a": both.wall() + 3}
    # It could not be written.
    assert kept.after_a_step() == {"a": both.wall() + 3}
    kept.settled()
    assert kept.after_a_step() is None


def test_a_clock_that_creeps_is_no_step() -> None:
    both, kept = moments()
    for _ in range(100):
        both.set_by += 0.1
        assert kept.after_a_step() is None


def test_moments_are_not_kept_for_ever() -> None:
    both, kept = moments()
    for number in range(MOST + 5):
        kept.enter(str(number), both.wall() + 5)
    both.set_by += HOUR
    assert len(kept.after_a_step() or ()) == MOST
    both.advance(LONG + 6)
    kept.enter("last", both.wall() + 5)
    assert list(kept.after_a_step() or ()) == ["last"]


def test_the_clock_is_asked_by_its_name_only() -> None:
    """A reading of the reactor's clock is not put into a name that stands for the time of day, nor written down or sent.

    Nobody but `resumable.clock` and the commands, which run for a moment and have no delays of their own, asks the system.
    """
    others = ("commands",)
    with_ledger = ("callbacks", "ledger", "uploads", "upkeep")
    takers = ("fromtimestamp", "ProbeStatus", "new_upload", "tell")
    wrong = []
    for path in (ROOT / "resumable").rglob("*.py"):
        room = path.relative_to(ROOT / "resumable").parts[0]
        if room in others or path.name == "clock.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if ast.unparse(node) in ("time.time", "datetime.now", "datetime.utcnow") and isinstance(
                node, ast.Attribute
            ):
                wrong.append(f"{path.name}:{node.lineno}: asks the system")
            # What the ledger is given, by keyword, are timestamps.
            if isinstance(node, ast.keyword) and node.arg in ("now", "until", "due", "created", "updated", "finished"):
                wrong += [f"{path.name}:{node.value.lineno}: {node.arg}" for call in _readings(node.value)]
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "now" and room in with_ledger:
                wrong += [f"{path.name}:{node.lineno}: now" for call in _readings(node.value)]
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in takers:
                wrong += [
                    f"{path.name}:{node.lineno}: {ast.unparse(call)}" for arg in node.args for call in _readings(arg)
                ]
    assert wrong == []


def _readings(node: ast.AST) -> list[ast.Call]:
    """Where `node` reads a reactor's clock."""
    found = (one for one in ast.walk(node) if isinstance(one, ast.Call))
    return [one for one in found if isinstance(one.func, ast.Attribute) and one.func.attr == "seconds"]


def test_every_reactor_runs_on_monotonic_time() -> None:
    """Wherever the program takes Twisted's reactor, the first thing is to give it its clocks."""
    wrong = []
    for path in (ROOT / "resumable").rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text())):
            if not isinstance(function, ast.FunctionDef):
                continue
            taken = [
                one for one in function.body if isinstance(one, ast.ImportFrom) and one.module == "twisted.internet"
            ]
            if any(alias.name == "reactor" for one in taken for alias in one.names):
                called = {ast.unparse(one.func) for one in ast.walk(function) if isinstance(one, ast.Call)}
                wrong += [] if "run_on_monotonic_time" in called else [f"{path.name}: {function.name}"]
    assert wrong == []


def test_time_is_not_taken_twice() -> None:
    """The real thing: what a reactor says goes on as the machine's steady clock does."""
    made: Any = SelectReactor()
    run_on_monotonic_time(made)
    assert abs(made.seconds() - time.monotonic()) < 1
    assert abs(now(made) - time.time()) < 1
    for reader in list(made._internalReaders):
        made._removeInternalReader(reader)
        reader.connectionLost(None)
