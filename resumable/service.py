"""What starts and stops with what."""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList, DeferredSemaphore, ensureDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import deferLater
from twisted.logger import Logger

from resumable.allocator import keep_freed_memory
from resumable.callbacks.admission import Admission
from resumable.callbacks.authorizer import Authorizer, CallbackAuthorizer, OpenDoor
from resumable.callbacks.outbox import Outbox
from resumable.callbacks.webhooks import Webhooks
from resumable.ledger.chores import Chores
from resumable.ledger.database import Database
from resumable.ledger.engine import LedgerError
from resumable.ledger.ledger import Ledger
from resumable.ledger.notices import Alone, Nodes, Notices
from resumable.ledger.queue import EventQueue
from resumable.ledger.watch import alive
from resumable.listening import CannotListen, Listen, listen, tell_manager
from resumable.metrics import Metrics
from resumable.model import ObjectOptions, Unavailable
from resumable.protocols.origin import Proxies
from resumable.protocols.ranges import Ranges
from resumable.protocols.results import Results
from resumable.protocols.seed import SeedProtocol
from resumable.protocols.sessions import Sessions
from resumable.protocols.status import StatusPages
from resumable.settings import Settings, StoreSettings
from resumable.stores.embedded import EmbeddedS3
from resumable.stores.s3 import S3Store
from resumable.stores.store import Store, StoreError
from resumable.upkeep.census import Census
from resumable.upkeep.finisher import Finisher
from resumable.upkeep.janitor import Janitor
from resumable.upkeep.readiness import Probe, Readiness
from resumable.upkeep.rounds import Round
from resumable.uploads.budget import Budget
from resumable.uploads.desk import Admit, Desk
from resumable.uploads.events import CREATED, Announcer
from resumable.uploads.fragments import Fragments
from resumable.uploads.intake import Tools
from resumable.uploads.policy import Policy
from resumable.web.channel import StreamingSite
from resumable.web.health import Figures, HealthPages
from resumable.web.site import Handler, Root, front_page

#: Seconds after which a silent writer has what it brought stored (it may take up to twice as long).
CHECKPOINT = 2.0
#: Seconds after which cleaning is first thought of: not at every start, but also where none lasts long.
FIRST_CLEANING = 60.0
#: Seconds between the finisher's rounds.
TAKE_UP = 5.0
#: Seconds between counts of what is in the ledger.
CENSUS = 15.0


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
        self._listen = listen
        self._leaving: Deferred[None] | None = None
        self._delay = settings.limits.drain_delay
        self._database = database
        self._metrics = metrics
        self._figures = figures or self._own_figures
        self._readiness: Readiness | None = None
        self._reactor = reactor
        self._embedded: EmbeddedS3 | None = None
        self._store: S3Store | None = None
        self._door: Authorizer | None = None
        self._site: StreamingSite | None = None
        self._ports: list[IListeningPort] = []
        self._rounds: list[Round] = []
        self._outbox: Outbox | None = None
        self._nodes: Nodes | None = None
        self._starting: Deferred[None] | None = None

    def startService(self) -> None:
        """Twisted's: begin to start; what goes wrong ends the process with exit status 1."""
        super().startService()
        keep_freed_memory()
        self._database.start()
        self._starting = ensureDeferred(self._start())
        self._starting.addErrback(self._give_up)

    async def _start(self) -> None:
        try:
            store = self._store = await self._open_store()
        except (StoreError, RuntimeError) as error:
            raise CannotStart(f"store: {error}") from error
        self._door = make_door(self.settings, self._reactor, self._metrics)
        ledger, admit = self._hear_of_events()
        try:
            desk = await make_desk(
                self.settings, self._database, ledger, store, self._reactor, admit, self._metrics, self._hear_of_nodes()
            )
        except Unavailable as error:
            raise CannotStart(f"ledger: {error}") from error
        waiting = self.settings.events is not None and self.settings.events.wait
        results = Results(self._outbox.hear if self._outbox is not None and waiting else None)
        ranges = Ranges(desk, self._door, results)
        sessions = Sessions(desk, self._door, ranges)
        routes: dict[bytes, Handler] = {
            b"/upload/": SeedProtocol(desk, self._door, ranges).serve,
            b"/uploads": sessions.create,
            b"/uploads/": StatusPages(desk, self._door, sessions).serve,
            b"/": front_page,
        }
        root = Root({**routes, **self._watched(store)})
        self._site = make_site(self.settings, root, self._reactor, self._metrics)
        self._begin_upkeep(desk, store)
        for description in self.settings.listen:
            try:
                self._ports.append(await self._listen(self._reactor, description, self._site))
            except CannotListen as error:
                raise CannotStart(str(error)) from error
        tell_manager("READY=1")

    def _begin_upkeep(self, desk: Desk, store: Store) -> None:
        """What runs by the clock."""
        cleaning, give_up_after = self.settings.cleanup, self.settings.store.give_up_after
        finisher = Finisher(desk, Chores(self._database), self._reactor, give_up_after=give_up_after)
        janitor = make_janitor(self.settings, desk, self._database, store, self._reactor, self._metrics)
        self._rounds = [
            Round(self._reactor, CHECKPOINT, desk.writing.checkpoint),
            Round(self._reactor, TAKE_UP, finisher.round),
            Round(self._reactor, cleaning.every, janitor.round, first=min(FIRST_CLEANING, cleaning.every)),
            Round(self._reactor, CENSUS, Census(self._database, self._metrics, self._reactor).round),
        ]

    def _hear_of_nodes(self) -> Notices | None:
        """What other nodes say, where there may be some."""
        if not self._database.on_server:
            return None
        self._nodes = Nodes(self._database, self._reactor)
        self._nodes.start()
        return self._nodes

    def _hear_of_events(self) -> tuple[Ledger, Admit | None]:
        """The ledger, which notes what the application wants to hear, and who asks it before an upload is created."""
        events = self.settings.events
        if events is None:
            return Ledger(self._database, metrics=self._metrics), None
        webhooks = Webhooks(
            url=events.url,
            secret=events.secret.reveal() if events.secret is not None else None,
            form=events.format,
            timeout=events.timeout,
            reactor=self._reactor,
        )
        asked = events.wait and CREATED in events.types
        announcer = Announcer({kind for kind in events.types if not (asked and kind == CREATED)})
        ledger = Ledger(self._database, announcer, metrics=self._metrics)
        self._outbox = Outbox(
            EventQueue(self._database),
            webhooks,
            self._reactor,
            give_up_after=events.give_up_after,
            wait=events.wait,
            metrics=self._metrics,
        )
        ledger.announced = self._outbox.wake
        self._outbox.start()
        return ledger, Admission(webhooks).admit if asked else None

    def _watched(self, store: S3Store) -> dict[bytes, Handler]:
        """The pages for those who watch the service."""
        bucket = self.settings.store.bucket
        probes: dict[str, Probe] = {"ledger": lambda: alive(self._database), "store": lambda: store.probe(bucket)}
        self._readiness = Readiness(self._reactor, probes, self._metrics.ready)
        pages = HealthPages(self._readiness, self._figures)
        return {b"/healthz": pages.alive, b"/readyz": pages.ready, b"/metrics": pages.metrics}

    async def _own_figures(self) -> bytes:
        return self._metrics.render()

    async def _open_store(self) -> S3Store:
        """The store; the embedded one is started first, and gets its bucket."""
        settings = self.settings.store
        if settings.kind != "embedded":
            store = make_store(settings, self._reactor, self._metrics)
            await store.start()
            return store
        self._embedded = EmbeddedS3(self._reactor)
        endpoint = await self._embedded.start()
        store = S3Store(
            self._reactor,
            endpoint=endpoint,
            access_key="embedded",
            secret_key="embedded",
            observe=self._metrics.s3_request,
            retried=self._metrics.s3_retried,
        )
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
        if self._nodes is not None:
            self._nodes.stop()
        if self._door is not None:
            await self._door.close()
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

    database = Database(settings.ledger.reveal(), reactor)
    if prepare:
        database.prepare()
        # twistd may fork after this, and no database connection survives that.
        database.release()
    return Resumable(settings, database, reactor, metrics or Metrics(), listen, figures)


def make_store(settings: StoreSettings, reactor: Any, metrics: Metrics | None = None) -> S3Store:
    """The S3 client for the settings."""
    metrics = metrics or Metrics()
    return S3Store(
        reactor,
        region=settings.region,
        endpoint=settings.endpoint,
        addressing=settings.addressing,
        access_key=settings.access_key.reveal() if settings.access_key else None,
        secret_key=settings.secret_key.reveal() if settings.secret_key else None,
        session_token=settings.session_token.reveal() if settings.session_token else None,
        checksum=settings.checksum == "crc32c",
        patience=settings.patience,
        observe=metrics.s3_request,
        retried=metrics.s3_retried,
    )


async def make_desk(
    settings: Settings,
    database: Database,
    ledger: Ledger,
    store: Store,
    reactor: Any,
    admit: Admit | None = None,
    metrics: Metrics | None = None,
    notices: Notices | None = None,
) -> Desk:
    """What is done with uploads.

    :param notices: hears what other nodes say; without, they are told of what is done here and not heard.
    :raises Unavailable: the ledger was in trouble.
    """
    identity = await Chores(database).identity()
    if notices is None:
        notices = Nodes(database, reactor) if database.on_server else Alone()
    tools = make_tools(settings, ledger, store, reactor, identity, notices, metrics)
    return Desk(tools, make_policy(settings), admit)


def make_janitor(
    settings: Settings, desk: Desk, database: Database, store: Store, reactor: Any, metrics: Metrics | None = None
) -> Janitor:
    """Who cleans up."""
    return Janitor(
        desk,
        Chores(database),
        EventQueue(database),
        store,
        reactor,
        after=settings.cleanup.after,
        every=settings.cleanup.every,
        keep=settings.cleanup.keep,
        bucket=settings.store.bucket,
        prefix=settings.store.fragments_prefix,
        metrics=metrics,
    )


def make_tools(
    settings: Settings,
    ledger: Ledger,
    store: Store,
    reactor: Any,
    identity: str,
    notices: Notices,
    metrics: Metrics | None = None,
) -> Tools:
    """What uploads work with. A quarter of the memory is for chunks that are read back, the rest for bodies.

    :param identity: the ledger's.
    """
    metrics = metrics or Metrics()
    memory = settings.limits.memory
    budget = Budget(memory * 3 // 4, reactor)
    metrics.memory_limit.set(budget.limit)
    metrics.memory_held.set_function(lambda: budget.held)
    return Tools(
        ledger=ledger,
        store=store,
        fragments=Fragments(store, budget, settings.store.fragments_prefix, identity),
        budget=budget,
        reading=DeferredSemaphore(max(1, memory // 4 // settings.store.chunk_size)),
        clock=reactor,
        metrics=metrics,
        notices=notices,
    )


def make_policy(settings: Settings) -> Policy:
    """What the settings say about every upload."""
    store = settings.store
    return Policy(
        bucket=store.bucket,
        key=store.key,
        overwrite=store.overwrite,
        chunk_size=store.chunk_size,
        max_parts=store.max_parts,
        parts_in_flight=store.parts_in_flight,
        max_chunk=settings.limits.memory // 4,
        max_size=settings.limits.max_size,
        fragments_prefix=store.fragments_prefix,
        expire_after=settings.cleanup.after,
        options=ObjectOptions(
            acl=store.object.acl,
            storage_class=store.object.storage_class,
            cache_control=store.object.cache_control,
            encryption=store.object.encryption,
            kms_key=store.object.kms_key,
            tags=dict(store.object.tags),
        ),
    )


def make_site(settings: Settings, root: Root, reactor: Any, metrics: Metrics) -> StreamingSite:
    """What listens, with its limits."""
    return StreamingSite(
        root,
        idle_timeout=settings.limits.idle_timeout,
        connections=settings.limits.connections,
        proxies=Proxies(settings.trusted_proxies, settings.public_url),
        reactor=reactor,
        metrics=metrics,
    )


def make_door(settings: Settings, reactor: Any, metrics: Metrics) -> Authorizer:
    """Who is asked whether someone may upload."""
    if settings.auth == "open":
        return OpenDoor()
    return CallbackAuthorizer(
        url=settings.auth.url,
        forward=settings.auth.forward,
        timeout=settings.auth.timeout,
        cache=settings.auth.cache,
        reactor=reactor,
        metrics=metrics,
    )
