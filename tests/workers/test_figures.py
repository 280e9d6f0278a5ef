"""Adding up what workers have counted."""

from __future__ import annotations

import json
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import Clock

from resumable.metrics import Metrics
from resumable.model import Unavailable
from resumable.workers.aggregator import PATIENCE, MetricsAggregator
from resumable.workers.figures import Snapshot, add_up, lasting, render, snapshot
from resumable.workers.worker_metrics import PATIENCE as BOARD_PATIENCE
from resumable.workers.worker_metrics import WorkerMetrics


def worker(count: float, gauge: float) -> Snapshot:
    """The figures of a worker, as they come through a pipe."""
    registry = CollectorRegistry()
    Counter("c", "A counter.", ["a", "b"], registry=registry).labels('x"', "y").inc(count)
    Gauge("g", "A gauge.", registry=registry).set(gauge)
    Gauge("resumable_uploads", "The ledger's.", ["state"], registry=registry).labels("open").set(gauge)
    Gauge("resumable_ready", "Of each.", ["part"], registry=registry).labels("store").set(gauge > 3)
    Histogram("h", "A histogram.", registry=registry, buckets=(1, 2)).observe(count)
    return json.loads(json.dumps(snapshot(registry)))  # type: ignore[no-any-return]


def values(figures: Snapshot) -> dict[str, float]:
    lines = (line.rpartition(" ") for line in render(figures).decode().splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines if "_created" not in name}


def test_one_worker_is_told_as_prometheus_would_tell_it() -> None:
    registry = CollectorRegistry()
    Counter("c", "A counter\nof two lines.", ["a"], registry=registry).labels('x"\\').inc(2)
    Histogram("h", "A histogram.", registry=registry).observe(0.3)
    Gauge("i", "Infinite.", registry=registry).set(float("inf"))
    through_the_pipe = json.loads(json.dumps(snapshot(registry)))
    assert render(add_up([through_the_pipe])) == generate_latest(registry)


def test_figures_add_up() -> None:
    """What is counted and what is held; not what all find in the one ledger, and all are ready or none."""
    assert values(add_up([worker(1, 5), worker(1.5, 3)])) == {
        'c_total{a="x\\"",b="y"}': 2.5,
        "g": 8,
        'resumable_uploads{state="open"}': 5,
        'resumable_ready{part="store"}': 0,
        'h_bucket{le="1.0"}': 1,
        'h_bucket{le="2.0"}': 2,
        'h_bucket{le="+Inf"}': 2,
        "h_count": 2,
        "h_sum": 2.5,
    }


def test_of_the_dead_remains_what_they_have_counted() -> None:
    told = values(add_up([lasting(worker(10, 100)), worker(1, 5)]))
    assert (told['c_total{a="x\\"",b="y"}'], told["h_count"], told["h_sum"], told["g"]) == (11, 2, 11, 5)


class Counting:
    """A worker's process that is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.answers: list[Snapshot] = []

    def count(self) -> None:
        self.asked += 1

    def answer(self, figures: Snapshot) -> None:
        self.answers.append(figures)


def own(figures: Snapshot) -> dict[str, float]:
    """Without what the parent itself has to say."""
    return {name: value for name, value in values(figures).items() if name in ("g", "h_sum")}


def test_whoever_asks_hears_of_all_as_soon_as_all_have_told() -> None:
    clock, one, two = Clock(), Counting(), Counting()
    aggregator: Any = MetricsAggregator(clock)
    for asker in (one, two):
        aggregator.ask({1: one, 2: two}, asker.answer)
    aggregator.counted(1, worker(1, 1))
    assert (one.asked, two.asked, one.answers) == (1, 1, [])
    aggregator.counted(2, worker(2, 2))
    assert [own(figures) for figures in one.answers + two.answers] == [{"g": 3, "h_sum": 3}] * 2
    assert clock.getDelayedCalls() == []


def test_of_a_worker_that_hangs_counts_what_it_said_last() -> None:
    clock, one = Clock(), Counting()
    aggregator: Any = MetricsAggregator(clock)
    aggregator.counted(2, worker(2, 2))
    aggregator.ask({1: one, 2: Counting()}, one.answer)
    aggregator.counted(1, worker(1, 1))
    clock.advance(PATIENCE)
    assert [own(figures) for figures in one.answers] == [{"g": 3, "h_sum": 3}]


def test_a_worker_that_dies_while_it_is_asked() -> None:
    """Nobody waits for it; what it had counted stays, through the next one's life too."""
    clock, one = Clock(), Counting()
    aggregator: Any = MetricsAggregator(clock)
    aggregator.counted(2, worker(2, 2))
    aggregator.ask({1: one, 2: Counting()}, one.answer)
    aggregator.counted(1, worker(1, 1))
    aggregator.died(2)
    assert [own(figures) for figures in one.answers] == [{"g": 1, "h_sum": 3}]
    aggregator.counted(2, worker(5, 5))
    aggregator.died(2)
    aggregator.ask({1: one}, one.answer)
    aggregator.counted(1, worker(1, 1))
    assert own(one.answers[-1]) == {"g": 1, "h_sum": 8}


class Said:
    """A way to a parent."""

    def __init__(self) -> None:
        self.words: list[bytes] = []

    def say(self, word: bytes, text: str = "") -> None:
        self.words.append(word)


def ask(worker_metrics: WorkerMetrics) -> tuple[list[bytes], list[Any]]:
    """Answers, and failures."""
    answers: list[bytes] = []
    failures: list[Any] = []
    asking: Deferred[bytes] = ensureDeferred(worker_metrics.figures())
    asking.addCallbacks(answers.append, failures.append)
    return answers, failures


def test_a_worker_asks_its_parent_once_for_all_who_ask_it() -> None:
    clock, said = Clock(), Said()
    worker_metrics = WorkerMetrics(Metrics(), said, clock)  # type: ignore[arg-type]
    asked = [ask(worker_metrics), ask(worker_metrics)]
    worker_metrics.told(json.dumps(worker(1, 2)).encode())
    assert [answers for answers, _ in asked] == [[render(worker(1, 2))]] * 2
    assert said.words == [b"counted", b"asked"]


def test_a_parent_that_does_not_answer() -> None:
    """It is an error: the figures of one alone would look like a fall."""
    clock = Clock()
    worker_metrics = WorkerMetrics(Metrics(), Said(), clock)  # type: ignore[arg-type]
    answers, failures = ask(worker_metrics)
    clock.advance(BOARD_PATIENCE)
    assert (answers, failures[0].type) == ([], Unavailable)
    worker_metrics.told(json.dumps(worker(1, 2)).encode())
