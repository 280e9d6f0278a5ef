"""Bodies that have to begin exactly at the upload's offset."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from crc32c import crc32c
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import deferLater

from resumable.ledger.ledger import Ledger
from resumable.model import Conflict, Invalid, OffsetMismatch, Piece, Superseded, Upload
from resumable.uploads.policy import CreateRequest
from tests.uploads.conftest import CHUNK, DATA, Node, nothing_left
from tests.uploads.memory_store import Bucket
from tests.uploads.test_two_nodes import until

WANTED = CreateRequest("tus", "name", length=len(DATA))


class Talking:
    """Nodes that can be told, and take their time for it. Whoever tells has all others of the list let go."""

    def __init__(self, others: list[Any]) -> None:
        self.writers: tuple[int, ...] = (1,)
        self.others = others

    def speak_for(self, writers: Any) -> None:
        pass

    async def take_over(self, upload: Upload, first: int, end: int | None) -> bool:
        for other in self.others:
            await other.uploads.writing.let_go(upload.id, first, end)
        await deferLater(reactor, 0.01)  # type: ignore[arg-type]
        return True

    async def ended(self, upload: Upload) -> None:
        pass


async def told(*_: Any) -> bool:
    """There are other nodes, and they have been told."""
    return True


async def first_chunk(node: Node, upload: Upload) -> None:
    """Wait until the first chunk is stored, and nothing is of the next."""
    while not await node.deps.ledger.pieces(upload.id):
        await deferLater(reactor, 0.005)  # type: ignore[arg-type]


def together(*receiving: Any) -> Deferred[Any]:
    return DeferredList([Deferred.fromCoroutine(one) for one in receiving], consumeErrors=True)


def outcomes(results: Any) -> tuple[list[Any], list[Exception]]:
    return [one for well, one in results if well], [one.value for well, one in results if not well]


@pytest.mark.parametrize("first", [0, CHUNK, CHUNK + 4, CHUNK + 6, 2 * CHUNK])
@pytest_twisted.ensureDeferred
async def test_elsewhere(bucket: Bucket, nodes: tuple[Node, Node], first: int) -> None:
    """Before the offset and beyond it nothing is taken, and the client is told where to go on."""
    a, _ = nodes
    upload = await a.uploads.create(WANTED)
    await a.send(upload, 0, CHUNK + 5, exact=True)
    before = await a.deps.ledger.pieces(upload.id)
    with pytest.raises(OffsetMismatch) as caught:
        await a.send(upload, first, exact=True)
    assert caught.value.offset == CHUNK + 5
    assert await a.deps.ledger.pieces(upload.id) == before
    assert (await a.send(upload, CHUNK + 5, exact=True)).finished
    assert bucket.objects["name"][0] == DATA
    await nothing_left(bucket, nodes)


@pytest_twisted.ensureDeferred
async def test_after_an_older_writer(nodes: tuple[Node, Node]) -> None:
    """The offset that counts is the one after what an older writer held has been stored."""
    a, _ = nodes
    upload = await a.uploads.create(WANTED)
    _, old = a.begin(upload, 0, CHUNK + 3)
    await until(a, upload, CHUNK)
    with pytest.raises(OffsetMismatch) as caught:
        await a.send(upload, 0, exact=True)
    assert caught.value.offset == CHUNK + 3
    with pytest.raises(Superseded):
        await old
    assert (await a.send(upload, CHUNK + 3, exact=True)).finished


@pytest.mark.parametrize("same", [True, False])
@pytest_twisted.ensureDeferred
async def test_at_the_offset_that_was_told(bucket: Bucket, nodes: tuple[Node, Node], same: bool) -> None:
    """The old connection hangs and has brought more than anybody was told: the client begins where it was told to."""
    a, _ = nodes
    upload = await a.uploads.create(WANTED)
    _, old = a.begin(upload, 0, CHUNK + 9)
    await first_chunk(a, upload)
    data = DATA[CHUNK:] if same else bytes(byte ^ 1 for byte in DATA[CHUNK:])
    again = a.send(upload, CHUNK, exact=True, data=data)
    if same:
        assert (await again).finished
        assert bucket.objects["name"][0] == DATA
    else:
        with pytest.raises(Conflict):
            await again
        assert (await a.send(upload, CHUNK + 9, exact=True)).finished
    with pytest.raises(Superseded):
        await old


@pytest_twisted.ensureDeferred
async def test_two_at_once(bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """Of two that begin at the same offset at the same time, one is taken."""
    a, _ = nodes
    a.deps.peers.take_over = Talking([]).take_over  # type: ignore[method-assign]
    upload = await a.uploads.create(WANTED)
    await a.send(upload, 0, 5, exact=True)
    other = bytes(byte ^ 1 for byte in DATA[5:30])
    well, ill = outcomes(
        await together(a.send(upload, 5, 30, exact=True), a.send(upload, 5, 30, exact=True, data=other))
    )
    assert len(well) == 1
    assert isinstance(ill[0], (OffsetMismatch, Superseded))
    assert well[0].offset == 30


@pytest_twisted.ensureDeferred
async def test_two_at_once_on_two_nodes(ledger: Ledger, nodes: tuple[Node, Node]) -> None:
    """Neither has heard of the other when it is told to let go: the ledger takes the bytes of one."""
    for node, other in (nodes, nodes[::-1]):
        node.deps.peers.take_over = Talking([other]).take_over  # type: ignore[method-assign]
    a, b = nodes
    upload = await a.uploads.create(WANTED)
    await a.send(upload, 0, 5, exact=True)
    other = bytes(byte ^ 1 for byte in DATA[5:12])
    well, ill = outcomes(
        await together(a.send(upload, 5, 30, exact=True), b.send(upload, 5, 12, exact=True, data=other))
    )
    assert len(well) == 1
    assert isinstance(ill[0], (OffsetMismatch, Superseded))
    assert (await a.uploads.report(upload)).offset == well[0].offset


@pytest_twisted.ensureDeferred
async def test_finished(bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """Somebody else has finished the upload in the moment in which the body begins."""
    a, b = nodes
    upload = await a.uploads.create(WANTED)
    assert (await b.send(upload, 0)).finished
    with pytest.raises(OffsetMismatch) as caught:
        await a.send(upload, 5, exact=True)
    assert caught.value.offset == len(DATA)
    assert (await a.send(upload, len(DATA), exact=True)).finished


@pytest_twisted.ensureDeferred
async def test_not_of_a_swarm(nodes: tuple[Node, Node]) -> None:
    """Where many connections write, in any order, no offset is exact."""
    a, _ = nodes
    upload = await a.uploads.create(CreateRequest("session", "name", length=len(DATA), swarm=True))
    with pytest.raises(Invalid):
        await a.send(upload, 0, exact=True)


@pytest_twisted.ensureDeferred
async def test_beginning_again_after_a_hole(bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """A later chunk was stored and the first was not: the client begins again, and the object is whole."""
    a, _ = nodes
    upload = await a.uploads.create(WANTED)
    real = a.store.upload_part

    async def upload_part(bucket: str, key: str, multipart_id: str, number: int, *data: Any, **how: Any) -> str:
        if number == 1:
            await until(a, upload, CHUNK)
            a.store.trouble = [("upload_part", "before")]
        return await real(bucket, key, multipart_id, number, *data, **how)

    a.store.upload_part = upload_part  # type: ignore[method-assign]
    with pytest.raises(Exception, match="trouble"):
        await a.send(upload, 0)
    a.store.upload_part = real  # type: ignore[method-assign]
    report = await a.uploads.report(upload)
    assert report.offset == 0
    assert report.coverage.size >= CHUNK
    assert (await a.send(upload, 0)).finished
    assert bucket.objects["name"][0] == DATA
    await nothing_left(bucket, nodes)


@pytest.mark.parametrize("exact", [True, False])
@pytest_twisted.ensureDeferred
async def test_more_is_stored_while_a_body_begins(
    bucket: Bucket, nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch, exact: bool
) -> None:
    """By a node that could not be told, in the last moment: what it has acknowledged stays, its multipart upload too."""
    a, b = nodes
    upload = await a.uploads.create(WANTED)
    reached: Deferred[None] = Deferred()
    going_on: Deferred[None] = Deferred()
    begin_anew = a.deps.ledger.begin_anew

    async def late(*args: Any, **how: Any) -> Any:
        if not reached.called:
            reached.callback(None)
            await going_on
        return await begin_anew(*args, **how)

    monkeypatch.setattr(a.deps.ledger, "begin_anew", late)
    if exact:
        monkeypatch.setattr(a.uploads.writing, "take_over", told)
    receiving = Deferred.fromCoroutine(a.send(upload, 0, exact=exact))
    await reached
    current = await a.deps.ledger.get(upload.id)
    assert current is not None
    opened = await b.store.init_multipart_upload("bucket", "name", upload.options)
    current = await a.deps.ledger.set_once(current, multipart_id=opened)
    etag = await b.store.upload_part("bucket", "name", opened, 1, [DATA[:CHUNK]])
    piece = Piece(0, CHUNK, 1, etag, crc32c(DATA[:CHUNK]))
    await a.deps.ledger.add_piece(current, piece, now=upload.updated)
    going_on.callback(None)
    if exact:
        with pytest.raises(OffsetMismatch) as caught:
            await receiving
        assert caught.value.offset == piece.end
        assert await a.deps.ledger.pieces(upload.id) == [piece]
        assert (await a.send(upload, piece.end, exact=True)).finished
    else:
        assert (await receiving).finished
    assert bucket.objects["name"][0] == DATA
    await nothing_left(bucket, nodes)
