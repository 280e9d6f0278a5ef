"""Multipart uploads in which the store was to join fragments, and that a process left behind when it died."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred

from resumable.ledger.database import Database
from resumable.ledger.maintenance import Maintenance
from resumable.model import ObjectOptions, State, Upload
from tests.cleaning import janitor_of
from tests.uploads.conftest import Node
from tests.uploads.memory_store import Bucket
from tests.uploads.test_large_chunks import create, nodes, send

__all__ = ["nodes"]

#: What a dead process waits for, and will never get.
_FOREVER: list[Deferred[Any]] = []


async def cleaned(node: Node, database: Database) -> list[str]:
    """Clean up as if a long time had passed; the keys of what was removed."""
    janitor = janitor_of(node.uploads, database, after=-2.0)
    return [removal.what async for removal in janitor.clean() if removal.kind == "multipart"]


async def dies_in_a_join(node: Node, upload: Upload) -> None:
    """The process is gone when it was to complete what it had joined."""
    joining: Deferred[None] = Deferred()

    async def dies(*_: Any, **__: Any) -> Any:
        node.store.dead = True
        if not joining.called:
            joining.callback(None)
        await Deferred()

    node.store.complete_multipart_upload = dies  # type: ignore[method-assign]
    _FOREVER.append(Deferred.fromCoroutine(send(node, upload, 0)))
    await joining


def joins(bucket: Bucket) -> list[str]:
    return [key for key, *_ in bucket.multiparts.values() if "/part-" in key]


@pytest.mark.parametrize("lists", [True, False])
@ensureDeferred
async def test_a_join_that_died(bucket: Bucket, nodes: tuple[Node, Node], database: Database, lists: bool) -> None:
    """It stays as long as the upload is alive, for somebody may be at it, and goes when that has ended."""
    a, b = nodes
    for node in nodes:
        node.store.limits = evolve(node.store.limits, lists_uploads=lists)
    upload = await create(a)
    await dies_in_a_join(a, upload)
    assert (left := joins(bucket))
    assert await b.uploads._ledger.get(upload.id) is not None
    live = Maintenance(database)
    assert await live.not_done_with({upload.id}) == {upload.id}
    # Nothing but the note, or the listing, tells of it: a node that has never seen the upload cleans up.
    usual = b.uploads.expire

    async def not_yet(*_: Any, **__: Any) -> bool:
        return False

    b.uploads.expire = not_yet  # type: ignore[method-assign]
    assert await cleaned(b, database) == []
    assert joins(bucket) == left
    b.uploads.expire = usual  # type: ignore[method-assign]
    await b.uploads.cancel(upload)
    await b.deps.background.settle()
    removed = await cleaned(b, database)
    # A listing shows it already to whoever frees the upload.
    assert sorted(removed) == ([] if lists else sorted(f"bucket/{key}" for key in left))
    assert bucket.multiparts == {}
    assert await cleaned(b, database) == []


@ensureDeferred
async def test_what_came_after_it_was_freed(bucket: Bucket, nodes: tuple[Node, Node], database: Database) -> None:
    """Under the key of an upload that has ended it goes; what is of a stranger, or in use, stays."""
    a, b = nodes
    upload = await create(a)
    assert (await send(a, upload, 0)).finished
    await a.deps.background.settle()
    found = await a.deps.ledger.get(upload.id)
    assert found is not None
    assert found.state is State.FINISHED
    for owner in (upload.id, "a-stranger"):
        await b.store.init_multipart_upload("bucket", f".resumable/{owner}/part-1.0123", ObjectOptions())
    assert await cleaned(b, database) == [f"bucket/.resumable/{upload.id}/part-1.0123"]
    assert joins(bucket) == [".resumable/a-stranger/part-1.0123"]
