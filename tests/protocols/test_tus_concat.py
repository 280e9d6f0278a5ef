"""tus's concatenation: uploads that are made of partial ones, and what becomes of those."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred
from sqlalchemy import insert, update
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from resumable.ledger.maintenance import Maintenance
from resumable.ledger.schema import identity, uploads
from resumable.model import Invalid, State, Upload
from resumable.protocols.tus.concat import read_concat
from resumable.stores.port import StoreLimits
from resumable.upkeep.recovery import CompletionRecovery
from resumable.uploads.service import UploadService
from tests.cleaning import janitor_of
from tests.protocols.harness import Answer, Door, Memory, memory_service, until
from tests.protocols.test_tus import BYTES, V, b64, begin, create, head, patch, path_of, stored
from tests.uploads.wiring import CHUNK

SMALLEST = 10
PARTS = [random.Random(n).randbytes(size) for n, size in enumerate([25, 40, 3, 4, 100, 30])]
WHOLE = b"".join(PARTS)


@asynccontextmanager
async def service_of(door: Door | None = None, *, copies: bool = True) -> AsyncIterator[Memory]:
    """A service whose store has parts of ten bytes at least."""
    async with memory_service(door) as service:
        bucket = service.parts.bucket
        bucket.copies, bucket.smallest = copies, SMALLEST if copies else None
        limited(service.parts.uploads)
        yield service


def limited(uploads: UploadService) -> None:
    policy = evolve(uploads.policy, limits=StoreLimits(smallest_part=SMALLEST), partial_chunk=32)
    uploads.policy = uploads.concatenations._policy = policy


async def partials(service: Memory, datas: list[bytes]) -> list[str]:
    paths = []
    for data in datas:
        path = await begin(service, "Upload-Concat: partial", length=len(data))
        if data:
            assert (await patch(service, path, 0, data)).status == 204
        paths.append(path)
    return paths


async def join(service: Memory, paths: list[str], *headers: str) -> Answer:
    return await service.ask("POST", "/files/", [V, f"Upload-Concat: final;{' '.join(paths)}", *headers])


def prefixed(service: Memory) -> list[str]:
    """The keys of what is under the service's own prefix."""
    return [key for key in service.parts.bucket.objects if key.startswith(".resumable/")]


async def nothing_left(service: Memory) -> None:
    await until(lambda: not prefixed(service) and not service.parts.bucket.multiparts)


async def upload_of(service: Memory, path: str) -> Upload:
    found = await service.parts.ledger.get(path.rpartition("/")[2])
    assert isinstance(found, Upload)
    return found


@pytest.mark.parametrize("copies", [True, False])
@ensureDeferred
async def test_one_of_many(copies: bool) -> None:
    """Partials of any size, one in two requests: the object is their bytes, and they are gone from the store."""
    async with service_of(copies=copies) as service:
        paths = await partials(service, PARTS[:4])
        slow = await begin(service, "Upload-Concat: partial", length=len(PARTS[4]))
        assert (await patch(service, slow, 0, PARTS[4][:37])).status == 204
        assert (await patch(service, slow, 37, PARTS[4][37:])).status == 204
        paths += [slow, *await partials(service, [b"", PARTS[5]])]
        assert len(prefixed(service)) == 7
        made = await join(service, paths, f"Upload-Metadata: filename {b64('film')},k {b64('v')}")
        assert made.status == 201
        assert made.header("Upload-Offset") == str(len(WHOLE))
        assert stored(service, "film") == WHOLE
        assert service.parts.bucket.objects["film"][1]["k"] == "v"
        await nothing_left(service)
        final = path_of(made)
        told = await head(service, final)
        assert (told.status, told.header("Upload-Offset"), told.header("Upload-Length")) == (200, "202", "202")
        assert told.header("Upload-Concat") == f"final;{' '.join(paths)}"
        assert (await upload_of(service, final)).crc32c is not None
        for path in paths:
            told = await head(service, path)
            assert (told.status, told.header("Upload-Concat")) == (200, "partial")
            assert told.header("Upload-Offset") == told.header("Upload-Length")
            await until_state(service, path, State.CONCATENATED)


async def until_state(service: Memory, path: str, state: State) -> None:
    for _ in range(500):
        if (await upload_of(service, path)).state is state:
            return
    raise AssertionError(f"{path} does not become {state}")


@ensureDeferred
async def test_few_requests() -> None:
    """One request for each partial upload, one for each copy, and three."""
    async with service_of() as service:
        bucket = service.parts.bucket
        paths = await partials(service, [PARTS[0]] * 4)
        await join(service, paths)
        await nothing_left(service)
        calls = ["put_object"] * 4 + ["init_multipart_upload"] + ["upload_part_copy"] * 4
        assert bucket.calls == [*calls, "complete_multipart_upload", "delete_objects"]


@ensureDeferred
async def test_small_ones_make_an_object_in_one_request() -> None:
    async with service_of() as service:
        paths = await partials(service, [b"abc", b"def"])
        made = await join(service, paths)
        assert stored(service, path_of(made).rpartition("/")[2]) == b"abcdef"
        assert not {"init_multipart_upload", "upload_part_copy"} & set(service.parts.bucket.calls)


@ensureDeferred
async def test_nothing_of_nothing() -> None:
    async with service_of() as service:
        made = await join(service, await partials(service, [b"", b""]), f"Upload-Metadata: filename {b64('empty')}")
        assert (made.status, stored(service, "empty")) == (201, b"")
        await nothing_left(service)


@ensureDeferred
async def test_one_that_comes_twice() -> None:
    async with service_of() as service:
        (path,) = await partials(service, [PARTS[0]])
        await join(service, [path, path], f"Upload-Metadata: filename {b64('twice')}")
        assert stored(service, "twice") == PARTS[0] * 2
        await nothing_left(service)


@pytest.mark.parametrize("copies", [True, False])
@ensureDeferred
async def test_before_all_is_there(copies: bool) -> None:
    """The final upload comes first; it is made when the last partial one is finished."""
    async with service_of(copies=copies) as service:
        paths = await partials(service, [PARTS[0]])
        late = await begin(service, "Upload-Concat: partial", length=len(PARTS[1]))
        made = await join(service, [*paths, late], f"Upload-Metadata: filename {b64('film')}")
        final = path_of(made)
        assert made.status == 201
        told = await head(service, final)
        assert (told.header("Upload-Offset"), told.header("Upload-Length")) == ("0", "65")
        assert (await patch(service, late, 0, PARTS[1])).status == 204
        await until(lambda: "film" in service.parts.bucket.objects)
        assert stored(service, "film") == PARTS[0] + PARTS[1]
        await nothing_left(service)


@ensureDeferred
async def test_a_length_that_is_said_later() -> None:
    async with service_of() as service:
        late = await begin(service, "Upload-Concat: partial", "Upload-Defer-Length: 1", length=None)
        made = await join(
            service, [late, *await partials(service, [PARTS[0]])], f"Upload-Metadata: filename {b64('f')}"
        )
        told = await head(service, path_of(made))
        assert (told.header("Upload-Length"), told.header("Upload-Defer-Length")) == (None, "1")
        assert (await patch(service, late, 0, b"12345678901", "Upload-Length: 11")).status == 204
        await until(lambda: "f" in service.parts.bucket.objects)
        assert stored(service, "f") == b"12345678901" + PARTS[0]


@ensureDeferred
async def test_the_answer_was_lost() -> None:
    """Who asks for the same once more gets the same upload, while it is made and after."""
    async with service_of() as service:
        paths = await partials(service, [PARTS[0], PARTS[1]])
        first = await join(service, paths)
        await nothing_left(service)
        again = await join(service, paths)
        assert (again.status, again.header("Location")) == (201, first.header("Location"))
        other = await join(service, paths, f"Upload-Metadata: filename {b64('another')}")
        assert other.status == 400
        assert b"part of another upload already" in other.body


@pytest.mark.parametrize("call", ["upload_part_copy", "init_multipart_upload", "complete_multipart_upload"])
@ensureDeferred
async def test_trouble_on_the_way(call: str) -> None:
    """503; what was copied is not copied again, and the client that asks once more gets its object."""
    async with service_of() as service:
        paths = await partials(service, [PARTS[0], PARTS[1]])
        service.parts.uploads._store.trouble.append((call, "before"))  # type: ignore[attr-defined]
        refused = await join(service, paths, f"Upload-Metadata: filename {b64('film')}")
        assert (refused.status, refused.header("Retry-After")) == (503, "5")
        made = await join(service, paths, f"Upload-Metadata: filename {b64('film')}")
        assert (made.status, stored(service, "film")) == (201, PARTS[0] + PARTS[1])
        await nothing_left(service)


@ensureDeferred
async def test_other_bytes_are_read_back() -> None:
    """Damaged on the way from the store, or in it: no object is made of them."""
    async with service_of(copies=False) as service:
        paths = await partials(service, [PARTS[0], PARTS[1]])
        store = service.parts.uploads._store
        usual = store.get_object

        async def damaged(*arguments: Any, **options: Any) -> list[bytes]:
            (data,) = await usual(*arguments, **options)
            return [bytes([data[0] ^ 1]), data[1:]]

        store.get_object = damaged  # type: ignore[method-assign]
        refused = await join(service, paths, f"Upload-Metadata: filename {b64('film')}")
        assert refused.status == 410
        assert "film" not in service.parts.bucket.objects
        await until(lambda: not service.parts.bucket.multiparts)


@ensureDeferred
async def test_a_store_that_does_not_know_ranges() -> None:
    """It copies all of a source, and tells no checksum."""
    async with service_of() as service:
        paths = await partials(service, [b"abc", PARTS[1], PARTS[0]])
        store = service.parts.uploads._store
        usual = store.upload_part_copy

        async def whole(*arguments: Any, span: object = None, **options: Any) -> Any:
            return await usual(*arguments, **options)

        store.upload_part_copy = whole  # type: ignore[method-assign, assignment]
        refused = await join(service, paths, f"Upload-Metadata: filename {b64('film')}")
        assert refused.status == 410
        assert "film" not in service.parts.bucket.objects


@ensureDeferred
async def test_the_process_dies_on_the_way() -> None:
    """Upkeep takes up what was begun."""
    async with service_of() as service:
        paths = await partials(service, [PARTS[0], PARTS[1], PARTS[5]])
        service.parts.uploads._store.trouble += [("upload_part_copy", "before")]  # type: ignore[attr-defined]
        assert (await join(service, paths, f"Upload-Metadata: filename {b64('film')}")).status == 503
        parts = service.parts
        following = UploadService(parts.uploads._deps, parts.uploads.policy)
        maintenance = Maintenance(parts.ledger._database)
        recovery = CompletionRecovery(following, maintenance, reactor, give_up_after=60)  # type: ignore[arg-type]
        await recovery.round(idle=-1)
        await until(lambda: "film" in parts.bucket.objects)
        assert stored(service, "film") == PARTS[0] + PARTS[1] + PARTS[5]


@ensureDeferred
async def test_a_store_that_turns_out_not_to_copy() -> None:
    """Parts of other sizes are there already, of the time when it could: they do not get into the object."""
    async with service_of() as service:
        paths = await partials(service, [PARTS[0], PARTS[1], PARTS[5]])
        store = service.parts.uploads._store
        usual = store.upload_part_copy

        async def once(*arguments: object, **options: object) -> object:
            service.parts.bucket.copies, service.parts.bucket.smallest = False, None
            store.upload_part_copy = usual  # type: ignore[method-assign]
            service.parts.bucket.copies = True
            copied = await usual(*arguments, **options)  # type: ignore[arg-type]
            service.parts.bucket.copies = False
            return copied

        store.upload_part_copy = once  # type: ignore[method-assign, assignment]
        made = await join(service, paths, f"Upload-Metadata: filename {b64('film')}")
        assert (made.status, stored(service, "film")) == (201, PARTS[0] + PARTS[1] + PARTS[5])
        await nothing_left(service)


@ensureDeferred
async def test_more_than_a_client_waits_for() -> None:
    """201 without the object; it is made all the same, and HEAD tells how far that is."""
    async with service_of() as service:
        uploads = service.parts.uploads
        uploads.policy = uploads.concatenations._policy = evolve(uploads.policy, answer_within=0.05)
        paths = await partials(service, [PARTS[0], PARTS[1]])
        waiting, usual = [], uploads._store.upload_part_copy

        async def slowly(*arguments: object, **options: object) -> object:
            if arguments[3] == 2:
                waiting.append(gate := Gate())
                await gate.opened
            return await usual(*arguments, **options)  # type: ignore[arg-type]

        uploads._store.upload_part_copy = slowly  # type: ignore[method-assign, assignment]
        made = await join(service, paths, f"Upload-Metadata: filename {b64('film')}")
        assert (made.status, made.header("Upload-Offset")) == (201, "25")
        told = await head(service, path_of(made))
        assert (told.header("Upload-Offset"), told.header("Upload-Length")) == ("25", "65")
        waiting[0].open()
        await until(lambda: "film" in service.parts.bucket.objects)
        assert stored(service, "film") == PARTS[0] + PARTS[1]
        assert len(waiting) == 1


class Gate:
    def __init__(self) -> None:
        self.opened: Deferred[None] = Deferred()

    def open(self) -> None:
        self.opened.callback(None)


@ensureDeferred
async def test_nothing_is_written_into_a_final_upload() -> None:
    async with service_of() as service:
        late = await begin(service, "Upload-Concat: partial", length=20)
        open_one = path_of(await join(service, [late]))
        done = path_of(await join(service, await partials(service, [b"abc"])))
        for path, offset in ((open_one, 0), (done, 3), (done, 0)):
            assert (await patch(service, path, offset, b"x")).status == 403
            answer = await service.ask(
                "PUT", f"/uploads/{path.rpartition('/')[2]}", ["Content-Range: bytes 0-0/20"], b"x"
            )
            assert answer.status in (403, 409)
        assert (await upload_of(service, open_one)).state is State.OPEN


@ensureDeferred
async def test_termination() -> None:
    """A finished partial upload leaves nothing; one that is needed stays; a final upload ends alone."""
    async with service_of() as service:
        one, two = await partials(service, [PARTS[0], PARTS[1]])
        late = await begin(service, "Upload-Concat: partial", length=20)
        assert (await service.ask("DELETE", one, [V])).status == 204
        assert (await head(service, one)).status == 410
        assert len(prefixed(service)) == 1
        final = path_of(await join(service, [two, late]))
        assert (await service.ask("DELETE", two, [V])).status == 400
        assert (await service.ask("DELETE", final, [V])).status == 204
        assert (await head(service, two)).status == 200
        assert (await join(service, [one, two])).status == 400
        made = await join(service, [two], f"Upload-Metadata: filename {b64('film')}")
        assert (made.status, stored(service, "film")) == (201, PARTS[1])
        assert (await service.ask("DELETE", late, [V])).status == 204
        await nothing_left(service)


@ensureDeferred
async def test_a_partial_that_ends_before_it_is_whole() -> None:
    """The final upload that has waited for it can never be made, and says so."""
    async with service_of() as service:
        late, other = [await begin(service, "Upload-Concat: partial", length=20) for _ in range(2)]
        final = path_of(await join(service, [late, other]))
        assert (await service.ask("DELETE", late, [V])).status == 204
        assert (await patch(service, other, 0, b"x" * 20)).status == 204
        await until_state(service, final, State.FAILED)
        assert (await head(service, final)).status == 410


@ensureDeferred
async def test_whose_they_are() -> None:
    door = Door("alice")
    async with service_of(door) as service:
        paths = await partials(service, [b"abc"])
        door.owner = "bob"
        assert (await join(service, paths)).status == 400
        door.owner, door.refused = "alice", ["create"]
        assert (await join(service, paths)).status == 403
        door.refused = []
        assert (await join(service, paths)).status == 201


@ensureDeferred
async def test_together_too_long() -> None:
    door = Door(max_size=50)
    async with service_of(door) as service:
        paths = await partials(service, [PARTS[0], PARTS[1]])
        refused = await join(service, paths)
        assert (refused.status, len(prefixed(service))) == (413, 2)
        late = await begin(service, "Upload-Concat: partial", "Upload-Defer-Length: 1", length=None)
        assert (await join(service, [late])).status == 400


@pytest.mark.parametrize(
    "said",
    ["", "Partial", "final", "final;", "final; ", "final;/files/", "final;/other/x", "final;http://[/files/x", "final;/files/ü",
     "partial;x", "final;/files/a/b", "final;/files/" + "x" * 80],
)  # fmt: skip
@ensureDeferred
async def test_what_cannot_be_read(said: str) -> None:
    async with service_of() as service:
        answer = await service.ask("POST", "/files/", [V, "Upload-Length: 5", f"Upload-Concat: {said}"])
        assert answer.status == 400
        answer = await service.ask("POST", "/files/", [V, f"Upload-Concat: {said}"])
        assert answer.status == 400
        assert await service.parts.uploads._ledger.partials.waiting_for("x") == []


@ensureDeferred
async def test_what_does_not_belong_to_it() -> None:
    async with service_of() as service:
        plain = await begin(service, length=5)
        assert (await join(service, [plain])).status == 400
        assert (await join(service, ["/files/unknown"])).status == 400
        paths = await partials(service, [b"abc"])
        assert (await join(service, paths, "Upload-Length: 3")).status == 400
        answer = await service.ask("POST", "/files/", [V, BYTES, f"Upload-Concat: final;{paths[0]}"], b"abc")
        assert answer.status == 400
        many = ["/files/" + "x" * 60] * 100
        assert (await join(service, many)).status == 400


def test_urls() -> None:
    said = read_concat([b"final;/files/a http://up.test:8/prefix/files/b-_ https://x/files/c?x=1"], "/files/")
    assert said is not None
    assert said.sources == ("a", "b-_", "c")
    assert not said.partial
    with pytest.raises(Invalid):
        read_concat([b"final;b"], "/files/")


@ensureDeferred
async def test_how_it_looks() -> None:
    """In the JSON that everybody may see."""
    async with service_of() as service:
        paths = await partials(service, [b"abc"])
        final = path_of(await join(service, paths))
        shown = (await service.ask("GET", f"/uploads/{final.rpartition('/')[2]}")).json
        assert (shown["concat"], shown["partial_uploads"]) == ("final", [paths[0].rpartition("/")[2]])
        shown = (await service.ask("GET", f"/uploads/{paths[0].rpartition('/')[2]}")).json
        assert shown["concat"] == "partial"
        assert len(WHOLE) > CHUNK
        assert (await create(service, "Upload-Concat: partial", length=5)).status == 201


async def cleaned(service: Memory, after: float) -> list[str]:
    janitor = janitor_of(service.parts.uploads, service.parts.ledger._database, after=after)
    return [removal.kind async for removal in janitor.clean()]


@ensureDeferred
async def test_what_nobody_asks_for() -> None:
    """Finished partial uploads stay for as long as any upload that nobody goes on with, and longer if they are waited for."""
    async with service_of() as service:
        unused, used = await partials(service, [PARTS[0], PARTS[1]])
        late = await begin(service, "Upload-Concat: partial", length=3)
        final = path_of(await join(service, [used, late], f"Upload-Metadata: filename {b64('film')}"))
        with service.parts.ledger._database._engine.begin() as connection:
            connection.execute(insert(identity).values(id="ledger"))
        assert await cleaned(service, 1000.0) == []
        keep(service, late, final)
        assert len(prefixed(service)) == 2
        assert await cleaned(service, -1000.0) == ["upload"]
        assert (await upload_of(service, unused)).state is State.EXPIRED
        assert prefixed(service) == [(await upload_of(service, used)).key]
        assert (await patch(service, late, 0, b"abc")).status == 204
        await until(lambda: "film" in service.parts.bucket.objects)
        await nothing_left(service)
        assert stored(service, "film") == PARTS[1] + b"abc"


def keep(service: Memory, *paths: str) -> None:
    """Somebody has just been there."""
    ids = [path.rpartition("/")[2] for path in paths]
    with service.parts.ledger._database._engine.begin() as connection:
        connection.execute(update(uploads).where(uploads.c.id.in_(ids)).values(updated=1e12))
