"""What calls leave in Cloud Storage that take effect after their upload has ended: it is found, and it is told whose it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_twisted
from sqlalchemy import insert

from resumable.ledger.maintenance import Maintenance
from resumable.ledger.schema import identity
from resumable.model import ObjectOptions, Upload
from resumable.stores.gcs.client import GcsStore
from resumable.stores.gcs.marks import KEY, LEDGER
from resumable.stores.port import PartRef
from tests.cleaning import janitor_of
from tests.protocols.harness import Door, Memory, memory_service, until
from tests.stores.gcs.server import GcsServer
from tests.stores.gcs.test_service import DATA, TUS, concatenated, partial

#: With the prefix and a word before it, the longest key is none.
LONG = "long/" + "ü" * 509


@asynccontextmanager
async def serving(gcs: GcsServer, ledger: str, **rules: Any) -> AsyncIterator[Memory]:
    """The service, with a ledger of this id."""

    async def identified() -> str:
        return await Maintenance(database).identity()

    store = gcs.client(ledger=identified)
    await store.start()
    try:
        async with memory_service(Door("alice"), store=store, limits=store.limits, **rules) as service:
            database = service.parts.ledger._database
            await database.write(lambda connection: connection.execute(insert(identity).values(id=ledger)) and None)
            yield service
    finally:
        await store.close()


async def cleaned(service: Memory, *, after: float = -2.0) -> list[str]:
    """Clean up, as if a long time had passed in which uploads were not left untouched.

    :param after: seconds, as in the settings.
    :return: the keys of the multipart uploads that were removed.
    """
    uploads, database = service.parts.uploads, service.parts.ledger._database
    usual = uploads.expire

    async def not_yet(*_: Any, **__: Any) -> bool:
        return False

    uploads.expire = not_yet  # type: ignore[method-assign]
    janitor = janitor_of(uploads, database, after=after)
    try:
        return [one.what async for one in janitor.clean() if one.kind == "multipart"]
    finally:
        uploads.expire = usual  # type: ignore[method-assign]


async def unfinished(service: Memory, gcs: GcsServer) -> tuple[Upload, list[str]]:
    """A concatenation whose parts are there, and that the store does not compose; and the paths of what it is made of."""
    paths = [await partial(service, DATA[:60]), await partial(service, DATA[60:])]
    gcs.denied.add("ComposeObject")
    assert (await concatenated(service, paths, "film")).status == 503
    gcs.denied.clear()
    upload = await service.parts.ledger.find("alice", "film", "tus")
    assert upload is not None
    return upload, paths


def composed(gcs: GcsServer) -> dict[str, Any]:
    return {key: one for key, one in gcs.buckets["bucket"].items() if key.startswith(".resumable/composed/")}


async def forget(service: Memory) -> None:
    """Let the ledger forget what has ended."""
    await Maintenance(service.parts.ledger._database).forget(ended_before=1e12, most=100)


@pytest.mark.parametrize("ends", ["finished", "cancelled", "forgotten"])
@pytest_twisted.ensureDeferred
async def test_parts_that_land_after_the_end(gcs: GcsServer, ends: str, logged: list[Any]) -> None:
    """While it is alive they stay, however old; then they go, and only the service goes at them whose they are."""
    async with serving(gcs, "ours") as service, serving(gcs, "theirs") as other:
        upload, paths = await unfinished(service, gcs)
        # Another service has an upload with the same key at the same time.
        theirs, _ = await unfinished(other, gcs)
        assert theirs.key == upload.key
        there = composed(gcs)
        assert await cleaned(service) == await cleaned(other) == []
        assert composed(gcs) == there
        if ends == "finished":
            assert (await service.parts.uploads.finish(upload)).finished
            assert gcs.read("alice/film") == DATA
        else:
            for path in (f"/files/{upload.id}", *paths):
                assert (await service.ask("DELETE", path, [TUS])).status == 204
        await service.parts.uploads._deps.background.settle()
        gone = {key: one for key, one in there.items() if key not in composed(gcs)}
        late = {key: one for key, one in gone.items() if "/parts/" in key}
        assert (len(gone), len(late)) == (3, 2)
        assert len(composed(gcs)) == 3
        if ends == "forgotten":
            await forget(service)
            assert await service.parts.ledger.get(upload.id) is None
        gcs.buckets["bucket"] |= late
        assert await cleaned(service, after=3600.0) == await cleaned(other) == []
        assert late.keys() <= composed(gcs).keys()
        assert await cleaned(service) == ["bucket/alice/film"]
        assert composed(gcs).keys() == there.keys() - gone.keys()
        assert await cleaned(service) == []
    logged.clear()  # that the store has refused


@pytest_twisted.ensureDeferred
async def test_a_note_that_nobody_knows(gcs: GcsServer, logged: list[Any]) -> None:
    """Its process died before the ledger knew it. The upload is alive by another one, and stays."""
    async with serving(gcs, "ours") as service:
        upload, _ = await unfinished(service, gcs)
        there = composed(gcs)
        store = service.parts.uploads._store
        await store.init_multipart_upload("bucket", upload.key, ObjectOptions(), joins=True)
        assert len(composed(gcs)) == len(there) + 1
        assert await cleaned(service) == ["bucket/alice/film"]
        assert composed(gcs) == there
        assert (await service.parts.uploads.finish(upload)).finished
        assert gcs.read("alice/film") == DATA
    logged.clear()  # that the store has refused


@pytest_twisted.ensureDeferred
async def test_a_staged_object(gcs: GcsServer, logged: list[Any]) -> None:
    """While it is still to be moved it stays; one that is left goes. What says whose it is does not go along."""
    gcs.smallest_part = 1
    async with serving(gcs, "ours", overwrite=False) as service, serving(gcs, "theirs") as other:
        gcs.denied.add("RewriteObject")
        assert (await service.ask("PUT", "/upload/film", [], DATA)).status == 503
        ((key, staged),) = gcs.buckets["bucket"].items()
        assert (key.startswith(".resumable/staged/"), staged.metadata[LEDGER]) == (True, "ours")
        assert await cleaned(service) == await cleaned(other) == []
        assert list(gcs.buckets["bucket"]) == [key]
        gcs.denied = {"DeleteObject"}
        upload = await service.parts.ledger.find("alice", "film", "put")
        assert upload is not None
        assert (await service.parts.uploads.finish(upload)).finished
        assert list(gcs.buckets["bucket"]) == [key, "alice/film"]
        assert gcs.buckets["bucket"]["alice/film"].metadata == {"resumable-token": upload.token}
        gcs.denied.clear()
        assert await cleaned(service, after=3600.0) == await cleaned(other) == []
        assert key in gcs.buckets["bucket"]
        assert await cleaned(service) == ["bucket/alice/film"]
        assert list(gcs.buckets["bucket"]) == ["alice/film"]
        assert gcs.read("alice/film") == DATA
    logged.clear()  # that the store has refused


@pytest.mark.parametrize("joins", [True, False])
@pytest_twisted.ensureDeferred
async def test_keys_that_are_too_long_to_be_part_of_another(gcs: GcsServer, joins: bool) -> None:
    """A listing tells them all the same, so that an upload that has one is freed, and what is of nobody is found."""
    async with serving(gcs, "ours") as service:
        store = service.parts.uploads._store
        multipart = await store.init_multipart_upload("bucket", LONG, ObjectOptions(), overwrite=False, joins=joins)
        for prefix in ("", "long/", LONG):
            (found,) = await store.list_multipart_uploads("bucket", prefix)
            assert (found.key, found.multipart_id, found.ledger) == (LONG, multipart, "ours")
        assert await store.list_multipart_uploads("bucket", "other/") == []
        assert await cleaned(service, after=3600.0) == []
        await store.upload_part("bucket", LONG, multipart, 1, [DATA])
        gcs.make("bucket", LONG, b"theirs", {}, multipart=False)
        part = next(one for key, one in gcs.buckets["bucket"].items() if "/parts/" in key)
        assert part.metadata.keys() == {KEY, LEDGER}
        await store.abort_multipart_upload("bucket", LONG, multipart)
        assert list(gcs.buckets["bucket"]) == [LONG]
        del gcs.buckets["bucket"][LONG]
        multipart = await store.init_multipart_upload("bucket", LONG, ObjectOptions(), overwrite=False, joins=joins)
        etag = await store.upload_part("bucket", LONG, multipart, 1, [DATA])
        await store.complete_multipart_upload("bucket", LONG, multipart, [PartRef(1, etag)], overwrite=False)
        assert (list(gcs.buckets["bucket"]), gcs.read(LONG)) == ([LONG], DATA)
        assert not gcs.buckets["bucket"][LONG].metadata
        await store.init_multipart_upload("bucket", LONG, ObjectOptions(), overwrite=False, joins=joins)
        assert await cleaned(service) == [f"bucket/{LONG}"]
        assert list(gcs.buckets["bucket"]) == [LONG]


@pytest_twisted.ensureDeferred
async def test_a_part_and_a_group_that_come_late(gcs: GcsServer, store: GcsStore) -> None:
    """They come behind the abort's own listing. The next listing shows them, without a note, with their age."""
    gcs.page = 1
    opened = [await store.init_multipart_upload("bucket", key, ObjectOptions(), joins=True) for key in ("a", "b")]
    composer = store._composer
    words = [one.partition(":")[2] for one in opened]
    notes = [await composer._note("bucket", key, word) for key, word in zip("ab", words, strict=True)]
    etag = await store.upload_part("bucket", "a", opened[0], 1, [DATA])
    listing, usual = composer._resources.list, composer._note

    async def slow(bucket: str, prefix: str) -> Any:
        found = await listing(bucket, prefix)
        composer._resources.list = listing  # type: ignore[method-assign]
        sources = [(composer._part_key(words[0], 1), etag)]
        await composer._group("bucket", words[0], sources, notes[0])
        return found

    composer._resources.list = slow  # type: ignore[method-assign]
    await store.abort_multipart_upload("bucket", "a", opened[0])

    async def looked(*_: Any) -> Any:
        note = await usual("bucket", "b", words[1])
        await store.abort_multipart_upload("bucket", "b", opened[1])
        return note

    composer._note = looked  # type: ignore[method-assign]
    await store.upload_part("bucket", "b", opened[1], 2, [DATA])
    composer._note = usual  # type: ignore[method-assign]
    assert len(composed(gcs)) == 2
    found = await store.list_multipart_uploads("bucket")
    assert [(one.key, one.multipart_id) for one in sorted(found, key=lambda one: one.key)] == list(
        zip("ab", opened, strict=True)
    )
    stored = {int(one.modified) for one in gcs.buckets["bucket"].values()}
    assert {one.initiated for one in found} <= stored
    for one in found:
        await store.abort_multipart_upload("bucket", one.key, one.multipart_id)
    assert gcs.buckets["bucket"] == {}
    await until(lambda: not gcs.multiparts)


@pytest_twisted.ensureDeferred
async def test_what_a_partial_upload_is_made_of_is_no_fragment(gcs: GcsServer) -> None:
    """Its object has the mark of fragments, and so has what it is moved from; that may have to wait for long."""
    async with serving(gcs, "ours") as service:
        store = service.parts.uploads._store
        marked = ObjectOptions(metadata={"resumable-ledger": "ours"})
        for key in (".resumable/staged/word/a", ".resumable/composed/parts/word/1", ".resumable/unknown/0-1.a"):
            await store.put_object("bucket", key, [b"1"], marked)
        await cleaned(service)
        assert sorted(gcs.buckets["bucket"]) == [".resumable/composed/parts/word/1", ".resumable/staged/word/a"]
