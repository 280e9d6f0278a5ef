"""Who hears of partial uploads: tusd's receivers, which know of them, and nobody else."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred
from twisted.internet import reactor

from resumable.assembly import Assembly
from resumable.callbacks.webhooks import Webhooks
from resumable.metrics import Metrics
from resumable.model import State
from resumable.settings import parse_settings
from resumable.uploads.policy import CreateOverrides, CreateRequest
from tests.policy import policy

PARTIAL = policy().new_upload(CreateRequest("tus", None, length=5, partial=True), "id", 1.0)
FINAL = policy().new_upload(CreateRequest("tus", None, length=5, sources=["a", "b"]), "id", 1.0)


class Asked(Exception):
    """The application was asked."""


@pytest.fixture(params=["resumable", "tusd"])
def assembly(request: pytest.FixtureRequest) -> Assembly:
    said = f"""
store: {{bucket: b}}
auth: open
events:
  url: "http://127.0.0.1:9/"
  secret: whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
  types: [upload.created, upload.progress, upload.finished]
  wait: true
  format: {request.param}
"""
    return Assembly(parse_settings(said, "the test", {}), None, reactor, Metrics())  # type: ignore[arg-type]


@ensureDeferred
async def test_who_is_told(assembly: Assembly, monkeypatch: pytest.MonkeyPatch) -> None:
    async def tell(*_: Any, **__: Any) -> None:
        raise Asked

    monkeypatch.setattr(Webhooks, "tell", tell)
    assert assembly.settings.events is not None
    tusd = assembly.settings.events.format == "tusd"
    webhooks = assembly.webhooks()
    assert webhooks is not None
    admit = assembly.admit(webhooks)
    assert admit is not None
    if tusd:
        with pytest.raises(Asked):
            await admit(PARTIAL)
    else:
        assert await admit(PARTIAL) == CreateOverrides()
    with pytest.raises(Asked):
        await admit(FINAL)
    announce = assembly.ledger()._announce
    finished = evolve(PARTIAL, state=State.FINISHED, finished=2.0, etag="e")
    told = announce(finished, ())
    assert (told is not None) == tusd
    if told is not None:
        assert told.data["concat"] == "partial"
    told = announce(evolve(FINAL, state=State.FINISHED, finished=2.0, etag="e"), ())
    assert told is not None
    assert (told.data["concat"], told.data["partial_uploads"]) == ("final", ["a", "b"])
    progress: Any = assembly.progress(webhooks)
    assert progress._partials == tusd
