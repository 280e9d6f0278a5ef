"""The parent's figures of all workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector

from resumable.clock import cancel_if_active
from resumable.workers.figures import Snapshot, add_up, lasting, snapshot
from resumable.workers.process import Process

#: Seconds that a worker gets to send its figures; after that its last ones are used.
PATIENCE = 1.0


class MetricsAggregator:
    """Keeps the last figures of each worker, and for good what workers that have died had counted.

    :ivar workers: how many workers take connections.
    :ivar deaths: how many workers have ended that nobody had told to end.
    """

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._last: dict[int, Snapshot] = {}
        self._dead: Snapshot = []
        self._missing: set[int] = set()
        self._waiting: list[Callable[[Snapshot], None]] = []
        self._late: Any = None
        registry = self._registry = CollectorRegistry()
        # Memory, CPU and file descriptors of this process are added to those of the workers.
        ProcessCollector(registry=registry)
        self.workers = Gauge("resumable_workers", "Workers that take connections.", registry=registry)
        self.deaths = Counter("resumable_worker_deaths", "Workers that ended by themselves.", registry=registry)

    def counted(self, number: int, figures: Snapshot) -> None:
        """Take the figures that a worker has sent."""
        self._last[number] = figures
        self._heard(number)

    def died(self, number: int) -> None:
        """Note that a worker has died, and keep what it had counted when it last sent its figures."""
        last = self._last.pop(number, [])
        self._dead = add_up([self._dead, lasting(last)])
        self._heard(number)

    def ask(self, living: Mapping[int, Process], answer: Callable[[Snapshot], None]) -> None:
        """Call `answer` with the figures of all, those of the `living` fetched anew; within `PATIENCE` seconds."""
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
