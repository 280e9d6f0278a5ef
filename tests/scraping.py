"""Reading what Prometheus would read."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from resumable.metrics import Metrics
from tests.harness import Service


class Scrape:
    """One scrape."""

    def __init__(self, text: bytes) -> None:
        self.families: list[Metric] = list(text_string_to_metric_families(text.decode()))

    @classmethod
    def of(cls, source: Service | Metrics) -> Scrape:
        if isinstance(source, Metrics):
            return cls(source.render())
        answer = source.request("GET", "/metrics")
        assert (answer.status, answer.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
        return cls(answer.body)

    def __getitem__(self, sample: str) -> float:
        """The value of a sample without labels."""
        return self.get(sample)

    def get(self, sample: str, **labels: str) -> float:
        """The sum of all samples of this name that have these labels; 0 where there is none."""
        return sum(value for _, had, value in self.samples(sample) if labels.items() <= had.items())

    def samples(self, name: str = "") -> Iterator[tuple[str, dict[str, str], float]]:
        for family in self.families:
            for sample in family.samples:
                if name in ("", sample.name):
                    yield sample.name, dict(sample.labels), sample.value
