"""What starts and stops with what."""

from __future__ import annotations

import atexit
import os
import resource
import secrets
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList, ensureDeferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from resumable.assembly import Assembly
from resumable.callbacks.authorizer import Authorizer, CallbackAuthorizer
from resumable.callbacks.outbox import Outbox
from resumable.callbacks.webhooks import Webhooks
from resumable.clock import now, run_on_monotonic_time
from resumable.draining import drain
from resumable.first_look import look_at_bucket, look_at_events
from resumable.ledger.database import Database
from resumable.ledger.engine import LedgerError
from resumable.ledger.ledger import Ledger
from resumable.ledger.notifier import PeerNotifier, PostgresNotifier
from resumable.ledger.watch import alive
from resumable.listening import CannotListen, Listen, listen, tell_manager
from resumable.malloc import give_back, keep_freed_memory, spare_the_collector
from resumable.metrics import Metrics
from resumable.model import Unavailable
from resumable.outages import Outages
from resumable.settings import Settings
from resumable.stack import Stack
from resumable.stores.embedded import PORT as embedded_port
from resumable.stores.embedded import EmbeddedS3
from resumable.stores.port import Store, StoreError
from resumable.tasks import BackgroundTasks
from resumable.upkeep.readiness import Probe, Readiness
from resumable.uploads.service import UploadService
from resumable.web.health import Figures, HealthPages
from resumable.web.router import Page
from resumable.web.site import StreamingSite

#: Seconds given at the end to what is still being freed in the store; the rest is freed after the next start.
FREEING = 5.0
#: File descriptors that should be left beside those of clients: for the store, the ledger, the application, and logs.
DESCRIPTORS = 256


class CannotStart(Exception):
    """The service cannot start; the message is for the operator."""


class Resumable(Service):
    """The running service: store, ledger, application callbacks and the site, started in this order and stopped in reverse."""

    _log = Logger()

    def __init__(
        self,
        settings: Settings,
        database: Database,
        reactor: Any,
        metrics: Metrics,
        listen: Listen = listen,
        figures: Figures | None = None,
        looks: bool = True,
    ) -> None:
        """
        :param listen: how to listen, where other processes do too.
        :param figures: what ``/metrics`` says, where other processes count too.
        :param looks: whether to look at the start how bucket and application are; of several processes one does.
        """
        self._looks = looks
        self.settings = settings
        self._outages = Outages(reactor, waits=settings.events is not None and settings.events.wait)
        self._assembly = Assembly(settings, database, reactor, metrics, self._outages)
        self._listen = listen
        self._delay = settings.limits.drain_delay
        self._leaving: Deferred[None] | None = None
        self._database = database
        self._metrics = metrics
        self._name = secrets.token_hex(8)
        self._figures = figures or self._own_figures
        self._reactor = reactor
        self._stack = Stack()
        self._starting: Deferred[None] | None = None

    def startService(self) -> None:
        """Twisted's: begin to start; what goes wrong ends the process with exit status 1."""
        super().startService()
        self._count_descriptors()
        keep_freed_memory()
        self._starting = ensureDeferred(self._start())
        self._starting.addErrback(self._start_failed)

    def _start_failed(self, failure: Failure) -> None:
        if self.running:
            give_up(failure, self._reactor)
        else:
            # The process ends already, and as it was asked to.
            self._log.info("stopped before the start was complete ({reason})", reason=type(failure.value).__name__)

    def _count_descriptors(self) -> None:
        """Warn where connections may use up the descriptors that store, ledger and application are reached with."""
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        connections = self.settings.limits.connections
        if limit != resource.RLIM_INFINITY and limit < connections + DESCRIPTORS:
            self._log.warn(
                "this process may have {limit} file descriptors, too few for limits.connections ({connections}) and a reserve "
                "of {reserve}: raise LimitNOFILE (ulimit -n), or lower limits.connections",
                limit=limit,
                connections=connections,
                reserve=DESCRIPTORS,
            )

    async def _start(self) -> None:
        """Start everything, and push with each how it is closed.

        Closed is what was pushed last first, so that at SIGTERM this is read from the bottom up: say that the service is
        draining; after the drain delay listen no more; end the periodic tasks; drain the connections; end the telling of
        progress, the outbox, the background tasks and what connects to peers, the application and the store; close the ledger;
        end the embedded store.
        """
        make, push = self._assembly, self._stack.push
        endpoint = await self._start_embedded()
        push("ledger", self._database.close)
        self._database.start()
        self._database.reports = self._outages.ledger
        store = await self._start_store(endpoint)
        authorizer = make.authorizer()
        push("authorizer", authorizer.close)
        peers = self._start_peers()
        ledger, webhooks = make.ledger(), make.webhooks()
        admit = None if webhooks is None else make.admit(webhooks)
        progress = None if webhooks is None else make.progress(webhooks)
        try:
            uploads = await make.uploads(ledger, store, admit=admit, peers=peers, progress=progress)
        except Unavailable as error:
            raise CannotStart(f"ledger: {error}") from error
        push("background tasks", partial(self._free, uploads))
        outbox = None if webhooks is None else self._start_outbox(ledger, webhooks)
        if progress is not None:
            push("progress", progress.stop)
        readiness = self._make_readiness(store, uploads)
        pages = HealthPages(readiness, self._figures)
        watched: dict[bytes, Page] = {
            b"/healthz": pages.alive,
            b"/readyz": pages.ready,
            b"/metrics": pages.metrics,
        }
        apart = self.settings.operations.listen
        operations = make.operations_site(watched) if apart else None
        if operations is not None:
            push("operations", partial(_end_all, operations))
        self._watch(store, authorizer, webhooks)
        push("outages", self._end_watch)
        site = make.site(
            make.protocols(uploads, authorizer, outbox), {**make.page(endpoint), **({} if apart else watched)}
        )
        push("connections", partial(self._drain, site))
        for task in make.rounds(uploads, store):
            push("periodic task", task.stop)
        spare_the_collector()
        give_back()
        await self._start_listening(site, self.settings.listen)
        if operations is not None:
            await self._start_listening(operations, apart, operations=True)
        if self._looks:
            self._look_around(store, webhooks)
        push("drain delay", self._wait_for_balancers)
        push("readiness", readiness.drain)
        tell_manager("READY=1")

    async def _start_embedded(self) -> str | None:
        """Start the embedded store, where it is the one that is wanted; returns its endpoint."""
        if self.settings.store.kind != "embedded":
            return None
        embedded = EmbeddedS3(self._reactor, embedded_port)
        self._stack.push("embedded store", embedded.stop)
        try:
            return await embedded.start()
        except RuntimeError as error:
            raise CannotStart(f"store: {error}") from error

    async def _start_store(self, endpoint: str | None) -> Store:
        """Start the client of the store; the embedded one, which has an `endpoint`, gets its bucket."""
        store = self._assembly.store() if endpoint is None else self._assembly.embedded_store(endpoint)
        self._stack.push("store", store.close)
        bucket = self.settings.store.bucket
        try:
            if endpoint is None:
                await store.start()
            else:
                await store.create_bucket(bucket)
        except (StoreError, RuntimeError) as error:
            raise CannotStart(f"store: {error}") from error
        if endpoint is not None:
            self._log.info(
                "embedded S3 at {endpoint} with bucket {bucket!r} (any key and secret): what it holds is gone when this "
                "ends. Read an object back with: curl {endpoint}/{bucket}/NAME",
                endpoint=endpoint,
                bucket=bucket,
            )
        return store

    def _start_peers(self) -> PeerNotifier | None:
        """Start hearing what other nodes say, where there may be some."""
        if not self._database.on_server:
            return None
        peers = PostgresNotifier(self._database, self._reactor)
        self._stack.push("peers", peers.stop)
        peers.start()
        return peers

    def _start_outbox(self, ledger: Ledger, webhooks: Webhooks) -> Outbox:
        """Start delivering what the application wants to hear."""
        outbox = self._assembly.outbox(webhooks)
        self._stack.push("outbox", outbox.stop)
        ledger.announced = outbox.wake
        outbox.start()
        return outbox

    async def _start_listening(
        self, site: StreamingSite, endpoints: Sequence[str], *, operations: bool = False
    ) -> None:
        """Listen on every one of the endpoints."""
        ports: list[IListeningPort] = []
        self._stack.push("listening", partial(_stop_listening, ports))
        for description in endpoints:
            try:
                ports.append(await self._listen(self._reactor, description, site, operations=operations))
            except CannotListen as error:
                raise CannotStart(str(error)) from error

    def _make_readiness(self, store: Store, uploads: UploadService) -> Readiness:
        """Return what says whether the service can do its work."""
        bucket = self.settings.store.bucket

        async def try_store() -> None:
            await store.probe(bucket)
            # The bucket may be there, and take nothing all the same.
            uploads.faults.check(bucket)

        probes: dict[str, Probe] = {
            "ledger": lambda: alive(self._database, self._name, now=now(self._reactor)),
            "store": try_store,
        }
        reports = {"ledger": self._outages.ledger, "store": self._outages.store}
        return Readiness(self._reactor, probes, self._metrics.ready, reports)

    def _look_around(self, store: Store, webhooks: Webhooks | None) -> None:
        """Have the log say how bucket and application are. The service runs whatever comes of that."""
        looks = BackgroundTasks(2)
        self._stack.push("first look", partial(looks.close, self._reactor, 0.0))
        if self.settings.store.kind != "embedded":
            looks.run(partial(look_at_bucket, store, self.settings.store))
        if webhooks is not None:
            looks.run(partial(look_at_events, webhooks))

    def _watch(self, store: Store, authorizer: Authorizer, webhooks: Webhooks | None) -> None:
        """Have what is out tried again, whether clients come or not."""
        self._outages.store.attempt = lambda: store.probe(self.settings.store.bucket)
        self._outages.ledger.attempt = lambda: alive(self._database, self._name, now=now(self._reactor))
        if isinstance(authorizer, CallbackAuthorizer):
            self._outages.auth.attempt = authorizer.look
        if webhooks is not None:
            self._outages.events.attempt = webhooks.look

    async def _end_watch(self) -> None:
        self._outages.stop()

    async def _own_figures(self) -> bytes:
        return self._metrics.render()

    def stopService(self) -> Deferred[None]:
        """Twisted's: stop, the last started first."""
        super().stopService()
        return ensureDeferred(self._stop())

    async def _stop(self) -> None:
        if self._starting is not None:
            self._starting.cancel()
        tell_manager("STOPPING=1")
        await self._stack.close()

    async def _wait_for_balancers(self) -> None:
        """Go on for a while: balancers, which see that this is going to end, are to look elsewhere first."""
        if self._delay:
            self._log.info("stopping in {seconds:g} s", seconds=self._delay)
            self._leaving = deferLater(self._reactor, self._delay)
            with suppress(CancelledError):
                await self._leaving

    def hurry(self) -> None:
        """Do not wait for balancers."""
        self._delay = 0.0
        if self._leaving is not None:
            self._leaving.cancel()

    async def _drain(self, site: StreamingSite) -> None:
        """End what runs: no body is taken any further, what has arrived is stored, idle connections are closed."""
        await drain(site, self._reactor, self.settings.limits.drain, self._hopeless)

    def _hopeless(self) -> str:
        """Return why nothing can be stored; empty where it can."""
        out = [name for name, part in (("store", self._outages.store), ("ledger", self._outages.ledger)) if part.out]
        return f"the {' and the '.join(out)} is out" if out else ""

    async def _free(self, uploads: UploadService) -> None:
        """Free what can be freed in the time that there is. Where the store is out nothing can."""
        await uploads.close(0.0 if self._hopeless() else FREEING)


async def _end_all(site: StreamingSite) -> None:
    """End all connections of a site whose answers take no time."""
    for channel in list(site.channels):
        channel.forceAbortClient()


async def _stop_listening(ports: Sequence[IListeningPort]) -> None:
    stopping = [maybeDeferred(port.stopListening) for port in ports]
    outcomes: list[tuple[bool, Any]] = await DeferredList(stopping, consumeErrors=True)
    for succeeded, failure in outcomes:
        if not succeeded:
            failure.raiseException()


def give_up(failure: Any, reactor: Any) -> None:
    """Say why a start has failed, and end the process with exit status 1."""
    if failure.check(CannotStart, LedgerError):
        Resumable._log.critical("cannot start: {reason}", reason=failure.getErrorMessage())
    else:
        Resumable._log.failure("cannot start", failure)
    # twistd knows no exit status of its own.
    atexit.register(_exit_with_failure)
    # Some failures come at once, before the reactor runs.
    reactor.callWhenRunning(reactor.stop)


def _exit_with_failure() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def make_resumable(
    settings: Settings,
    *,
    prepare: bool = True,
    metrics: Metrics | None = None,
    listen: Listen = listen,
    figures: Figures | None = None,
    looks: bool = True,
) -> Resumable:
    """Return the service for `settings`, not started yet.

    :param prepare: bring the ledger's tables up to date first.
    :param metrics: where it counts; `listen`, `figures` and `looks` as for `Resumable`.
    :raises LedgerError: the ledger cannot be used.
    """
    from twisted.internet import reactor

    run_on_monotonic_time(reactor)
    database = Database(settings.ledger.reveal(), reactor)
    if prepare:
        database.prepare()
        # twistd may fork after this, and no database connection survives that.
        database.release()
    return Resumable(settings, database, reactor, metrics or Metrics(), listen, figures, looks)
