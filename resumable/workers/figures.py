"""What all workers have counted, in one answer: whichever of them is asked tells for all, dead ones included.

A worker's figures travel to the parent as a snapshot: a list of families, as JSON. Counters and histograms are added up, and
those of a worker that has died are kept, so that they never go back. Gauges tell what is, and only of those who live.
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
#: What does not add up: what every worker finds in the same ledger, or says of the same program.
TOGETHER: Mapping[str, Callable[[Iterable[float]], float]] = {
    "resumable_uploads": max,
    "resumable_webhook_oldest_due_seconds": max,
    "resumable_build_info": max,
    "resumable_ready": min,
    "process_start_time_seconds": min,
}


def snapshot(registry: CollectorRegistry) -> Snapshot:
    """What the registry holds now."""
    return [
        (family.name, family.documentation, family.type, [(s.name, s.labels, s.value) for s in family.samples])
        for family in registry.collect()
    ]


def add_up(snapshots: Iterable[Snapshot]) -> Snapshot:
    """One snapshot for all of them."""
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
    """What remains of a worker that has died."""
    return [family for family in last if family[2] in GROWING]


def render(figures: Snapshot) -> bytes:
    """The snapshot in Prometheus's text format."""
    registry = CollectorRegistry()
    registry.register(_Told(figures))
    return generate_latest(registry)


class _Told:
    """A collector of what it has been told."""

    def __init__(self, figures: Snapshot) -> None:
        self._figures = figures

    def describe(self) -> list[Metric]:
        """prometheus_client's: it need not look for names given twice."""
        return []

    def collect(self) -> Iterator[Any]:
        """prometheus_client's."""
        for name, documentation, kind, samples in self._figures:
            family = Metric(name, documentation, kind)
            for sample, labels, value in samples:
                family.add_sample(sample, dict(labels), value)
            yield family
