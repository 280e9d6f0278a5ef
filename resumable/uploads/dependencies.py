"""What the upload core works with."""

from __future__ import annotations

from attrs import Factory, field, frozen
from twisted.internet.interfaces import IReactorTime

from resumable.ledger.ledger import Ledger
from resumable.ledger.notifier import NullNotifier, PeerNotifier
from resumable.metrics import Metrics
from resumable.stores.faults import OperatorFaults
from resumable.stores.port import Store
from resumable.tasks import BackgroundTasks
from resumable.uploads.fragments import Fragments
from resumable.uploads.limiter import ReadBackLimiter
from resumable.uploads.memory import MemoryBudget

#: Chunks that the store joins at a time.
JOINS = 4


@frozen
class Dependencies:
    """What every writer works with."""

    ledger: Ledger
    store: Store
    fragments: Fragments
    budget: MemoryBudget
    #: For chunks that are made of fragments which have to be read back; the budget does not count them.
    read_back: ReadBackLimiter
    clock: IReactorTime
    #: What is freed in the store while nobody waits for it.
    background: BackgroundTasks
    #: Chunks that the store joins. Each takes minutes, and what is freed need not wait for that.
    joins: BackgroundTasks = field(factory=lambda: BackgroundTasks(JOINS))
    metrics: Metrics = field(factory=Metrics)
    peers: PeerNotifier = field(factory=NullNotifier)
    #: What the store refuses for the operator to mend.
    faults: OperatorFaults = field(default=Factory(lambda self: OperatorFaults(self.clock), takes_self=True))
