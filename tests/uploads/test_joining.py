"""What others do to an upload while the store joins one of its chunks, which may take minutes."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from resumable.model import (
    Conflict,
    DigestMismatch,
    Ended,
    Gap,
    Interrupted,
    Invalid,
    State,
    Superseded,
    TooLarge,
    Upload,
    UploadError,
)
from resumable.stores.port import NoSuchUpload, StoreLimits
from resumable.uploads.digest import ExpectedDigest
from tests.policy import policy
from tests.uploads.conftest import CHUNK, Node, nothing_left
from tests.uploads.memory_store import Bucket
from tests.uploads.test_large_chunks import FILE, PART, check, create, send
from tests.uploads.test_large_chunks import nodes as nodes
from tests.uploads.test_states import certain

#: The calls of a join, in their order: the object of the service's own, its parts, the copy of it, its end.
STEPS = [
    ("init_multipart_upload", 1),
    ("upload_part_copy", 0),
    ("upload_part_copy", 3),
    ("complete_multipart_upload", 0),
    ("upload_part_copy", 7),
    ("delete_object", 0),
]


class Halt:
    """Halts a node at its n-th call of a kind (from 0), right before the store does it, or right after.

    :ivar reached: fires when it is there.
    """

    def __init__(self, node: Node, call: str, nth: int, when: str) -> None:
        self.reached: Deferred[None] = Deferred()
        self._on: Deferred[None] = Deferred()
        self._left, self._when = nth, when
        self._inner = getattr(node.store, call)
        setattr(node.store, call, self._call)

    async def _call(self, *given: Any, **how: Any) -> Any:
        self._left -= 1
        here = self._left == -1
        if here and self._when == "before":
            await self._halt()
        done = await self._inner(*given, **how)
        if here and self._when == "after":
            await self._halt()
        return done

    async def _halt(self) -> None:
        self.reached.callback(None)
        await self._on

    def go_on(self) -> None:
        self._on.callback(None)


async def halted(node: Node, upload: Upload, call: str, nth: int, when: str, **how: Any) -> tuple[Halt, Deferred[Any]]:
    """A node that has all but the last cells of the first chunk, and joins it now: it stands still at the call."""
    with pytest.raises(Interrupted):
        await send(node, upload, 0, data=FILE[: PART - 10], drop=True)
    halt = Halt(node, call, nth, when)
    sending = Deferred.fromCoroutine(send(node, upload, PART - 10, **how))
    sending.addErrback(lambda failure: failure.value)
    await halt.reached
    return halt, sending


async def outcome(sending: Deferred[Any]) -> Any:
    return await sending.addTimeout(10, reactor)  # type: ignore[arg-type]


#: Where most goes wrong: between the object of the service's own and the part of the upload.
PLAIN = [("upload_part_copy", 3, "after"), ("upload_part_copy", 7, "before"), ("upload_part_copy", 7, "after")]
steps = pytest.mark.parametrize(
    ("call", "nth", "when"),
    [
        pytest.param(*step, when, marks=() if (*step, when) in PLAIN else (pytest.mark.soak,))
        for step in STEPS
        for when in ("before", "after")
    ],
)


@steps
@pytest_twisted.ensureDeferred
async def test_cancelled_elsewhere(bucket: Bucket, nodes: tuple[Node, Node], call: str, nth: int, when: str) -> None:
    """It stays cancelled, its client is told so, and nothing of it stays in the store."""
    a, b = nodes
    upload = await create(a)
    halt, sending = await halted(a, upload, call, nth, when)
    await b.uploads.cancel(upload)
    await b.settle()
    halt.go_on()
    assert isinstance(await outcome(sending), Ended)
    assert (await a.uploads.get(upload.id, "")).state is State.CANCELLED
    assert bucket.objects == {}
    await nothing_left(bucket, nodes)


@steps
@pytest_twisted.ensureDeferred
async def test_joined_elsewhere_meanwhile(
    bucket: Bucket, nodes: tuple[Node, Node], call: str, nth: int, when: str
) -> None:
    """The client has come back to another node, which joins the same chunk, and makes the object: that is what counts."""
    a, b = nodes
    upload = await create(a)
    halt, sending = await halted(a, upload, call, nth, when, data=FILE[PART - 10 : PART], drop=True)
    report = await b.uploads.report(upload)
    assert report.offset == PART
    assert (await send(b, upload, report.offset)).finished
    await b.settle()
    halt.go_on()
    assert isinstance(await outcome(sending), UploadError)
    assert (await a.uploads.get(upload.id, "")).state is State.FINISHED
    await check(bucket, nodes, upload)


@steps
@pytest_twisted.ensureDeferred
async def test_joined_twice_and_then_completed(
    bucket: Bucket, nodes: tuple[Node, Node], call: str, nth: int, when: str
) -> None:
    """Two nodes join a chunk at once, and the slower one's copy comes after the part is in the ledger: the same bytes."""
    a, b = nodes
    upload = await create(a)
    halt, sending = await halted(a, upload, call, nth, when, data=FILE[PART - 10 : PART], drop=True)
    with pytest.raises(Interrupted):
        await send(b, upload, PART, data=FILE[PART : PART + 30], drop=True)
    await b.uploads.writing.checkpoint()
    async with b.uploads.writing.writer(upload) as writer:
        while (await b.uploads.report(upload)).offset < PART + 30:
            await deferLater(reactor, 0.002)  # type: ignore[arg-type]
        await writer.refresh()
    halt.go_on()
    await outcome(sending)
    assert (await send(b, upload, PART + 30)).finished
    await check(bucket, nodes, upload)


@steps
@pytest_twisted.ensureDeferred
async def test_another_file_begun_elsewhere(
    bucket: Bucket, nodes: tuple[Node, Node], call: str, nth: int, when: str
) -> None:
    """A client begins anew with another file on another node, while this one joins bytes of the former."""
    a, b = nodes
    upload = await create(a)
    halt, sending = await halted(a, upload, call, nth, when)
    other = FILE[:40] + bytes(byte ^ 1 for byte in FILE[40:])
    offset, report = 0, None
    while report is None:
        try:
            report = await send(b, upload, offset, data=other[offset:])
        except Gap as gap:
            offset = gap.offset
    halt.go_on()
    assert isinstance(await outcome(sending), UploadError)
    assert report.finished
    await check(bucket, nodes, upload, other)


@pytest_twisted.ensureDeferred
async def test_another_file_begun_elsewhere_that_is_not_whole_yet(bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """The former bytes do not come into the multipart upload any more, where the part may have been written anew."""
    a, b = nodes
    upload = await create(a)
    with pytest.raises(Interrupted):
        await send(a, upload, 0, data=FILE[: 2 * PART - 10], drop=True)
    await a.settle()
    # The second chunk's own object has been made: 7 cells are copied, then all of them together.
    halt = Halt(a, "complete_multipart_upload", 0, "after")
    sending = Deferred.fromCoroutine(send(a, upload, 2 * PART - 10)).addErrback(lambda failure: failure.value)
    await halt.reached
    other = FILE[: PART + 40] + bytes(byte ^ 1 for byte in FILE[PART + 40 :])
    with pytest.raises(Interrupted):
        await send(b, upload, 0, data=other[: 2 * PART + 5], drop=True)
    await b.settle()
    assert 2 in {piece.number for piece in await b.deps.ledger.pieces(upload.id)}
    halt.go_on()
    assert isinstance(await outcome(sending), Superseded)
    assert (await send(b, upload, 2 * PART + 5, data=other[2 * PART + 5 :])).finished
    await check(bucket, nodes, upload, other)


@pytest_twisted.ensureDeferred
async def test_nobody_waits_for_it(bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """A body that only fills a chunk is answered, and who comes back on another connection is let in, though the store works."""
    a, _ = nodes
    upload = await create(a)
    halt, sending = await halted(a, upload, "upload_part_copy", 7, "before", data=FILE[PART - 10 : PART + 5], drop=True)
    assert isinstance(await outcome(sending), Interrupted)
    with pytest.raises(Interrupted):
        await send(a, upload, PART + 5, data=FILE[PART + 5 : PART + 40], drop=True)
    assert (await a.uploads.report(upload)).offset == PART + 40
    assert 1 not in {piece.number for piece in await a.deps.ledger.pieces(upload.id)}
    finishing = Deferred.fromCoroutine(send(a, upload, PART + 40))
    halt.go_on()
    assert (await outcome(finishing)).finished
    await check(bucket, nodes, upload)


@pytest_twisted.ensureDeferred
async def test_a_service_that_stops_waits_for_no_join(bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """It is given up, and what it has made is deleted; another process joins the chunk."""
    a, b = nodes
    upload = await create(a)
    _, sending = await halted(a, upload, "upload_part_copy", 7, "before", data=FILE[PART - 10 : PART + 5], drop=True)
    assert isinstance(await outcome(sending), Interrupted)
    await a.uploads.close(5)
    assert [key for key in bucket.objects if "part-" in key] == []
    assert (await send(b, upload, PART + 5)).finished
    await check(bucket, nodes, upload)


@pytest_twisted.ensureDeferred
async def test_the_next_body_begins_a_join_that_has_failed(bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """It need not wait for the end of the upload, where all would come at once."""
    a, b = nodes
    upload = await create(a)
    a.store.trouble = [("upload_part_copy", "before")]
    with pytest.raises(Interrupted):
        await send(a, upload, 0, data=FILE[: PART + 5], drop=True)
    await a.settle()
    assert 1 not in {piece.number for piece in await a.deps.ledger.pieces(upload.id)}
    with pytest.raises(Interrupted):
        await send(b, upload, PART + 5, data=FILE[PART + 5 : PART + 10], drop=True)
    await b.settle()
    assert 1 in {piece.number for piece in await a.deps.ledger.pieces(upload.id)}


@pytest_twisted.ensureDeferred
async def test_the_made_object_is_not_seen_at_once(bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """A lost answer, and a store that does not find what it has made: that may pass, and no acknowledged byte is given up."""
    a, _ = nodes
    upload = await create(a)
    with pytest.raises(Interrupted):
        await send(a, upload, 0, data=FILE[: PART - 10], drop=True)
    complete = a.store.complete_multipart_upload

    async def lost(*given: Any, **how: Any) -> Any:
        a.store.complete_multipart_upload = complete  # type: ignore[method-assign]
        raise NoSuchUpload("NoSuchUpload", "", 404)

    a.store.complete_multipart_upload = lost  # type: ignore[method-assign]
    with pytest.raises(Interrupted):
        await send(a, upload, PART - 10, data=FILE[PART - 10 : PART], drop=True)
    await a.settle()
    report = await a.uploads.report(upload)
    assert (report.upload.state, report.offset) == (State.OPEN, PART)
    assert (await send(a, upload, report.offset)).finished
    await check(bucket, nodes, upload)


@pytest.mark.parametrize("first", [0, CHUNK, 3 * CHUNK])
@pytest_twisted.ensureDeferred
async def test_a_short_range_of_a_joined_chunk_is_compared(
    bucket: Bucket, nodes: tuple[Node, Node], first: int
) -> None:
    """Marks lie close behind the edges of what was joined, as they do in any part: a client that repeats begins there."""
    a, _ = nodes
    upload = await create(a)
    with pytest.raises(Interrupted):
        await send(a, upload, 0, data=FILE[:250], drop=True)
    await a.settle()
    assert [piece.number for piece in await a.deps.ledger.pieces(upload.id)][:2] == [1, 2]
    await a.uploads.open_to_many(upload)
    upload = await a.uploads.get(upload.id, "")
    other = bytes(byte ^ 1 for byte in FILE[first : first + 9])
    with pytest.raises(Conflict):
        await send(a, upload, first, first + 9, data=other)
    await send(a, upload, first, first + 9)


@pytest.mark.parametrize("right", [True, False])
@pytest_twisted.ensureDeferred
async def test_a_digest_over_chunks_of_cells(bucket: Bucket, nodes: tuple[Node, Node], right: bool) -> None:
    """Nothing is joined before the digest is verified; then all of it is, or nothing of it stays."""
    a, _ = nodes
    upload = await create(a)
    digest = ExpectedDigest(hashlib.sha1(), hashlib.sha1(FILE if right else FILE[1:]).digest)
    if right:
        assert (await send(a, upload, 0, exact=True, digest=digest)).finished
    else:
        with pytest.raises(DigestMismatch):
            await send(a, upload, 0, exact=True, digest=digest)
        await a.settle()
        assert bucket.objects == {}
        assert (await a.uploads.report(upload)).offset == 0
        assert (await send(a, upload, 0)).finished
    await check(bucket, nodes, upload)


@pytest_twisted.ensureDeferred
async def test_a_length_that_is_said_later(bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """At an edge of the grid, or beside it; before the chunks are large, or in the middle of such a one."""
    # 4 chunks of 16 bytes, then such of 96, in cells of 16.
    for length in (63, 64, 65, 80, 159, 160, 161, 257):
        for said in (0, 50, 64, 150):
            await said_later(bucket, nodes, length, min(said, length))


async def said_later(bucket: Bucket, nodes: tuple[Node, Node], length: int, offset: int) -> None:
    a, b = nodes
    upload = await create(a, None)
    assert upload.growth == ((5, 96),)
    if offset:
        with pytest.raises(Interrupted):
            await send(a, upload, 0, None, data=FILE[:offset], drop=True)
    upload = await b.uploads.declare(upload, length)
    with pytest.raises(Invalid):
        await a.uploads.declare(upload, length + 1)
    with pytest.raises(TooLarge):
        await send(a, upload, offset, None, data=FILE[offset : length + 1])
    offset = (await a.uploads.report(upload)).offset
    report = (
        await send(b, upload, offset, length)
        if offset < length
        else await b.uploads.settle(await b.uploads.report(upload), certain)
    )
    assert report.finished
    await check(bucket, nodes, upload, FILE[:length])


@pytest.mark.parametrize(
    ("known", "how"),
    [
        (True, {"smallest_part": 40}),
        (True, {"max_parts": 1, "largest_part": 500}),
        (False, {"max_parts": 1, "largest_part": 500}),
        (False, {"memory": 1, "max_chunk": 1}),
        (False, {"chunk_size": 64}),
        (True, {"largest_part": 97}),
        (False, {"largest_part": 97}),
        (True, {"writing": 1000}),
    ],
    ids=str,
)
@pytest_twisted.ensureDeferred
async def test_sizes_that_do_not_fit_together(
    bucket: Bucket, nodes: tuple[Node, Node], known: bool, how: dict[str, int]
) -> None:
    """Parts that have more bytes than a cell, one part, less memory than a chunk, chunks as large as memory."""
    how = {"smallest_part": 4, "largest_part": PART, **how}
    bucket.smallest = how["smallest_part"]
    limits = StoreLimits(smallest_part=how.pop("smallest_part"), largest_part=how.pop("largest_part"))
    for node in nodes:
        node.store.limits = limits
        node.uploads.writing.streams = how.get("writing", 0)
        settings = {"memory": 4 * CHUNK, "max_chunk": CHUNK, "max_parts": 8, "chunk_size": CHUNK}
        settings.update((name, value) for name, value in how.items() if name in settings)
        node.uploads.policy = policy("bucket", limits=limits, **settings)  # type: ignore[arg-type]
    length = (
        len(FILE) if known else min(len(FILE), nodes[0].uploads.policy.most_bytes(await create(nodes[0], None), None))
    )
    assert length > CHUNK or how.get("max_parts") == 1
    upload = await create(nodes[0], length if known else None)
    generator, offset, report = random.Random(2), 0, None
    while offset < length:
        end = min(length, offset + generator.randrange(1, 150))
        if end < length:
            with pytest.raises(Interrupted):
                await send(nodes[0], upload, offset, None, data=FILE[offset:end], drop=True)
        else:
            report = await send(nodes[1], upload, offset, None, data=FILE[offset:end], last=True)
        offset = end
    assert report.finished
    await check(bucket, nodes, upload, FILE[:length])


@pytest_twisted.ensureDeferred
async def test_an_object_of_an_earlier_join_is_freed_with_the_upload(bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """A process dies while joining, another file is begun from byte 0, and it is cancelled before it has a part."""
    a, b = nodes
    upload = await create(a)
    halt, _ = await halted(a, upload, "upload_part_copy", 3, "after")
    a.store.dead = True
    other = bytes(byte ^ 1 for byte in FILE)
    with pytest.raises(Interrupted):
        await send(b, upload, 0, data=other[:20], drop=True)
    assert (await b.uploads.get(upload.id, "")).multipart_id is None
    await b.uploads.cancel(upload)
    await b.settle()
    assert (bucket.objects, bucket.multiparts) == ({}, {})
    assert not halt.reached.result
