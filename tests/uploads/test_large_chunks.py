"""Chunks that are larger than memory: stored cell by cell, and joined by the store."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from crc32c import crc32c
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import deferLater

from resumable.ledger.ledger import Ledger
from resumable.model import Conflict, Ended, Gap, Interrupted, State, Superseded, Unavailable, Upload
from resumable.stores.port import StoreLimits
from resumable.uploads.grid import Grid
from resumable.uploads.policy import CreateRequest
from resumable.uploads.registry import Span
from resumable.uploads.service import UploadService
from tests.policy import policy
from tests.uploads.conftest import CHUNK, Node, nothing_left
from tests.uploads.memory_store import Bucket, MemoryStore
from tests.uploads.test_states import Body, certain

#: The object has parts of at most 100 bytes, and memory is for 16 at a time.
PART = 100
FILE = random.Random(9).randbytes(4 * PART + 57)


@pytest.fixture
def nodes(ledger: Ledger, bucket: Bucket) -> tuple[Node, Node]:
    """Two nodes whose memory is too small for the parts that the object needs."""
    bucket.smallest = 4
    both = (Node(ledger, bucket), Node(ledger, bucket))
    for node in both:
        limits = StoreLimits(smallest_part=4, largest_part=PART)
        node.store.limits = limits
        how: dict[str, Any] = {"chunk_size": CHUNK, "memory": 4 * CHUNK, "max_chunk": CHUNK, "max_parts": 8}
        node.uploads = UploadService(node.deps, policy("bucket", limits=limits, **how))
    return both


async def create(node: Node, length: int | None = len(FILE), **how: Any) -> Upload:
    return await node.uploads.create(CreateRequest("put", "name", length=length, **how))


async def send(node: Node, upload: Upload, first: int, end: int = len(FILE), **how: Any) -> Any:
    how.setdefault("data", FILE[first:end])
    return await node.send(upload, first, end, **how)


async def check(bucket: Bucket, nodes: tuple[Node, Node], upload: Upload, data: bytes = FILE) -> None:
    """The object is what was sent, and nothing else is left of it."""
    assert bucket.objects["name"][0] == data
    found = await nodes[0].deps.ledger.get(upload.id)
    assert found is not None
    assert found.crc32c == crc32c(data)
    await nothing_left(bucket, nodes)


@pytest_twisted.ensureDeferred
async def test_in_one_body(bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """Cells come as fragments, the store makes five parts of them, and no byte is read back."""
    a, _ = nodes
    upload = await create(a)
    assert (Grid.of(upload).count, Grid.of(upload).fits(1), upload.cell) == (5, False, CHUNK)
    assert (await send(a, upload, 0)).finished
    assert bucket.calls.count("complete_multipart_upload") == 6
    assert "get_object" not in bucket.calls
    await check(bucket, nodes, upload)


@pytest_twisted.ensureDeferred
async def test_broken_off_anywhere(bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """A body that breaks off is gone on with at the byte after the last, on another node; short fragments are joined too."""
    upload = await create(nodes[0])
    generator, offset, turn = random.Random(3), 0, 0
    while offset < len(FILE):
        end = min(len(FILE), offset + generator.randrange(1, 60))
        node = nodes[turn % 2]
        if end < len(FILE):
            with pytest.raises(Interrupted):
                await send(node, upload, offset, data=FILE[offset:end], drop=True)
            assert (await node.uploads.report(upload)).offset == end
        else:
            assert (await send(node, upload, offset)).finished
        offset, turn = end, turn + 1
    await check(bucket, nodes, upload)


@pytest_twisted.ensureDeferred
async def test_unknown_length(bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """The first half of the parts fit into memory, the last ones do not."""
    a, _ = nodes
    upload = await create(a, None)
    assert upload.growth == ((5, 96),)
    with pytest.raises(Interrupted):
        await a.uploads.receive(upload, Body(FILE[:200], 7, drop=True, stall=False), Span(0, None), revalidate=certain)
    report = await a.uploads.receive(
        upload, Body(FILE[200:440], 7, drop=False, stall=False), Span(200, None, last=True), revalidate=certain
    )
    assert report.finished
    await check(bucket, nodes, upload, FILE[:440])


@pytest_twisted.ensureDeferred
async def test_by_many_connections(bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """In any order, on two nodes at once, with ranges that meet in the middle of cells and chunks."""
    upload = await create(nodes[0], swarm=True)
    edges = [0, 30, 95, 131, 250, 260, 399, len(FILE)]
    ranges = list(pairwise(edges))
    random.Random(4).shuffle(ranges)
    sending = [
        Deferred.fromCoroutine(send(nodes[number % 2], upload, first, end))
        for number, (first, end) in enumerate(ranges)
    ]
    results: Any = await DeferredList(sending, consumeErrors=True)
    assert [str(failure) for well, failure in results if not well] == []
    await nodes[0].uploads.finish(upload)
    await check(bucket, nodes, upload)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "call",
    [
        "put_object",
        "init_multipart_upload",
        "upload_part_copy",
        "complete_multipart_upload",
        "delete_object",
        "head_object",
    ],
)
@pytest_twisted.ensureDeferred
async def test_trouble_anywhere(bucket: Bucket, nodes: tuple[Node, Node], call: str, when: str) -> None:
    """Whatever call fails, or whatever answer is lost: the client tries again, and nothing is lost, and nothing stays."""
    a, b = nodes
    upload = await create(a)
    for nth in range(6):
        a.store.trouble = [(call, when)] * (nth % 3 + 1)
        report = await a.uploads.report(upload)
        try:
            report = await send(a if nth % 2 else b, upload, report.offset)
        except (Unavailable, Superseded):
            continue
        if report.finished:
            break
    a.store.trouble = []
    report = await a.uploads.report(await a.uploads.get(upload.id, ""))
    if not report.finished:
        report = await a.uploads.settle(report, certain) if report.complete else await send(a, upload, report.offset)
    assert report.finished
    assert bucket.objects["name"][0] == FILE


@pytest_twisted.ensureDeferred
async def test_a_process_that_dies_while_joining(ledger: Ledger, bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """Another one joins the fragments once more, and what the first has left in the store is swept."""
    a, b = nodes
    upload = await create(a)
    with pytest.raises(Interrupted):
        await send(a, upload, 0, data=FILE[:90], drop=True)
    copied = a.store.upload_part_copy

    async def dies(*given: Any, **how: Any) -> Any:
        await copied(*given, **how)
        a.store.dead = True
        await Deferred()

    a.store.upload_part_copy = dies  # type: ignore[method-assign]
    Deferred.fromCoroutine(send(a, upload, 90)).addErrback(lambda _: None)
    while not a.store.dead:
        await deferLater(reactor, 0.002)  # type: ignore[arg-type]
    report = await b.uploads.report(upload)
    assert report.offset >= PART
    assert (await send(b, upload, report.offset)).finished
    await b.settle()
    assert bucket.objects["name"][0] == FILE
    assert bucket.multiparts == {}
    assert list(bucket.objects) == ["name"]


@pytest_twisted.ensureDeferred
async def test_other_bytes_are_found_out(bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """Of a chunk that the store has joined, each fragment has a checksum still."""
    a, _ = nodes
    upload = await create(a)
    with pytest.raises(Interrupted):
        await send(a, upload, 0, data=FILE[:250], drop=True)
    await a.settle()
    assert [piece.number for piece in await a.deps.ledger.pieces(upload.id)][:2] == [1, 2]
    other = bytearray(FILE)
    other[40] ^= 1
    with pytest.raises(Conflict):
        await send(a, upload, 16, data=bytes(other[16:]))
    assert (await a.uploads.report(upload)).offset == 250
    assert (await send(a, upload, 16)).finished
    await check(bucket, nodes, upload)


@pytest_twisted.ensureDeferred
async def test_another_file_from_the_start(bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """A client that brings another file under the name begins anew, where the first joined chunk that differs begins."""
    a, _ = nodes
    upload = await create(a)
    with pytest.raises(Interrupted):
        await send(a, upload, 0, data=FILE[:250], drop=True)
    await a.settle()
    other = FILE[:130] + bytes(byte ^ 1 for byte in FILE[130:])
    with pytest.raises(Gap) as caught:
        await send(a, upload, 0, data=other)
    assert caught.value.offset == PART
    assert (await send(a, upload, PART, data=other[PART:])).finished
    await check(bucket, nodes, upload, other)


@pytest_twisted.ensureDeferred
async def test_damaged_in_the_store(bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """A store that copies other bytes, and says so by their checksum, makes no object."""
    a, _ = nodes
    upload = await create(a)
    copied = a.store.upload_part_copy

    async def other(*given: Any, **how: Any) -> Any:
        return evolve(await copied(*given, **how), crc32c=1)

    a.store.upload_part_copy = other  # type: ignore[method-assign]
    with pytest.raises((Ended, Unavailable)):
        await send(a, upload, 0)
    assert "name" not in bucket.objects


@pytest_twisted.ensureDeferred
async def test_a_store_that_cannot_join(bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """It is not tried for ever: the upload fails, and says why."""
    bucket.copies = False
    a, _ = nodes
    upload = await create(a)
    with pytest.raises(Ended, match="cannot join"):
        await send(a, upload, 0)
    assert (await a.uploads.get(upload.id, "")).state is State.FAILED


@pytest_twisted.ensureDeferred
async def test_cancelled(bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """What was stored of it is freed."""
    a, _ = nodes
    upload = await create(a)
    with pytest.raises(Interrupted):
        await send(a, upload, 0, data=FILE[:250], drop=True)
    await a.uploads.cancel(upload)
    await nothing_left(bucket, nodes)
    assert isinstance(a.store, MemoryStore)
