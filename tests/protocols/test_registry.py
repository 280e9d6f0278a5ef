"""Protocols as objects: each asks the application first, answers errors in its own form, and a new one is a class and a line."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred

from resumable.model import LIVE, Interrupted, Unavailable, UploadError
from resumable.protocols.access import ELSEWHERE, Action, AuthorizedUploads, Gate, NotAuthorized, description_of, may_do
from resumable.protocols.base import Target
from resumable.protocols.messages import Request
from resumable.protocols.registry import PROTOCOLS, make_protocols
from resumable.protocols.response import Response
from resumable.protocols.results import Results
from resumable.settings import parse_settings
from resumable.uploads.policy import CreateRequest
from resumable.uploads.registry import Span
from resumable.web.router import Router
from tests.policy import policy
from tests.protocols.harness import Door, Memory, memory_service, until
from tests.protocols.test_isolation import Request as Bodiless
from tests.uploads.test_states import Body
from tests.uploads.wiring import House


class Toy:
    """A protocol of its own: ``TOY /toy/<id or nothing>``."""

    name = "toy"

    def __init__(self, parts: House, door: Door) -> None:
        self._gate = Gate(parts.uploads, door, self.name)

    def match(self, request: Request) -> Target | None:
        return Target(upload_id=request.path[5:].decode()) if request.path.startswith(b"/toy/") else None

    async def handle(self, request: Request, target: Target) -> Response:
        if request.method == b"BREAK":
            raise RuntimeError("a fault")
        if target.upload_id:
            access = await self._gate.authorize(request, "status", upload_id=target.upload_id)
            return Response(200, (await access.get(target.upload_id)).state.value.encode())
        said = description_of(request, "toy", request.length)
        access = await self._gate.authorize(request, "create", description=said)
        upload = await access.create(said, whole=True)
        report = await access.receive(upload, request, Span(0, request.length, last=True), new=True)
        return Response(201, report.upload.id.encode())

    def render_error(self, request: Request, error: UploadError) -> Response:
        return Response(418, f"toy: {type(error).__name__}".encode())

    def decorate(self, request: Request, response: Response) -> Response:
        return evolve(response, headers=(*response.headers, ("Toy-Version", "1")))


def toys(door: Door) -> Any:
    return [lambda parts: Toy(parts, door)]


@ensureDeferred
async def test_a_toy_protocol() -> None:
    """Authorisation, errors in its own form, what every answer carries: without touching any other file."""
    door = Door(owner="alice")
    async with memory_service(door, toys(door)) as service:
        made = await service.ask("TOY", "/toy/", body=b"0123456789")
        assert (made.status, made.header("Toy-Version")) == (201, "1")
        assert service.parts.bucket.objects["alice/toy"][0] == b"0123456789"
        # Once at the head, and once more before the object was made.
        assert [(ask.action, ask.protocol) for ask in door.asked] == [("create", "toy")] * 2
        upload_id = made.body.decode()
        assert (await service.ask("TOY", f"/toy/{upload_id}")).body == b"finished"
        # Everybody may look at it with `session`, and only its own protocol goes on with it.
        assert (await service.ask("GET", f"/uploads/{upload_id}")).json["protocol"] == "toy"
        door.owner = "mallory"
        assert (await service.ask("TOY", f"/toy/{upload_id}")).body == b"toy: NotFound"
        door.refused = ("create",)
        refused = await service.ask("TOY", "/toy/", body=b"x")
        assert (refused.status, refused.body, refused.header("Toy-Version")) == (418, b"toy: Refused", "1")


@ensureDeferred
async def test_answers_of_the_connection_are_the_protocols_own() -> None:
    """A fault, a malformed body, silence and a shutdown are answered in its form, and carry what all its answers carry."""
    door = Door()
    async with memory_service(door, toys(door)) as service:

        def form(wire: Any) -> tuple[bytes, bool]:
            return wire.said.partition(b"\r\n\r\n")[2], b"Toy-Version: 1" in wire.said

        broken = await service.ask("BREAK", "/toy/")
        assert (broken.body, broken.header("Toy-Version")) == (b"toy: InternalError", "1")
        malformed = service.connect()
        malformed.send(b"TOY /toy/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
        await until(lambda: b"\r\n\r\n" in malformed.said)
        assert form(malformed) == (b"toy: Invalid", True)
        silent = service.connect()
        silent.send(b"TOY /toy/ HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc")
        await until(lambda: not silent.paused and door.asked)
        await until(lambda: silent.channel.requests and silent.channel.requests[-1]._outlet is not None)
        silent.clock.advance(31)
        await until(lambda: b"\r\n\r\n" in silent.said)
        assert form(silent) == (b"toy: Interrupted", True)
        leaving = service.connect()
        leaving.send(b"TOY /toy/ HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc")
        await until(lambda: leaving.channel.requests and leaving.channel.requests[-1]._outlet is not None)
        leaving.site.drain()
        await until(lambda: b"\r\n\r\n" in leaving.said)
        assert form(leaving) == (b"toy: ShuttingDown", True)


TUS = "Tus-Resumable: 1.0.0"
BYTES = "Content-Type: application/offset+octet-stream"
FORM = "Content-Type: multipart/form-data; boundary=b"
A_FILE = b'--b\r\nContent-Disposition: form-data; name="file"; filename="n"\r\n\r\n12345\r\n--b--\r\n'
#: The body of an upload in one request.
RELATED = b'--b\r\n\r\n{"name": "n"}\r\n--b\r\n\r\n12345\r\n--b--'
#: Requests of every kind that the protocols serve; each has to ask the application before anything else is done.
ROUTES: dict[str, list[tuple[str, str, list[str], bytes | None]]] = {
    "put": [
        ("PUT", "/upload/n", [], b"12345"),
        ("PUT", "/upload/n", ["Content-Range: bytes 0-4/9"], b"12345"),
        ("PUT", "/upload/n", ["Content-Range: bytes 5-9/10"], b"12345"),
        ("PUT", "/upload/n", ["Content-Range: bytes 5-9/10", "Upload-Swarm: ?1"], b"12345"),
        ("PUT", "/upload/n", ["Content-Range: bytes */*"], b""),
        ("PUT", "/upload/n", ["Content-Range: bytes */10"], b""),
        ("GET", "/upload/n", [], None),
        ("HEAD", "/upload/n", [], None),
        ("DELETE", "/upload/n", [], None),
    ],
    "session": [
        ("POST", "/uploads", [], b'{"name": "n", "length": 5}'),
        ("POST", "/uploads", [], b'{"name": "n", "length": 0}'),
        ("POST", "/uploads", [], b'{"name": "n", "length": 5, "protocol": "session"}'),
        ("GET", "/uploads/id", [], None),
        ("HEAD", "/uploads/id", [], None),
        ("PUT", "/uploads/id", ["Content-Range: bytes 0-4/9"], b"12345"),
        ("PUT", "/uploads/id", ["Content-Range: bytes */*"], b""),
        ("DELETE", "/uploads/id", [], None),
    ],
    "tus": [
        ("POST", "/files/", [TUS, "Upload-Length: 5"], None),
        ("POST", "/files", [TUS, "Upload-Defer-Length: 1"], None),
        ("POST", "/files/", [TUS, "Upload-Length: 5", BYTES], b"12345"),
        ("HEAD", "/files/id", [TUS], None),
        ("PATCH", "/files/id", [TUS, BYTES, "Upload-Offset: 0"], b"12345"),
        ("PATCH", "/files/id", [TUS, BYTES, "Upload-Offset: 0", "Upload-Length: 5"], b""),
        ("DELETE", "/files/id", [TUS], None),
        ("POST", "/files/id", [TUS, "X-HTTP-Method-Override: DELETE"], None),
    ],
    "form": [
        ("POST", "/upload", [FORM], A_FILE),
        ("POST", "/upload/", [FORM], A_FILE),
        ("POST", "/upload/n", [FORM], A_FILE),
        ("POST", "/upload/folder/", [FORM], b'--b\r\nContent-Disposition: form-data; name="k"\r\n\r\nv\r\n' + A_FILE),
    ],
    "google": [
        ("POST", "/upload/n?uploadType=resumable", [], b"{}"),
        ("POST", "/upload?upload_protocol=resumable", [], b'{"name": "n"}'),
        ("PUT", "/upload/storage/v1/b/bucket/o?uploadType=resumable&name=n", [], b""),
        ("POST", "/upload/youtube/v3/videos?uploadType=resumable", [], b'{"snippet": {"title": "n"}}'),
        ("POST", "/upload/drive/v3/files?uploadType=resumable", [], b"{}"),
        ("POST", "/resumable/feeds/api/users/default/uploads", ["Slug: n"], b""),
        ("POST", "/upload/n?uploadType=media", [], b"12345"),
        ("POST", "/upload/n?uploadType=multipart", ["Content-Type: multipart/related; boundary=b"], RELATED),
        ("PUT", "/upload/n?upload_id=id", [], b"12345"),
        ("PUT", "/upload/n?upload_id=id", ["Content-Range: bytes 0-4/*"], b"12345"),
        ("POST", "/upload/n?upload_id=id", ["Content-Range: bytes 5-9/10"], b"12345"),
        ("PUT", "/upload/n?upload_id=id", ["Content-Range: bytes */*"], b""),
        ("PUT", "/upload/n?upload_id=id", ["Content-Range: bytes */5"], b""),
        ("DELETE", "/upload/n?upload_id=id", [], None),
        ("POST", "/upload/n?upload_id=id", ["X-HTTP-Method-Override: DELETE"], b""),
        ("GET", "/storage/v1/b/bucket", [], None),
        ("GET", "/storage/v1/b/bucket/o/n", [], None),
        ("DELETE", "/storage/v1/b/bucket/o/n", [], None),
    ],
}
ROUTES["goog-upload"] = [
    ("POST", "/upload/n", ["X-Goog-Upload-Protocol: resumable", "X-Goog-Upload-Command: start"], None),
    ("POST", "/v0/b/b/o?name=n", ["X-Goog-Upload-Command: start"], b'{"name": "n"}'),
    ("POST", "/upload/v1beta/files", ["X-Goog-Upload-Command: start"], b'{"file": {"displayName": "n"}}'),
    ("POST", "/upload/n?upload_id=id", ["X-Goog-Upload-Command: upload", "X-Goog-Upload-Offset: 0"], b"12345"),
    ("POST", "/upload?upload_id=id", ["X-Goog-Upload-Command: upload, finalize", "X-Goog-Upload-Offset: 0"], b"12345"),
    ("POST", "/v1/uploads?upload_id=id", ["X-Goog-Upload-Command: finalize"], None),
    ("POST", "/upload/n?upload_id=id", ["X-Goog-Upload-Command: query"], None),
    ("POST", "/upload/n?upload_id=id", ["X-Goog-Upload-Command: cancel"], None),
    ("POST", "/v1/uploads", ["X-Goog-Upload-Protocol: raw"], b"12345"),
    (
        "POST",
        "/v0/b/b/o?name=n",
        ["X-Goog-Upload-Protocol: multipart", "Content-Type: multipart/related; boundary=x"],
        b"--x\r\n\r\n{}\r\n--x\r\n\r\n12345\r\n--x--",
    ),
    ("GET", "/v0/b/b/o/n", [], None),
]
ROUTES["vimeo"] = [
    ("POST", "/vimeo/me/videos", [], b"type=streaming"),
    ("PUT", "/vimeo/upload/id", [], b"12345"),
    ("PUT", "/vimeo/upload/id", ["Content-Range: bytes: 0-5/5"], b"12345"),
    ("PUT", "/vimeo/upload/id", ["Content-Range: bytes */*"], b""),
    ("DELETE", "/vimeo/complete/id", [], None),
    ("GET", "/vimeo/videos/id", [], None),
    ("HEAD", "/vimeo/videos/id", [], None),
]
ROUTES["segments"] = [
    ("POST", "/upload", ["X-Session-ID: s", "X-Content-Range: bytes 0-4/9"], b"12345"),
    ("POST", "/upload/n", ["Session-ID: s", "Content-Range: bytes 5-9/10"], b"12345"),
]
ROUTES["ietf"] = [
    ("POST", "/upload", ["Upload-Complete: ?1"], b"12345"),
    ("PUT", "/upload/n", ["Upload-Complete: ?0", "Upload-Length: 9"], b"12345"),
    ("POST", "/upload/n", ["Upload-Incomplete: ?1", "Upload-Draft-Interop-Version: 3"], b"12345"),
    ("HEAD", "/files/id", ["Upload-Draft-Interop-Version: 9"], None),
    ("GET", "/files/id", ["Upload-Draft-Interop-Version: 9"], None),
    (
        "PATCH",
        "/files/id",
        ["Content-Type: application/partial-upload", "Upload-Offset: 0", "Upload-Complete: ?1"],
        b"12345",
    ),
    ("DELETE", "/files/id", [], None),
    ("DELETE", "/files/id", ["Upload-Draft-Interop-Version: 9"], None),
]
#: Protocols that are told by headers alone: without them nobody serves their URLs.
BY_HEADERS = ("goog-upload", "segments")
#: Methods that people and programs send, whatever a protocol knows.
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY")


#: Statuses by which a request comes to nothing.
REFUSALS = (400, 403, 404, 405, 411, 412, 415)


class Untouched:
    """An upload service that nobody may touch. Its settings are no secret."""

    policy = policy()

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} of the upload service was used, and nobody had said yes")


def test_every_protocol_is_walked() -> None:
    """A protocol that is added has to name its routes here."""
    assert set(ROUTES) == {name for name, _ in PROTOCOLS}


def test_every_protocol_is_spoken_unless_somebody_says_otherwise() -> None:
    """One that is added is a choice of the settings, and in their default."""
    settings = parse_settings("store: {bucket: b}\nauth: open", "the defaults", {})
    assert set(settings.protocols) == {name for name, _ in PROTOCOLS}


@pytest.mark.parametrize("name", ROUTES)
@ensureDeferred
async def test_nothing_is_done_before_the_application_has_said_yes(name: str) -> None:
    """Every route, with every method, of every protocol: a no ends it, and the upload service was not touched."""
    door = Door(refused=("create", "append", "status", "cancel"))
    async with memory_service(door) as service:
        untouched: Any = Untouched()
        service.router = Router(make_protocols([name], untouched, door, Results()), {})
        for method, target, headers, body in ROUTES[name]:
            door.asked.clear()
            answer = await service.ask(method, target, headers, body)
            assert (answer.status, len(door.asked)) == (403, 1), (method, target, headers)
            assert door.asked[0].protocol == name
        for method in METHODS:
            for target in {target for _, target, _, _ in ROUTES[name]}:
                for headers in ([], [TUS, BYTES]):
                    answer = await service.ask(method, target, headers, b"")
                    expected = (204, 404, 405) if method == "OPTIONS" and name not in BY_HEADERS else REFUSALS
                    assert answer.status in expected, (method, target)


@pytest.mark.parametrize("action", ["create", "append", "status", "cancel", "download"])
@ensureDeferred
async def test_only_what_was_asked_about_can_be_done(action: Action) -> None:
    """A protocol that has asked about one thing and does another is stopped."""
    async with memory_service() as service:
        gate = Gate(service.parts.uploads, Door(), "put")
        upload = await service.parts.uploads.create(CreateRequest("put", "n", length=5))
        access: AuthorizedUploads = await gate.authorize(Bodiless(b"GET"), action, name="n")
        bringing = [
            lambda: access.declare(upload, 5),
            lambda: access.finish(upload),
            lambda: access.open_to_many(upload),
        ]
        ending = [lambda: access.cancel(upload), lambda: access.forget(upload)]
        forbidden: list[Any] = []
        if action not in ("create", "append"):
            forbidden += bringing
        if action != "cancel":
            forbidden += ending
        if action != "download":
            forbidden += [lambda: access.download_url(upload, 5)]
        for act in forbidden:
            with pytest.raises(NotAuthorized):
                await act()
        assert (await service.parts.uploads.get(upload.id, "")).state in LIVE


@pytest.mark.parametrize("begun", [*ELSEWHERE, "a protocol of tomorrow"])
@pytest.mark.parametrize("action", ["status", "append", "cancel"])
@ensureDeferred
async def test_what_another_protocol_may_do(begun: str, action: Action) -> None:
    """The one rule, at the URL that serves every upload."""
    async with memory_service() as service:
        upload = await service.parts.uploads.create(CreateRequest(begun, "n", length=5))
        answer = await ask(service, action, upload.id)
        if may_do("session", action, upload):
            assert answer.status in (200, 204)
        else:
            assert answer.status == 409
            assert begun in answer.json["detail"]


@pytest.mark.parametrize("asked", ["*/5", "*/*"])
@ensureDeferred
async def test_who_looks_from_elsewhere_changes_nothing(asked: str) -> None:
    """``bytes */N`` sets no length, and finishes nothing, where only the protocol it was begun with may do that."""
    async with memory_service() as service:
        uploads = service.parts.uploads
        length = 5 if asked == "*/*" else None
        upload = await uploads.create(CreateRequest("a protocol of tomorrow", "n", length=length))
        body = Body(b"12345", 7, drop=True, stall=False)

        async def refused() -> None:
            raise Unavailable("not now")

        with suppress(Unavailable, Interrupted):
            await uploads.receive(upload, body, Span(0, 5), revalidate=refused)
        before = await uploads.get(upload.id, "")
        answer = await service.ask("PUT", f"/uploads/{upload.id}", [f"Content-Range: bytes {asked}"], b"")
        assert answer.status == 308
        after = await uploads.get(upload.id, "")
        assert (after.state, after.length) == (before.state, before.length)
        assert service.parts.bucket.objects.get("n") is None


async def ask(service: Memory, action: Action, upload_id: str) -> Any:
    if action == "append":
        return await service.ask("PUT", f"/uploads/{upload_id}", ["Content-Range: bytes 0-4/5"], b"12345")
    return await service.ask({"status": "GET", "cancel": "DELETE"}[action], f"/uploads/{upload_id}")
