"""Assembly: the parts of the service, made out of its settings. The only place where a setting meets what it is for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from attrs import frozen

from resumable.callbacks.admission import Admission
from resumable.callbacks.authorizer import AllowAll, Authorizer, CallbackAuthorizer
from resumable.callbacks.outbox import Outbox
from resumable.callbacks.progress import ProgressTeller
from resumable.callbacks.webhooks import Webhooks
from resumable.ledger.database import Database
from resumable.ledger.ledger import Ledger
from resumable.ledger.maintenance import Maintenance
from resumable.ledger.notifier import NullNotifier, PeerNotifier
from resumable.ledger.queue import EventQueue
from resumable.malloc import GIVE_BACK, give_back
from resumable.metrics import Metrics
from resumable.model import PROGRESS, ObjectOptions
from resumable.outages import Outages
from resumable.page.serving import make_pages
from resumable.page.stored import StoredPage
from resumable.protocols.base import Protocol
from resumable.protocols.origin import Proxies
from resumable.protocols.registry import make_protocols
from resumable.protocols.results import Results
from resumable.settings import Settings
from resumable.stores.port import Store, StoreContext, StoreLimits
from resumable.stores.registry import make_embedded_store, make_store
from resumable.tasks import BackgroundTasks
from resumable.upkeep.gauges import LedgerGauges
from resumable.upkeep.janitor import Janitor
from resumable.upkeep.periodic import PeriodicTask
from resumable.upkeep.recovery import CompletionRecovery
from resumable.uploads.dependencies import Dependencies
from resumable.uploads.events import CREATED, Announcer, ProgressObserver
from resumable.uploads.fragments import Fragments
from resumable.uploads.limiter import ReadBackLimiter
from resumable.uploads.memory import MemoryBudget
from resumable.uploads.policy import Policy
from resumable.uploads.service import Admit, UploadService
from resumable.web.cors import Cors
from resumable.web.router import Page, Router, front_page
from resumable.web.site import StreamingSite

#: Seconds after which a silent writer has what it brought stored (it may take up to twice as long).
CHECKPOINT = 2.0
#: Seconds after which cleaning is first thought of: not at every start, but also where none lasts long.
FIRST_CLEANING = 60.0
#: Seconds between looks for uploads that were left unfinished.
TAKE_UP = 5.0
#: Background tasks at a time: what frees the store takes the same time here as what clients wait for.
BACKGROUND_TASKS = 4
#: Partial uploads of so many bytes are stored in one request.
PARTIAL_CHUNK = 32 << 20
#: Seconds that a client waits for its last answer where no application has a say in that.
ANSWER_WITHIN = 15.0
#: Seconds between counts of what is in the ledger.
GAUGES = 15.0


@frozen
class Assembly:
    """Makes parts, each time it is asked; nothing is started."""

    settings: Settings
    database: Database
    reactor: Any
    metrics: Metrics
    outages: Outages | None = None

    def store(self) -> Store:
        """Return the store, not started."""
        return make_store(self.settings.store, self._store_context)

    def embedded_store(self, endpoint: str) -> Store:
        """Return the store for the embedded server at the endpoint's URL."""
        return make_embedded_store(endpoint, self._store_context)

    @property
    def _store_context(self) -> StoreContext:
        reports = None if self.outages is None else self.outages.store
        kind = self.settings.store.kind
        observe, retried = partial(self.metrics.store_request, kind), partial(self.metrics.store_retried, kind)
        return StoreContext(self.reactor, observe, retried, reports, Maintenance(self.database).identity)

    def webhooks(self) -> Webhooks | None:
        """Return what tells the application of events; None if it does not want to hear."""
        events = self.settings.events
        if events is None:
            return None
        return Webhooks(
            url=events.url,
            secret=events.secret.reveal() if events.secret is not None else None,
            form=events.format,
            timeout=events.timeout,
            reactor=self.reactor,
            reports=None if self.outages is None else self.outages.events,
        )

    def outbox(self, webhooks: Webhooks) -> Outbox:
        """Return what delivers events."""
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

    def progress(self, webhooks: Webhooks) -> ProgressTeller | None:
        """Return what tells the application how uploads get on; None if it does not want to hear."""
        events = self.settings.events
        if events is None or PROGRESS not in events.types:
            return None
        return ProgressTeller(webhooks, self.reactor, partials=self._tells_of_partials, metrics=self.metrics)

    def admit(self, webhooks: Webhooks) -> Admit | None:
        """Return what asks the application before an upload is created; None if it is not to be asked."""
        return Admission(webhooks, partials=self._tells_of_partials).admit if self._asks_first else None

    @property
    def _tells_of_partials(self) -> bool:
        """Whether the application hears of partial uploads: tusd's receivers know of them."""
        return self.settings.events is not None and self.settings.events.format == "tusd"

    @property
    def _asks_first(self) -> bool:
        events = self.settings.events
        return events is not None and events.wait and CREATED in events.types

    def ledger(self) -> Ledger:
        """Return the ledger, which notes what the application wants to hear."""
        events = self.settings.events
        types = () if events is None else events.types
        if events is not None and self._asks_first and not self._tells_of_partials:
            # What it was asked about it need not be told. Receivers of tusd's hooks get both: only the later one has the id.
            types = tuple(kind for kind in types if kind != CREATED)
        announce = Announcer(types, partials=self._tells_of_partials) if types else None
        return Ledger(self.database, announce, metrics=self.metrics)

    async def uploads(
        self,
        ledger: Ledger,
        store: Store,
        *,
        admit: Admit | None = None,
        peers: PeerNotifier | None = None,
        progress: ProgressObserver | None = None,
    ) -> UploadService:
        """Return the upload service.

        :raises Unavailable: the ledger was in trouble.
        """
        identity = await Maintenance(self.database).identity()
        return UploadService(
            self._deps(ledger, store, identity, peers), make_policy(self.settings, store.limits), admit, progress
        )

    def _deps(self, ledger: Ledger, store: Store, identity: str, peers: PeerNotifier | None) -> Dependencies:
        """Return what uploads work with. A quarter of the memory is for chunks that are read back, the rest for bodies."""
        budget = MemoryBudget(body_memory(self.settings), self.reactor)
        self.metrics.memory_limit.set(budget.limit)
        self.metrics.memory_held.set_function(lambda: budget.held)
        background = BackgroundTasks(BACKGROUND_TASKS)
        self.metrics.background.set_function(lambda: background.count)
        alone = self.settings.workers == 1 and not self.database.on_server
        return Dependencies(
            ledger=ledger,
            store=store,
            fragments=Fragments(store, budget, self.settings.store.fragments_prefix, identity, alone=alone),
            budget=budget,
            read_back=ReadBackLimiter(self.settings.limits.memory // 4),
            clock=self.reactor,
            background=background,
            metrics=self.metrics,
            peers=peers or NullNotifier(),
        )

    def janitor(self, uploads: UploadService, store: Store) -> Janitor:
        """Return what cleans up."""
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
        """Return what runs by the clock. It runs from now on."""
        cleaning, give_up_after = self.settings.cleanup, self.settings.store.give_up_after
        recovery = CompletionRecovery(uploads, Maintenance(self.database), self.reactor, give_up_after=give_up_after)
        janitor = self.janitor(uploads, store)
        gauges = LedgerGauges(self.database, self.metrics, self.reactor)
        return [
            PeriodicTask(self.reactor, CHECKPOINT, uploads.writing.checkpoint),
            PeriodicTask(self.reactor, TAKE_UP, recovery.round),
            PeriodicTask(self.reactor, cleaning.every, janitor.round, first=min(FIRST_CLEANING, cleaning.every)),
            PeriodicTask(self.reactor, GAUGES, gauges.round),
            PeriodicTask(self.reactor, GIVE_BACK, _give_back, first=GIVE_BACK),
        ]

    def authorizer(self) -> Authorizer:
        """Return what is asked whether someone may upload."""
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
            reports=None if self.outages is None else self.outages.auth,
        )

    def protocols(self, uploads: UploadService, authorizer: Authorizer, outbox: Outbox | None) -> list[Protocol]:
        """Return the protocols that are spoken."""
        events = self.settings.events
        waits = outbox is not None and events is not None and events.wait
        results = Results(outbox.await_verdict if outbox is not None and waits else None)
        downloads = self.settings.download == "redirect"
        return make_protocols(self.settings.protocols, uploads, authorizer, results, downloads=downloads)

    def _cors(self, protocols: Sequence[Protocol]) -> Cors | None:
        cors, auth = self.settings.cors, self.settings.auth
        if not cors.origins:
            return None
        # What the application decides by has to reach it.
        forwarded = () if auth == "open" else auth.forward
        return Cors(cors.origins, credentials=cors.credentials, protocols=protocols, sent=forwarded)

    def page(self, endpoint: str | None) -> dict[bytes, Page]:
        """Return the page's files by their paths; nothing where it is off.

        :param endpoint: of the embedded store, from which everybody may read.
        """
        if not self.settings.page:
            return {}
        if endpoint is None or self.settings.auth != "open":
            return make_pages()
        return make_pages(StoredPage(self.database, endpoint).answer)

    def operations_site(self, pages: Mapping[bytes, Page]) -> StreamingSite:
        """Return what listens for those who watch the service, and serves nothing else."""
        return StreamingSite(
            Router([], pages), idle_timeout=self.settings.limits.idle_timeout, reactor=self.reactor, connections=100
        )

    def site(self, protocols: Sequence[Protocol], pages: Mapping[bytes, Page]) -> StreamingSite:
        """Return what listens, with its limits."""
        return StreamingSite(
            Router(protocols, {b"/": front_page, **pages}, cors=self._cors(protocols), outages=self.outages),
            idle_timeout=self.settings.limits.idle_timeout,
            connections=self.settings.limits.connections,
            proxies=Proxies(self.settings.trusted_proxies, self.settings.public_url),
            reactor=self.reactor,
            metrics=self.metrics,
        )


async def _give_back() -> None:
    give_back()


def body_memory(settings: Settings) -> int:
    """Return the bytes of bodies that can be in memory: three quarters. The rest is for what is read back."""
    return settings.limits.memory * 3 // 4


def make_policy(settings: Settings, limits: StoreLimits) -> Policy:
    """Return what the settings say about every upload."""
    store = settings.store
    return Policy(
        bucket=store.bucket,
        key=store.key,
        overwrite=store.overwrite,
        chunk_size=store.chunk_size,
        max_parts=store.max_parts or limits.parts,
        limits=limits,
        parts_in_flight=store.parts_in_flight,
        memory=body_memory(settings),
        max_chunk=settings.limits.memory // 4,
        partial_chunk=PARTIAL_CHUNK,
        answer_within=settings.events.timeout if settings.events is not None else ANSWER_WITHIN,
        max_size=min(settings.limits.max_size or limits.largest_object, limits.largest_object),
        fragments_prefix=store.fragments_prefix,
        expire_after=settings.cleanup.after,
        reads_back=settings.digest == "verify",
        options=ObjectOptions(
            acl=store.object.acl,
            storage_class=store.object.storage_class,
            cache_control=store.object.cache_control,
            encryption=store.object.encryption,
            kms_key=store.object.kms_key,
            tags=dict(store.object.tags),
        ),
    )
