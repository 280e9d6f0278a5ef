"""tus's concatenation where two do things at once, or something stops between two steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred
from sqlalchemy import insert, update
from twisted.internet.defer import Deferred

from resumable.ledger.schema import identity, uploads
from resumable.model import Ended, State
from resumable.stores.port import CopiedPart
from resumable.uploads.service import UploadService
from tests.protocols.harness import Memory, until
from tests.protocols.test_tus import V, b64, begin, head, patch, path_of, stored
from tests.protocols.test_tus_concat import (
    PARTS,
    cleaned,
    join,
    limited,
    nothing_left,
    partials,
    prefixed,
    service_of,
    until_state,
    upload_of,
)

FILM = f"Upload-Metadata: filename {b64('film')}"


def another_node(service: Memory) -> UploadService:
    """A service with the same ledger and store, in a process of its own as far as it knows."""
    parts = service.parts
    node = UploadService(parts.uploads._deps, parts.uploads.policy)
    limited(node)
    return node


def held(owner: Any, name: str, which: Callable[..., bool] = lambda *_, **__: True) -> tuple[list[Any], Deferred[None]]:
    """Have a method wait before it does anything. Return the list of calls that have come to it, and what lets them go on."""
    usual, gate = getattr(owner, name), Deferred[None]()
    calls: list[Any] = []

    async def waiting(*arguments: Any, **options: Any) -> Any:
        if which(*arguments, **options):
            calls.append(arguments)
            mine = Deferred[None]()
            gate.addCallback(lambda _: mine.callback(None))
            await mine
        return await usual(*arguments, **options)

    setattr(owner, name, waiting)
    return calls, gate


@ensureDeferred
async def test_finished_elsewhere_while_its_partials_are_looked_up() -> None:
    """The upload is finished, and so its partial ones have ended: that is no reason to say that it can never be made."""
    async with service_of() as service:
        late = await begin(service, "Upload-Concat: partial", length=len(PARTS[1]))
        final = await upload_of(service, path_of(await join(service, [late], FILM)))
        # No news of it comes to the first node.
        service.parts.uploads.concatenations.source_finished = _nothing  # type: ignore[method-assign]
        assert (await patch(service, late, 0, PARTS[1])).status == 204
        node = another_node(service)
        of_partials = service.parts.ledger.partials
        first = []

        async def of(upload: Any, usual: Any = of_partials.of) -> Any:
            if not first:
                first.append(upload)
                assert (await node.concatenations.make(final)).finished
                await until_state(service, late, State.CONCATENATED)
            return await usual(upload)

        of_partials.of = of  # type: ignore[method-assign]
        report = await service.parts.uploads.concatenations.make(final)
        assert report.finished
        assert stored(service, "film") == PARTS[1]


async def _nothing(*_: Any) -> None:
    pass


@ensureDeferred
async def test_the_last_partial_is_finished_while_the_others_are_looked_at() -> None:
    """It is made at once, not when upkeep finds it."""
    async with service_of() as service:
        late = await begin(service, "Upload-Concat: partial", length=len(PARTS[1]))
        final = await upload_of(service, path_of(await join(service, [late], FILM)))
        concatenations = service.parts.uploads.concatenations
        calls, gate = held(concatenations, "_report")
        making = Deferred.fromCoroutine(concatenations.make(final))
        await until(lambda: calls)
        assert (await patch(service, late, 0, PARTS[1])).status == 204
        await service.parts.uploads._deps.background.settle()
        gate.callback(None)
        await making
        await until(lambda: "film" in service.parts.bucket.objects)
        await nothing_left(service)


@ensureDeferred
async def test_freed_of_its_fragments_while_it_is_ended() -> None:
    """Whoever frees a finished partial upload of its fragments does not say that its object is gone."""
    async with service_of() as service:
        ledger = service.parts.ledger
        calls, gate = held(ledger, "freed")
        slow = await begin(service, "Upload-Concat: partial", length=len(PARTS[4]))
        assert (await patch(service, slow, 0, PARTS[4][:37])).status == 204
        assert (await patch(service, slow, 37, PARTS[4][37:])).status == 204
        await until(lambda: calls)
        usual = ledger.partials.end

        async def end(*arguments: Any, **options: Any) -> Any:
            ended = await usual(*arguments, **options)
            gate.callback(None)
            # Time for the other one to write what it has to write.
            for _ in range(5):
                await ledger.get("x")
            return ended

        ledger.partials.end = end  # type: ignore[method-assign]
        assert (await join(service, [slow], FILM)).status == 201
        await until_state(service, slow, State.CONCATENATED)
        await nothing_left(service)


@pytest.mark.parametrize("copies", [True, False])
@pytest.mark.parametrize("there", [True, False])
@ensureDeferred
async def test_another_object_in_the_place_of_a_partial(copies: bool, there: bool) -> None:
    """The final upload fails, and says why; what there was under its key stays."""
    async with service_of(copies=copies) as service:
        paths = await partials(service, [PARTS[0], PARTS[1]])
        key = (await upload_of(service, paths[1])).key
        objects = service.parts.bucket.objects
        objects[key] = (b"x" * 40, {})
        if there:
            objects["film"] = (b"of somebody", {})
        made = await join(service, paths, FILM)
        assert (made.status, "other bytes" in made.body.decode()) == (410, True), made.body
        assert (objects.get("film") == (b"of somebody", {})) is there
        await until(lambda: not service.parts.bucket.multiparts)


@pytest.mark.parametrize("copies", [True, False])
@ensureDeferred
async def test_an_object_of_a_partial_is_gone(copies: bool) -> None:
    async with service_of(copies=copies) as service:
        paths = await partials(service, [PARTS[0], PARTS[1]])
        del service.parts.bucket.objects[(await upload_of(service, paths[1])).key]
        made = await join(service, paths, FILM)
        assert (made.status, "lost bytes" in made.body.decode()) == (410, True), made.body
        await until(lambda: not service.parts.bucket.multiparts)


@pytest.mark.parametrize("odd", ["?\xe9", "?\x00", "#\x7f", "?\x01"])
@ensureDeferred
async def test_odd_characters_in_urls(odd: str) -> None:
    async with service_of() as service:
        paths = await partials(service, [PARTS[0]])
        made = await service.ask("POST", "/files/", [V, f"Upload-Concat: final;{paths[0]}{odd}", FILM])
        if made.status == 201:
            told = await head(service, path_of(made))
            assert told.status == 200
            assert told.header("Upload-Concat") == f"final;{paths[0]}{odd}"
        else:
            assert made.status == 400


@ensureDeferred
async def test_a_final_upload_waits_for_as_long_as_its_partials_go_on() -> None:
    """It is not ended as if nobody had gone on with it."""
    async with service_of() as service:
        late, other = [await begin(service, "Upload-Concat: partial", length=20) for _ in range(2)]
        final = path_of(await join(service, [late, other], FILM))
        with service.parts.ledger._database._engine.begin() as connection:
            connection.execute(insert(identity).values(id="ledger"))
            connection.execute(update(uploads).where(uploads.c.id == final.rpartition("/")[2]).values(updated=1.0))
        assert await cleaned(service, 1000.0) == []
        assert (await patch(service, late, 0, b"x" * 20)).status == 204
        calls, gate = held(service.parts.uploads._store, "upload_part_copy")
        assert (await patch(service, other, 0, b"x" * 20)).status == 204
        await until(lambda: calls)
        assert await cleaned(service, 1000.0) == []
        gate.callback(None)
        await until(lambda: "film" in service.parts.bucket.objects)
        await nothing_left(service)


@ensureDeferred
async def test_nobody_finishes_parts_that_were_not_checked() -> None:
    """HEAD of an upload whose last part was copied a moment ago: the bytes of the parts are compared first."""
    async with service_of() as service:
        uploads_ = service.parts.uploads
        paths = await partials(service, [PARTS[2], PARTS[0]])  # 3 and 25 bytes: a joined part, and a copied span
        usual = uploads_._store.upload_part_copy

        async def other(*arguments: Any, **options: Any) -> CopiedPart:
            copied = await usual(*arguments, **options)
            return evolve(copied, crc32c=7)

        uploads_._store.upload_part_copy = other  # type: ignore[method-assign, assignment]
        calls, gate = held(uploads_.concatenations, "_check")
        wire = service.connect()
        wire.send(
            f"POST /files/ HTTP/1.1\r\nHost: test\r\n{V}\r\nUpload-Concat: final;{' '.join(paths)}\r\n{FILM}\r\n\r\n".encode()
        )
        await until(lambda: calls)
        final = (await service.parts.ledger.partials.waiting_for(paths[0].rpartition("/")[2]))[0]
        asking = Deferred.fromCoroutine(head(service, f"/files/{final.id}"))
        while "film" not in service.parts.bucket.objects and len(service.parts.uploads._finishes._flights) == 0:
            if len(uploads_.concatenations._flights._flights[final.id].waiters) > 2:
                break  # HEAD waits for the check
            await service.parts.ledger.get("x")
        gate.callback(None)
        assert (await asking).status == 410
        assert "film" not in service.parts.bucket.objects
        await until(lambda: b"410" in wire.said)


@ensureDeferred
async def test_asked_for_twice_at_once() -> None:
    """By a client that did not wait for its answer: there is one upload, and both are told of it."""
    async with service_of() as service:
        paths = await partials(service, [PARTS[0], PARTS[1]])
        ledger = service.parts.ledger
        calls, gate = held(ledger.partials, "same")
        asking = [Deferred.fromCoroutine(join(service, paths, FILM)) for _ in range(2)]
        await until(lambda: len(calls) == 2)
        gate.callback(None)
        answers = [await one for one in asking]
        assert [one.status for one in answers] == [201, 201]
        assert len({one.header("Location") for one in answers}) == 1
        await nothing_left(service)


@ensureDeferred
async def test_nothing_is_begun_after_the_end() -> None:
    """A partial upload that is finished while the service stops: another process goes on."""
    async with service_of() as service:
        uploads_ = service.parts.uploads
        late = await begin(service, "Upload-Concat: partial", length=len(PARTS[1]))
        await join(service, [late], FILM)
        await uploads_.concatenations.close()
        assert (await patch(service, late, 0, PARTS[1])).status == 204
        await uploads_._deps.background.settle()
        assert uploads_.concatenations._background.count == 0
        assert "film" not in service.parts.bucket.objects


@ensureDeferred
async def test_termination_while_parts_are_copied() -> None:
    """Neither the final upload nor what was copied for it stays; its partial ones can be used again."""
    async with service_of() as service:
        store = service.parts.uploads._store
        calls, gate = held(store, "upload_part_copy", lambda *arguments, **_: arguments[3] == 2)
        paths = await partials(service, [PARTS[0], PARTS[1]])
        asking = Deferred.fromCoroutine(join(service, paths, FILM))
        await until(lambda: calls)
        (final,) = await service.parts.ledger.partials.waiting_for(paths[0].rpartition("/")[2])
        assert (await service.ask("DELETE", paths[0], [V])).status == 400
        assert (await service.ask("DELETE", f"/files/{final.id}", [V])).status == 204
        gate.callback(None)
        assert (await asking).status == 410
        assert (service.parts.bucket.multiparts, len(prefixed(service))) == ({}, 2)
        assert (await join(service, paths, FILM)).status == 201
        assert stored(service, "film") == PARTS[0] + PARTS[1]
        await nothing_left(service)


@ensureDeferred
async def test_a_client_that_goes_while_others_wait() -> None:
    async with service_of() as service:
        uploads_ = service.parts.uploads
        calls, gate = held(uploads_._store, "upload_part_copy")
        paths = await partials(service, [PARTS[0], PARTS[1]])
        wires = [service.connect() for _ in range(2)]
        said = f"POST /files/ HTTP/1.1\r\nHost: test\r\n{V}\r\nUpload-Concat: final;{' '.join(paths)}\r\n{FILM}\r\n\r\n"
        for wire in wires:
            wire.send(said.encode())
        await until(lambda: calls)
        wires[0].lose()
        gate.callback(None)
        await until(lambda: b"201" in wires[1].said)
        assert stored(service, "film") == PARTS[0] + PARTS[1]
        await nothing_left(service)


@ensureDeferred
async def test_two_nodes_copy_at_once() -> None:
    """One object, from parts that both have made; nothing is left, and both say that it is done or ask to come again."""
    async with service_of() as service:
        node = another_node(service)
        late = await begin(service, "Upload-Concat: partial", length=len(PARTS[1]))
        paths = [*await partials(service, [PARTS[0]]), late]
        final = await upload_of(service, path_of(await join(service, paths, FILM)))
        here = service.parts.uploads.concatenations
        here.source_finished = _nothing  # type: ignore[method-assign]
        assert (await patch(service, late, 0, PARTS[1])).status == 204
        making = [Deferred.fromCoroutine(one.make(final)) for one in (here, node.concatenations)]
        outcomes = [await one.addErrback(lambda failure: failure.value) for one in making]
        assert not any(isinstance(one, Ended) for one in outcomes), outcomes
        assert any(getattr(one, "finished", False) for one in outcomes), outcomes
        assert stored(service, "film") == PARTS[0] + PARTS[1]
        await nothing_left(service)
