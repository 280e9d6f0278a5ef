"""What is counted and measured, for Prometheus: every instrument there is, in a registry of its own.

Rooms are given the one `Metrics` of the service, and say what has happened. A room that is given none counts into one that
nobody reads. Labels have few values, whatever clients and stores send; names and owners are never among them. Nothing here
is called for each segment of a body: for each run of a chunk, request or call at most.
"""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

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
from resumable.model import EVENTS, LIVE, State, Unavailable, UploadError

#: What Prometheus's text format is called.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: Upper bounds of the histograms' buckets, in seconds: of calls, and of events, which wait as long as the application is down.
SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
LAG_SECONDS = (0.3, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0, 10_800.0, 43_200.0, 86_400.0, 259_200.0)

#: Methods that are counted under their own name.
METHODS = frozenset({"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"})
#: Error codes of the store that are counted under their own name, the first so many that come.
MOST_CODES = 40
#: What comes of a try to tell the main application.
DELIVERIES = ("delivered", "retried", "dead")
#: What the cleaning finds in the store that no upload knows.
ORPHANS = ("multipart", "fragment")


class Metrics:
    """The instruments, and what is called when there is something to count.

    :ivar registry: all of them, the process's own (CPU, memory, file descriptors) among them.
    :ivar streams: bodies that are being taken in.
    :ivar memory_held: bytes of bodies in memory.
    :ivar memory_limit: the most that may be.
    :ivar background tasks: what is being freed in the store, or waits for that.
    :ivar connections: open connections of clients.
    :ivar oldest_due: seconds since the oldest event was created that is not delivered yet; 0 where there is none.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """:param clock: seconds, for measuring."""
        # The time each series began is one more series for each, and tells nothing that Prometheus wants.
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
            "upload_transitions", "Uploads that came into a state, as the ledger confirmed it.", "state", "protocol"
        )
        self._uploads = gauge("uploads", "Uploads in the ledger that have not ended.", "state", "protocol")
        self.streams = gauge("active_streams", "Bodies that are being taken in.")
        self.memory_held = gauge("memory_held_bytes", "Bytes of bodies in memory.")
        self.memory_limit = gauge("memory_limit_bytes", "Bytes of bodies that may be in memory.")
        self.background = gauge("background_tasks", "What is being freed in the store, or waits for that.")
        self.connections = gauge("open_connections", "Open connections of clients.")
        self._part = histogram("part_duration", "From a run of bytes handed on to its acknowledgement.")
        self._complete = histogram("complete_duration", "Making the object of an upload's parts.", "outcome")
        self._auth = histogram("auth_duration", "Asking the main application whether it allows.", "outcome")
        self._s3 = counter("s3_requests", "HTTP requests to the store, tries counted singly.", "operation", "outcome")
        self._s3_time = histogram("s3_request_duration", "HTTP requests to the store.", "operation")
        self._s3_retries = counter("s3_retries", "HTTP requests to the store that were made again.", "operation")
        self._requests = counter("http_requests", "Requests that were answered.", "method", "status")
        self._tries = counter("webhook_tries", "Requests made to deliver events.", "type")
        self._deliveries = counter("webhook_deliveries", "What came of events' deliveries.", "type", "outcome")
        self._lag = histogram("webhook_delivery_lag", "From an event to its delivery.", buckets=LAG_SECONDS)
        self.oldest_due = gauge("webhook_oldest_due_seconds", "Age of the oldest event that is not delivered yet.")
        self._orphans = counter("orphans_removed", "Leftovers in the store that no upload knew.", "kind")
        self._ready = gauge("ready", "Whether a part answered when /readyz last asked.", "part")
        self._begin_at_zero()
        build = gauge("build_info", "What runs here; always 1.", "version", "python", "twisted")
        build.labels(__version__, platform.python_version(), twisted.__version__).set(1)

    def _begin_at_zero(self) -> None:
        """Have the series that alerts look at from the start: an increase is seen only in what was there before."""
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
        """All of it in Prometheus's text format, `CONTENT_TYPE`."""
        return generate_latest(self.registry)

    # Bodies and uploads

    def received(self, size: int) -> None:
        """So many more bytes of bodies came from clients, stored already or not."""
        self._received.inc(size)

    def durable(self, size: int) -> None:
        """So many more bytes are acknowledged that were not before."""
        self._durable.inc(size)

    def moved(self, protocol: str, state: State) -> None:
        """The ledger has confirmed that an upload is in a state now; ``open`` is a new one."""
        self._know(protocol)
        self._transitions.labels(state.value, protocol).inc()

    def count_uploads(self, counts: Mapping[tuple[State, str], int]) -> None:
        """How many uploads are in each living state, for each protocol; what is not named is none."""
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
        """Around the storing of a run of bytes; one that fails is not measured."""
        begun = self._clock()
        yield
        self._part.observe(self._clock() - begun)

    @contextmanager
    def completing(self) -> Iterator[None]:
        """Around the making of an object."""
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
        """The main application was asked: ``granted``, ``refused``, or ``unavailable``."""
        self._auth.labels(outcome).observe(seconds)

    def s3_request(self, operation: str, code: str, seconds: float) -> None:
        """A request to the store was answered, or not: ``ok`` or an error code, which may be any text the store likes."""
        self._s3.labels(operation, self._outcome(code)).inc()
        self._s3_time.labels(operation).observe(seconds)

    def _outcome(self, code: str) -> str:
        if code == "ok" or code in self._codes:
            return code
        if len(self._codes) == MOST_CODES or not re.fullmatch("[A-Za-z0-9]{1,40}", code):
            return "other"
        self._codes.add(code)
        return code

    def s3_retried(self, operation: str) -> None:
        """A request to the store is made again."""
        self._s3_retries.labels(operation).inc()

    def answered(self, method: str, status: int) -> None:
        """A client has its answer."""
        self._requests.labels(method if method in METHODS else "other", f"{status // 100}xx").inc()

    def ready(self, part: str, ok: bool) -> None:
        """Whether a part was found to do its work."""
        self._ready.labels(part).set(int(ok))

    # Events and cleaning

    def webhook_tried(self, kind: str) -> None:
        """A request was made to deliver an event of this kind (``upload.finished``)."""
        self._tries.labels(kind).inc()

    def webhook_outcome(self, kind: str, outcome: str, age: float) -> None:
        """What came of a try, or of giving up: one of `DELIVERIES`.

        :param age: seconds since the event was created.
        """
        self._deliveries.labels(kind, outcome).inc()
        if outcome == "delivered":
            self._lag.observe(age)

    def orphan_removed(self, kind: str) -> None:
        """Something was removed from the store that no upload knew: one of `ORPHANS`."""
        self._orphans.labels(kind).inc()
