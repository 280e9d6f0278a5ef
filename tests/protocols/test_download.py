"""GET of a finished upload (``download: redirect``): who is shown the way to an object, and to which."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pytest_twisted import ensureDeferred

from resumable.model import State
from resumable.protocols.access import ELSEWHERE
from resumable.protocols.registry import PROTOCOLS, make_protocols
from resumable.protocols.results import Results
from resumable.uploads.policy import CreateRequest
from resumable.web.router import Router
from tests.protocols.harness import Door, Memory, memory_service, until
from tests.protocols.test_tus import DATA, V, b64, begin, patch

NAME = f"Upload-Metadata: filename {b64('film.mp4')}"


@asynccontextmanager
async def serving(door: Door | None = None) -> AsyncIterator[Memory]:
    """A service with downloads."""
    door = door or Door()
    async with memory_service(door) as service:
        names = [name for name, _ in PROTOCOLS]
        protocols = make_protocols(names, service.parts.uploads, door, Results(), downloads=True)
        service.router = Router(protocols, {})
        yield service


async def finished(service: Memory, *headers: str) -> str:
    path = await begin(service, *(headers or (NAME,)))
    assert (await patch(service, path, 0, DATA)).status == 204
    return path


@pytest.mark.parametrize("headers", [[], [V], ["Tus-Resumable: 0.1"], ["Range: bytes=0-5"]])
@ensureDeferred
async def test_the_way_to_the_object(headers: list[str]) -> None:
    """No tus client is needed to read: the version is not asked for. No cache keeps the permission."""
    door = Door(owner="alice")
    async with serving(door) as service:
        path = await finished(service)
        door.asked.clear()
        answer = await service.ask("GET", path, headers)
        assert (answer.status, answer.header("Location")) == (303, "memory:///bucket/alice/film.mp4?seconds=300")
        assert answer.header("Cache-Control") == "no-store"
        (asked,) = door.asked
        assert (asked.action, asked.protocol, asked.upload_id) == ("download", "tus", path.rpartition("/")[2])
        head = await service.ask("HEAD", path, [V])
        assert (head.status, head.header("Upload-Offset"), head.header("Location")) == (200, str(len(DATA)), None)


@ensureDeferred
async def test_off() -> None:
    """As if there were nothing to read; the application is not asked."""
    door = Door()
    async with memory_service(door) as service:
        path = await finished(service)
        door.asked.clear()
        answer = await service.ask("GET", path)
        assert (answer.status, answer.header("Location"), door.asked) == (404, None, [])


@ensureDeferred
async def test_who_may_not() -> None:
    """The application's no is passed on; another owner's upload is not there."""
    door = Door(owner="alice", refused=("download",))
    async with serving(door) as service:
        path = await finished(service)
        refused = await service.ask("GET", path)
        assert (refused.status, refused.body, refused.header("Location")) == (403, b"not you", None)
        door.refused, door.owner = (), "mallory"
        assert (await service.ask("GET", path)).status == 404
        assert (await service.ask("GET", "/files/none")).status == 404


@ensureDeferred
async def test_what_is_not_finished() -> None:
    async with serving() as service:
        path = await begin(service, NAME)
        await patch(service, path, 0, DATA[:50])
        answer = await service.ask("GET", path)
        assert (answer.status, answer.header("Location")) == (404, None)
        assert b"not finished" in answer.body
        await service.ask("DELETE", path, [V])
        assert (await service.ask("GET", path)).status == 410


@ensureDeferred
async def test_what_its_client_has_let_go_of() -> None:
    async with serving() as service:
        path = await finished(service)
        assert (await service.ask("DELETE", path, [V])).status == 204
        assert (await service.ask("GET", path)).status == 410


@pytest.mark.parametrize("begun", [*ELSEWHERE, "a protocol of tomorrow"])
@ensureDeferred
async def test_whatever_it_was_begun_with(begun: str) -> None:
    """The owner may read what has become of it."""
    async with serving() as service:
        upload = await service.parts.uploads.create(CreateRequest(begun, "n", length=0))
        service.parts.bucket.objects[upload.key] = (b"", {"resumable-token": upload.token})
        await service.parts.ledger.move(upload, State.FINISHED, frm=(State.OPEN,), updated=upload.updated, etag="e")
        assert (await service.ask("GET", f"/files/{upload.id}")).status == 303


@pytest.mark.parametrize("there", [None, (b"another", {}), (DATA, {"resumable-token": "another"})])
@ensureDeferred
async def test_an_object_that_is_not_the_uploads_own_any_more(there: Any) -> None:
    """It was deleted, or another has taken its place, perhaps another owner's: that is nobody's to be shown."""
    async with serving() as service:
        path = await finished(service)
        if there is None:
            del service.parts.bucket.objects["film.mp4"]
        else:
            service.parts.bucket.objects["film.mp4"] = there
        answer = await service.ask("GET", path)
        assert (answer.status, answer.header("Location")) == (404, None)


@ensureDeferred
async def test_another_owners_object_under_the_same_key() -> None:
    """Where keys have no owner, a later upload replaces the object, and the former owner is not shown the new one."""
    door = Door(owner="alice", key="shared")
    async with serving(door) as service:
        hers = await finished(service)
        door.owner = "bob"
        his = await finished(service)
        assert (await service.ask("GET", his)).status == 303
        door.owner = "alice"
        assert (await service.ask("GET", hers)).status == 404


@pytest.mark.parametrize("call", ["head_object", "presigned_get"])
@ensureDeferred
async def test_the_store_in_trouble(call: str) -> None:
    async with serving() as service:
        path = await finished(service)
        service.parts.uploads._store.trouble.append((call, "before"))  # type: ignore[attr-defined]
        answer = await service.ask("GET", path)
        assert (answer.status, answer.header("Retry-After")) == (503, "5")
        await until(lambda: not service.parts.uploads._store.trouble)  # type: ignore[attr-defined]
        assert (await service.ask("GET", path)).status == 303


@ensureDeferred
async def test_an_empty_object() -> None:
    async with serving() as service:
        path = await begin(service, NAME, length=0)
        assert (await service.ask("GET", path)).status == 303
