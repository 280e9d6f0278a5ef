"""A multipart upload that the store does not have any more, though the ledger names it."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from resumable.ledger.ledger import Ledger
from resumable.model import Ended, Interrupted, Piece, Upload
from resumable.uploads.policy import CreateRequest
from tests.uploads.conftest import CHUNK, DATA, Node, nothing_left
from tests.uploads.memory_store import Bucket

OTHER = bytes(byte ^ 1 for byte in DATA)


@pytest_twisted.ensureDeferred
async def test_aborted_and_not_struck_out(bucket: Bucket, nodes: tuple[Node, Node], ledger: Ledger) -> None:
    """No part of it is acknowledged: another one is opened, and the upload goes on."""
    node = nodes[0]
    upload = await node.uploads.create(CreateRequest("put", "name", length=len(DATA)))
    with pytest.raises(Interrupted):
        await node.send(upload, 0, data=DATA[: 2 * CHUNK], drop=True)
    node.store.trouble.append(("abort_multipart_upload", "after"))
    current = await ledger.get(upload.id)
    assert current is not None
    report = await node.send(current, 0, data=OTHER, last=True)
    assert node.store.trouble == []
    assert report.finished
    assert bucket.objects["name"][0] == OTHER
    await nothing_left(bucket, nodes)


@pytest_twisted.ensureDeferred
async def test_dropped_with_parts_that_count(bucket: Bucket, nodes: tuple[Node, Node], ledger: Ledger) -> None:
    """What was acknowledged is lost, and its client is told so."""
    node = nodes[0]
    upload = await node.uploads.create(CreateRequest("put", "name", length=len(DATA)))
    with pytest.raises(Interrupted):
        await node.send(upload, 0, data=DATA[: 2 * CHUNK], drop=True)
    bucket.multiparts.clear()
    with pytest.raises(Ended):
        await node.send(upload, 2 * CHUNK, len(DATA))


@pytest_twisted.ensureDeferred
async def test_a_store_that_loses_every_one(
    bucket: Bucket, nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not asked for ever."""
    node = nodes[0]
    upload = await node.uploads.create(CreateRequest("put", "name", length=len(DATA)))
    opened = node.store.init_multipart_upload

    async def losing(*arguments: object, **options: object) -> str:
        multipart_id = await opened(*arguments, **options)  # type: ignore[arg-type]
        bucket.multiparts.clear()
        return multipart_id

    monkeypatch.setattr(node.store, "init_multipart_upload", losing)
    with pytest.raises(Ended, match="dropped the multipart upload"):
        await node.send(upload, 0, len(DATA))
    assert bucket.opened < 20


@pytest_twisted.ensureDeferred
async def test_a_part_of_a_lost_one_comes_late_to_the_ledger(
    bucket: Bucket, nodes: tuple[Node, Node], ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not acknowledged, but stored again: meanwhile the others have opened another multipart upload."""
    node = nodes[0]
    upload = await node.uploads.create(CreateRequest("put", "name", length=len(DATA)))
    add_piece, forget, forgotten = ledger.add_piece, ledger.forget_multipart, Deferred[None]()
    lost: list[str | None] = []

    async def late(of: Upload, piece: Piece, **how: Any) -> str | None:
        if piece.number == 1 and not lost:
            lost.append(how["stored_in"])
            bucket.multiparts.clear()
            await forgotten
        return await add_piece(of, piece, **how)

    async def forgetting(of: Upload, multipart_id: str) -> bool:
        outcome = await forget(of, multipart_id)
        if not forgotten.called:
            forgotten.callback(None)
        return outcome

    monkeypatch.setattr(ledger, "add_piece", late)
    monkeypatch.setattr(ledger, "forget_multipart", forgetting)
    report = await node.send(upload, 0, last=True)
    assert report.finished
    assert lost == ["1"]
    assert bucket.objects["name"][0] == DATA
    await nothing_left(bucket, nodes)
