"""The instruments: what they make of what they are told."""

from __future__ import annotations

import pytest
from prometheus_client import REGISTRY

from resumable.metrics import MOST_CODES, Metrics
from resumable.model import EVENTS, Ended, Exists, State, Unavailable
from tests.scraping import Scrape


def test_each_has_a_registry_of_its_own() -> None:
    """Two services in one process do not count into each other, nor into what other libraries have."""
    one, other = Metrics(), Metrics()
    one.received(5)
    assert Scrape.of(one)["resumable_received_bytes_total"] == 5
    assert Scrape.of(other)["resumable_received_bytes_total"] == 0
    assert not [family.name for family in REGISTRY.collect() if family.name.startswith("resumable")]


def test_a_store_cannot_make_series_without_end() -> None:
    """Whatever codes a store makes up, they are few, and hold nothing but letters and digits."""
    metrics = Metrics()
    for code in ("ok", "SlowDown", 'x"}\n', "", "y" * 41, *(f"Code{n}" for n in range(1000)), "SlowDown", "ok"):
        metrics.store_request("s3", "PutObject", code, 0.1)
    scrape = Scrape.of(metrics)
    outcomes = {labels["outcome"] for _, labels, _ in scrape.samples("resumable_store_requests_total")}
    assert len(outcomes) == MOST_CODES + 2
    assert {"ok", "other", "SlowDown", "Code0"} <= outcomes
    assert all(outcome.isalnum() and len(outcome) <= 40 for outcome in outcomes)
    assert scrape.get("resumable_store_requests_total", outcome="SlowDown") == 2
    assert scrape.get("resumable_store_requests_total", store="s3") == 1007
    assert scrape.get("resumable_store_request_duration_seconds_count") == 1007


def test_a_client_cannot_make_series_without_end() -> None:
    metrics = Metrics()
    for method in ("PUT", "GET", *(f"M{n}" for n in range(1000))):
        metrics.answered(method, 405)
    methods = {labels["method"] for _, labels, _ in Scrape.of(metrics).samples("resumable_http_requests_total")}
    assert methods == {"PUT", "GET", "other"}


def test_a_protocol_begins_at_zero() -> None:
    """The first upload that fails is an increase: the series was there before, with 0."""
    metrics = Metrics()
    metrics.moved("put", State.OPEN)
    found = {
        labels["state"]: value for _, labels, value in Scrape.of(metrics).samples("resumable_upload_transitions_total")
    }
    assert found == {state.value: float(state is State.OPEN) for state in State}


def test_uploads_that_are_gone_are_none() -> None:
    """A gauge that is not set any more would stay where it was."""
    metrics = Metrics()
    metrics.count_uploads({(State.OPEN, "put"): 3, (State.FINISHING, "tus"): 1})
    metrics.count_uploads({(State.OPEN, "tus"): 2})
    found = {tuple(labels.values()): value for _, labels, value in Scrape.of(metrics).samples("resumable_uploads")}
    assert found == {
        ("put", "open"): 0,
        ("put", "finishing"): 0,
        ("tus", "open"): 2,
        ("tus", "finishing"): 0,
    }


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "finished"),
        (Unavailable("x"), "unavailable"),
        (Ended("x"), "refused"),
        (Exists("x"), "refused"),
        (ValueError("x"), "error"),
    ],
)
def test_completes_by_outcome(error: Exception | None, outcome: str) -> None:
    now = iter([10.0, 12.5])
    metrics = Metrics(lambda: next(now))
    try:
        with metrics.completing():
            if error is not None:
                raise error
    except Exception as raised:
        assert raised is error
    scrape = Scrape.of(metrics)
    counts = {x["outcome"]: n for _, x, n in scrape.samples("resumable_complete_duration_seconds_count")}
    assert {name for name, count in counts.items() if count} == {outcome}
    assert scrape.get("resumable_complete_duration_seconds_sum", outcome=outcome) == 2.5


def test_a_part_that_failed_is_not_measured() -> None:
    metrics = Metrics()
    with pytest.raises(Unavailable), metrics.storing():
        raise Unavailable("x")
    with metrics.storing():
        pass
    assert Scrape.of(metrics)["resumable_part_duration_seconds_count"] == 1


def test_events_and_leftovers() -> None:
    """What the sender of events and the cleaning say."""
    metrics = Metrics()
    metrics.webhook_tried("upload.finished")
    metrics.webhook_outcome("upload.finished", "retried", 2.0)
    metrics.webhook_tried("upload.finished")
    metrics.webhook_outcome("upload.finished", "delivered", 7.0)
    metrics.webhook_outcome("upload.failed", "dead", 9000.0)
    metrics.oldest_due.set(90.0)
    metrics.orphan_removed("fragment")
    scrape = Scrape.of(metrics)
    assert scrape.get("resumable_webhook_tries_total", type="upload.finished") == 2
    outcomes = [(x["type"], x["outcome"]) for _, x, n in scrape.samples("resumable_webhook_deliveries_total") if n]
    assert outcomes == [("upload.finished", "delivered"), ("upload.finished", "retried"), ("upload.failed", "dead")]
    assert scrape["resumable_webhook_delivery_lag_seconds_sum"] == 7
    assert scrape["resumable_webhook_oldest_due_seconds"] == 90
    assert scrape.get("resumable_orphans_removed_total", kind="fragment") == 1


def test_the_events_are_those_that_are_told() -> None:
    """Each there is has its series from the start."""
    told = {labels["type"] for _, labels, _ in Scrape.of(Metrics()).samples("resumable_webhook_tries_total")}
    assert told == set(EVENTS.values())
