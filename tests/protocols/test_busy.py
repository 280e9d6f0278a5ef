"""What is answered at the limits: each protocol says in its own way that the client is to come again, and goes on from there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from attrs import frozen
from pytest_twisted import ensureDeferred
from twisted.web.http_headers import Headers

from resumable.callbacks.authorizer import AuthorizationRequest, Grant, Refused
from resumable.ledger.database import Database
from resumable.model import Unavailable
from resumable.outages import LEDGER
from resumable.protocols.small_body import SmallBodies
from tests.protocols.harness import Answer, Memory, memory_service, parse_answers
from tests.protocols.test_registry import A_FILE, FORM, ROUTES
from tests.protocols.test_views import ASK, BEGIN, DATA, STORED, TUS, VERSION, VIEWS, in_range, stored
from tests.uploads.memory_store import Bucket, MemoryStore
from tests.web.wire import Transport, Wire

Asked = tuple[str, str, list[str], bytes | None]


@frozen
class Row:
    """What a client of a protocol asks for, of an upload that has begun.

    :ivar form: checks that an answer is one that the protocol's clients take for "later".
    """

    create: Asked
    look: Callable[[str], Asked]
    told: Callable[[Answer], int]
    rest: Callable[[str], Asked]
    form: Callable[[Answer, str], None]


def is_problem(answer: Answer, method: str) -> None:
    assert (answer.status, answer.header("Content-Type")) == (503, "application/problem+json")
    if method != "HEAD":
        assert answer.json["status"] == 503


def is_of_tus(answer: Answer, method: str) -> None:
    """A 5xx to HEAD is the end of the upload for its clients."""
    assert (answer.status, answer.header("Tus-Resumable")) == (423 if method == "HEAD" else 503, "1.0.0")
    assert answer.header("Upload-Offset") is None


def is_of_ietf(answer: Answer, method: str) -> None:
    is_problem(answer, method)
    assert answer.header("Upload-Complete") == "?0"
    assert answer.header("Upload-Offset") is None


def is_of_google(answer: Answer, method: str) -> None:
    assert (answer.status, answer.header("Range")) == (503, None)
    assert answer.json["error"]["errors"][0]["reason"] == "backendError"


def is_of_goog_upload(answer: Answer, method: str) -> None:
    """Without a word of where the upload stands, which its clients would believe."""
    is_of_google(answer, method)
    assert answer.json["error"]["status"] == "UNAVAILABLE"
    assert answer.header("X-Goog-Upload-Status") is None


def is_of_vimeo(answer: Answer, method: str) -> None:
    assert (answer.status, answer.header("Range")) == (503, None)
    assert answer.json["error"]


def in_view(name: str, create: Asked, form: Callable[[Answer, str], None]) -> Row:
    view = VIEWS[name]
    return Row(create, view.look, view.told, lambda i: (*view.rest(i, STORED), DATA[STORED:]), form)


ROWS = {
    "put": Row(
        ("PUT", "/upload/other", [], DATA),
        lambda i: ("PUT", "/upload/n", ASK, b""),
        in_range,
        lambda i: ("PUT", "/upload/n", [f"Content-Range: bytes {STORED}-47/48"], DATA[STORED:]),
        is_problem,
    ),
    "session": in_view("session", ("POST", "/uploads", [], b'{"name": "other", "length": 5}'), is_problem),
    "tus": in_view("tus", ("POST", "/files/", [TUS, "Upload-Length: 5"], None), is_of_tus),
    "ietf": in_view("ietf", ("POST", "/upload/other", ["Upload-Complete: ?1"], DATA), is_of_ietf),
    "google": in_view("google", ("POST", "/upload/other?uploadType=resumable", [], b"{}"), is_of_google),
    "goog-upload": in_view(
        "goog-upload", ("POST", "/upload/other", ["X-Goog-Upload-Command: start"], b"{}"), is_of_goog_upload
    ),
    "vimeo": in_view("vimeo", ("POST", "/vimeo/me/videos", [], b"type=streaming"), is_of_vimeo),
}
#: Of these, what is asked for stands in a small body that is read into memory.
DESCRIBED = ("session", "google", "goog-upload", "vimeo")


async def turned_away(service: Memory, asked: Asked) -> Answer:
    """The answer on a connection for which there is no room."""
    wire = Wire(root=service.router, connections=1)
    protocol, transport = wire.site.buildProtocol(None), Transport()
    assert protocol is not None
    protocol.makeConnection(transport)
    method, target, lines, body = asked
    framed = [*lines, *([] if body is None else [f"Content-Length: {len(body)}"])]
    protocol.dataReceived("\r\n".join([f"{method} {target} HTTP/1.1", "Host: test", *framed, "", ""]).encode())
    (answer,) = parse_answers(transport.value(), [method])
    assert answer.header("Connection") == "close"
    return answer


@contextmanager
def ledger_away() -> Iterator[None]:
    async def away(self: Database, work: Any) -> Any:
        raise Unavailable("the ledger did not answer", part=LEDGER)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Database, "write", away)
        yield


@contextmanager
def no_room_for_descriptions() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(SmallBodies, "make_room", lambda self, size, body: size == 0)
        yield


def check(protocol: str, answer: Answer, method: str) -> None:
    ROWS[protocol].form(answer, method)
    assert answer.header("Retry-After") == "5"
    assert answer.header("Cache-Control") == "no-store"


@pytest.mark.parametrize("protocol", ROWS)
@ensureDeferred
async def test_at_every_limit_a_client_is_told_to_come_again_and_goes_on_where_it_was(protocol: str) -> None:
    row = ROWS[protocol]
    bucket = Bucket()
    store = MemoryStore(bucket)
    async with memory_service(store=store) as service:
        service.parts.bucket = bucket
        upload_id = await BEGIN[protocol](service, DATA[:STORED], 48)

        async def goes_on() -> None:
            """No request was lost upon: the offset is what it was, so that nobody begins again at byte 0."""
            assert row.told(await service.ask(*row.look(upload_id))) == STORED

        # limits.connections
        for asked in (row.create, row.look(upload_id), row.rest(upload_id)):
            check(protocol, await turned_away(service, asked), asked[0])
        await goes_on()
        # The memory for what is read before the application is asked
        if protocol in DESCRIBED:
            with no_room_for_descriptions():
                check(protocol, await service.ask(*row.create), row.create[0])
        # The ledger
        with ledger_away():
            for asked in (row.create, row.look(upload_id), row.rest(upload_id)):
                check(protocol, await service.ask(*asked), asked[0])
        await goes_on()
        # The store, for as long as a part is tried again
        for call in ("put_object", "upload_part", "get_object", "init_multipart_upload"):
            store.trouble += [(call, "before")] * 9
        asked = row.rest(upload_id)
        check(protocol, await service.ask(*asked), asked[0])
        store.trouble.clear()
        await goes_on()
        assert stored(service) is None
        method, target, said, body = row.rest(upload_id)
        assert (await service.ask(method, target, said, body)).status < 300
        assert stored(service) == DATA


@pytest.mark.parametrize("protocol", ["form", "segments"])
@ensureDeferred
async def test_the_limits_where_nothing_can_be_asked(protocol: str) -> None:
    async with memory_service() as service:
        for asked in ROUTES[protocol]:
            is_problem(await turned_away(service, asked), asked[0])
            with ledger_away():
                answer = await service.ask(*asked)
            is_problem(answer, asked[0])
            assert answer.header("Retry-After") == "5"
        assert (await service.ask("POST", "/upload", [FORM], A_FILE)).status == 200


@ensureDeferred
async def test_heads_that_mean_tus_where_there_is_no_room() -> None:
    """By override too; what means the IETF's draft is no tus, and keeps its 503."""
    async with memory_service() as service:
        lines = [TUS, "X-HTTP-Method-Override: HEAD"]
        assert (await turned_away(service, ("POST", "/files/id", lines, None))).status == 423
        assert (await turned_away(service, ("HEAD", "http://test/files/id", [TUS], None))).status == 423
        assert (await turned_away(service, ("HEAD", "/files/id", [], None))).status == 423
        assert (await turned_away(service, ("HEAD", "/files/id", [VERSION], None))).status == 503
        assert (await turned_away(service, ("GET", "/nowhere", [], None))).status == 503


class Hurried:
    """An application that has no time for questions just now."""

    async def authorize(self, ask: AuthorizationRequest) -> Grant:
        raise Refused(429, Headers({"Retry-After": ["17"], "Content-Type": ["text/plain"]}), b"later")

    async def close(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize("protocol", ROWS)
@ensureDeferred
async def test_the_applications_own_later(protocol: str) -> None:
    """Its 429 is passed on with its ``Retry-After``; to a ``HEAD`` of tus as 423, for its clients would begin again."""
    async with memory_service(Hurried()) as service:
        row = ROWS[protocol]
        for asked in (row.create, row.look("id"), row.rest("id")):
            answer = await service.ask(*asked)
            head_of_tus = protocol == "tus" and asked[0] == "HEAD"
            assert (answer.status, answer.header("Retry-After")) == (423 if head_of_tus else 429, "17")
