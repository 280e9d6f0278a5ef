"""What it costs to take in a TB: S3's requests, and the machine that the bytes pass through."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from attrs import frozen

from bench.prices import Instance, Prices
from bench.results import Results
from bench.rows import make_row

TB = 1e12
#: The loads that a model is made of. They upload whole bodies of different sizes, as fast as possible.
MODEL_LOADS = ("small", "sixteen", "one")


@frozen
class Point:
    """What one upload of `size` bytes takes: CPU seconds, and S3 calls."""

    size: float
    cpu: float
    calls: Mapping[str, float]


@frozen
class Model:
    """A server's measured points by size, joined by straight lines that go on beyond the last point."""

    server: str
    points: Sequence[Point]
    #: Peak memory in bytes.
    peak: float

    def at(self, size: float) -> Point:
        """Return the cost of an upload of `size` bytes. Below the smallest point it is the cost of that point."""
        if size <= self.points[0].size:
            return Point(size, self.points[0].cpu, self.points[0].calls)
        upper = next((i for i, point in enumerate(self.points) if point.size >= size), len(self.points) - 1)
        low, high = self.points[upper - 1], self.points[upper]
        part = (size - low.size) / (high.size - low.size)
        names = {*low.calls, *high.calls}
        calls = {name: _between(low.calls.get(name, 0), high.calls.get(name, 0), part) for name in names}
        return Point(size, _between(low.cpu, high.cpu, part), calls)


def _between(low: float, high: float, part: float) -> float:
    return max(0.0, low + (high - low) * part)


def make_models(results: Results, prices: Prices) -> list[Model]:
    """Return a model for each server that was measured under at least two of `MODEL_LOADS`."""
    models = []
    for server in results.servers:
        rows = [row for load in MODEL_LOADS if (row := make_row(results.of(server, load), prices)) is not None]
        points = sorted(
            (Point(row.upload_size, row.cpu_per_upload, row.calls) for row in rows), key=lambda one: one.size
        )
        if len(points) > 1:
            models.append(Model(server, points, max(row.peak for row in rows)))
    return models


@frozen
class Sizing:
    """How many instances a load needs."""

    instance: Instance
    count: int
    #: What sets their number: ``CPU`` or ``network``.
    limit: str

    @property
    def hour(self) -> float:
        """Dollars for an hour of all instances."""
        return self.count * self.instance.hour


@frozen
class Cost:
    """What a TB of files of one size costs, in dollars."""

    server: str
    size: float
    cpu_seconds: float
    #: The number of S3 requests for the TB, and their price.
    requests: float
    s3: float
    #: The instance that does it cheapest when it is kept busy, and its price.
    instance: Instance
    limit: str
    machine: float

    @property
    def total(self) -> float:
        """Both."""
        return self.s3 + self.machine


@frozen(kw_only=True)
class Assumptions:
    """What a cost depends on that is not measured."""

    #: How busy machines are on average, from 0 to 1.
    use: float = 0.6
    #: CPU seconds that a vCPU there needs for one second here.
    cpu_factor: float = 1.0


def cost_of_tb(model: Model, size: float, prices: Prices, assumed: Assumptions) -> Cost:
    """Return what a TB of files of `size` bytes costs with the model's server."""
    point, uploads = model.at(size), TB / size
    cpu = point.cpu * uploads * assumed.cpu_factor

    def hours(instance: Instance) -> tuple[float, float]:
        return (
            cpu / instance.steady_vcpus / assumed.use / 3600,
            TB * 8 / (instance.network_gbps * 1e9) / assumed.use / 3600,
        )

    able = roomy(model, prices)
    instance = min(able, key=lambda one: max(hours(one)) * one.hour)
    by_cpu, by_network = hours(instance)
    return Cost(
        server=model.server,
        size=size,
        cpu_seconds=cpu,
        requests=sum(point.calls.values()) * uploads,
        s3=prices.of_calls(point.calls) * uploads,
        instance=instance,
        limit="CPU" if by_cpu > by_network else "network",
        machine=max(by_cpu, by_network) * instance.hour,
    )


def sizing(model: Model, size: float, speed: float, prices: Prices, assumed: Assumptions) -> Sizing:
    """Return the cheapest instances of one kind for files of `size` bytes that come in at `speed` bytes a second."""
    vcpus = model.at(size).cpu * assumed.cpu_factor * speed / size / assumed.use
    gbps = speed * 8 / 1e9 / assumed.use
    found = []
    for instance in roomy(model, prices):
        by_cpu, by_network = vcpus / instance.steady_vcpus, gbps / instance.network_gbps
        limit = "CPU" if by_cpu > by_network else "network"
        found.append(Sizing(instance, max(1, math.ceil(max(by_cpu, by_network))), limit))
    return min(found, key=lambda one: one.hour)


def roomy(model: Model, prices: Prices) -> list[Instance]:
    """Return the instances that have, for each vCPU, twice the memory that a process took. If none has, return all."""
    able = [one for one in prices.instances if one.memory_gib * 2**30 >= 2 * model.peak * one.vcpus]
    return able or list(prices.instances)
