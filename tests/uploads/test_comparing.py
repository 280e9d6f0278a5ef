"""Bytes that meet stored ones are compared with them, not skipped: a file that has changed is never mixed with what it was."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from resumable.ledger.database import Database
from resumable.ledger.ledger import Ledger
from resumable.model import Conflict, Ended, Gap, Interrupted, Invalid, Piece, State, Superseded, Unavailable, Upload
from resumable.stores.port import PartMismatch, PartRef, StoredPart
from resumable.uploads import marks, neighbours
from resumable.uploads.chunks import plan
from resumable.uploads.policy import CreateRequest
from resumable.uploads.registry import Span
from resumable.uploads.result import Report
from resumable.uploads.stream import ChunkedStream
from tests.uploads.conftest import CHUNK, DATA, Node, nothing_left
from tests.uploads.memory_store import Bucket
from tests.uploads.test_states import Body, certain

SIZE = len(DATA)
OTHER = random.Random(8).randbytes(SIZE)


def changed(at: int) -> bytes:
    """The file, one byte of which has changed."""
    return DATA[:at] + bytes([DATA[at] ^ 1]) + DATA[at + 1 :]


async def begin(node: Node, *ends: int, swarm: bool = False, length: int | None = SIZE) -> Upload:
    """An upload whose bytes were brought in requests that end there."""
    upload = await node.uploads.create(CreateRequest("put", "name", length=length, swarm=swarm))
    for first, end in zip([0, *ends], ends, strict=False):
        await send(node, upload, DATA, first, end)
    return upload


async def send(
    node: Node, upload: Upload, data: bytes, first: int, end: int | None = None, *, drop: bool = False
) -> Report:
    end = SIZE if end is None else end
    sent = data[first:end]
    body = Body(sent, 5, drop=drop, stall=False)
    current = await node.deps.ledger.get(upload.id)
    assert current is not None
    return await node.uploads.receive(current, body, Span(first, SIZE if drop else end), revalidate=certain)


async def stream_of(node: Node, upload: Upload) -> ChunkedStream:
    """The stream of a silent client, once it has brought something."""

    async def found() -> ChunkedStream:
        while True:
            writer = node.uploads.writing._writers.get(upload.id)
            if writer is not None and writer.streams and writer.streams[0].partial:
                return writer.streams[0]
            await deferLater(reactor, 0.005)  # type: ignore[arg-type]

    return await Deferred.fromCoroutine(found()).addTimeout(10, reactor)  # type: ignore[arg-type]


async def stored(node: Node, upload: Upload) -> list[Piece]:
    return await node.deps.ledger.pieces(upload.id)


@pytest.fixture(params=[0, 1 << 16])
def small(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With fragments as they came, and with those that are written once more."""
    monkeypatch.setattr(neighbours, "SMALL", request.param)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("at", [0, 3, CHUNK - 1, CHUNK, CHUNK + 4, 2 * CHUNK + 2])
@pytest.mark.parametrize("ends", [(CHUNK,), (5,), (CHUNK + 3, 2 * CHUNK + 6), (4, 9, CHUNK + 5, 2 * CHUNK + 7)])
@pytest_twisted.ensureDeferred
async def test_from_byte_0_what_differs_is_taken_anew(
    bucket: Bucket, nodes: tuple[Node, Node], ends: tuple[int, ...], at: int
) -> None:
    """The object is what the client sends now, wherever it differs from what it sent before; parts that are the same stay."""
    a, b = nodes
    upload = await begin(a, *ends)
    b.store.trouble.clear()
    before = len([piece for piece in await stored(a, upload) if piece.number is not None])
    report = await send(b, upload, changed(at), 0)
    assert report.finished
    assert bucket.objects["name"][0] == changed(at)
    assert before <= 2
    await nothing_left(bucket, nodes)


@pytest.mark.usefixtures("small")
@pytest_twisted.ensureDeferred
async def test_the_same_from_byte_0_is_not_stored_again(bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """Not a request of the store; and what was acknowledged beyond stays so."""
    a, b = nodes
    upload = await begin(a, 2 * CHUNK + 6)
    pieces = await stored(a, upload)
    for name in ("put_object", "upload_part", "init_multipart_upload"):
        b.store.trouble.append((name, "before"))
    assert (await send(b, upload, DATA, 0, CHUNK)).offset == 2 * CHUNK + 6
    assert (await send(b, upload, DATA, 0, 2 * CHUNK + 3)).offset == 2 * CHUNK + 6
    assert (await send(b, upload, DATA, 0, 2 * CHUNK + 6)).offset == 2 * CHUNK + 6
    assert await stored(a, upload) == pieces


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("ends", "first", "at"),
    [
        ((5,), 3, 4),
        ((5, 9), 5, 8),
        ((CHUNK + 5,), CHUNK, CHUNK + 2),
        ((CHUNK + 5,), CHUNK + 2, CHUNK + 4),
        ((6, CHUNK), 6, CHUNK - 1),  # a part that was brought in two requests
        ((6, CHUNK + 1), 6, 7),
    ],
)
@pytest_twisted.ensureDeferred
async def test_from_elsewhere_others_are_refused(
    bucket: Bucket, nodes: tuple[Node, Node], ends: tuple[int, ...], first: int, at: int
) -> None:
    """Nothing is altered, not even behind what is stored; the client whose file has not changed goes on."""
    a, b = nodes
    upload = await begin(a, *ends)
    pieces = await stored(a, upload)
    with pytest.raises(Conflict, match="changed"):
        await send(b, upload, changed(at), first)
    assert await stored(a, upload) == pieces
    assert (await send(b, upload, DATA, first)).finished
    assert bucket.objects["name"][0] == DATA
    await nothing_left(bucket, nodes)


@pytest_twisted.ensureDeferred
async def test_within_a_part(bucket: Bucket, nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch) -> None:
    """A range that begins or ends within a part, which cannot be read back, is compared between the part's marks."""
    monkeypatch.setattr(marks, "EVERY", 4)
    a, b = nodes
    upload = await begin(a, 2 * CHUNK)
    for first, at in ((CHUNK + 3, CHUNK + 4), (1, 9), (CHUNK + 3, 2 * CHUNK - 1)):
        with pytest.raises(Conflict):
            await send(b, upload, changed(at), first)
    assert (await send(b, upload, DATA, CHUNK + 3, 2 * CHUNK - 1)).offset == 2 * CHUNK
    assert (await send(b, upload, DATA, CHUNK + 3)).finished
    assert bucket.objects["name"][0] == DATA


@pytest_twisted.ensureDeferred
async def test_a_swarm_is_never_begun_anew(bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    a, b = nodes
    upload = await begin(a, CHUNK + 5, swarm=True)
    pieces = await stored(a, upload)
    for first, end, at in ((0, CHUNK, 3), (0, SIZE, 4), (CHUNK + 2, CHUNK + 9, CHUNK + 4)):
        with pytest.raises(Conflict):
            await send(b, upload, changed(at), first, end)
    assert [piece for piece in await stored(a, upload) if piece.first < CHUNK] == pieces[:1]
    assert (await send(a, upload, DATA, CHUNK + 2, SIZE)).finished
    assert bucket.objects["name"][0] == DATA


@pytest_twisted.ensureDeferred
async def test_two_clients_of_a_swarm_at_once(bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """They bring other bytes for one chunk: one of them is told so."""
    a, _ = nodes
    upload = await begin(a, swarm=True)
    tries = [Deferred.fromCoroutine(send(a, upload, data, 0, CHUNK)) for data in (DATA, OTHER)]
    outcomes: list[Any] = [await one.addErrback(lambda failure: failure.value) for one in tries]
    assert sorted(isinstance(outcome, Conflict) for outcome in outcomes) == [False, True]


@pytest_twisted.ensureDeferred
async def test_broken_off_again(bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """The changed file breaks off too, and goes on where it is told to."""
    a, b = nodes
    upload = await begin(a, 2 * CHUNK + 3)
    with pytest.raises(Interrupted):
        await send(b, upload, OTHER, 0, CHUNK + 6, drop=True)
    report = await a.uploads.report(upload)
    assert report.offset == CHUNK + 6
    assert (await send(a, upload, OTHER, report.offset)).finished
    assert bucket.objects["name"][0] == OTHER
    await nothing_left(bucket, nodes)


@pytest_twisted.ensureDeferred
async def test_bytes_that_are_not_at_hand_any_more(
    bucket: Bucket, nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chunk was handed on in two, and only the second differs: the client is told where to begin."""
    monkeypatch.setattr(marks, "EVERY", 4)
    a, _ = nodes
    upload = await begin(a, 2 * CHUNK)
    body = Body(changed(9)[:8], 8, drop=False, stall=True)
    doing = Deferred.fromCoroutine(a.uploads.receive(upload, body, Span(0, SIZE), revalidate=certain))
    stream = await stream_of(a, upload)
    stream.spill()
    stream.write(changed(9)[8:])
    body.go_on()
    with pytest.raises(Gap) as told:
        await doing
    assert told.value.offset == 0
    assert (await a.uploads.report(upload)).offset == 0
    assert (await send(a, upload, changed(9), 0)).finished
    assert bucket.objects["name"][0] == changed(9)


@pytest_twisted.ensureDeferred
async def test_a_silent_client_that_repeats_is_not_stored(nodes: tuple[Node, Node]) -> None:
    """What it brought is stored already; as a whole chunk it can be compared."""
    a, _ = nodes
    upload = await begin(a, 2 * CHUNK)
    body = Body(DATA[:6], 7, drop=False, stall=True)
    doing = Deferred.fromCoroutine(a.uploads.receive(upload, body, Span(0, SIZE), revalidate=certain))
    stream = await stream_of(a, upload)
    await a.uploads.writing.checkpoint()
    await a.uploads.writing.checkpoint()
    assert stream.partial == 6
    body.go_on()
    await doing


@pytest_twisted.ensureDeferred
async def test_who_writes_the_former_file_elsewhere(bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """A half-open connection on another node, which nobody can tell: what it still holds does not get into the new file."""
    a, b = nodes
    upload = await a.uploads.create(CreateRequest("put", "name", length=SIZE))
    body, old = a.begin(upload, 0, CHUNK + 6)
    while not await stored(a, upload):
        pass
    with pytest.raises(Interrupted):
        await send(b, upload, OTHER, 0, 2 * CHUNK, drop=True)
    body.go_on()
    with pytest.raises(Superseded):
        await old
    report = await b.uploads.report(upload)
    assert report.offset == 2 * CHUNK
    assert (await send(b, upload, OTHER, report.offset)).finished
    assert bucket.objects["name"][0] == OTHER


@pytest_twisted.ensureDeferred
async def test_a_part_of_the_former_file_that_comes_late(
    ledger: Ledger, bucket: Bucket, nodes: tuple[Node, Node]
) -> None:
    """It replaces the new part in the store: no object is made of it."""
    a, b = nodes
    upload = await begin(a, 2 * CHUNK)
    await send(b, upload, OTHER, 0, 3 * CHUNK)
    current = await ledger.get(upload.id)
    assert current is not None
    assert current.edition > 1
    assert current.multipart_id is not None
    await a.store.upload_part("bucket", "name", current.multipart_id, 1, [DATA[:CHUNK]])
    with pytest.raises(Exception, match="part 1 is not what was stored"):
        await send(b, upload, OTHER, 3 * CHUNK)
    assert "name" not in bucket.objects


@pytest.mark.parametrize("tells", [False, True])
@pytest_twisted.ensureDeferred
async def test_another_etag_for_the_same_bytes(bucket: Bucket, nodes: tuple[Node, Node], tells: bool) -> None:
    """A store that encrypts gives each writer of a part another ETag: its checksum decides, and without one nobody can say."""
    a, _ = nodes
    upload = await begin(a, 3 * CHUNK)
    pieces = {piece.number: piece for piece in await stored(a, upload)}
    complete = a.store.complete_multipart_upload

    async def picky(bucket: str, key: str, multipart_id: str, parts: list[PartRef], **options: Any) -> Any:
        if parts[0].etag != "other":
            raise PartMismatch("InvalidPart", "", 400)
        return await complete(bucket, key, multipart_id, [PartRef(1, pieces[1].etag), *parts[1:]], **options)

    async def listed(*_: Any) -> list[StoredPart]:
        found = await type(a.store).list_parts(a.store, *_)
        crc = pieces[1].crc32c if tells else None
        return [evolve(found[0], etag="other", crc32c=crc), *found[1:]]

    a.store.complete_multipart_upload = picky  # type: ignore[method-assign,assignment]
    a.store.list_parts = listed  # type: ignore[method-assign]
    if not tells:
        with pytest.raises(Ended, match="part 1 is not what was stored"):
            await send(a, upload, DATA, 3 * CHUNK)
        return
    assert (await send(a, upload, DATA, 3 * CHUNK)).finished
    assert bucket.objects["name"][0] == DATA


@pytest_twisted.ensureDeferred
async def test_two_files_begun_at_once_elsewhere(bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """A half-open connection on another node has brought bytes that are not stored yet, when another file is begun."""
    a, b = nodes
    upload = await a.uploads.create(CreateRequest("put", "name", length=SIZE))
    slow: Deferred[None] = Deferred()
    made = a.store.upload_part

    async def slowly(*arguments: Any, **options: Any) -> Any:
        arguments = (*arguments[:4], list(arguments[4]))
        await slow
        return await made(*arguments, **options)

    a.store.upload_part = slowly  # type: ignore[method-assign]
    body, old = a.begin(upload, 0, 2 * CHUNK)
    while not bucket.opened:
        await deferLater(reactor, 0.005)  # type: ignore[arg-type]
    with pytest.raises(Interrupted):
        await send(b, upload, OTHER, 0, 2 * CHUNK + 3, drop=True)
    slow.callback(None)
    body.go_on()
    with pytest.raises(Superseded):
        await old
    report = await b.uploads.report(upload)
    assert report.offset == 2 * CHUNK + 3
    assert (await send(b, upload, OTHER, report.offset)).finished
    assert bucket.objects["name"][0] == OTHER
    await nothing_left(bucket, nodes)


@pytest_twisted.ensureDeferred
async def test_other_bytes_of_one_range_at_once(ledger: Ledger, bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """Two clients of a swarm, on two nodes that know nothing of each other yet: what was acknowledged stays."""
    a, b = nodes
    upload = await begin(a, swarm=True)
    for first, end in ((0, CHUNK), (2 * CHUNK, 2 * CHUNK + 4)):
        async with a.uploads.writing.writer(upload), b.uploads.writing.writer(upload):
            await send(a, upload, DATA, first, end)
            pieces = await stored(a, upload)
            with pytest.raises(Conflict):
                await send(b, upload, OTHER, first, end)
            assert await stored(a, upload) == pieces
    (part, _) = await stored(a, upload)
    with pytest.raises(Conflict):
        await ledger.add_piece(upload, evolve(part, crc32c=1, etag="other"), now=5.0)
    assert (await stored(a, upload))[0] == part


@pytest_twisted.ensureDeferred
async def test_a_finished_upload_is_compared_with_its_object(bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    a, _ = nodes
    upload = await begin(a, 5, CHUNK + 3, SIZE)
    current = await a.deps.ledger.get(upload.id)
    assert current is not None

    async def repeat(data: bytes, first: int, end: int = SIZE) -> Report:
        return await a.uploads.compare(current, Body(data[first:end], 7, drop=False, stall=False), Span(first, end))

    for first, end in ((5, SIZE), (CHUNK + 3, SIZE), (0, SIZE), (17, 20)):
        assert (await repeat(DATA, first, end)).finished
        for at in (first, end - 1):
            # One who begins at byte 0 comes again, and begins another upload.
            with pytest.raises(Conflict if first else Unavailable):
                await repeat(changed(at), first, end)
    with pytest.raises(Invalid):
        await a.uploads.compare(current, Body(DATA, 7, drop=False, stall=False), Span(5, SIZE - 1))
    bucket.objects["name"] = (OTHER, {})
    with pytest.raises(Conflict):
        await repeat(DATA, 5)
    assert a.deps.budget.held == 0


@pytest_twisted.ensureDeferred
async def test_a_shorter_length_than_is_written_elsewhere(bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """One of the two is refused, and what is left can be finished."""
    a, b = nodes
    upload = await a.uploads.create(CreateRequest("put", "name"))
    body, streaming = a.begin(upload, 0, 2 * CHUNK + 3, None)
    while len(await stored(a, upload)) < 2:
        pass
    with pytest.raises(Invalid, match="stored already"):
        await b.uploads.declare(upload, CHUNK)
    await b.uploads.declare(upload, 2 * CHUNK)
    body.go_on()
    with pytest.raises(Invalid, match="bytes"):
        await streaming
    report = await b.uploads.report(await a.uploads.find("", "name", "put"))
    assert (report.offset, report.complete) == (2 * CHUNK, True)
    assert (await b.uploads.finish(report.upload)).finished
    assert bucket.objects["name"][0] == DATA[: 2 * CHUNK]


@pytest_twisted.ensureDeferred
async def test_the_ledger_begins_anew_once(database: Database, ledger: Ledger, nodes: tuple[Node, Node]) -> None:
    """Two who begin anew at once: the second is told that somebody else is writing. Of an upload that is whole, nobody may."""
    a, _ = nodes
    upload = (await a.uploads.report(await begin(a, 2 * CHUNK + 3))).upload
    upload = await a.uploads.get(upload.id, "")
    begun = await ledger.begin_anew(upload, CHUNK, now=5.0)
    assert begun.edition == upload.edition + 1
    assert begun.multipart_id == upload.multipart_id
    assert [piece.end for piece in await ledger.pieces(upload.id)] == [CHUNK]
    with pytest.raises(Superseded):
        await ledger.begin_anew(upload, 0, now=5.0)
    with pytest.raises(Superseded):
        await ledger.add_piece(upload, Piece(CHUNK, 2 * CHUNK, 2, "e"), now=6.0)
    await ledger.move(begun, State.FINISHING, frm=(State.OPEN,))
    with pytest.raises(Superseded):
        await ledger.begin_anew(begun, 0, now=7.0)


@pytest_twisted.ensureDeferred
async def test_a_file_that_breaks_off_within_a_part(bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """Marks are dense where a part begins: another file is known by its first bytes, and the same one loses nothing."""
    a, b = nodes
    for end in (1, 2, 6, CHUNK + 1):
        upload = await begin(a, 2 * CHUNK + 3)
        with pytest.raises(Interrupted):
            await send(b, upload, DATA, 0, end, drop=True)
        assert (await a.uploads.report(upload)).offset == 2 * CHUNK + 3
        with pytest.raises(Interrupted):
            await send(b, upload, OTHER, 0, end, drop=True)
        assert (await a.uploads.report(upload)).offset == end
        assert (await send(a, upload, OTHER, end)).finished
        assert bucket.objects["name"][0] == OTHER
        await nothing_left(bucket, nodes)


@pytest_twisted.ensureDeferred
async def test_up_to_a_mark(bucket: Bucket, nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch) -> None:
    """What ends at a mark has been compared, and what was acknowledged beyond stays so."""
    monkeypatch.setattr(marks, "EVERY", 4)
    a, b = nodes
    upload = await begin(a, 2 * CHUNK + 3)
    for end in (4, 8, CHUNK, CHUNK + 12):
        assert (await send(b, upload, DATA, 0, end)).offset == 2 * CHUNK + 3
    assert (await send(b, upload, changed(1), 0, 4)).offset == 4


# Small pieces


@pytest_twisted.ensureDeferred
async def test_many_small_requests_make_few_pieces(bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """The last fragment grows instead; every place where a request ended can still be gone on from."""
    a, b = nodes
    upload = await begin(a, *range(1, 3 * CHUNK + 2))
    pieces = await stored(a, upload)
    assert len(pieces) <= 4
    assert (await a.uploads.report(upload)).offset == 3 * CHUNK + 1
    with pytest.raises(Conflict):
        await send(b, upload, changed(2 * CHUNK + 9), 2 * CHUNK + 8)
    await a.deps.background.settle()
    assert len([key for key in bucket.objects if key.startswith(".resumable/")]) == 1
    assert (await send(b, upload, DATA, 3 * CHUNK + 1)).finished
    assert bucket.objects["name"][0] == DATA
    await nothing_left(bucket, nodes)


@pytest_twisted.ensureDeferred
async def test_backwards_too(bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    a, _ = nodes
    upload = await begin(a, swarm=True)
    for first in range(CHUNK - 1, 0, -1):
        await send(a, upload, DATA, first, first + 1)
    assert [(piece.first, piece.end) for piece in await stored(a, upload)] == [(1, CHUNK)]


@pytest_twisted.ensureDeferred
async def test_a_crowd_is_refused(nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges that touch no other have no end: beyond some number they are refused, and what is stored goes on."""
    monkeypatch.setattr(neighbours, "CROWD", 5)
    monkeypatch.setattr(neighbours, "SMALL", 0)
    a, _ = nodes
    upload = await begin(a, swarm=True)
    for first in range(0, 10, 2):
        await send(a, upload, DATA, first, first + 1)
    with pytest.raises(Invalid, match="send larger ones"):
        await send(a, upload, DATA, 12, 13)
    assert (await send(a, upload, DATA, 9, 10)).coverage.covers(8, 10)
    assert (await send(a, upload, DATA, 0, SIZE)).finished


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=30), st.integers(0, 40), st.integers(1, 40))
def test_a_plan_covers_with_few_pieces(ranges: list[tuple[int, int]], first: int, size: int) -> None:
    pieces = [Piece(low, low + length, None, "e") for low, length in ranges]
    takes = plan(pieces, first, first + size)
    covered = all(any(p.first <= at < p.end for p in pieces) for at in range(first, first + size))
    assert (takes is not None) == covered
    if takes is not None:
        assert takes[0].first == first
        assert takes[-1].end == first + size
        assert all(one.end == other.first for one, other in pairwise(takes))
        assert all(take.piece.first <= take.first < take.end <= take.piece.end for take in takes)


def test_a_plan_of_many_pieces_is_made_in_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece is looked at a few times, not once for each other."""
    looks = 0

    class Counted(Piece):
        def __getattribute__(self, name: str) -> Any:
            nonlocal looks
            looks += name == "end"
            return super().__getattribute__(name)

    pieces = [Counted(at, at + 1, None, "e") for at in range(2000)]
    assert plan(pieces, 0, 2000) is not None
    assert looks < 20 * 2000
