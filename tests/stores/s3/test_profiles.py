"""Profiles: which is chosen, what it means, and that uploads are right in the end in a store that has the habit."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred
from sqlalchemy import insert
from twisted.internet import reactor

from resumable.backoff import Backoff
from resumable.commands.bucket import check_profile
from resumable.commands.bucket_probe import Trial
from resumable.ledger.schema import identity
from resumable.model import ObjectOptions
from resumable.settings import SettingsError, StoreSettings, parse_settings
from resumable.settings.schema import STORE_PROFILES
from resumable.stores.port import StoreContext
from resumable.stores.profiles import GENERIC, PROFILES, habits_of
from resumable.stores.s3.advice import S3Advisor
from resumable.stores.s3.client import S3Store
from resumable.stores.s3.making import make_s3
from resumable.upkeep.janitor import Removal
from tests.cleaning import janitor_of
from tests.protocols.harness import Memory, memory_service, until
from tests.protocols.test_tus import V, b64, begin, offset_of, patch
from tests.protocols.test_tus_concat import PARTS, WHOLE, join, partials
from tests.stores.s3.habits import HabitualStore, Strictness
from tests.uploads.wiring import CHUNK

DATA = random.Random(7).randbytes(21 * CHUNK + 5)
STRANGE = Strictness(equal=True, checksums=False, tags=False, copies=False, lists="folders")
#: How strict each store is, as its makers say; where nothing is said, as strict as any.
STORES = {
    "auto": Strictness(),
    "aws": Strictness(),
    "r2": evolve(STRANGE, checksums=True, copies=True, lists="all", region="auto"),
    "b2": Strictness(checksums=False, tags=False),
    "minio": Strictness(lists="key"),
    "ceph": Strictness(),
    "wasabi": Strictness(checksums=False),
    "spaces": Strictness(checksums=False, tags=False),
    "scaleway": Strictness(parts=1000, checksums=False),
    "storj": Strictness(checksums=False, copies=False, lists="folders"),
    "gcs-hmac": Strictness(checksums=False, tags=False, copies=False, region="auto"),
}


def settings_for(profile: str, endpoint: str | None = None, more: str = "") -> StoreSettings:
    where = f"endpoint: '{endpoint}'," if endpoint else ""
    line = f"{{bucket: bucket, {where} profile: {profile}, access_key: k, secret_key: s, patience: 1s{more}}}"
    return parse_settings(f"store: {line}\nauth: open", "app.yaml", {}).store


# Which


@pytest.mark.parametrize(
    ("endpoint", "name", "region"),
    [
        (None, "aws", "us-east-1"),
        ("https://s3.eu-west-1.amazonaws.com", "aws", "us-east-1"),
        ("https://0123.r2.cloudflarestorage.com", "r2", "auto"),
        ("https://0123.eu.r2.cloudflarestorage.com", "r2", "auto"),
        ("https://s3.us-west-004.backblazeb2.com", "b2", "us-west-004"),
        ("https://play.min.io:9000", "minio", "us-east-1"),
        ("https://s3.wasabisys.com", "wasabi", "us-east-1"),
        ("https://S3.eu-central-1.wasabisys.com", "wasabi", "eu-central-1"),
        ("https://fra1.digitaloceanspaces.com", "spaces", "fra1"),
        ("https://s3.fr-par.scw.cloud", "scaleway", "fr-par"),
        ("https://gateway.storjshare.io", "storj", "us-east-1"),
        ("https://storage.googleapis.com", "gcs-hmac", "auto"),
        ("http://127.0.0.1:9000", "auto", "us-east-1"),
        ("https://r2.cloudflarestorage.com.example.org", "auto", "us-east-1"),
        ("https://notmin.io", "auto", "us-east-1"),
    ],
)
def test_chosen_by_the_host(endpoint: str | None, name: str, region: str) -> None:
    habits = habits_of(settings_for("auto", endpoint))
    assert (habits.profile.name, habits.region) == (name, region)


def test_every_profile_can_be_named() -> None:
    """The settings know the names, and the stores the rows."""
    assert (GENERIC.name, *PROFILES) == STORE_PROFILES
    assert set(STORES) == set(STORE_PROFILES)
    for name in PROFILES:
        assert habits_of(settings_for(name, "http://127.0.0.1")).profile.name == name
    with pytest.raises(SettingsError, match=r"store\.profile"):
        settings_for("r3")
    with pytest.raises(SettingsError, match="only with kind: s3"):
        parse_settings("store: {kind: gcs, bucket: b, profile: r2}\nauth: open", "app.yaml", {})


def test_what_is_set_wins() -> None:
    """Whoever runs a newer one, or has asked its makers, knows better."""
    scaleway = "https://s3.fr-par.scw.cloud"
    habits = habits_of(settings_for("auto", scaleway))
    assert (habits.limits.parts, habits.checksum) == (1000, False)
    more = ", max_parts: 1500, checksum: crc32c, region: nl-ams"
    habits = habits_of(settings_for("auto", scaleway, more))
    assert (habits.limits.parts, habits.checksum, habits.region) == (1500, True, "nl-ams")
    assert not habits_of(settings_for("aws", None, ", checksum: none")).checksum


def test_what_check_says_of_it() -> None:
    (found,) = check_profile(settings_for("auto", "https://0123.r2.cloudflarestorage.com"))
    assert found.line == (
        "profile auto: r2: ok (Cloudflare R2; region auto; at most 10000 parts; all but the last of one size; stored bytes are "
        "read back to be joined; CRC32C with each part; no tags; ends multipart uploads after 7 days by itself; has no ACLs)"
    )
    _, tags = check_profile(settings_for("b2", "https://b2.example.com", ", object: {tags: {a: b}}"))
    assert tags.line.startswith("profile b2: failed: object.tags: objects have no tags at Backblaze B2; ")
    _, parts = check_profile(settings_for("scaleway", "https://s.example.com", ", max_parts: 5000"))
    assert parts.line.startswith("profile scaleway: warning: max_parts: Scaleway Object Storage takes 1000 parts, ")


# In a store that has the habit


@asynccontextmanager
async def uploading(name: str, strictness: Strictness, **rules: Any) -> AsyncIterator[tuple[Memory, HabitualStore]]:
    """The service on a store with these habits, which it is told by the profile."""
    server = HabitualStore(strictness)
    store = make_s3(settings_for(name, server.endpoint), StoreContext(reactor))
    quick(store)
    limits = evolve(store.limits, smallest_part=strictness.smallest)
    rules = {"limits": limits, "max_parts": limits.parts, "partial_chunk": 32, **rules}
    try:
        async with memory_service(store=store, **rules) as service:
            database = service.parts.ledger._database
            await database.write(lambda connection: connection.execute(insert(identity).values(id="ledger")) and None)
            yield service, server
    finally:
        await store.close()
        await server.close()


def quick(store: S3Store) -> None:
    store._calls._backoff = Backoff(0.01, 0.02, jitter=(0.0, 1.0), random=random.random)


async def cleaned(service: Memory, *, dry_run: bool = False) -> list[Removal]:
    """Clean up as if a long time had passed."""
    parts = service.parts
    janitor = janitor_of(parts.uploads, parts.ledger._database, after=-2.0)
    return [removal async for removal in janitor.clean(dry_run=dry_run)]


async def nothing_left(server: HabitualStore) -> None:
    await until(lambda: not server.multiparts and not [key for key in server.objects if key.startswith(".resumable/")])


async def in_pieces(service: Memory, path: str, data: bytes, sizes: Sequence[int], *last: str) -> None:
    """Send it as a client does whose connection ends again and again."""
    offset = 0
    for size in (*sizes, len(data)):
        piece = data[offset : offset + size]
        more = last if offset + len(piece) == len(data) else ()
        assert (await patch(service, path, offset, piece, *more)).status == 204
        offset += len(piece)


#: Those whose habits another one has too.
ALIKE = ("aws", "ceph", "wasabi", "spaces")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.soak] if name in ALIKE else []) for name in STORES]
)
@ensureDeferred
async def test_uploads_are_right_in_the_end(name: str) -> None:
    """Of known and of unknown length, broken off, and made of partial ones; and nothing else is left in the store."""
    async with uploading(name, STORES[name]) as (service, server):
        known = await begin(service, f"Upload-Metadata: filename {b64('known')}", length=len(DATA))
        await in_pieces(service, known, DATA, (3, 40, 1, 77, 100))
        unknown = await begin(
            service, f"Upload-Metadata: filename {b64('unknown')}", "Upload-Defer-Length: 1", length=None
        )
        await in_pieces(service, unknown, DATA, (50, 9, 130), f"Upload-Length: {len(DATA)}")
        made = await join(service, await partials(service, PARTS), f"Upload-Metadata: filename {b64('joined')}")
        assert made.status == 201
        found = {key: server.objects[key][0] for key in ("known", "unknown", "joined")}
        assert found == {"known": DATA, "unknown": DATA, "joined": WHOLE}
        await nothing_left(server)
        given_up = await begin(service, f"Upload-Metadata: filename {b64('given up')}", length=len(DATA))
        assert (await patch(service, given_up, 0, DATA[:100])).status == 204
        assert server.multiparts
        await cleaned(service)
        await nothing_left(server)
        assert "given up" not in server.objects


@pytest.mark.parametrize("name", ["auto", "minio", "storj"])
@ensureDeferred
async def test_an_answer_that_was_lost_leaves_nothing(name: str) -> None:
    """A multipart upload was opened that nobody knows of: it is found in the listing, or under the key that was noted."""
    async with uploading(name, STORES[name]) as (service, server):
        path = await begin(service, f"Upload-Metadata: filename {b64('film')}", length=len(DATA))
        server.lost += ["CreateMultipartUpload"] * 20
        assert (await patch(service, path, 0, DATA)).status == 503
        server.lost.clear()
        opened = len(server.multiparts)
        assert opened >= 1
        offset = int(await offset_of(service, path) or 0)
        assert (await patch(service, path, offset, DATA[offset:])).status == 204
        assert server.objects["film"][0] == DATA
        assert len(server.multiparts) == opened
        found = [removal.kind for removal in await cleaned(service, dry_run=True)]
        assert (found, len(server.multiparts)) == (["multipart"] * opened, opened)
        assert [removal.kind for removal in await cleaned(service)] == ["multipart"] * opened
        assert server.multiparts == {}
        assert await cleaned(service) == []


@ensureDeferred
async def test_what_is_in_use_or_of_others_stays() -> None:
    """Under a key that was noted, too: an upload's own multipart upload, and what was begun at another time."""
    async with uploading("minio", STORES["minio"]) as (service, server):
        path = await begin(service, f"Upload-Metadata: filename {b64('film')}", length=len(DATA))
        server.lost += ["CreateMultipartUpload"] * 20
        await patch(service, path, 0, DATA)
        server.lost.clear()
        lost = set(server.multiparts)
        offset = int(await offset_of(service, path) or 0)
        assert (await patch(service, path, offset, DATA[offset : offset + 100])).status == 204
        store = service.parts.uploads._store
        others = await store.init_multipart_upload("bucket", "film", ObjectOptions())
        server.multiparts[others].initiated -= 3600
        mine = set(server.multiparts) - lost - {others}
        upload_id = path.rpartition("/")[2]
        # As upkeep finds it: the upload itself is still young.
        janitor_sees = [removal for removal in await cleaned(service, dry_run=True) if removal.kind == "multipart"]
        assert len(janitor_sees) == len(lost)
        assert (await service.parts.ledger.get(upload_id)).multipart_id in mine  # type: ignore[union-attr]
        await cleaned(service)
        assert set(server.multiparts) == {others}


@ensureDeferred
async def test_a_store_that_lists_nothing_costs_two_commits_and_others_none() -> None:
    """The note is gone as soon as the ledger has the id."""
    for name, notes in (("minio", 2), ("auto", 0)):
        async with uploading(name, STORES[name]) as (service, _):
            written: list[str] = []
            openings = service.parts.ledger.openings
            for verb in ("begin", "forget"):
                usual = getattr(openings, verb)

                def noting(
                    *what: Any, usual: Any = usual, verb: str = verb, to: list[str] = written, **how: Any
                ) -> Any:
                    to.append(verb)
                    return usual(*what, **how)

                setattr(openings, verb, noting)
            path = await begin(service, f"Upload-Metadata: filename {b64('film')}", length=len(DATA))
            assert (await patch(service, path, 0, DATA)).status == 204
            assert written == ["begin", "forget"][:notes]
            assert await openings.old(begun_before=1e12, most=10) == []


@ensureDeferred
async def test_a_listing_of_keys_alone() -> None:
    """Fragments are deleted all the same: with their upload, and those that nobody knows after their time."""
    async with uploading("auto", Strictness(bare=True)) as (service, server):
        path = await begin(service, f"Upload-Metadata: filename {b64('film')}", length=len(DATA))
        assert (await patch(service, path, 0, DATA[:5])).status == 204
        assert [key for key in server.objects if key.startswith(".resumable/")]
        assert (await service.ask("DELETE", path, [V])).status == 204
        await nothing_left(server)
        store = service.parts.uploads._store
        ours, foreign = ".resumable/gone/0-4", ".resumable/foreign/0-4"
        await store.put_object("bucket", ours, [b"12345"], ObjectOptions(metadata={"resumable-ledger": "ledger"}))
        await store.put_object("bucket", foreign, [b"12345"], ObjectOptions(metadata={"resumable-ledger": "another"}))
        assert [removal.what for removal in await cleaned(service)] == [f"bucket/{ours}"]
        assert set(server.objects) == {foreign}


@ensureDeferred
async def test_an_object_of_more_parts_than_the_store_takes() -> None:
    """The parts are made larger where the length is known; else the limit is told before anything is lost."""
    async with uploading("scaleway", evolve(STORES["scaleway"], parts=5), max_parts=5) as (service, server):
        path = await begin(service, f"Upload-Metadata: filename {b64('known')}", length=5 << 20)
        upload = await service.parts.ledger.get(path.rpartition("/")[2])
        assert upload is not None
        assert upload.chunk_size == 1 << 20
        unknown = await begin(service, f"Upload-Metadata: filename {b64('u')}", "Upload-Defer-Length: 1", length=None)
        most = service.parts.uploads.policy.most_bytes(
            await service.parts.uploads.get(unknown.rpartition("/")[2], ""), None
        )
        assert (await patch(service, unknown, 0, bytes(most))).status == 204
        assert (await patch(service, unknown, most, b"x")).status == 413
        assert server.multiparts


# What check finds


@pytest.mark.parametrize(("name", "found"), [("auto", True), ("storj", True), ("minio", None)])
@ensureDeferred
async def test_the_trial_goes_well_with_every_habit(name: str, found: bool | None) -> None:
    server = HabitualStore(STORES[name])
    store = make_s3(settings_for(name, server.endpoint), StoreContext(reactor))
    try:
        trial = Trial(store, S3Advisor(), "bucket", ".resumable/", "check-1", ObjectOptions(), reactor)
        await trial.run()
        assert (trial.denied, trial.left, trial.found_by_prefix) == ({}, None, found)
        assert (server.objects, server.multiparts) == ({}, {})
    finally:
        await store.close()
        await server.close()


@ensureDeferred
async def test_minio_is_told_by_its_listing() -> None:
    """Nobody has named it, and its host says nothing: the listing does not find what is there."""
    server = HabitualStore(STORES["minio"])
    store = make_s3(settings_for("auto", server.endpoint), StoreContext(reactor))
    try:
        trial = Trial(store, S3Advisor(), "bucket", ".resumable/", "check-1", ObjectOptions(), reactor)
        await trial.run()
        assert trial.found_by_prefix is False
        assert (server.objects, server.multiparts) == ({}, {})
    finally:
        await store.close()
        await server.close()
