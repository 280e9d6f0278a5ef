"""The parent's account of what all workers have counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector

from resumable.clock import cancel_if_active
from resumable.workers.figures import Snapshot, add_up, lasting, snapshot
from resumable.workers.process import Process

#: Seconds that a worker gets to say what it has counted; after that counts what it has said last.
PATIENCE = 1.0


class MetricsAggregator:
    """Keeps the last figures of each worker and, for good, what the dead have counted.

    :ivar workers: those that take connections.
    :ivar deaths: of workers that nobody had told to end.
    """

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._last: dict[int, Snapshot] = {}
        self._dead: Snapshot = []
        self._missing: set[int] = set()
        self._waiting: list[Callable[[Snapshot], None]] = []
        self._late: Any = None
        registry = self._registry = CollectorRegistry()
        # Memory, CPU and file descriptors of this process add to the workers'.
        ProcessCollector(registry=registry)
        self.workers = Gauge("resumable_workers", "Workers that take connections.", registry=registry)
        self.deaths = Counter("resumable_worker_deaths", "Workers that ended by themselves.", registry=registry)

    def counted(self, number: int, figures: Snapshot) -> None:
        """A worker says what it has counted."""
        self._last[number] = figures
        self._heard(number)

    def died(self, number: int) -> None:
        """A worker is gone; what it has said last is all there will ever be of it."""
        last = self._last.pop(number, [])
        self._dead = add_up([self._dead, lasting(last)])
        self._heard(number)

    def ask(self, living: Mapping[int, Process], answer: Callable[[Snapshot], None]) -> None:
        """Call `answer` with what all have counted, the `living` up to now; soon, whatever they do."""
        self._waiting.append(answer)
        if len(self._waiting) > 1:
            return
        self._missing = set(living)
        self._late = self._clock.callLater(PATIENCE, self._settle)
        for process in living.values():
            process.count()

    def _heard(self, number: int) -> None:
        if number in self._missing:
            self._missing.remove(number)
            if not self._missing:
                self._settle()

    def _settle(self) -> None:
        self._missing.clear()
        cancel_if_active(self._late)
        waiting, self._waiting = self._waiting, []
        figures = add_up([*self._last.values(), self._dead, snapshot(self._registry)])
        for answer in waiting:
            answer(figures)
