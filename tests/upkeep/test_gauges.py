"""The gauges of the ledger: what is told to those who watch is what is in the ledger, as it was counted last."""

from __future__ import annotations

from typing import Any

import pytest_twisted
from attrs import evolve
from twisted.internet import reactor
from twisted.internet.task import Clock

from resumable.ledger.database import Database
from resumable.ledger.ledger import Ledger
from resumable.ledger.queue import EventQueue
from resumable.metrics import Metrics
from resumable.model import LIVE, Event, State, Upload
from resumable.upkeep.gauges import LedgerGauges
from tests.scraping import Scrape

R: Any = reactor
UPLOAD = Upload("u", "tus", "o", "n", "b", "k", None, 100, 1000.0, 1000.0)


@pytest_twisted.ensureDeferred
async def test_uploads_and_the_age_of_the_oldest_event() -> None:
    database, clock, metrics = Database("sqlite://", R), Clock(), Metrics()
    database.prepare()
    database.start()
    clock.advance(1000)
    ledger = Ledger(database, lambda upload, pieces: Event(upload.id, "upload.created", {}, upload.created))
    gauges = LedgerGauges(database, metrics, clock)  # type: ignore[arg-type]
    for number in range(3):
        await ledger.create(evolve(UPLOAD, id=f"u{number}", created=1000.0 + number))
    seen = []
    for _ in range(2):
        clock.advance(30)
        await gauges.round()
        scrape = Scrape.of(metrics)
        open_ones = scrape.get("resumable_uploads", state="open", protocol="tus")
        seen.append((open_ones, scrape["resumable_webhook_oldest_due_seconds"]))
        await ledger.move(evolve(UPLOAD, id="u0"), State.CANCELLED, frm=LIVE)
    assert seen == [(3, 30), (2, 60)]
    queue = EventQueue(database)
    while taken := await queue.take(now=5000.0, until=6000.0, most=10):
        for queued in taken:
            await queue.delivered(queued, now=5000.0)
    await gauges.round()
    assert Scrape.of(metrics)["resumable_webhook_oldest_due_seconds"] == 0
    await database.close()
