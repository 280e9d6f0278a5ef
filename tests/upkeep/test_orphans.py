"""What is counted of the cleaning: leftovers in the store, and neither uploads (their state is) nor rows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from resumable.metrics import Metrics
from resumable.upkeep.janitor import Janitor, Removal
from tests.scraping import Scrape


class Maintenance:
    """The lease is always ours."""

    async def lease(self, name: str, **when: float) -> bool:
        return True


class Finding(Janitor):
    """A janitor that finds one of each kind, and two fragments."""

    async def clean(self, *, dry_run: bool = False) -> AsyncIterator[Removal]:
        for kind in ("upload", "fragment", "multipart", "fragment", "row"):
            yield Removal(kind, "what", "why")


def test_each_leftover_by_its_kind() -> None:
    metrics, nothing = Metrics(), cast(Any, None)
    settings: dict[str, Any] = {"after": 1.0, "every": 1.0, "keep": 1.0, "bucket": "b", "prefix": "p/"}
    clock: Any = Clock()
    janitor = Finding(nothing, cast(Any, Maintenance()), nothing, nothing, clock, metrics=metrics, **settings)
    assert Deferred.fromCoroutine(janitor.round()).called
    counted = Scrape.of(metrics).samples("resumable_orphans_removed_total")
    assert {labels["kind"]: value for _, labels, value in counted} == {"multipart": 1, "fragment": 2}
