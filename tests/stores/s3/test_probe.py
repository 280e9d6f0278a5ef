"""The probe of the store, and the count of tries that come again."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest
import pytest_twisted

from resumable.model import ObjectOptions
from resumable.stores.port import StoreError, StoreUnavailable
from resumable.stores.xmlapi import client
from tests.stores.fakes import FakeStore, answer, nothing, stored


@pytest_twisted.async_yield_fixture
async def fake() -> AsyncIterator[FakeStore]:
    server = FakeStore()
    yield server
    await server.close()


@pytest_twisted.ensureDeferred
async def test_one_cheap_request(fake: FakeStore) -> None:
    fake.answers = [answer(200)]
    await fake.store().probe("b")
    (request,) = fake.requests
    assert (request.head.split("\r\n")[0], request.body) == ("HEAD /b HTTP/1.1", b"")


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (404, "NotFound"), (503, "ServiceUnavailable")])
@pytest_twisted.ensureDeferred
async def test_one_request_also_when_it_fails(fake: FakeStore, status: int, code: str) -> None:
    """What may pass is not tried again: the next who asks will see."""
    fake.answers = [answer(status), answer(200)]
    with pytest.raises(StoreError, match=code):
        await fake.store().probe("b")
    assert len(fake.requests) == 1


@pytest_twisted.ensureDeferred
async def test_a_store_that_says_nothing(fake: FakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual patience with silence is not for a probe."""
    monkeypatch.setattr(client, "PROBE", 0.3)
    fake.answers = [nothing]
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="Silent"):
        await fake.store().probe("b")
    assert 0.3 <= time.monotonic() - began < 5


@pytest_twisted.ensureDeferred
async def test_tries_that_come_again_are_told(fake: FakeStore) -> None:
    again: list[str] = []
    fake.answers = [answer(503), answer(500), stored("e")]
    await fake.store(retried=again.append).put_object("b", "k", [b"x"], ObjectOptions())
    assert again == ["PutObject"] * 2


@pytest_twisted.ensureDeferred
async def test_the_last_try_is_not_told_as_another(fake: FakeStore) -> None:
    again: list[str] = []
    fake.answers = [answer(503)]
    with pytest.raises(StoreUnavailable):
        await fake.store(retried=again.append, patience=0.0).put_object("b", "k", [b"x"], ObjectOptions())
    assert again == []
