"""Progress of real uploads: through the protocols, on a store and a ledger in memory, and to a real receiver."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.task import Clock, deferLater

from resumable.callbacks.formats import HookResult
from resumable.callbacks.progress import ProgressTeller
from resumable.callbacks.webhooks import Webhooks
from resumable.model import PROGRESS, State, Upload
from resumable.uploads.events import SENT_METADATA
from tests.callbacks.test_progress import Application
from tests.protocols.harness import Answer, Memory, memory_service, parse_answers, until
from tests.receiver import SECRET, Heard, Receiver
from tests.web.wire import Wire

R: Any = reactor
DATA = bytes(range(200))  # thirteen chunks of the grid in memory, the last one short
TUS = "Tus-Resumable: 1.0.0"
METADATA = "filename YS5tcDQ=,project_id MQ=="
BYTES = "Content-Type: application/offset+octet-stream"


@asynccontextmanager
async def watched(webhooks: Any) -> AsyncIterator[tuple[Memory, ProgressTeller]]:
    """A service in memory whose uploads are told of. For what tells of them no time passes: of each they tell once."""
    teller = ProgressTeller(webhooks, Clock())
    async with memory_service() as service:
        service.parts.uploads._progress = teller
        try:
            yield service, teller
        finally:
            await teller.stop()


async def begin(service: Memory) -> str:
    headers = [TUS, f"Upload-Length: {len(DATA)}", f"Upload-Metadata: {METADATA}"]
    made = await service.ask("POST", "/files/", headers, b"")
    return (made.header("Location") or "").removeprefix("http://test")


async def patch(service: Memory, path: str, first: int, end: int) -> Answer:
    return await service.ask("PATCH", path, [TUS, BYTES, f"Upload-Offset: {first}"], DATA[first:end])


async def of(service: Memory, path: str) -> Upload:
    upload = await service.parts.ledger.get(path.rpartition("/")[2])
    assert upload is not None
    return upload  # type: ignore[no-any-return]


async def quietly(service: Memory) -> None:
    """Do what the clock does in the running service: a silent client has what it brought stored."""
    await service.parts.uploads.writing.checkpoint()
    await deferLater(R, 0.01)


@ensureDeferred
async def test_an_upload_of_tus() -> None:
    """What is acknowledged is told as it comes; when the upload is finished there is no more to tell."""
    app = Application()
    async with watched(app) as (service, teller):
        path = await begin(service)
        assert app.told == []
        assert (await patch(service, path, 0, 40)).status == 204
        told = app.told[0]
        assert 0 < told.data["offset"] <= 40
        assert (told.type, told.data["state"], told.data["name"]) == (PROGRESS, "open", "a.mp4")
        assert told.data[SENT_METADATA] == METADATA
        assert (await patch(service, path, 40, len(DATA))).status == 204
        assert (await of(service, path)).state is State.FINISHED
        assert not teller._watched
        assert app.told == [told]


@ensureDeferred
async def test_uploads_of_other_protocols() -> None:
    app = Application()
    async with watched(app) as (service, teller):
        said = await service.ask("PUT", "/upload/a.bin", ["Content-Range: bytes 0-39/200"], DATA[:40])
        assert said.status == 308
        assert [(event.data["protocol"], event.data["name"]) for event in app.told] == [("put", "a.bin")]
        assert (await service.ask("DELETE", "/upload/a.bin")).status == 204
        assert not teller._watched


@ensureDeferred
async def test_a_small_upload_costs_nothing() -> None:
    """One that is finished by its first piece was never on its way."""
    app = Application()
    async with watched(app) as (service, teller):
        assert (await service.ask("PUT", "/upload/a.bin", [], DATA[:9])).status == 200
        assert app.told == []
        assert not teller._watched


async def silent_after_more_than_was_told(service: Memory, app: Application, path: str) -> Wire:
    """A client in the middle of its body. More is acknowledged than the application was told of."""
    wire = service.connect()
    lines = ["Host: test", TUS, BYTES, "Upload-Offset: 0", f"Content-Length: {len(DATA)}"]
    wire.send("\r\n".join([f"PATCH {path} HTTP/1.1", *lines, "", ""]).encode())
    await until(lambda: wire.channel.requests and not wire.paused)
    wire.send(DATA[:20])
    while not app.told:
        await quietly(service)
    wire.send(DATA[20:150])
    while (await service.parts.uploads.report(await of(service, path))).offset <= app.offsets[0]:
        await quietly(service)
    return wire


@ensureDeferred
async def test_an_upload_that_another_node_ends() -> None:
    """Its body ends here, and what was not told until then is not told any more."""
    app = Application()
    app.answer = None
    async with watched(app) as (service, teller):
        path = await begin(service)
        wire = await silent_after_more_than_was_told(service, app, path)
        service.parts.uploads.writing.ended(path.rpartition("/")[2], State.CANCELLED)
        await until(lambda: parse_answers(wire.said, ["PATCH"]))
        app.waiting.pop().callback(HookResult(True))
        teller._clock.advance(1)
        assert len(app.told) == 1


@ensureDeferred
async def test_a_hook_that_stops_the_upload() -> None:
    """Its client is told why at once, and whenever it asks; nothing of it is left, and nothing is told after that."""
    app = Application()
    app.answer = None
    async with watched(app) as (service, teller):
        path = await begin(service)
        wire = await silent_after_more_than_was_told(service, app, path)
        app.waiting.pop().callback(HookResult(True, stop="the project is gone"))
        await until(lambda: parse_answers(wire.said, ["PATCH"]))
        (said,) = parse_answers(wire.said, ["PATCH"])
        assert (said.status, said.body) == (410, b"the project is gone\n")
        upload = await of(service, path)
        assert (upload.state, upload.reason) == (State.CANCELLED, "the project is gone")
        asked = await service.ask("HEAD", path, [TUS])
        assert asked.status == 410
        await until(lambda: not service.parts.bucket.multiparts)
        assert service.parts.bucket.objects == {}
        assert len(app.told) == 1
        assert not teller._watched


@ensureDeferred
async def test_a_stop_that_comes_too_late() -> None:
    """The upload is finished: it stays so."""
    app = Application()
    app.answer = None
    async with watched(app) as (service, _):
        path = await begin(service)
        await patch(service, path, 0, 40)
        await patch(service, path, 40, len(DATA))
        app.waiting.pop().callback(HookResult(True, stop="too late"))
        await service.parts.uploads.close(5.0)
        assert (await of(service, path)).state is State.FINISHED
        assert (await service.ask("HEAD", path, [TUS])).status == 200


@ensureDeferred
async def test_where_nobody_wants_to_hear() -> None:
    """The protocol's observer is called by nobody in between."""
    async with memory_service() as service:
        heard: list[int] = []
        assert service.parts.uploads._observing(None, heard.append) == heard.append  # type: ignore[arg-type]
        assert service.parts.uploads._observing(None, None) is None  # type: ignore[arg-type]


@ensureDeferred
async def test_a_receiver_that_does_not_answer() -> None:
    """No upload waits for it. What it is sent is signed, and comes over a real socket."""
    release = threading.Event()
    with Receiver() as receiver:

        def hold(heard: Heard) -> tuple[int, dict[str, str], bytes]:
            release.wait(20)
            return 204, {}, b""

        receiver.answer = hold
        webhooks = Webhooks(url=receiver.url, secret=SECRET, form="resumable", timeout=10.0, reactor=R)
        try:
            async with watched(webhooks) as (service, teller):
                path = await begin(service)
                assert (await patch(service, path, 0, 40)).status == 204
                await until(lambda: receiver.heard)
                assert (await patch(service, path, 40, 100)).status == 204
                assert (await patch(service, path, 100, len(DATA))).status == 204
                assert (await of(service, path)).state is State.FINISHED
                assert len(receiver.heard) == 1
                assert teller._calls, "the call is not answered yet"
                release.set()
                await until(lambda: not teller._calls)
        finally:
            release.set()
            await webhooks.close()
        (heard,) = receiver.heard
        assert receiver.wrong == []
        assert (heard.type, heard.upload) == (PROGRESS, path.rpartition("/")[2])
        assert 0 < heard.body["data"]["offset"] <= 40
        assert SENT_METADATA not in heard.body["data"]
