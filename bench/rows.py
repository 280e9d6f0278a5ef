"""A server under a load, over all rounds: medians of the rounds, and percentiles of all latencies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from attrs import frozen

from bench.prices import Prices
from bench.results import Measurement, Results
from bench.stats import median, percentile, spread
from bench.units import GIB


@frozen(kw_only=True)
class Row:
    """A row of a table, in seconds, bytes and dollars."""

    server: str
    load: str
    rounds: int
    #: Bytes of one upload.
    upload_size: float
    #: Bytes a second.
    speed: float
    #: CPU seconds for a GiB and for an upload, and how far the rounds lie apart (0.1 is 10 %).
    cpu_per_gib: float
    cpu_per_upload: float
    cpu_spread: float
    peak: float
    temporary: float
    written: float
    #: S3 calls for one upload, by name, and the dollars they cost for a million uploads.
    calls: Mapping[str, float]
    million: float
    #: Bytes that were sent again, as a fraction of all.
    again: float
    answer_p50: float | None
    answer_p99: float | None
    status_p50: float | None
    status_p99: float | None
    failures: int


def make_row(measurements: Sequence[Measurement], prices: Prices) -> Row | None:
    """Return the row for the rounds of one server under one load, or None if no upload was finished in any."""
    good = [one for one in measurements if one.uploads and one.size]
    if not good:
        return None

    def middle(value: Callable[[Measurement], float]) -> float:
        return median([value(one) for one in good])

    names = {name for one in good for name in one.calls}
    calls = {name: median([one.calls.get(name, 0) / one.uploads for one in good]) for name in sorted(names)}
    answers = [seconds for one in good for seconds in one.answers]
    statuses = [seconds for one in good for seconds in one.statuses]
    return Row(
        server=good[0].server,
        load=good[0].load,
        rounds=len(good),
        upload_size=middle(lambda one: one.size / one.uploads),
        speed=middle(lambda one: one.size / one.seconds),
        cpu_per_gib=middle(lambda one: one.cpu / one.size * GIB),
        cpu_per_upload=middle(lambda one: one.cpu / one.uploads),
        cpu_spread=spread([one.cpu for one in good]),
        peak=middle(lambda one: one.peak),
        temporary=middle(lambda one: one.temporary),
        written=middle(lambda one: one.written),
        calls=calls,
        million=prices.of_calls(calls) * 1e6,
        again=middle(lambda one: one.sent / one.size - 1),
        answer_p50=percentile(answers, 50),
        answer_p99=percentile(answers, 99),
        status_p50=percentile(statuses, 50),
        status_p99=percentile(statuses, 99),
        failures=sum(len(one.failures) for one in measurements),
    )


def rows_of(results: Results, load: str, prices: Prices) -> list[Row]:
    """Return the rows for a load, in the order of the run's servers."""
    rows = (make_row(results.of(server, load), prices) for server in results.servers)
    return [row for row in rows if row is not None]
