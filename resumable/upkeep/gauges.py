"""Figures from the ledger for the metrics. They are counted periodically, never when somebody reads the metrics."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from resumable.clock import now
from resumable.ledger.database import Database
from resumable.ledger.watch import count_live, oldest_due
from resumable.metrics import Metrics


class LedgerGauges:
    """Counts the uploads that have not ended, and looks for the oldest event that is still to be delivered."""

    def __init__(self, database: Database, metrics: Metrics, clock: IReactorTime) -> None:
        self._database = database
        self._metrics = metrics
        self._clock = clock

    async def round(self) -> None:
        """Count, and set the gauges.

        :raises Unavailable: the ledger could not be read; the gauges keep their values.
        """
        self._metrics.count_uploads(await count_live(self._database))
        created = await oldest_due(self._database)
        self._metrics.oldest_due.set(0.0 if created is None else max(0.0, now(self._clock) - created))
