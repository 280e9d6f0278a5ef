"""What is freed and what is read back: who waits for it, and how much of it happens at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from resumable.ledger.ledger import Ledger
from resumable.model import Ended, Interrupted, Unavailable, Upload
from resumable.stores.port import StoredObject, StoreUnavailable
from resumable.uploads import freeing, neighbours
from resumable.uploads.policy import CreateRequest
from tests.uploads.conftest import CHUNK, DATA, Node, nothing_left
from tests.uploads.memory_store import Bucket


@pytest.fixture(autouse=True)
def no_rewriting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fragments stay as many as they were brought in, however small."""
    monkeypatch.setattr(neighbours, "SMALL", 0)


class Gate:
    """A call of a node's store that waits until the gate is opened."""

    def __init__(self, node: Node, name: str) -> None:
        self.waiting: list[Deferred[None]] = []
        self.shut = True
        call = getattr(node.store, name)

        async def held(*arguments: Any, **options: Any) -> Any:
            if self.shut:
                self.waiting.append(Deferred())
                await self.waiting[-1]
            return await call(*arguments, **options)

        setattr(node.store, name, held)

    def open(self) -> None:
        self.shut = False
        for waiting in self.waiting:
            waiting.callback(None)


async def eventually(ask: Callable[[], object]) -> None:
    async def looking() -> None:
        while not ask():
            await deferLater(reactor, 0.005)  # type: ignore[arg-type]

    await Deferred.fromCoroutine(looking()).addTimeout(10, reactor)  # type: ignore[arg-type]


async def begin(node: Node, name: str, ends: list[int], length: int = len(DATA)) -> Upload:
    """An upload of which fragments are stored that end there."""
    upload = await node.uploads.create(CreateRequest("put", name, length=length))
    for first, end in zip([0, *ends], ends, strict=False):
        await node.send(upload, first, end)
    return upload


async def finish(node: Node, count: int) -> tuple[list[Upload], Gate]:
    """So many finished uploads, each with a fragment that is deleted when the gate is opened."""
    uploads = [await begin(node, f"name{number}", [3], CHUNK) for number in range(count)]
    deleting = Gate(node, "delete_object")
    for upload in uploads:
        assert (await node.send(upload, 3, CHUNK)).finished
    return uploads, deleting


async def fresh(ledger: Ledger, upload: Upload) -> Upload:
    found = await ledger.get(upload.id)
    assert found is not None
    return found


@pytest_twisted.ensureDeferred
async def test_the_answer_waits_for_no_deletion(ledger: Ledger, bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """The fragments of a chunk that is a part, and the sweep when the object is there, are background tasks."""
    a, _ = nodes
    upload = await begin(a, "name", [5])
    deleting, listing = Gate(a, "delete_object"), Gate(a, "list_objects")
    assert (await a.send(upload, 5)).finished
    assert bucket.objects["name"][0] == DATA
    assert a.deps.budget.held == 0
    await eventually(lambda: (len(deleting.waiting), len(listing.waiting)) == (1, 1))
    assert any(key.startswith(f".resumable/{upload.id}/0-4.") for key in bucket.objects)
    deleting.open()
    listing.open()
    await nothing_left(bucket, nodes)
    assert not (await fresh(ledger, upload)).fragmented


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("trouble", [None, "before", "after"])
async def test_those_finished_meanwhile_are_freed_together(
    ledger: Ledger, bucket: Bucket, nodes: tuple[Node, Node], trouble: str | None
) -> None:
    """One request deletes what they have. Where it fails, each is freed by itself."""
    a, _ = nodes
    uploads, deleting = await finish(a, 5)
    await eventually(lambda: len(deleting.waiting) == 1)
    before = len(bucket.calls)
    if trouble is not None:
        a.store.trouble.append(("delete_objects", trouble))
    deleting.open()
    await nothing_left(bucket, nodes)
    made = [call for call in bucket.calls[before:] if call.startswith("delete")]
    assert made.count("delete_objects") == 1
    # The first was on its way by itself.
    assert made.count("delete_object") == {None: 1, "before": 5, "after": 1}[trouble]
    for upload in uploads:
        assert not (await fresh(ledger, upload)).fragmented


@pytest_twisted.ensureDeferred
async def test_how_many_wait_to_be_freed(
    ledger: Ledger, bucket: Bucket, nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that takes no deletions for hours does not cost more memory with each upload. The clock frees the others."""
    monkeypatch.setattr(freeing, "WAITING", 3)
    a, b = nodes
    uploads, deleting = await finish(a, 6)
    await eventually(lambda: len(deleting.waiting) == 1)
    assert len(a.uploads._freeing._waiting) == 3
    deleting.open()
    await a.settle()
    left = [upload for upload in uploads if (await fresh(ledger, upload)).fragmented]
    assert left == uploads[4:]
    for upload in left:
        await b.uploads.free(upload.id)
    await nothing_left(bucket, nodes)


@pytest_twisted.ensureDeferred
async def test_what_is_not_freed_at_the_end(ledger: Ledger, bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """The service does not wait for it for ever, and the ledger knows that there is something left to free."""
    a, b = nodes
    upload = await begin(a, "name", [5])
    Gate(a, "delete_object")
    assert (await a.send(upload, 5)).finished
    await a.uploads.close(0.01)
    assert a.deps.background.count == 0
    assert any(key.startswith(f".resumable/{upload.id}/0-4.") for key in bucket.objects)
    await b.uploads.free(upload.id)
    await nothing_left(bucket, nodes)


@pytest_twisted.ensureDeferred
async def test_at_the_end_nothing_is_begun_once_more(
    bucket: Bucket, nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of those that are freed together has failed when the service ends: the others are not freed by themselves now."""
    a, _ = nodes
    _, deleting = await finish(a, 3)
    await eventually(lambda: deleting.waiting)
    asked: list[str] = []

    async def list_objects(bucket: str, prefix: str) -> list[StoredObject]:
        asked.append(prefix)
        if len(asked) == 1:
            raise StoreUnavailable("SlowDown", "", 503)
        await Deferred()
        return []

    monkeypatch.setattr(a.store, "list_objects", list_objects)
    deleting.open()
    await eventually(lambda: len(asked) == 2)
    await Deferred.fromCoroutine(a.uploads.close(0.01)).addTimeout(5, reactor)  # type: ignore[arg-type]
    assert len(asked) == 2


@pytest_twisted.ensureDeferred
async def test_fragments_are_read_together(bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """Those of one chunk: one after the other would take a round trip for each."""
    a, b = nodes
    upload = await begin(a, "name", [3, 6, 9])
    read_back = Gate(b, "get_object")
    completer = Deferred.fromCoroutine(b.send(upload, 9))
    await eventually(lambda: len(read_back.waiting) == 3)
    read_back.open()
    assert (await completer).finished
    assert bucket.objects["name"][0] == DATA


@pytest_twisted.ensureDeferred
async def test_chunks_that_are_read_have_room(bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """One whose fragments do not fit beside what others read waits for them, and then goes on."""
    a, b = nodes
    uploads = [await begin(a, name, [3, 6], CHUNK) for name in ("one", "two")]
    read_back = Gate(b, "get_object")
    completer = [Deferred.fromCoroutine(b.send(upload, 6, CHUNK)) for upload in uploads]
    await eventually(lambda: len(read_back.waiting) == 2)
    await deferLater(reactor, 0.05)  # type: ignore[arg-type]
    assert len(read_back.waiting) == 2
    read_back.open()
    reports = await gatherResults(completer)
    assert all(report.finished for report in reports)
    assert bucket.objects["one"][0] == bucket.objects["two"][0] == DATA[:CHUNK]


@pytest_twisted.ensureDeferred
async def test_what_comes_after_it_was_freed(ledger: Ledger, bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """A part learns that the upload was cancelled and freed; a fragment that is stored after that does not stay."""
    a, b = nodes
    upload = await begin(a, "name", [2, CHUNK + 2], 3 * CHUNK)
    parts, fragments = Gate(a, "upload_part"), Gate(a, "put_object")
    sending = Deferred.fromCoroutine(a.send(upload, CHUNK + 2, 2 * CHUNK + 5))
    await eventually(lambda: (len(parts.waiting), len(fragments.waiting)) == (1, 1))
    await b.uploads.cancel(upload)
    assert not bucket.multiparts
    parts.open()
    await eventually(lambda: not a.uploads.writing._writers[upload.id].upload.fragmented)
    fragments.open()
    with pytest.raises(Ended):
        await sending
    await nothing_left(bucket, nodes)


@pytest_twisted.ensureDeferred
async def test_what_comes_after_it_was_freed_and_nobody_hears_of(bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """The answer to the fragment's storing is lost as well."""
    a, b = nodes
    upload = await begin(a, "name", [2], len(DATA))
    fragments = Gate(a, "put_object")
    sending = Deferred.fromCoroutine(a.send(upload, 2, 5))
    await eventually(lambda: fragments.waiting)
    await b.uploads.cancel(upload)
    assert not bucket.objects
    a.store.trouble.append(("put_object", "after"))
    fragments.open()
    with pytest.raises((Ended, Unavailable)):
        await sending
    await nothing_left(bucket, nodes)


@pytest_twisted.ensureDeferred
async def test_a_fragment_of_a_former_edition(bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """It comes when the client has begun again elsewhere, and is gone at once: the upload may go on for days."""
    a, b = nodes
    upload = await a.uploads.create(CreateRequest("put", "name", length=len(DATA)))
    fragments = Gate(a, "put_object")
    sending = Deferred.fromCoroutine(a.send(upload, 0, 5, drop=True))
    await eventually(lambda: fragments.waiting)
    with pytest.raises(Interrupted):
        await b.send(upload, 0, 3, drop=True)
    fragments.open()
    with pytest.raises(Interrupted):
        await sending
    assert [key.split("/")[-1].split(".")[0] for key in bucket.objects] == ["0-2"]
