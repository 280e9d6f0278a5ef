"""Bodies that count only when their digest is verified."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from resumable.ledger.ledger import Ledger
from resumable.model import (
    Conflict,
    DigestMismatch,
    Interrupted,
    Invalid,
    OffsetMismatch,
    State,
    Superseded,
    Unavailable,
    Upload,
)
from resumable.uploads.digest import ExpectedDigest
from resumable.uploads.held import MOST_MARKS, HeldBack, StoredPiece, pack_few
from resumable.uploads.marks import unpack
from resumable.uploads.policy import CreateRequest
from resumable.uploads.service import UploadService
from tests.policy import policy
from tests.uploads.conftest import CHUNK, DATA, Node, nothing_left
from tests.uploads.memory_store import Bucket

SMALL = 9


def right(first: int, end: int, **how: Any) -> dict[str, Any]:
    """The arguments of a body with the right digest."""
    return {"exact": True, "digest": ExpectedDigest(hashlib.sha1(), hashlib.sha1(DATA[first:end]).digest), **how}


def damaged(first: int, end: int, at: int = 0, **how: Any) -> dict[str, Any]:
    """The arguments of a body of which a byte has changed on the way."""
    data = bytearray(DATA[first:end])
    data[at] ^= 1
    return right(first, end, data=bytes(data), **how)


class Late(ExpectedDigest):
    """A digest whose trailer comes when the test says so."""

    def __init__(self, first: int, end: int) -> None:
        super().__init__(hashlib.sha1(), hashlib.sha1(DATA[first:end]).digest)
        self.asked: Deferred[None] = Deferred()
        self.trailer: Deferred[None] = Deferred()

    async def verify(self) -> None:
        self.asked.callback(None)
        await self.trailer
        await super().verify()


def create(node: Node, length: int | None = len(DATA), **how: Any) -> Any:
    return node.uploads.create(CreateRequest("tus", "name", length=length, **how))


async def as_before(node: Node, upload: Upload, before: Any) -> None:
    """Nothing of the last body counts, and none of its fragments is left."""
    await node.deps.background.settle()
    pieces = await node.deps.ledger.pieces(upload.id)
    assert pieces == before
    fragments = [key for key in node.store._bucket.objects if key.startswith(".resumable/")]
    assert len(fragments) == len([piece for piece in pieces if piece.number is None])


@pytest.mark.parametrize("begins", [0, 5, CHUNK, CHUNK + 5])
@pytest.mark.parametrize("ends", [3, CHUNK - 5, CHUNK, CHUNK + 3, 2 * CHUNK, len(DATA)])
@pytest_twisted.ensureDeferred
async def test_mismatch_and_again(bucket: Bucket, nodes: tuple[Node, Node], begins: int, ends: int) -> None:
    """A damaged body leaves everything as it was, wherever it begins and ends; the right one then counts."""
    a, _ = nodes
    ends = min(begins + ends, len(DATA))
    upload = await create(a)
    if begins:
        await a.send(upload, 0, begins, **right(0, begins))
    before = await a.deps.ledger.pieces(upload.id)
    for at in (0, ends - begins - 1):
        with pytest.raises(DigestMismatch):
            await a.send(upload, begins, ends, **damaged(begins, ends, at))
        assert (await a.uploads.report(upload)).offset == begins
        await as_before(a, upload, before)
    assert "name" not in bucket.objects
    assert (await a.send(upload, begins, ends, **right(begins, ends))).offset == ends
    if ends < len(DATA):
        assert (await a.send(upload, ends, **right(ends, len(DATA)))).finished
    assert bucket.objects["name"][0] == DATA
    await nothing_left(bucket, nodes)
    assert a.deps.budget.held == 0


@pytest.mark.parametrize("begins", [0, 4])
@pytest.mark.parametrize("known", [True, False])
@pytest_twisted.ensureDeferred
async def test_whole_small_object(bucket: Bucket, nodes: tuple[Node, Node], begins: int, known: bool) -> None:
    """The object that one request makes is not made before the digest is verified."""
    a, _ = nodes
    upload = await create(a, SMALL if known else None)
    if begins:
        await a.send(upload, 0, begins, **right(0, begins))
    with pytest.raises(DigestMismatch):
        await a.send(upload, begins, SMALL, **damaged(begins, SMALL, last=True))
    current = await a.deps.ledger.get(upload.id)
    assert current is not None
    assert current.length == (SMALL if known else None)
    assert current.state is State.OPEN
    assert "name" not in bucket.objects
    late = Late(begins, SMALL)
    receiving = Deferred.fromCoroutine(a.send(upload, begins, SMALL, exact=True, digest=late, last=True))
    await late.asked
    await deferLater(reactor, 0.02)  # type: ignore[arg-type]
    assert "name" not in bucket.objects
    late.trailer.callback(None)
    assert (await receiving).finished
    assert bucket.objects["name"][0] == DATA[:SMALL]
    await nothing_left(bucket, nodes)
    assert a.deps.budget.held == 0


@pytest_twisted.ensureDeferred
async def test_empty_body_and_empty_object(bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """A body without bytes has a digest, too."""
    a, _ = nodes
    upload = await create(a, None)
    with pytest.raises(DigestMismatch):
        await a.send(upload, 0, 0, exact=True, digest=ExpectedDigest(hashlib.sha1(), lambda: b"?"), last=True)
    assert (await a.send(upload, 0, 0, **right(0, 0, last=True))).finished
    assert bucket.objects["name"][0] == b""


@pytest_twisted.ensureDeferred
async def test_nothing_counts_before(nodes: tuple[Node, Node]) -> None:
    """While the digest is not verified, a look at the upload shows nothing of the body, though parts are in the store."""
    a, _ = nodes
    upload = await create(a)
    late = Late(0, len(DATA))
    receiving = Deferred.fromCoroutine(a.send(upload, 0, exact=True, digest=late))
    await late.asked
    await deferLater(reactor, 0.05)  # type: ignore[arg-type]
    assert (await a.uploads.report(upload)).offset == 0
    ((_, _, parts),) = a.store._bucket.multiparts.values()
    assert b"".join(parts[number] for number in sorted(parts)) == DATA
    late.trailer.callback(None)
    assert (await receiving).finished


@pytest.mark.parametrize("sent", [5, CHUNK, 2 * CHUNK + 3])
@pytest_twisted.ensureDeferred
async def test_broken_off(bucket: Bucket, nodes: tuple[Node, Node], sent: int) -> None:
    """Of a body that breaks off nothing counts: the client sends it again from where it began."""
    a, _ = nodes
    upload = await create(a)
    await a.send(upload, 0, 3, **right(0, 3))
    before = await a.deps.ledger.pieces(upload.id)
    with pytest.raises(Interrupted):
        await a.send(upload, 3, **right(3, len(DATA), data=DATA[3 : 3 + sent], drop=True))
    await as_before(a, upload, before)
    assert (await a.send(upload, 3, **right(3, len(DATA)))).finished
    assert bucket.objects["name"][0] == DATA
    await nothing_left(bucket, nodes)
    assert a.deps.budget.held == 0


@pytest.mark.parametrize("sent", [5, SMALL, CHUNK + 3])
@pytest_twisted.ensureDeferred
async def test_superseded(bucket: Bucket, nodes: tuple[Node, Node], sent: int) -> None:
    """The client comes back while its old connection looks alive: what that has brought does not count."""
    a, _ = nodes
    length = SMALL if sent <= SMALL else len(DATA)
    upload = await create(a, length)
    _, old = a.begin(upload, 0, sent, length, **right(0, length))
    await deferLater(reactor, 0.02)  # type: ignore[arg-type]
    for _ in range(2):
        await a.uploads.writing.checkpoint()
    await deferLater(reactor, 0.02)  # type: ignore[arg-type]
    report = await a.send(upload, 0, length, **right(0, length))
    assert report.finished
    with pytest.raises(Superseded):
        await old
    assert bucket.objects["name"][0] == DATA[:length]
    await nothing_left(bucket, nodes)


@pytest_twisted.ensureDeferred
async def test_back_while_it_is_verified(nodes: tuple[Node, Node]) -> None:
    """The client comes back while the digest is awaited: none of the old body's bytes counts, or all do."""
    a, _ = nodes
    upload = await create(a)
    late = Late(0, 2 * CHUNK)
    old = Deferred.fromCoroutine(a.send(upload, 0, 2 * CHUNK, exact=True, digest=late))
    await late.asked
    again = Deferred.fromCoroutine(a.send(upload, 0, **right(0, len(DATA))))
    await deferLater(reactor, 0.02)  # type: ignore[arg-type]
    late.trailer.callback(None)
    with pytest.raises(Superseded):
        await old
    assert (await again).finished


@pytest_twisted.ensureDeferred
async def test_checkpoints_join_what_is_held(bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """A slow body is stored in many fragments that do not count; they become parts, and none is left lying."""
    a, _ = nodes
    upload = await create(a)
    before = await a.deps.ledger.pieces(upload.id)

    class Slow(ExpectedDigest):
        def update(self, data: bytes) -> None:
            super().update(data)
            reactor.callLater(0, stream.spill)  # type: ignore[attr-defined]

    for data in (b"?" + DATA[1:], DATA):
        digest = Slow(hashlib.sha1(), hashlib.sha1(DATA).digest)
        body, receiving = a.begin(upload, 0, 0, exact=True, digest=digest)
        (stream,) = await a.streams(upload)
        for at in range(0, len(DATA), 3):
            stream.write(data[at : at + 3])
            await deferLater(reactor, 0.002)  # type: ignore[arg-type]
        assert await a.deps.ledger.pieces(upload.id) == before
        body.go_on()
        if data == DATA:
            assert (await receiving).finished
        else:
            with pytest.raises(DigestMismatch):
                await receiving
            await as_before(a, upload, before)
    assert bucket.objects["name"][0] == DATA
    await nothing_left(bucket, nodes)
    assert a.deps.budget.held == 0


@pytest_twisted.ensureDeferred
async def test_last_question_is_asked_at_the_end(nodes: tuple[Node, Node]) -> None:
    """The upload does not become finishing with a part that does not count, and a no is asked for only then."""
    a, _ = nodes
    upload = await create(a)
    with pytest.raises(DigestMismatch):
        await a.send(upload, 0, **damaged(0, len(DATA)))
    current = await a.deps.ledger.get(upload.id)
    assert current is not None
    assert current.state is State.OPEN


@pytest_twisted.ensureDeferred
async def test_store_in_trouble(bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """What cannot be stored ends the body: nothing of it counts, unless its digest was verified before."""
    a, _ = nodes
    upload = await create(a)
    a.store.trouble = [("upload_part", "before")]
    late = Late(0, len(DATA))
    receiving = Deferred.fromCoroutine(a.send(upload, 0, exact=True, digest=late))
    await late.asked
    (stream,) = a.uploads.writing._writers[upload.id].streams
    while not stream.failed:  # verified before that, what else was stored would count
        await deferLater(reactor, 0.005)  # type: ignore[arg-type]
    late.trailer.callback(None)
    with pytest.raises(Unavailable):
        await receiving
    await as_before(a, upload, [])
    a.store.trouble = [("upload_part", "before")]
    with pytest.raises(Unavailable):
        await a.send(upload, 0, **right(0, len(DATA)))
    offset = (await a.uploads.report(upload)).offset
    assert (await a.send(upload, offset, **right(offset, len(DATA)))).finished
    assert bucket.objects["name"][0] == DATA
    await nothing_left(bucket, nodes)


@pytest_twisted.ensureDeferred
async def test_leftovers_beyond_the_offset(bucket: Bucket, nodes: tuple[Node, Node], ledger: Ledger) -> None:
    """What was stored beyond the offset without ever being told is no measure for a body that has a digest."""
    a, _ = nodes
    upload = await create(a)
    other = bytes(byte ^ 1 for byte in DATA[CHUNK : 2 * CHUNK])
    piece = await a.deps.fragments.put(upload, CHUNK, [other[:5]], 7)
    await ledger.mark_fragmented(upload, claim=None)
    await ledger.add_piece(upload, piece, now=upload.updated)
    assert (await a.send(upload, 0, **right(0, len(DATA)))).finished
    assert bucket.objects["name"][0] == DATA
    await nothing_left(bucket, nodes)


@pytest_twisted.ensureDeferred
async def test_not_exact(bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """A body with a digest may repeat what is stored; it does not take the place of other bytes, for that cannot be undone."""
    a, _ = nodes
    upload = await create(a)
    await a.send(upload, 0, CHUNK + 5)
    before = await a.deps.ledger.pieces(upload.id)
    with pytest.raises((Conflict, DigestMismatch)):
        await a.send(upload, 0, **damaged(0, len(DATA), exact=False))
    await as_before(a, upload, before)
    assert (await a.send(upload, 0, **right(0, len(DATA), exact=False))).finished
    assert bucket.objects["name"][0] == DATA


@pytest_twisted.ensureDeferred
async def test_finished_meanwhile(nodes: tuple[Node, Node]) -> None:
    """A body for a finished upload is compared with its object, and its digest is verified all the same."""
    a, b = nodes
    upload = await create(a)
    assert (await b.send(upload, 0)).finished
    wrong = ExpectedDigest(hashlib.sha1(), lambda: b"?")
    with pytest.raises(DigestMismatch):
        await a.send(upload, 5, digest=wrong)
    with pytest.raises(OffsetMismatch):
        await a.send(upload, 5, **right(5, len(DATA)))
    assert (await a.send(upload, 5, **right(5, len(DATA), exact=False))).finished


@pytest_twisted.ensureDeferred
async def test_not_of_a_swarm(nodes: tuple[Node, Node]) -> None:
    """Pieces of many connections meet in one part: none of them can be held back."""
    a, _ = nodes
    upload = await create(a, swarm=True)
    with pytest.raises(Invalid):
        await a.send(upload, 0, **right(0, len(DATA), exact=False))


def test_few_marks_of_each_piece() -> None:
    """What is held of a body does not grow with the size of its parts."""
    from resumable.model import Piece

    held = HeldBack()
    marks = pack_few([(at, at) for at in range(10 * MOST_MARKS + 1)])
    held.add(1, StoredPiece(Piece(0, 1 << 40, 1, "etag", 1), marks))
    (one,) = held.accept()
    assert 0 < len(unpack(one.marks)) <= MOST_MARKS


class Gate:
    """Makes a call wait until the test lets it go on; once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> None:
        self.reached: Deferred[None] = Deferred()
        self.open: Deferred[None] = Deferred()
        former = getattr(owner, name)

        async def call(*args: Any, **how: Any) -> Any:
            if not self.reached.called:
                self.reached.callback(None)
                await self.open
            return await former(*args, **how)

        monkeypatch.setattr(owner, name, call)


@pytest_twisted.ensureDeferred
async def test_a_fragment_that_replaces_a_held_one(
    bucket: Bucket, nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is stored while the ledger gets what was held back: it does not come before the one that it replaces."""
    a, _ = nodes
    upload = await create(a)
    body, receiving = a.begin(upload, 0, 0, 26, **right(0, 26))
    (stream,) = await a.streams(upload)
    stream.write(DATA[:21])
    stream.spill()
    await stream.settle()
    storing = Gate(monkeypatch, a.deps.fragments, "put")
    stream.write(DATA[21:26])
    stream.spill()
    await storing.reached
    committing = Gate(monkeypatch, a.deps.ledger, "add_piece")
    body.go_on()
    await committing.reached
    storing.open.callback(None)
    await deferLater(reactor, 0.05)  # type: ignore[arg-type]
    committing.open.callback(None)
    assert (await receiving).offset == 26
    pieces = await a.deps.ledger.pieces(upload.id)
    assert [(piece.first, piece.end) for piece in pieces] == [(0, 16), (16, 26)]
    await as_before(a, upload, pieces)
    # What is repeated meets it.
    assert (await a.send(upload, 18)).finished
    assert bucket.objects["name"][0] == DATA
    await nothing_left(bucket, nodes)


@pytest_twisted.ensureDeferred
async def test_back_while_it_is_accepted(
    bucket: Bucket, nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client comes back while the ledger gets what was held back: all of the body counts, its last bytes too."""
    a, _ = nodes
    upload = await create(a)
    committing = Gate(monkeypatch, a.deps.ledger, "add_piece")
    old = Deferred.fromCoroutine(a.send(upload, 0, 20, **right(0, 20)))
    await committing.reached
    again = Deferred.fromCoroutine(a.send(upload, 0, **right(0, len(DATA))))
    await deferLater(reactor, 0.02)  # type: ignore[arg-type]
    committing.open.callback(None)
    with pytest.raises(Superseded):
        await old
    # The offset that it was told is good enough: what comes once more is compared.
    assert (await again).finished
    assert bucket.objects["name"][0] == DATA


@pytest.mark.parametrize("begins", [0, 4])
@pytest.mark.parametrize("sound", [True, False])
@pytest_twisted.ensureDeferred
async def test_an_object_waits_for_the_end_of_its_body(
    bucket: Bucket, nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch, begins: int, sound: bool
) -> None:
    """A client that takes its time between the last byte and the end: its bytes leave memory, and it is read on."""
    monkeypatch.setattr("resumable.uploads.writer.PATIENCE", 0.02)
    monkeypatch.setattr("resumable.uploads.stream.MOST", 1)
    a, _ = nodes
    a.uploads = UploadService(a.deps, policy("bucket", chunk_size=CHUNK, parts_in_flight=1))
    upload = await create(a, SMALL)
    if begins:
        await a.send(upload, 0, begins, **right(0, begins))
    before = await a.deps.ledger.pieces(upload.id)
    how = right(begins, SMALL) if sound else damaged(begins, SMALL)
    data = how.pop("data", DATA[begins:SMALL])
    body, receiving = a.begin(upload, begins, begins, SMALL, **how)
    (stream,) = await a.streams(upload)
    stream.write(data)
    assert body._paused
    await deferLater(reactor, 0.1)  # type: ignore[arg-type]
    assert not body._paused
    assert "name" not in bucket.objects
    assert await a.deps.ledger.pieces(upload.id) == before
    body.go_on()
    if sound:
        assert (await receiving).finished
    else:
        with pytest.raises(DigestMismatch):
            await receiving
        await as_before(a, upload, before)
        assert (await a.send(upload, begins, SMALL, **right(begins, SMALL))).finished
    assert bucket.objects["name"][0] == DATA[:SMALL]
    await nothing_left(bucket, nodes)
    assert a.deps.budget.held == 0


@pytest.mark.parametrize("sent", [5, SMALL, CHUNK + 3])
@pytest_twisted.ensureDeferred
async def test_opened_to_many_meanwhile(bucket: Bucket, nodes: tuple[Node, Node], sent: int) -> None:
    """A body with a digest is ended when the upload is opened to many: its pieces would meet those of others."""
    a, _ = nodes
    length = SMALL if sent <= SMALL else len(DATA)
    upload = await create(a, length)
    data = bytes(byte ^ 1 for byte in DATA[:length])
    _, old = a.begin(upload, 0, 0, length, **right(0, length))
    (stream,) = await a.streams(upload)
    stream.write(data[:sent])
    swarm = await a.uploads.open_to_many(upload)
    with pytest.raises(Superseded):
        await old
    await as_before(a, upload, [])
    with pytest.raises(Invalid):
        await a.send(upload, 0, length, **right(0, length))
    assert (await a.send(swarm, 0, length)).finished
    assert bucket.objects["name"][0] == DATA[:length]
    await nothing_left(bucket, nodes)
