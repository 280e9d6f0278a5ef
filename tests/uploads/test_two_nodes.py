"""Two nodes, one ledger, one store: what one knows of an upload is not all there is to know. They cannot tell each other."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from resumable.ledger.database import Database
from resumable.ledger.ledger import Ledger
from resumable.model import Ended, Interrupted, Piece, State, Unavailable, Upload
from resumable.uploads.completer import Completer
from resumable.uploads.policy import CreateRequest
from resumable.uploads.result import as_json
from resumable.uploads.sender import Sender
from resumable.uploads.stream import ChunkBuffer
from resumable.uploads.writer import UploadWriter
from tests.uploads.conftest import CHUNK, DATA, Node, nothing_left
from tests.uploads.memory_store import Bucket
from tests.uploads.test_states import certain

WANTED = CreateRequest("put", "name", length=len(DATA))


async def until(node: Node, upload: Upload, offset: int) -> None:
    """Wait until the node's silent writer has so many bytes stored."""

    async def stored() -> None:
        while sum(piece.size for piece in await node.deps.ledger.pieces(upload.id)) < offset:
            await node.uploads.writing.checkpoint()
            await deferLater(reactor, 0.005)  # type: ignore[arg-type]

    await Deferred.fromCoroutine(stored()).addTimeout(10, reactor)  # type: ignore[arg-type]


@pytest_twisted.ensureDeferred
async def test_going_on_here_after_there(ledger: Ledger, bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """A client leaves a connection half open on A, goes on on B, and comes back to A, which still has the old one."""
    a, b = nodes
    upload = await a.uploads.create(WANTED)
    _, old = a.begin(upload, 0, CHUNK)
    old.addErrback(lambda _: None)
    await until(a, upload, CHUNK)
    assert (await b.send(upload, CHUNK, 2 * CHUNK)).offset == 2 * CHUNK
    report = await a.send(upload, 2 * CHUNK)
    assert report.finished
    assert bucket.objects["name"][0] == DATA
    await nothing_left(bucket, nodes)
    await old


@pytest_twisted.ensureDeferred
async def test_finished_there_while_it_is_sent_here(
    ledger: Ledger, bucket: Bucket, nodes: tuple[Node, Node], told: list[str]
) -> None:
    """Both bring the same bytes: both are told of the same object, and what the later one stored is freed."""
    a, b = nodes
    upload = await a.uploads.create(WANTED)
    body, old = a.begin(upload, 0, CHUNK + 3)
    await until(a, upload, CHUNK + 3)
    report = await b.send(upload, CHUNK + 3)
    assert report.finished
    body.go_on()
    assert as_json(await old) == as_json(report)
    assert told == ["finished"]
    await nothing_left(bucket, nodes)


@pytest_twisted.ensureDeferred
async def test_what_comes_after_the_end_is_freed(ledger: Ledger, bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """A has stored a fragment, and holds some more when B finishes: what A stores then is not left lying."""
    a, b = nodes
    upload = await a.uploads.create(WANTED)
    _, old = a.begin(upload, 0, 5)
    await until(a, upload, 5)
    old.addErrback(lambda _: None)
    more, second = a.begin(upload, 5, 9)
    await old
    assert (await b.send(upload, 5)).finished
    more.go_on()
    assert (await second).finished
    await nothing_left(bucket, nodes)


@pytest_twisted.ensureDeferred
async def test_the_length_is_said_there(ledger: Ledger, bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """The body here is of an upload without a length, which B has been told meanwhile: its end is the upload's."""
    a, b = nodes
    upload = await a.uploads.create(evolve(WANTED, length=None))
    body, receiving = a.begin(upload, 0, len(DATA), None)
    await until(a, upload, 3 * CHUNK)
    await b.uploads.declare(upload, len(DATA))
    body.go_on()
    assert (await receiving).finished
    assert bucket.objects["name"][0] == DATA
    await nothing_left(bucket, nodes)


@pytest_twisted.ensureDeferred
async def test_both_finish_at_once(ledger: Ledger, bucket: Bucket, nodes: tuple[Node, Node], told: list[str]) -> None:
    """One object, one answer, told once."""
    a, _ = nodes
    upload = await a.uploads.create(WANTED)
    a.store.trouble = [("complete_multipart_upload", "before")]
    with pytest.raises(Exception, match="trouble"):
        await a.send(upload, 0)
    completer = await ledger.get(upload.id)
    assert completer is not None
    assert completer.state is State.FINISHING
    first, second = await gatherResults(
        [Deferred.fromCoroutine(node.uploads.finish(completer)) for node in nodes], consumeErrors=True
    )
    assert as_json(first) == as_json(second)
    assert told == ["finished"]
    assert bucket.objects["name"][0] == DATA
    await nothing_left(bucket, nodes)


@pytest_twisted.ensureDeferred
async def test_cancelled_there(ledger: Ledger, bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """A writer here hears of it when it stores something: it is ended, and nothing is left."""
    a, b = nodes
    upload = await a.uploads.create(WANTED)
    body, old = a.begin(upload, 0, CHUNK + 3)
    await until(a, upload, CHUNK)
    current = await ledger.get(upload.id)
    assert current is not None
    await b.uploads.cancel(current)
    body.go_on()
    with pytest.raises(Ended):
        await old
    await nothing_left(bucket, nodes)


@pytest_twisted.ensureDeferred
async def test_clocks_that_disagree(ledger: Ledger, nodes: tuple[Node, Node]) -> None:
    """A finished upload whose node was ahead of its time does not hide the live one from those who start anew."""
    a, _ = nodes
    former = await a.uploads.create(WANTED)
    assert await ledger.move(former, State.FINISHED, frm=(State.OPEN,), created=former.created + 3600) is not None
    live = await a.uploads.create(WANTED)
    assert (await a.uploads.find("", "name", "put")).id == live.id
    again = await Deferred.fromCoroutine(a.uploads.create(WANTED)).addTimeout(5, reactor)  # type: ignore[arg-type]
    assert (await a.uploads.find("", "name", "put")).id == again.id


@pytest_twisted.ensureDeferred
async def test_learning_while_something_is_stored(database: Database, ledger: Ledger, nodes: tuple[Node, Node]) -> None:
    """What is stored here while the ledger is read is not forgotten over what was read."""

    class Slow(Ledger):
        async def whole(self, upload_id: str) -> tuple[Upload, list[Piece]] | None:
            found = await super().whole(upload_id)
            run = ChunkBuffer(0, 0, number=1)
            run.append(DATA[:CHUNK])
            run.seal()
            if found is not None and not found[1]:
                await writer.store(run, Sender(certain, edition=0))
            return found

    a, _ = nodes
    deps = evolve(a.deps, ledger=Slow(database))
    writer = UploadWriter(
        await a.uploads.create(WANTED),
        [],
        deps,
        Completer(deps.ledger, deps.store, deps.clock, deps.faults, deps.read_back),
    )
    await writer.refresh()
    assert writer.state.coverage.offset == CHUNK


@pytest_twisted.ensureDeferred
async def test_what_goes_on_elsewhere_takes_no_memory_here(nodes: tuple[Node, Node]) -> None:
    """The fragment that was kept for a client that goes on on another node is not kept for ever."""
    a, _ = nodes
    upload = await a.uploads.create(WANTED)
    await a.send(upload, 0, 5)
    assert a.deps.budget.held == 5
    assert not await a.uploads.writing.let_go(upload.id, 5, None)
    assert a.deps.budget.held == 0


@pytest_twisted.ensureDeferred
async def test_the_ledger_goes_away_when_the_multipart_upload_is_open(
    bucket: Bucket, nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its id is in the ledger, and the answer is lost: it is the upload's, and must not be aborted."""
    a, b = nodes
    upload = await a.uploads.create(CreateRequest("put", "name", length=len(DATA)))
    with pytest.raises(Interrupted):
        await a.send(upload, 0, data=DATA[:5], drop=True)
    real = a.deps.ledger.set_once

    async def set_once(*given: Any, **how: Any) -> Any:
        await real(*given, **how)
        raise Unavailable("the ledger did not answer")

    monkeypatch.setattr(a.deps.ledger, "set_once", set_once)
    with pytest.raises(Unavailable):
        await a.send(upload, 5)
    monkeypatch.undo()
    assert (await b.send(upload, 5)).finished
    assert bucket.objects["name"][0] == DATA
    await nothing_left(bucket, nodes)


@pytest_twisted.ensureDeferred
async def test_a_transaction_that_is_repeated_behind_a_new_edition(
    ledger: Ledger, bucket: Bucket, nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first answer was lost, and by now the piece counts in the edition that another node has begun: it stays."""
    a, b = nodes
    upload = await a.uploads.create(CreateRequest("put", "name", length=len(DATA)))
    with pytest.raises(Interrupted):
        await a.send(upload, 0, 5, drop=True)
    database = ledger._database
    write, enter = database.write, ledger.add_piece

    async def twice(work: Any, **how: Any) -> Any:
        await write(work, **how)
        monkeypatch.setattr(database, "write", write)
        with pytest.raises(Interrupted):
            await b.send(upload, 0, 3, drop=True)
        return await write(work, **how)

    async def repeating(*given: Any, **how: Any) -> Any:
        monkeypatch.setattr(ledger, "add_piece", enter)
        monkeypatch.setattr(database, "write", twice)
        return await enter(*given, **how)

    monkeypatch.setattr(ledger, "add_piece", repeating)
    with pytest.raises(Interrupted):
        await a.send(upload, 5, 10, drop=True)
    current = await ledger.get(upload.id)
    assert current is not None
    assert current.edition == 2
    assert (await b.uploads.report(current)).offset == 10
    fresh = Node(ledger, bucket)
    assert (await fresh.send(current, 10, last=True)).finished
    assert bucket.objects["name"][0] == DATA
    await nothing_left(bucket, [*nodes, fresh])
