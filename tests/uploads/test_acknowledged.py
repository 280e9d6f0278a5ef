"""An observer of what is acknowledged."""

from __future__ import annotations

import hashlib

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import Clock, deferLater

from resumable.model import Interrupted
from resumable.uploads.acknowledged import Acknowledgements
from resumable.uploads.digest import ExpectedDigest
from resumable.uploads.policy import CreateRequest
from tests.uploads.conftest import CHUNK, DATA, Node

WANTED = CreateRequest("ietf", "name", length=len(DATA))


def test_not_too_often() -> None:
    """The first is told at once, then the latest when it is time, and the last at the end."""
    clock, told, offset = Clock(), list[int](), 0
    telling = Acknowledgements(told.append, lambda: offset, clock, 1.0)
    telling.moved()
    assert told == []
    offset = 1
    telling.moved()
    offset = 2
    telling.moved()
    offset = 3
    telling.moved()
    assert told == [1]
    clock.advance(0.99)
    assert told == [1]
    clock.advance(0.02)
    assert told == [1, 3]
    clock.advance(5)
    offset = 4
    telling.moved()
    assert told == [1, 3, 4]
    offset = 5
    telling.moved()
    telling.close()
    assert told == [1, 3, 4, 5]
    assert clock.getDelayedCalls() == []
    offset = 6
    telling.moved()
    telling.close()
    clock.advance(5)
    assert told == [1, 3, 4, 5]


@pytest_twisted.ensureDeferred
async def test_while_a_body_is_received(nodes: tuple[Node, Node]) -> None:
    """Only what is acknowledged is told, each time more, and nothing after the end."""
    a, _ = nodes
    upload = await a.uploads.create(WANTED)
    told: list[int] = []
    with pytest.raises(Interrupted):
        await a.send(upload, 0, data=DATA[: CHUNK + 5], drop=True, acknowledged=told.append, every=0.0)
    assert told in ([CHUNK, CHUNK + 5], [CHUNK + 5])
    assert (await a.uploads.report(upload)).offset == CHUNK + 5
    seen = list(told)
    assert (await a.send(upload, CHUNK + 5, acknowledged=told.append, every=60.0)).finished
    assert told[: len(seen)] == seen
    assert told[-1] == len(DATA)
    assert told == sorted(set(told))
    assert len(told) <= 4
    await deferLater(reactor, 0.02)  # type: ignore[arg-type]
    assert told[-1] == len(DATA)


@pytest_twisted.ensureDeferred
async def test_one_that_fails(nodes: tuple[Node, Node]) -> None:
    """Whoever watches does not break what is watched."""
    a, _ = nodes
    upload = await a.uploads.create(WANTED)

    def fail(offset: int) -> None:
        raise RuntimeError("as the test wants it")

    assert (await a.send(upload, 0, acknowledged=fail)).finished


@pytest_twisted.ensureDeferred
async def test_nothing_before_the_digest(nodes: tuple[Node, Node]) -> None:
    """What is held back is not acknowledged."""
    a, _ = nodes
    upload = await a.uploads.create(WANTED)
    told: list[int] = []

    class Watched(ExpectedDigest):
        async def verify(self) -> None:
            await deferLater(reactor, 0.02)  # type: ignore[arg-type]
            assert told == []
            await super().verify()

    digest = Watched(hashlib.sha1(), hashlib.sha1(DATA).digest)
    assert (await a.send(upload, 0, digest=digest, acknowledged=told.append, every=0.0)).finished
    assert told[-1] == len(DATA)
