"""Assembly: the parts of the service, made out of its settings. The only place where a setting meets what it is for."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from resumable.callbacks.admission import Admission
from resumable.callbacks.authorizer import AllowAll, Authorizer, CallbackAuthorizer
from resumable.callbacks.outbox import Outbox
from resumable.callbacks.webhooks import Webhooks
from resumable.ledger.database import Database
from resumable.ledger.ledger import Ledger
from resumable.ledger.maintenance import Maintenance
from resumable.ledger.notifier import NullNotifier, PeerNotifier
from resumable.ledger.queue import EventQueue
from resumable.metrics import Metrics
from resumable.model import ObjectOptions
from resumable.protocols.origin import Proxies
from resumable.protocols.put import PutProtocol
from resumable.protocols.ranges import Ranges
from resumable.protocols.results import Results
from resumable.protocols.sessions import Sessions
from resumable.protocols.status import StatusPages
from resumable.settings import Settings, StoreSettings
from resumable.stores.s3 import S3Store
from resumable.stores.store import Store
from resumable.tasks import BackgroundTasks
from resumable.upkeep.gauges import LedgerGauges
from resumable.upkeep.janitor import Janitor
from resumable.upkeep.periodic import PeriodicTask
from resumable.upkeep.recovery import CompletionRecovery
from resumable.uploads.dependencies import Dependencies
from resumable.uploads.events import CREATED, Announcer
from resumable.uploads.fragments import Fragments
from resumable.uploads.limiter import ReadBackLimiter
from resumable.uploads.memory import MemoryBudget
from resumable.uploads.policy import Policy
from resumable.uploads.service import Admit, UploadService
from resumable.web.router import Handler, Root, front_page
from resumable.web.site import StreamingSite

#: Seconds after which a silent writer has what it brought stored (it may take up to twice as long).
CHECKPOINT = 2.0
#: Seconds after which cleaning is first thought of: not at every start, but also where none lasts long.
FIRST_CLEANING = 60.0
#: Seconds between the finisher's rounds.
TAKE_UP = 5.0
#: Background tasks at a time: what frees the store takes the same time here as what clients wait for.
BACKGROUND_TASKS = 4
#: Seconds between counts of what is in the ledger.
GAUGES = 15.0


@frozen
class Assembly:
    """Makes parts, each time it is asked; nothing is started."""

    settings: Settings
    database: Database
    reactor: Any
    metrics: Metrics

    def store(self) -> S3Store:
        """The S3 client."""
        return make_store(self.settings.store, self.reactor, self.metrics)

    def embedded_store(self, endpoint: str) -> S3Store:
        """The client of the embedded S3."""
        key = "embedded"
        observe, retried = self.metrics.s3_request, self.metrics.s3_retried
        return S3Store(
            self.reactor,
            endpoint=endpoint,
            access_key=key,
            secret_key=key,
            observe=observe,
            retried=retried,
            proxies=False,
        )

    def webhooks(self) -> Webhooks | None:
        """Who tells the application of events, if it wants to hear."""
        events = self.settings.events
        if events is None:
            return None
        return Webhooks(
            url=events.url,
            secret=events.secret.reveal() if events.secret is not None else None,
            form=events.format,
            timeout=events.timeout,
            reactor=self.reactor,
        )

    def outbox(self, webhooks: Webhooks) -> Outbox:
        """What delivers events."""
        events = self.settings.events
        assert events is not None, "webhooks are for events"
        return Outbox(
            EventQueue(self.database),
            webhooks,
            self.reactor,
            give_up_after=events.give_up_after,
            wait=events.wait,
            metrics=self.metrics,
        )

    def admit(self, webhooks: Webhooks) -> Admit | None:
        """Who asks the application before an upload is created, if it is to be asked."""
        return Admission(webhooks).admit if self._asks_first else None

    @property
    def _asks_first(self) -> bool:
        events = self.settings.events
        return events is not None and events.wait and CREATED in events.types

    def ledger(self) -> Ledger:
        """The ledger, which notes what the application wants to hear."""
        events = self.settings.events
        # What it was asked about it need not be told.
        types = () if events is None else [kind for kind in events.types if not (self._asks_first and kind == CREATED)]
        return Ledger(self.database, Announcer(types), metrics=self.metrics)

    async def uploads(
        self, ledger: Ledger, store: Store, *, admit: Admit | None = None, peers: PeerNotifier | None = None
    ) -> UploadService:
        """What is done with uploads.

        :raises Unavailable: the ledger was in trouble.
        """
        identity = await Maintenance(self.database).identity()
        return UploadService(self._deps(ledger, store, identity, peers), make_policy(self.settings), admit)

    def _deps(self, ledger: Ledger, store: Store, identity: str, peers: PeerNotifier | None) -> Dependencies:
        """What uploads work with. A quarter of the memory is for chunks that are read back, the rest for bodies."""
        memory = self.settings.limits.memory
        budget = MemoryBudget(memory * 3 // 4, self.reactor)
        self.metrics.memory_limit.set(budget.limit)
        self.metrics.memory_held.set_function(lambda: budget.held)
        background = BackgroundTasks(BACKGROUND_TASKS)
        self.metrics.background.set_function(lambda: background.count)
        return Dependencies(
            ledger=ledger,
            store=store,
            fragments=Fragments(store, budget, self.settings.store.fragments_prefix, identity),
            budget=budget,
            read_back=ReadBackLimiter(memory // 4),
            clock=self.reactor,
            background=background,
            metrics=self.metrics,
            peers=peers or NullNotifier(),
        )

    def janitor(self, uploads: UploadService, store: Store) -> Janitor:
        """Who cleans up."""
        cleanup = self.settings.cleanup
        return Janitor(
            uploads,
            Maintenance(self.database),
            EventQueue(self.database),
            store,
            self.reactor,
            after=cleanup.after,
            every=cleanup.every,
            keep=cleanup.keep,
            bucket=self.settings.store.bucket,
            prefix=self.settings.store.fragments_prefix,
            metrics=self.metrics,
        )

    def rounds(self, uploads: UploadService, store: Store) -> list[PeriodicTask]:
        """What runs by the clock, from now on."""
        cleaning, give_up_after = self.settings.cleanup, self.settings.store.give_up_after
        recovery = CompletionRecovery(uploads, Maintenance(self.database), self.reactor, give_up_after=give_up_after)
        janitor = self.janitor(uploads, store)
        gauges = LedgerGauges(self.database, self.metrics, self.reactor)
        return [
            PeriodicTask(self.reactor, CHECKPOINT, uploads.writing.checkpoint),
            PeriodicTask(self.reactor, TAKE_UP, recovery.round),
            PeriodicTask(self.reactor, cleaning.every, janitor.round, first=min(FIRST_CLEANING, cleaning.every)),
            PeriodicTask(self.reactor, GAUGES, gauges.round),
        ]

    def authorizer(self) -> Authorizer:
        """Who is asked whether someone may upload."""
        auth = self.settings.auth
        if auth == "open":
            return AllowAll()
        return CallbackAuthorizer(
            url=auth.url,
            forward=auth.forward,
            timeout=auth.timeout,
            cache=auth.cache,
            reactor=self.reactor,
            metrics=self.metrics,
        )

    def routes(self, uploads: UploadService, authorizer: Authorizer, outbox: Outbox | None) -> dict[bytes, Handler]:
        """Which URL speaks which protocol."""
        events = self.settings.events
        results = Results(outbox.await_verdict if outbox is not None and events is not None and events.wait else None)
        ranges = Ranges(uploads, authorizer, results)
        sessions = Sessions(uploads, authorizer, ranges)
        return {
            b"/upload/": PutProtocol(uploads, authorizer, ranges).serve,
            b"/uploads": sessions.create,
            b"/uploads/": StatusPages(uploads, authorizer, sessions).serve,
            b"/": front_page,
        }

    def site(self, routes: dict[bytes, Handler]) -> StreamingSite:
        """What listens, with its limits."""
        return StreamingSite(
            Root(routes),
            idle_timeout=self.settings.limits.idle_timeout,
            connections=self.settings.limits.connections,
            proxies=Proxies(self.settings.trusted_proxies, self.settings.public_url),
            reactor=self.reactor,
            metrics=self.metrics,
        )


def make_store(settings: StoreSettings, reactor: Any, metrics: Metrics) -> S3Store:
    """The S3 client for the settings."""
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
