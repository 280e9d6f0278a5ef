"""Google's uploads where two do things at once, on one node or on two, and where clients wait for the application."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, gatherResults

from resumable.callbacks.formats import HookResult
from resumable.model import Unavailable
from resumable.protocols.registry import PROTOCOLS, make_protocols
from resumable.protocols.results import Results
from resumable.uploads import claims
from resumable.uploads.service import UploadService
from resumable.web.router import Router
from tests.protocols import test_tus as tus
from tests.protocols.harness import Answer, Door, Memory, memory_service, until
from tests.protocols.test_goog_upload import command, goog, start
from tests.protocols.test_google import (
    DATA,
    FIRST,
    REST,
    START,
    begin,
    crc,
    error,
    finished,
    incomplete,
    nothing_left,
    put,
    stored,
)
from tests.protocols.test_tus_concat_races import held

ONLY_NEW = START + "&name=n&ifGenerationMatch=0"
RIGHT, WRONG = f"X-Goog-Hash: crc32c={crc(DATA)}", f"X-Goog-Hash: crc32c={crc(FIRST)}"


async def together(*doing: Coroutine[Any, Any, Answer]) -> list[Answer]:
    """What is answered to those who ask at once."""
    return list(await gatherResults([Deferred.fromCoroutine(one) for one in doing]))


def second_node(service: Memory) -> Memory:
    """A service with the same ledger and store that has its own idea of who writes what."""
    node: Memory = object.__new__(Memory)
    node.parts, node.authorizer = service.parts, service.authorizer
    uploads = UploadService(service.parts.uploads._deps, service.parts.uploads.policy)
    names = [name for name, _ in PROTOCOLS]
    node.protocols = make_protocols(names, uploads, service.authorizer, Results())
    node.router = Router(node.protocols, {})
    return node


# Two objects of one name


async def until_told(service: Memory, session: str, data: bytes) -> Answer:
    """The answer to a client that comes again while the store is in trouble."""
    for _ in range(3):
        answer = await put(service, session, None, data)
        if answer.status != 503:
            break
    return answer


@pytest.mark.parametrize("size", [100, 16])
@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize("lost", [False, True])
@ensureDeferred
async def test_two_that_may_not_replace_anything(
    size: int, nodes: int, lost: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two sessions with ``ifGenerationMatch=0`` one makes the object, whatever the store's answers come to."""
    # After an answer that was lost the other one waits so long for a call that may still take effect.
    monkeypatch.setattr(claims, "LEASE", 0.5)
    call = "put_object" if size == 16 else "complete_multipart_upload"
    async with memory_service() as service:
        other = service if nodes == 1 else second_node(service)
        one, two = DATA[:size], bytes(reversed(DATA[:size]))
        sessions = await begin(service, ONLY_NEW), await begin(other, ONLY_NEW)
        if lost:
            service.parts.uploads._store.trouble.append((call, "after"))  # type: ignore[attr-defined]
        answers = await together(until_told(service, sessions[0], one), until_told(other, sessions[1], two))
        made = stored(service)
        assert made in (one, two)
        winner, loser = (answers[0], answers[1]) if made == one else (answers[1], answers[0])
        finished(winner, made or b"")
        error(loser, 412, "conditionNotMet")
        # The one comes again, for its answer was lost; the other begins again, in vain.
        finished(await put(other, sessions[0] if made == one else sessions[1], None, made or b""), made or b"")
        error(await put(other, await begin(service, ONLY_NEW), None, two), 412, "conditionNotMet")
        assert stored(service) == made
        await until(lambda: not service.parts.bucket.multiparts)


# The last bytes, and the word that they are the last


@pytest.mark.parametrize("size", [100, 10])
@pytest.mark.parametrize("nodes", [1, 2])
@ensureDeferred
async def test_finalisers_at_once(size: int, nodes: int) -> None:
    """Both are told of the object, though the other one has said the length and made it."""
    data = DATA[:size]
    async with memory_service() as service:
        other = service if nodes == 1 else second_node(service)
        session = await begin(service)
        incomplete(await put(service, session, f"0-{size - 1}/*", data), size)
        for answer in await together(*(put(node, session, f"*/{size}") for node in (service, other, service, other))):
            finished(answer, data)
        assert stored(service) == data


@pytest.mark.parametrize("size", [100, 10])
@ensureDeferred
async def test_a_finaliser_that_comes_too_late(size: int) -> None:
    """It has seen an upload whose length nobody knows; before it says so another one has finished it. That is no reason to tell
    the client that its upload is gone: it would bring all of it once more.
    """
    data = DATA[:size]
    async with memory_service() as service:
        session = await begin(service)
        incomplete(await put(service, session, f"0-{size - 1}/*", data), size)
        calls, gate = held(service.parts.ledger, "declare")
        late = Deferred.fromCoroutine(put(service, session, f"*/{size}"))
        await until(lambda: calls)
        del service.parts.ledger.declare
        finished(await put(second_node(service), session, f"*/{size}"), data)
        gate.callback(None)
        finished(await late, data)


@ensureDeferred
async def test_the_last_chunk_comes_too_late() -> None:
    """As above, with a chunk that says the length: it is compared with the object."""
    async with memory_service() as service:
        session = await begin(service)
        incomplete(await put(service, session, "0-99/*", DATA), 100)
        calls, gate = held(service.parts.ledger, "declare")
        late = Deferred.fromCoroutine(put(service, session, "64-99/100", REST))
        other = Deferred.fromCoroutine(put(service, session, "64-99/100", bytes(36)))
        await until(lambda: len(calls) == 2)
        del service.parts.ledger.declare
        finished(await put(second_node(service), session, "*/100"), DATA)
        gate.callback(None)
        finished(await late, DATA)
        error(await other, 409, "conflict")


@pytest.mark.parametrize("nodes", [1, 2])
@ensureDeferred
async def test_a_finaliser_beside_the_last_chunk(nodes: int) -> None:
    """A client whose connection hangs says on another one how long the object is: it hears how far it is, or that it is made."""
    async with memory_service() as service:
        other = service if nodes == 1 else second_node(service)
        session = await begin(service)
        incomplete(await put(service, session, "0-63/*", FIRST), 64)
        wire = service.connect()
        head = f"PUT {session} HTTP/1.1\r\nHost: test\r\nContent-Range: bytes 64-99/*\r\nContent-Length: 36\r\n\r\n"
        wire.send(head.encode() + REST[:20])
        await until(lambda: wire.channel.requests and wire.channel.requests[-1]._outlet is not None)
        early = await put(other, session, "*/100")
        assert early.status == 308
        wire.send(REST[20:])
        asked = await together(*(put(other, session, "*/100") for _ in range(3)))
        assert {answer.status for answer in asked} <= {200, 308}
        await until(lambda: b"\r\n\r\n" in wire.said)
        assert wire.said.split(b" ")[1] in (b"200", b"308")
        finished(await put(other, session, "*/100"), DATA)
        assert stored(service) == DATA


@ensureDeferred
async def test_more_comes_while_a_query_says_that_this_is_all() -> None:
    """It is as if the query had come a moment later: how far it is, and nothing has changed."""
    async with memory_service() as service:
        session = await begin(service)
        incomplete(await put(service, session, "0-63/*", FIRST), 64)
        calls, gate = held(service.parts.ledger, "declare")
        query = Deferred.fromCoroutine(put(service, session, "*/64"))
        await until(lambda: calls)
        incomplete(await put(service, session, "64-79/*", REST[:16]), 80)
        gate.callback(None)
        incomplete(await query, 80)
        finished(await put(service, session, "80-99/100", DATA[80:]), DATA)


@pytest.mark.parametrize("size", [100, 10])
@pytest.mark.parametrize("nodes", [1, 2])
@ensureDeferred
async def test_finalize_at_once(size: int, nodes: int) -> None:
    """X-Goog-Upload: with and without the last bytes, each of them ends in the one object."""
    data, cut = DATA[:size], size // 2
    async with memory_service() as service:
        other = service if nodes == 1 else second_node(service)
        url = await start(service, "/upload/n")
        assert goog(await command(service, url, "upload", 0, data)) == (200, "active", str(size))
        asked: list[tuple[Memory, str, int | None, bytes]] = [
            (service, "finalize", None, b""),
            (other, "upload, finalize", cut, data[cut:]),
            (other, "finalize", None, b""),
            (service, "upload, finalize", 0, data),
        ]
        answers = await together(*(command(node, url, word, at, body) for node, word, at, body in asked))
        for (node, word, at, body), answer in zip(asked, answers, strict=True):
            # Of two that bring the same bytes the later one ends the earlier one. That one may come again.
            told = await command(node, url, word, at, body) if at and answer.status in (409, 503) else answer
            assert (goog(told), told.json["crc32c"]) == ((200, "final", str(size)), crc(data))
        assert stored(service) == data


# What is said of the object on another node


@pytest.mark.parametrize("size", [100, 16, 10])
@pytest.mark.parametrize("header", [RIGHT, WRONG])
@ensureDeferred
async def test_a_checksum_on_a_second_node(size: int, header: str) -> None:
    """Whoever makes the object knows what was said elsewhere: here while its bytes come, and before them."""
    data = DATA[:size]
    header = f"X-Goog-Hash: crc32c={crc(data if header == RIGHT else data + b'x')}"
    async with memory_service() as service:
        other = second_node(service)
        session = await begin(service, START + "&name=n", f"X-Upload-Content-Length: {size}")
        wire = service.connect()
        head = f"PUT {session} HTTP/1.1\r\nHost: test\r\nContent-Range: bytes 0-{size - 1}/{size}\r\nContent-Length: {size}"
        wire.send(f"{head}\r\n\r\n".encode() + data[:-4])
        await until(lambda: wire.channel.requests and wire.channel.requests[-1]._outlet is not None)
        # Nothing may be stored there yet, and so the bytes are not taken; the checksum is.
        assert (await put(other, session, f"{size - 1}-{size - 1}/*", data[-1:], header)).status == 503
        wire.send(data[-4:])
        await until(lambda: b"\r\n\r\n" in wire.said)
        if crc(data) in header:
            finished(await put(other, session, f"*/{size}", b"", header), data)
            assert stored(service) == data
            return
        assert b"400 Bad Request" in wire.said
        for node in (service, other):
            error(await put(node, session, "*/*"), 410, "gone")
        await until(lambda: not service.parts.bucket.objects and not service.parts.bucket.multiparts)
        nothing_left(service)


@ensureDeferred
async def test_a_checksum_that_comes_too_late_on_a_second_node() -> None:
    """The object is made; whoever says that it should be another is told so, and it stays."""
    async with memory_service() as service:
        other = second_node(service)
        session = await begin(service)
        finished(await put(service, session, None, DATA, RIGHT), DATA)
        for span, body in (("*/100", b""), ("64-99/100", REST), (None, DATA)):
            error(await put(other, session, span, body, WRONG), 400, "invalid")
        finished(await put(other, session, "*/100", b"", RIGHT), DATA)
        assert stored(service) == DATA


# The same in tus


@ensureDeferred
async def test_a_length_of_tus_that_comes_too_late() -> None:
    """A request without bytes says the length that was deferred, after another one has said it and finished the upload."""
    async with memory_service() as service:
        path = await tus.begin(service, "Upload-Defer-Length: 1", length=None)
        assert (await tus.patch(service, path, 0, DATA)).status == 204
        calls, gate = held(service.parts.ledger, "declare")
        late = Deferred.fromCoroutine(tus.patch(service, path, 100, b"", "Upload-Length: 100"))
        wrong = Deferred.fromCoroutine(tus.patch(service, path, 100, b"", "Upload-Length: 101"))
        await until(lambda: len(calls) == 2)
        del service.parts.ledger.declare
        assert (await tus.patch(second_node(service), path, 100, b"", "Upload-Length: 100")).status == 204
        gate.callback(None)
        told = await late
        assert (told.status, told.header("Upload-Offset")) == (204, "100")
        assert (await wrong).status == 400


# Waiting for the application


class Application:
    """What waits for the application: it says what the test says next; None: it is away."""

    def __init__(self, *says: HookResult | None) -> None:
        self.says = list(says)
        self.asked = 0

    async def hear(self, upload_id: str) -> HookResult:
        self.asked += 1
        said = self.says.pop(0) if len(self.says) > 1 else self.says[0]
        if said is None:
            raise Unavailable("the application did not answer")
        return said


@asynccontextmanager
async def waiting(application: Application) -> Any:
    """A service whose clients wait for the application."""
    door = Door()
    async with memory_service(door) as service:
        names = [name for name, _ in PROTOCOLS]
        results = Results(application.hear)
        service.router = Router(make_protocols(names, service.parts.uploads, door, results), {})
        yield service


YES = HookResult(True, 200, (("Content-Type", "application/json"),), b'{"video": 42}')
#: It takes the event, and leaves the answer to the service.
QUIET = HookResult(True, 200)
NO = HookResult(False, 422, (("Content-Type", "text/plain"),), b"no video")
Again = Callable[[Memory, str], Coroutine[Any, Any, Answer]]


@pytest.mark.parametrize(
    "again",
    [
        lambda service, session: put(service, session, "64-99/100", REST),
        lambda service, session: put(service, session, "*/100"),
        lambda service, session: put(service, session, "*/*"),
    ],
    ids=["chunk", "finaliser", "query"],
)
@ensureDeferred
async def test_google_waits_for_the_application(again: Again) -> None:
    """Away: 503 in Google's form, and whatever the client tries again asks again; it ends with what the application says."""
    application = Application(None, None, YES)
    async with waiting(application) as service:
        session = await begin(service)
        incomplete(await put(service, session, "0-63/100", FIRST), 64)
        answer = await put(service, session, "64-99/100", REST)
        error(answer, 503, "backendError")
        assert answer.header("Retry-After")
        error(await again(service, session), 503, "backendError")
        for _ in range(2):
            said = await again(service, session)
            assert (said.status, said.json, said.header("Content-Type")) == (200, {"video": 42}, "application/json")
            assert said.header("X-Goog-Stored-Content-Length") == "100"
        assert stored(service) == DATA


@ensureDeferred
async def test_google_hears_the_applications_no() -> None:
    """As it is, each time, until the application says yes; without a body the object is shown. The object stays in any case."""
    async with waiting(Application(NO, NO, QUIET)) as service:
        session = await begin(service)
        for answer in (await put(service, session, None, DATA), await put(service, session, "*/100")):
            assert (answer.status, answer.body, answer.header("Content-Type")) == (422, b"no video", "text/plain")
        finished(await put(service, session, None, DATA), DATA)


@ensureDeferred
async def test_goog_upload_waits_for_the_application() -> None:
    """Away: no status, so that clients come again; its word is the last."""
    async with waiting(Application(None, None, None, YES)) as service:
        url = await start(service, "/upload/n")
        for word, offset, body in (("upload, finalize", 0, DATA), ("finalize", None, b""), ("query", None, b"")):
            assert goog(await command(service, url, word, offset, body)) == (503, None, None)
        for word, offset, body in (("upload, finalize", 0, DATA), ("finalize", None, b""), ("query", None, b"")):
            answer = await command(service, url, word, offset, body)
            assert (goog(answer), answer.json) == ((200, "final", "100"), {"video": 42})
        assert stored(service) == DATA


@pytest.mark.parametrize(("status", "state"), [(422, "final"), (429, None), (503, None)])
@ensureDeferred
async def test_goog_upload_hears_the_applications_no(status: int, state: str | None) -> None:
    """A no is the end; what may pass is not, and there clients come again."""
    no = HookResult(status < 500, status, (("Content-Type", "text/plain"),), b"no video")
    async with waiting(Application(no, QUIET)) as service:
        url = await start(service, "/upload/n")
        answer = await command(service, url, "upload, finalize", 0, DATA)
        assert (goog(answer), answer.body) == ((status, state, "100"), b"no video")
        assert goog(await command(service, url, "finalize")) == (200, "final", "100")
        assert stored(service, "n") == DATA
