"""Refused requests: one line in the log for each, and an id by which client, application and operator find it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.task import Clock
from twisted.logger import LogLevel, formatEvent, globalLogPublisher

from resumable.callbacks.authorizer import AuthorizationRequest, Grant
from resumable.model import Unavailable
from resumable.outages import AUTH, Outages
from resumable.request_info import current
from resumable.uploads.events import Announcer
from resumable.web.router import Router
from tests.protocols.harness import Door, Memory, memory_service, until
from tests.web.wire import Wire, head


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What is logged of refusals, at the level info."""
    found: list[str] = []

    def observe(event: dict[str, Any]) -> None:
        if event["log_namespace"] == "resumable.web":
            assert event["log_level"] is LogLevel.info
            found.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


class Away(Door):
    """The main application cannot be reached."""

    async def authorize(self, ask: AuthorizationRequest) -> Grant:
        raise Unavailable("the auth application cannot be reached", part=AUTH)


@asynccontextmanager
async def begun(service: Memory) -> AsyncIterator[str]:
    """The path of an upload that has begun."""
    answer = await service.ask("POST", "/files/", ["Tus-Resumable: 1.0.0", "Upload-Length: 10"])
    location = answer.header("Location")
    assert location is not None
    yield "/files/" + location.rpartition("/")[2]


@pytest_twisted.ensureDeferred
async def test_a_line_with_upload_owner_reason_and_request(lines: list[str]) -> None:
    async with memory_service(Door("alice")) as service, begun(service) as path:
        tus = ["Tus-Resumable: 1.0.0", "Content-Type: application/offset+octet-stream", "X-Request-Id: abc 1"]
        answer = await service.ask("PATCH", f"{path}?token=hunter2", [*tus, "Upload-Offset: 5"], b"12345")
        assert (answer.status, answer.header("X-Request-Id")) == (409, "abc 1")
        upload_id = path.rpartition("/")[2]
        assert lines == [
            f"refused PATCH {path} status=409 upload={upload_id} owner='alice' request=abc 1 client=192.168.1.1: "
            "the body has to begin at byte 0, not 5"
        ]


@pytest_twisted.ensureDeferred
async def test_what_the_application_refuses(lines: list[str]) -> None:
    async with memory_service(Door("alice", refused=["create"])) as service:
        answer = await service.ask("PUT", "/upload/a", body=b"12345")
        assert answer.status == 403
        request_id = answer.header("X-Request-Id")
        assert lines == [
            f"refused PUT /upload/a status=403 upload=- owner='' request={request_id} client=192.168.1.1: refused with 403"
        ]


@pytest_twisted.ensureDeferred
async def test_what_a_protocol_answers_by_itself(lines: list[str]) -> None:
    """Not by an error but by an answer: the reason is the problem's detail."""
    async with memory_service() as service:
        assert (await service.ask("GET", "/nothing")).status == 404
        assert (await service.ask("PUT", "/upload/a", ["Content-Range: bytes 5-9/3"], b"12345")).status == 400
    assert lines[0].rpartition(": ")[2] == "there is nothing here; uploads go to /upload/<name>"
    assert len(lines) == 2


@pytest_twisted.ensureDeferred
async def test_what_is_no_refusal_has_no_line(lines: list[str]) -> None:
    async with memory_service() as service, begun(service) as path:
        assert (await service.ask("HEAD", path, ["Tus-Resumable: 1.0.0"])).status == 200
        assert (await service.ask("PUT", "/upload/a", body=b"12345")).status == 200
    assert lines == []


def test_what_cannot_be_understood(lines: list[str]) -> None:
    wire = Wire(root=Router([], {}))
    wire.send(b"GET /a HTTP/1.1\r\nno field\r\n\r\n")
    assert b"X-Request-Id: " in wire.said
    assert [line.rpartition(": ")[2] for line in lines] == ["A header field is malformed."]
    assert lines[0].startswith("refused - - status=400 ")


@pytest.mark.parametrize(
    ("sent", "taken"),
    [
        (["a"], True),
        (["x" * 128], True),
        (["x" * 129], False),
        (["3f2c1e6a-8f0e-4a51-9a51-0d0c6f3c1b2d"], True),
        (["gr\xfc\xdfe"], False),
        (["a\x07b"], False),
        ([""], False),
        (["a", "b"], False),
    ],
)
def test_ids_that_are_taken(sent: list[str], taken: bool) -> None:
    wire = Wire(root=Router([], {}))
    wire.send(head("GET", "/a", *(f"X-Request-Id: {value}" for value in sent)))
    [line] = [line for line in wire.said.split(b"\r\n") if line.lower().startswith(b"x-request-id: ")]
    given = line.partition(b": ")[2].decode("latin-1")
    assert given
    assert given.isascii()
    assert given.isprintable()
    assert (given == sent[0]) is taken


@pytest_twisted.ensureDeferred
async def test_requests_at_once_have_their_own() -> None:
    """The application is asked with the id of the very request that waits for it."""
    seen: list[tuple[str, str]] = []

    class Asks(Door):
        async def authorize(self, ask: AuthorizationRequest) -> Grant:
            info = current()
            assert info is not None
            seen.append((ask.uri, info.id))
            return Grant()

    async with memory_service(Asks()) as service:
        for number in range(5):
            await service.ask("PUT", f"/upload/{number}", [f"X-Request-Id: id-{number}"], b"12345")
    assert {(uri, given) for uri, given in seen} == {(f"/upload/{number}", f"id-{number}") for number in range(5)}
    assert current() is None


@pytest_twisted.ensureDeferred
async def test_the_event_has_the_id_of_the_request_that_brought_it_about() -> None:
    async with memory_service() as service:
        announce, told = Announcer(["upload.finished"]), []

        def note(upload: Any, pieces: Any) -> None:
            event = announce(upload, pieces)
            if event is not None:
                told.append(event.data["request_id"])

        service.parts.ledger._announce = note
        await service.ask("PUT", "/upload/a", ["X-Request-Id: mine"], b"12345")
    assert told == ["mine"]


@pytest_twisted.ensureDeferred
async def test_refusals_are_counted_for_the_outage(lines: list[str]) -> None:
    """The part is named by the error, and what clients are told is the same as ever."""
    outages = Outages(Clock())
    async with memory_service(Away()) as service:
        service.router = Router(service.protocols, {}, outages=outages)
        for _ in range(3):
            answer = await service.ask("PUT", "/upload/a", body=b"12345")
            assert (answer.status, answer.header("Retry-After")) == (503, "5")
    assert outages.auth.out
    assert not outages.store.out
    assert len(lines) == 3
    outages.stop()


@pytest_twisted.ensureDeferred
async def test_a_client_of_many_chunks_is_no_news() -> None:
    """It is told once for each break that an upload goes on, however many requests it takes."""
    words: list[tuple[str, str]] = []

    def observe(event: dict[str, Any]) -> None:
        if event["log_namespace"] == "resumable.uploads":
            words.append((event["what"], event["log_level"].name))

    globalLogPublisher.addObserver(observe)
    try:
        async with memory_service() as service, begun(service) as path:
            tus = ["Tus-Resumable: 1.0.0", "Content-Type: application/offset+octet-stream"]
            for offset in range(4):
                assert (await service.ask("PATCH", path, [*tus, f"Upload-Offset: {offset}"], b"x")).status == 204
            wire = service.connect()
            wire.send(head("PATCH", path, *tus, "Upload-Offset: 4", "Content-Length: 6") + b"x")
            wire.lose()
            await until(lambda: ("interrupted", "info") in words)
            for offset in range(5, 10):
                assert (await service.ask("PATCH", path, [*tus, f"Upload-Offset: {offset}"], b"x")).status == 204
    finally:
        globalLogPublisher.removeObserver(observe)
    assert words == [
        ("started", "info"),
        ("resumed", "info"),
        *[("resumed", "debug")] * 4,
        ("interrupted", "info"),
        ("resumed", "info"),
        *[("resumed", "debug")] * 4,
        ("finished", "info"),
    ]
