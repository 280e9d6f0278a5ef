"""What a client says of the whole object to one node, while another is about to make the object."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from crc32c import crc32c
from twisted.internet.defer import Deferred

from resumable.ledger.ledger import Ledger
from resumable.model import NotAsExpected, State
from resumable.uploads.policy import CreateRequest
from resumable.uploads.registry import Span
from tests.uploads.conftest import CHUNK, DATA, Node, certain, nothing_left
from tests.uploads.memory_store import Bucket
from tests.uploads.test_freeing import Gate, begin, eventually
from tests.uploads.test_states import Body


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "said", [{"crc32c": (12345).to_bytes(4, "big")}, {"sha-256": bytes(32)}], ids=["crc32c", "sha-256"]
)
async def test_while_the_body_comes(
    ledger: Ledger, bucket: Bucket, nodes: tuple[Node, Node], said: dict[str, bytes]
) -> None:
    """It is remembered elsewhere, and the client was told so."""
    a, b = nodes
    for node in nodes:
        node.uploads.policy = evolve(node.uploads.policy, reads_back=True)
    upload = await a.uploads.create(CreateRequest("put", "name", length=CHUNK))
    body = Body(DATA[:CHUNK], 1, drop=False, stall=False)
    body.pauseProducing()
    receiving = Deferred.fromCoroutine(a.uploads.receive(upload, body, Span(0, CHUNK), revalidate=certain))
    await a.streams(upload)
    await b.uploads.expect_digests(upload, said, in_one=False)
    body.resumeProducing()
    with pytest.raises(NotAsExpected):
        await receiving
    await is_failed(ledger, bucket, nodes, upload.id)


@pytest_twisted.ensureDeferred
async def test_while_the_key_is_claimed(
    ledger: Ledger, bucket: Bucket, nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the claim has found is older than what is known by then."""
    a, _ = nodes
    upload = await a.uploads.create(CreateRequest("put", "name", length=CHUNK))
    usual = ledger.claim

    async def claim(*given: Any, **how: Any) -> Any:
        found = await usual(*given, **how)
        await a.uploads.expect(upload, 12345)
        return found

    monkeypatch.setattr(ledger, "claim", claim)
    with pytest.raises(NotAsExpected):
        await a.send(upload, 0, CHUNK)
    await is_failed(ledger, bucket, nodes, upload.id)


@pytest_twisted.ensureDeferred
async def test_while_fragments_are_read_back(ledger: Ledger, bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """The key is claimed before that, and what the ledger had then is old."""
    a, b = nodes
    upload = await begin(a, "name", [3, 6], CHUNK)
    reading = Gate(b, "get_object")
    sending = Deferred.fromCoroutine(b.send(upload, 6, CHUNK))
    await eventually(lambda: reading.waiting)
    await a.uploads.expect(upload, 12345)
    reading.open()
    with pytest.raises(NotAsExpected):
        await sending
    await is_failed(ledger, bucket, nodes, upload.id)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("said", ["crc32c", "sha-256"])
@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("call", ["put_object", "complete_multipart_upload"])
async def test_while_the_object_is_made(
    ledger: Ledger, bucket: Bucket, nodes: tuple[Node, Node], call: str, right: bool, said: str
) -> None:
    """The client was told that it counts. So nobody is told of an object that is another."""
    a, b = nodes
    for node in nodes:
        node.uploads.policy = evolve(node.uploads.policy, reads_back=True)
    size = CHUNK if call == "put_object" else len(DATA)
    digests = {"crc32c": crc32c(DATA[:size]).to_bytes(4, "big"), "sha-256": sha256(DATA[:size]).digest()}
    upload = await a.uploads.create(CreateRequest("put", "name", length=size))
    making = Gate(a, call)
    sending = Deferred.fromCoroutine(a.send(upload, 0, size))
    await eventually(lambda: making.waiting)
    digest = digests[said] if right else bytes(len(digests[said]))
    await b.uploads.expect_digests(upload, {said: digest}, in_one=False)
    making.open()
    if right:
        assert (await sending).finished
        assert bucket.objects["name"][0] == DATA[:size]
        return
    with pytest.raises(NotAsExpected):
        await sending
    await is_failed(ledger, bucket, nodes, upload.id)


async def is_failed(ledger: Ledger, bucket: Bucket, nodes: tuple[Node, Node], upload_id: str) -> None:
    failed = await ledger.get(upload_id)
    assert failed is not None
    assert failed.state is State.FAILED
    assert "name" not in bucket.objects
    await nothing_left(bucket, nodes)
