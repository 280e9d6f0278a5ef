"""Many writers of one upload, on two nodes that cannot tell each other: whatever they write in whatever order, it is right."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.web.http_headers import Headers

from resumable.callbacks.authorizer import Refused
from resumable.ledger.database import Database
from resumable.ledger.ledger import Ledger
from resumable.model import Interrupted, State
from resumable.uploads import claims
from resumable.uploads.fragments import checksum
from resumable.uploads.policy import CreateRequest
from resumable.uploads.registry import Span
from resumable.uploads.result import as_json
from tests.cleaning import janitor_of
from tests.uploads.conftest import CHUNK, DATA, Node, nothing_left
from tests.uploads.memory_store import Bucket
from tests.uploads.test_states import Body, certain

SWARM = CreateRequest("put", "name", length=len(DATA), swarm=True)


class Completes:
    """Counts how often the store is asked to make an object."""

    def __init__(self, nodes: tuple[Node, Node]) -> None:
        self.count = 0
        for node in nodes:
            node.store.complete_multipart_upload = self._counting(node.store.complete_multipart_upload)  # type: ignore[method-assign]

    def _counting(self, work: Any) -> Any:
        async def counted(*args: Any, **options: Any) -> Any:
            self.count += 1
            return await work(*args, **options)

        return counted


@pytest.mark.parametrize("seed", range(25))
@pytest_twisted.ensureDeferred
async def test_any_ranges_in_any_order(
    ledger: Ledger,
    bucket: Bucket,
    nodes: tuple[Node, Node],
    told: list[str],
    seed: int,
) -> None:
    """Up to eight at once, shuffled, overlapping, on both nodes: one Complete, one event, the bytes of the client."""
    chance = random.Random(seed)
    completes = Completes(nodes)
    cuts = sorted({0, len(DATA), *(chance.randrange(1, len(DATA)) for _ in range(chance.randrange(1, 12)))})
    work = [(first, min(len(DATA), end + chance.choice([0, 0, 1, CHUNK]))) for first, end in pairwise(cuts)]
    chance.shuffle(work)

    async def write(first: int, end: int) -> Any:
        node = chance.choice(nodes)
        upload = await ledger.find("", "name", "put")
        if upload is None:
            upload, _ = await node.uploads.join(SWARM)
        if upload.state is State.FINISHED:
            return await node.uploads.report(upload)
        return await node.send(upload, first, end)

    reports = []
    for begin in range(0, len(work), 8):
        batch = [Deferred.fromCoroutine(write(*one)) for one in work[begin : begin + 8]]
        reports += await gatherResults(batch, consumeErrors=True)
    upload = await ledger.find("", "name", "put")
    assert upload is not None
    assert upload.state is State.FINISHED
    assert bucket.objects["name"][0] == DATA
    assert any(report.finished for report in reports)
    assert completes.count <= 1  # none where one range was all there was
    assert told == ["finished"]
    await nothing_left(bucket, nodes)


@pytest_twisted.ensureDeferred
async def test_who_comes_second_waits_for_the_first(
    ledger: Ledger,
    nodes: tuple[Node, Node],
    bucket: Bucket,
) -> None:
    """While one node makes the object, which takes a while, the other waits, and has the same answer."""
    a, b = nodes
    completes = Completes(nodes)
    slow: Deferred[None] = Deferred()
    complete = a.store.complete_multipart_upload

    async def slowly(*args: Any, **options: Any) -> Any:
        await slow
        return await complete(*args, **options)

    a.store.complete_multipart_upload = slowly  # type: ignore[method-assign]
    upload = await a.uploads.create(SWARM)
    await a.send(upload, 0, CHUNK)
    last = Deferred.fromCoroutine(a.send(upload, CHUNK, len(DATA)))
    while (current := await ledger.get(upload.id)) is not None and current.state is not State.FINISHING:
        pass
    assert current is not None
    second = Deferred.fromCoroutine(b.uploads.finish(current))
    reactor.callLater(0.5, slow.callback, None)  # type: ignore[attr-defined]
    first, other = await gatherResults([last, second])
    assert as_json(first) == as_json(other)
    assert completes.count == 1


@pytest_twisted.ensureDeferred
async def test_who_made_the_object_died(
    ledger: Ledger, nodes: tuple[Node, Node], bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the other node's to make when the first has given no sign of life for long enough."""
    monkeypatch.setattr(claims, "BEAT", 3600.0)
    monkeypatch.setattr(claims, "LEASE", 0.5)
    a, b = nodes
    upload = await a.uploads.create(SWARM)
    await a.send(upload, 0, CHUNK)

    async def never(*args: Any, **options: Any) -> Any:
        await Deferred()

    a.store.complete_multipart_upload = never  # type: ignore[method-assign]
    Deferred.fromCoroutine(a.send(upload, CHUNK, len(DATA)))
    while (current := await ledger.get(upload.id)) is not None and current.state is not State.FINISHING:
        pass
    assert current is not None
    assert current.claim is not None
    assert (await b.uploads.finish(current)).finished
    assert bucket.objects["name"][0] == DATA


@pytest_twisted.ensureDeferred
async def test_a_client_that_vanishes_with_the_last_byte(
    ledger: Ledger, nodes: tuple[Node, Node], bucket: Bucket
) -> None:
    """Its node knows nothing of what the other has stored meanwhile, and finishes the upload all the same."""
    a, b = nodes
    upload = await a.uploads.create(SWARM)
    end = 3 * CHUNK - 3  # within a chunk: what comes last of it is stored when the client has gone
    body = Body(DATA[CHUNK:end], 7, drop=True, stall=True)
    going = Deferred.fromCoroutine(a.uploads.receive(upload, body, Span(CHUNK, len(DATA)), revalidate=certain))
    await b.send(upload, 0, CHUNK)
    await b.send(upload, end, len(DATA))
    body.go_on()
    with pytest.raises(Interrupted):
        await going
    current = await ledger.get(upload.id)
    assert current is not None
    assert current.state is State.FINISHED
    assert bucket.objects["name"][0] == DATA
    await nothing_left(bucket, nodes)


@pytest_twisted.ensureDeferred
async def test_complete_and_left_lying(
    database: Database, ledger: Ledger, nodes: tuple[Node, Node], bucket: Bucket
) -> None:
    """All who wrote it died before they saw that all is there: it is not thrown away when its time is over, but finished."""
    a, b = nodes
    upload = await a.uploads.create(SWARM)
    await b.send(upload, 0, CHUNK)
    await a.send(upload, CHUNK, 3 * CHUNK)
    fragment = await b.deps.fragments.put(upload, 3 * CHUNK, [DATA[3 * CHUNK :]], checksum([DATA[3 * CHUNK :]]))
    await ledger.mark_fragmented(upload, claim=None)
    await ledger.add_piece(upload, fragment, now=upload.created)
    janitor = janitor_of(a.uploads, database, after=-60.0, every=60.0, keep=60.0)
    assert [removal async for removal in janitor.clean(dry_run=True)] == []
    assert bucket.objects.get("name") is None
    assert [removal async for removal in janitor.clean() if removal.kind == "upload"] == []
    assert bucket.objects["name"][0] == DATA
    await nothing_left(bucket, nodes)


@pytest_twisted.ensureDeferred
async def test_complete_and_refused(
    database: Database, ledger: Ledger, nodes: tuple[Node, Node], bucket: Bucket
) -> None:
    """Whose client may not finish it is not finished by the clock either: its time is over."""
    a, b = nodes
    upload = await a.uploads.create(SWARM)
    await b.send(upload, 0, CHUNK)
    await a.send(upload, CHUNK, 3 * CHUNK)
    fragment = await b.deps.fragments.put(upload, 3 * CHUNK, [DATA[3 * CHUNK :]], checksum([DATA[3 * CHUNK :]]))
    await ledger.mark_fragmented(upload, claim=None)
    await ledger.add_piece(upload, fragment, now=upload.created)

    async def no() -> None:
        raise Refused(403, Headers(), b"")

    current = await ledger.get(upload.id)
    assert current is not None
    with pytest.raises(Refused):
        await a.uploads.settle(await a.uploads.report(current), no)
    janitor = janitor_of(a.uploads, database, after=-60.0, every=60.0, keep=60.0)
    removed = [removal.kind async for removal in janitor.clean() if removal.kind == "upload"]
    assert removed == ["upload"]
    assert "name" not in bucket.objects
    await nothing_left(bucket, nodes)
