"""What is counted and measured, for Prometheus: every instrument, in a registry of its own.

All parts of the service share one `Metrics`, and tell it what has happened. A part that is given none counts into one
that nobody reads. Labels have few values, whatever clients and stores send; names and owners are never among them.
Nothing here is called for each segment of a body: at most once for each run of a chunk's bytes, each request or each
call.
"""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

import twisted
from resumable import __version__
from resumable.model import EVENTS, LIVE, PROGRESS, State, Unavailable, UploadError

#: The content type of Prometheus's text format.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: Upper bounds of the histograms' buckets, in seconds: for calls, and for events, which wait while the application is
#: down.
SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
LAG_SECONDS = (0.3, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0, 10_800.0, 43_200.0, 86_400.0, 259_200.0)

#: Methods that are counted under their own name.
METHODS = frozenset({"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"})
#: How many error codes of the store are counted under their own name: the first ones that come.
MOST_CODES = 40
#: The outcomes of a try to tell the main application.
DELIVERIES = ("delivered", "retried", "dead")
#: The kinds of leftovers in the store that cleaning finds.
ORPHANS = ("multipart", "fragment")


def _series(instrument: Any, *values: str) -> Any:
    return instrument.labels(*values)


class Metrics:
    """The instruments, and the methods to call when there is something to count.

    :ivar registry: all of them, the process's own (CPU, memory, file descriptors) among them.
    :ivar streams: bodies that are being taken in.
    :ivar memory_held: bytes of bodies in memory.
    :ivar memory_limit: bytes of bodies that may be in memory.
    :ivar background: tasks that free something in the store, waiting ones included.
    :ivar connections: open connections of clients.
    :ivar oldest_due: age in seconds of the oldest event that is not delivered yet; 0 where there is none.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """:param clock: returns seconds, for measuring."""
        # Else each series would have a second one with the time it began, which Prometheus does not need.
        disable_created_metrics()
        self._clock = clock
        self._codes: set[str] = set()
        self._protocols: set[str] = set()
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        def counter(name: str, help: str, *labels: str) -> Counter:
            return Counter(f"resumable_{name}", help, labels, registry=registry)

        def gauge(name: str, help: str, *labels: str) -> Gauge:
            return Gauge(f"resumable_{name}", help, labels, registry=registry)

        def histogram(name: str, help: str, *labels: str, buckets: tuple[float, ...] = SECONDS) -> Histogram:
            return Histogram(f"resumable_{name}_seconds", help, labels, registry=registry, buckets=buckets)

        self._received = counter("received_bytes", "Bytes of bodies that came from clients.")
        self._durable = counter("durable_bytes", "Bytes that the store has and the ledger has acknowledged.")
        self._transitions = counter(
            "upload_transitions",
            "Uploads that came into a state, once the ledger has confirmed it.",
            "state",
            "protocol",
        )
        self._uploads = gauge("uploads", "Uploads in the ledger that have not ended.", "state", "protocol")
        self.streams = gauge("active_streams", "Bodies that are being taken in.")
        self.memory_held = gauge("memory_held_bytes", "Bytes of bodies in memory.")
        self.memory_limit = gauge("memory_limit_bytes", "Bytes of bodies that may be in memory.")
        self.background = gauge("background_tasks", "Tasks that free something in the store, waiting ones included.")
        self.connections = gauge("open_connections", "Open connections of clients.")
        self._part = histogram("part_duration", "Time from handing on a run of bytes to its acknowledgement.")
        self._complete = histogram("complete_duration", "Time to make the object from an upload's parts.", "outcome")
        self._auth = histogram("auth_duration", "Time to ask the main application for authorization.", "outcome")
        store = ("store", "operation")
        self._store = counter("store_requests", "HTTP requests to the store, each try counted.", *store, "outcome")
        self._store_time = histogram("store_request_duration", "HTTP requests to the store.", *store)
        self._store_retries = counter("store_retries", "HTTP requests to the store that were made again.", *store)
        self._requests = counter("http_requests", "Requests that were answered.", "method", "status")
        self._tries = counter("webhook_tries", "Requests made to deliver events.", "type")
        self._deliveries = counter("webhook_deliveries", "Outcomes of tries to deliver events.", "type", "outcome")
        self._lag = histogram("webhook_delivery_lag", "Time from an event to its delivery.", buckets=LAG_SECONDS)
        self.oldest_due = gauge("webhook_oldest_due_seconds", "Age of the oldest event that is not delivered yet.")
        self._orphans = counter("orphans_removed", "Leftovers in the store that no upload knew.", "kind")
        self._ready = gauge("ready", "Whether a part answered when /readyz last asked.", "part")
        #: The series of an instrument, by its labels' values. The library's own look-up checks them anew each time.
        self._series = cache(_series)
        self._begin_at_zero()
        build = gauge("build_info", "What runs here; always 1.", "version", "python", "twisted")
        build.labels(__version__, platform.python_version(), twisted.__version__).set(1)

    def _begin_at_zero(self) -> None:
        """Create the series that alerts watch, at zero: an increase shows only in a series that was there before."""
        for outcome in ("finished", "unavailable", "refused", "error"):
            self._complete.labels(outcome)
        for outcome in ("granted", "refused", "unavailable"):
            self._auth.labels(outcome)
        for kind in EVENTS.values():
            self._tries.labels(kind)
            for outcome in DELIVERIES:
                self._deliveries.labels(kind, outcome)
        for kind in ORPHANS:
            self._orphans.labels(kind)

    def render(self) -> bytes:
        """Return all of it in Prometheus's text format, `CONTENT_TYPE`."""
        return generate_latest(self.registry)

    # Bodies and uploads

    def received(self, size: int) -> None:
        """Count bytes of bodies that came from clients, stored already or not."""
        self._received.inc(size)

    def durable(self, size: int) -> None:
        """Count bytes that are acknowledged now and were not before."""
        self._durable.inc(size)

    def moved(self, protocol: str, state: State) -> None:
        """Count an upload that has come into a state, as the ledger has confirmed; ``open`` is a new one."""
        self._know(protocol)
        self._series(self._transitions, state.value, protocol).inc()

    def count_uploads(self, counts: Mapping[tuple[State, str], int]) -> None:
        """Set how many uploads are in each live state, for each protocol; what `counts` does not name is 0."""
        for _, protocol in counts:
            self._know(protocol)
        for protocol in self._protocols:
            for state in LIVE:
                self._uploads.labels(state.value, protocol).set(counts.get((state, protocol), 0))

    def _know(self, protocol: str) -> None:
        if protocol not in self._protocols:
            self._protocols.add(protocol)
            for state in State:
                self._transitions.labels(state.value, protocol)
            for state in LIVE:
                self._uploads.labels(state.value, protocol)

    @contextmanager
    def storing(self) -> Iterator[None]:
        """Measure the storing of a run of bytes in a ``with`` block; one that fails is not measured."""
        begun = self._clock()
        yield
        self._part.observe(self._clock() - begun)

    @contextmanager
    def completing(self) -> Iterator[None]:
        """Measure the making of an object in a ``with`` block, and its outcome."""
        outcome, begun = "error", self._clock()
        try:
            yield
            outcome = "finished"
        except Unavailable:
            outcome = "unavailable"
            raise
        except UploadError:
            outcome = "refused"
            raise
        finally:
            self._complete.labels(outcome).observe(self._clock() - begun)

    # What is asked of others, and by others

    def authorized(self, outcome: str, seconds: float) -> None:
        """Count a question to the main application and its outcome: ``granted``, ``refused`` or ``unavailable``."""
        self._series(self._auth, outcome).observe(seconds)

    def store_request(self, store: str, operation: str, code: str, seconds: float) -> None:
        """Count a request to the store, answered or not.

        :param store: what kind it is (``s3``, ``gcs`` or ``embedded``).
        :param code: ``ok``, or an error code: any text that the store may send.
        """
        self._series(self._store, store, operation, self._outcome(code)).inc()
        self._series(self._store_time, store, operation).observe(seconds)

    def _outcome(self, code: str) -> str:
        if code == "ok" or code in self._codes:
            return code
        if len(self._codes) == MOST_CODES or not re.fullmatch("[A-Za-z0-9]{1,40}", code):
            return "other"
        self._codes.add(code)
        return code

    def store_retried(self, store: str, operation: str) -> None:
        """Count a request to the store that is made again."""
        self._store_retries.labels(store, operation).inc()

    def answered(self, method: str, status: int) -> None:
        """Count a request that a client has the answer to."""
        self._series(self._requests, method if method in METHODS else "other", f"{status // 100}xx").inc()

    def ready(self, part: str, ok: bool) -> None:
        """Set whether a part was found to work."""
        self._ready.labels(part).set(int(ok))

    # Events and cleaning

    def webhook_tried(self, kind: str) -> None:
        """Count a request to deliver an event of this kind (``upload.finished``)."""
        self._tries.labels(kind).inc()

    def webhook_outcome(self, kind: str, outcome: str, age: float) -> None:
        """Count the outcome of a try, or of giving up: one of `DELIVERIES`.

        :param age: seconds since the event was created.
        """
        self._deliveries.labels(kind, outcome).inc()
        if outcome == "delivered":
            self._lag.observe(age)

    def progress_told(self, *, delivered: bool) -> None:
        """Count an event of the kind ``upload.progress``, which is told once, whatever comes of it."""
        self._tries.labels(PROGRESS).inc()
        self._deliveries.labels(PROGRESS, "delivered" if delivered else "failed").inc()

    def orphan_removed(self, kind: str) -> None:
        """Count a leftover that was removed from the store: one of `ORPHANS`."""
        self._orphans.labels(kind).inc()
