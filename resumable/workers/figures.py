"""The figures of all workers in one answer: whichever worker is asked answers for all, dead ones included.

A worker sends its figures to the parent as a snapshot: a list of families, as JSON. Counters and histograms are added
up, and those of a worker that has died are kept, so that they never decrease. Gauges show the present, so only living
workers count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric

#: Name, documentation, type, and samples: name, labels, value.
Family = tuple[str, str, str, Sequence[tuple[str, Mapping[str, str], float]]]
Snapshot = Sequence[Family]

#: Types whose samples only grow.
GROWING = frozenset({"counter", "histogram", "summary"})
#: What is not added up, and how it is combined: figures from the ledger, which all share, and those of the program.
TOGETHER: Mapping[str, Callable[[Iterable[float]], float]] = {
    "resumable_uploads": max,
    "resumable_webhook_oldest_due_seconds": max,
    "resumable_build_info": max,
    "resumable_ready": min,
    "process_start_time_seconds": min,
}


def snapshot(registry: CollectorRegistry) -> Snapshot:
    """Return what the registry holds now."""
    return [
        (family.name, family.documentation, family.type, [(s.name, s.labels, s.value) for s in family.samples])
        for family in registry.collect()
    ]


def add_up(snapshots: Iterable[Snapshot]) -> Snapshot:
    """Return one snapshot for all of them."""
    families: dict[str, tuple[str, str]] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], list[float]]] = {}
    for name, documentation, kind, samples in (family for one in snapshots for family in one):
        families[name] = (documentation, kind)
        found = values.setdefault(name, {})
        for sample, labels, value in samples:
            found.setdefault((sample, tuple(labels.items())), []).append(value)
    return [
        (
            name,
            documentation,
            kind,
            [(sample, dict(labels), TOGETHER.get(name, sum)(each)) for (sample, labels), each in values[name].items()],
        )
        for name, (documentation, kind) in families.items()
    ]


def lasting(last: Snapshot) -> Snapshot:
    """Return what is kept of a worker that has died."""
    return [family for family in last if family[2] in GROWING]


def render(figures: Snapshot) -> bytes:
    """Return the snapshot in Prometheus's text format."""
    registry = CollectorRegistry()
    registry.register(_Told(figures))
    return generate_latest(registry)


class _Told:
    """A Prometheus collector of a given snapshot."""

    def __init__(self, figures: Snapshot) -> None:
        self._figures = figures

    def describe(self) -> list[Metric]:
        """Return nothing: prometheus_client need not look for duplicate names."""
        return []

    def collect(self) -> Iterator[Any]:
        """Yield the families of the snapshot (called by prometheus_client)."""
        for name, documentation, kind, samples in self._figures:
            family = Metric(name, documentation, kind)
            for sample, labels, value in samples:
                family.add_sample(sample, dict(labels), value)
            yield family
