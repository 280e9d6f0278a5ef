"""What the log says at the start of the bucket and of the application for events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.logger import formatEvent, globalLogPublisher

from resumable.callbacks.webhooks import Webhooks
from resumable.first_look import look_at_bucket, look_at_events
from resumable.settings import StoreSettings
from resumable.stores.port import StoreError, StoreUnavailable
from tests.receiver import SECRET, Receiver

SETTINGS = StoreSettings(bucket="my-bucket")


@pytest.fixture
def said() -> Iterator[list[tuple[str, str]]]:
    found: list[tuple[str, str]] = []

    def observe(event: dict[str, Any]) -> None:
        if event["log_namespace"] == "resumable.first_look":
            found.append((event["log_level"].name, formatEvent(event)))

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


class Store:
    """Says to a probe, and to a listing, what it is told to."""

    def __init__(self, probe: Exception | None, listing: Exception | None = None) -> None:
        self.answers = {"probe": probe, "listing": listing}

    def _say(self, what: str) -> None:
        error = self.answers[what]
        if error is not None:
            raise error

    async def probe(self, bucket: str) -> None:
        self._say("probe")

    async def list_objects(self, bucket: str, prefix: str) -> list[Any]:
        assert prefix == ".resumable/start/"
        self._say("listing")
        return []


@pytest.mark.parametrize(
    ("store", "level", "words"),
    [
        (Store(None), "info", "bucket my-bucket answers"),
        (
            Store(StoreError("NotFound", "", 404), StoreError("NoSuchBucket", "no", 404)),
            "warn",
            "bucket my-bucket cannot be used: there is no such bucket (NoSuchBucket); create it, or name another in store.bucket",
        ),
        (Store(StoreUnavailable("ConnectionRefusedError", "refused")), "warn", "cannot be reached: "),
        # The permission to list alone is missing for the probe, but what uploads need is there.
        (Store(StoreError("AccessDenied", "", 403)), "info", "bucket my-bucket answers"),
    ],
)
@ensureDeferred
async def test_the_bucket(store: Any, level: str, words: str, said: list[tuple[str, str]]) -> None:
    await look_at_bucket(store, SETTINGS)
    [(found, line)] = said
    assert found == level
    assert words in line


@ensureDeferred
async def test_the_application_for_events(said: list[tuple[str, str]]) -> None:
    """Nothing is told to it; a token in the URL is not shown."""
    receiver = Receiver()
    webhooks = Webhooks(url=f"{receiver.url}?token=hidden", secret=SECRET, form="resumable", timeout=5, reactor=reactor)
    await look_at_events(webhooks)
    with receiver:
        await look_at_events(webhooks)
        await webhooks.close()
    (first, why), (second, well) = said
    assert (first, second) == ("warn", "info")
    assert f"{receiver.url} cannot be reached" in why
    assert f"{receiver.url} answers (405 to OPTIONS" in well
    assert "hidden" not in why + well
    assert receiver.heard == []
