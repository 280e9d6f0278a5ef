"""What starts and stops with what."""

from __future__ import annotations

import atexit
import os
import resource
import secrets
import sys
from contextlib import suppress
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList, ensureDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import deferLater
from twisted.logger import Logger

from resumable.assembly import Assembly
from resumable.callbacks.authorizer import Authorizer
from resumable.callbacks.outbox import Outbox
from resumable.clock import now, run_on_monotonic_time
from resumable.ledger.database import Database
from resumable.ledger.engine import LedgerError
from resumable.ledger.ledger import Ledger
from resumable.ledger.notifier import PeerNotifier, PostgresNotifier
from resumable.ledger.watch import alive
from resumable.listening import CannotListen, Listen, listen, tell_manager
from resumable.malloc import keep_freed_memory, spare_the_collector
from resumable.metrics import Metrics
from resumable.model import Unavailable
from resumable.settings import Settings
from resumable.stores.embedded import EmbeddedS3
from resumable.stores.port import Store, StoreError
from resumable.upkeep.periodic import PeriodicTask
from resumable.upkeep.readiness import Probe, Readiness
from resumable.uploads.service import Admit, UploadService
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
    ) -> None:
        """
        :param listen: how to listen, where other processes do too.
        :param figures: what ``/metrics`` says, where other processes count too.
        """
        self.settings = settings
        self._assembly = Assembly(settings, database, reactor, metrics)
        self._listen = listen
        self._leaving: Deferred[None] | None = None
        self._delay = settings.limits.drain_delay
        self._database = database
        self._metrics = metrics
        self._name = secrets.token_hex(8)
        self._figures = figures or self._own_figures
        self._readiness: Readiness | None = None
        self._reactor = reactor
        self._embedded: EmbeddedS3 | None = None
        self._store: Store | None = None
        self._uploads: UploadService | None = None
        self._authorizer: Authorizer | None = None
        self._site: StreamingSite | None = None
        self._ports: list[IListeningPort] = []
        self._rounds: list[PeriodicTask] = []
        self._outbox: Outbox | None = None
        self._nodes: PostgresNotifier | None = None
        self._starting: Deferred[None] | None = None

    def startService(self) -> None:
        """Twisted's: begin to start; what goes wrong ends the process with exit status 1."""
        super().startService()
        self._count_descriptors()
        keep_freed_memory()
        self._database.start()
        self._starting = ensureDeferred(self._start())
        self._starting.addErrback(self._give_up)

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
        try:
            store = self._store = await self._open_store()
        except (StoreError, RuntimeError) as error:
            raise CannotStart(f"store: {error}") from error
        make = self._assembly
        authorizer = self._authorizer = make.authorizer()
        ledger, admit = self._hear_of_events()
        try:
            uploads = self._uploads = await make.uploads(ledger, store, admit=admit, peers=self._hear_of_nodes())
        except Unavailable as error:
            raise CannotStart(f"ledger: {error}") from error
        self._site = make.site(make.protocols(uploads, authorizer, self._outbox), self._watched(store, uploads))
        self._rounds = make.rounds(uploads, store)
        spare_the_collector()
        for description in self.settings.listen:
            try:
                self._ports.append(await self._listen(self._reactor, description, self._site))
            except CannotListen as error:
                raise CannotStart(str(error)) from error
        tell_manager("READY=1")

    def _hear_of_nodes(self) -> PeerNotifier | None:
        """What other nodes say, where there may be some."""
        if not self._database.on_server:
            return None
        self._nodes = PostgresNotifier(self._database, self._reactor)
        self._nodes.start()
        return self._nodes

    def _hear_of_events(self) -> tuple[Ledger, Admit | None]:
        """The ledger, which notes what the application wants to hear, and who asks it before an upload is created."""
        ledger, webhooks = self._assembly.ledger(), self._assembly.webhooks()
        if webhooks is None:
            return ledger, None
        self._outbox = self._assembly.outbox(webhooks)
        ledger.announced = self._outbox.wake
        self._outbox.start()
        return ledger, self._assembly.admit(webhooks)

    def _watched(self, store: Store, uploads: UploadService) -> dict[bytes, Page]:
        """The pages for those who watch the service."""
        bucket = self.settings.store.bucket

        async def try_store() -> None:
            await store.probe(bucket)
            # The bucket may be there, and take nothing all the same.
            uploads.faults.check(bucket)

        probes: dict[str, Probe] = {
            "ledger": lambda: alive(self._database, self._name, now=now(self._reactor)),
            "store": try_store,
        }
        self._readiness = Readiness(self._reactor, probes, self._metrics.ready)
        pages = HealthPages(self._readiness, self._figures)
        return {b"/healthz": pages.alive, b"/readyz": pages.ready, b"/metrics": pages.metrics}

    async def _own_figures(self) -> bytes:
        return self._metrics.render()

    async def _open_store(self) -> Store:
        """The store; the embedded one is started first, and gets its bucket."""
        settings = self.settings.store
        if settings.kind != "embedded":
            store = self._assembly.store()
            await store.start()
            return store
        self._embedded = EmbeddedS3(self._reactor)
        endpoint = await self._embedded.start()
        store = self._assembly.embedded_store(endpoint)
        await store.create_bucket(settings.bucket)
        self._log.info(
            "embedded S3 at {endpoint} with bucket {bucket!r} (any key and secret): what it holds is gone when this ends. "
            "Read an object back with: curl {endpoint}/{bucket}/NAME",
            endpoint=endpoint,
            bucket=settings.bucket,
        )
        return store

    def _give_up(self, failure: Any) -> None:
        give_up(failure, self._reactor)

    def stopService(self) -> Deferred[None]:
        """Twisted's: stop, the last started first."""
        super().stopService()
        return ensureDeferred(self._stop())

    async def _stop(self) -> None:
        if self._starting is not None:
            self._starting.cancel()
        await self._leave()
        await DeferredList([Deferred.fromCoroutine(_stop_listening(port)) for port in self._ports])
        for going in self._rounds:
            going.stop()
        if self._site is not None:
            await self._drain(self._site)
        if self._outbox is not None:
            await self._outbox.stop()
        if self._uploads is not None:
            await self._uploads.close(FREEING)
        if self._nodes is not None:
            self._nodes.stop()
        if self._authorizer is not None:
            await self._authorizer.close()
        if self._store is not None:
            await self._store.close()
        await self._database.close()
        if self._embedded is not None:
            await self._embedded.stop()

    async def _leave(self) -> None:
        """Go on for a while, and say that this is going to end: balancers are to look elsewhere first."""
        tell_manager("STOPPING=1")
        if self._readiness is not None:
            self._readiness.drain()
        if self._ports and self._delay:
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
        site.drain()
        deadline = self._reactor.seconds() + self.settings.limits.drain
        while site.channels and self._reactor.seconds() < deadline:
            await deferLater(self._reactor, 0.05)
        for channel in list(site.channels):
            channel.forceAbortClient()


async def _stop_listening(port: IListeningPort) -> None:
    stopping = port.stopListening()
    if stopping is not None:
        await stopping


def give_up(failure: Any, reactor: Any) -> None:
    """A start that failed: say why and end the process with exit status 1."""
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
) -> Resumable:
    """The service for `settings`, not started yet.

    :param prepare: bring the ledger's tables up to date first.
    :param metrics: where it counts; `listen` and `figures` as for `Resumable`.
    :raises LedgerError: the ledger cannot be used.
    """
    from twisted.internet import reactor

    run_on_monotonic_time(reactor)
    database = Database(settings.ledger.reveal(), reactor)
    if prepare:
        database.prepare()
        # twistd may fork after this, and no database connection survives that.
        database.release()
    return Resumable(settings, database, reactor, metrics or Metrics(), listen, figures)
