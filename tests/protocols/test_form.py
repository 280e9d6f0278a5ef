"""HTML forms: each file an upload, fields as metadata, and nothing half done however the form ends."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from sqlalchemy import select

from resumable.callbacks.formats import HookResult
from resumable.ledger.schema import uploads
from resumable.model import State
from resumable.protocols.form.fields import FIELD_LIMIT, FIELDS_LIMIT, MOST_FIELDS
from resumable.protocols.form.protocol import BESIDE
from resumable.protocols.multipart_events import PART_HEADERS_LIMIT, PREAMBLE_LIMIT
from resumable.protocols.registry import PROTOCOLS, make_protocols
from resumable.protocols.results import Results
from resumable.web.router import Router
from tests.protocols.harness import Answer, Door, Memory, memory_service, parse_answers, until
from tests.uploads.wiring import CHUNK
from tests.web.wire import Wire, chunked

TYPE = "Content-Type: multipart/form-data; boundary=b"
END = b"--b--\r\n"
DATA = random.Random(5).randbytes(20 * CHUNK + 5)


def part(name: str, value: bytes, filename: str | None = None, *headers: str) -> bytes:
    """One part, up to the next boundary."""
    lines = [f'Content-Disposition: form-data; name="{name}"', *headers]
    if filename is not None:
        lines[0] += f'; filename="{filename}"'
    return b"--b\r\n" + "\r\n".join([*lines, "", ""]).encode() + value + b"\r\n"


async def send(service: Memory, *parts: bytes, to: str = "/upload", headers: Sequence[str] = (TYPE,)) -> Answer:
    return await service.ask("POST", to, headers, b"".join(parts))


def stored(service: Memory) -> dict[str, bytes]:
    return {key: data for key, (data, _) in service.parts.bucket.objects.items()}


async def nothing_else(service: Memory, *keys: str) -> None:
    """These objects are there, and nothing of anything else: no parts, no fragments, no upload that still lives."""
    await until(lambda: set(stored(service)) == set(keys))
    await until(lambda: not service.parts.bucket.multiparts)
    await until(lambda: not service.parts.uploads.writing._writers)
    query = select(uploads.c.state, uploads.c.key)
    for _ in range(500):
        rows = await service.parts.ledger._database.read(lambda c: c.execute(query).all())
        if {State(state) for state, _ in rows} <= {State.FINISHED, State.CANCELLED}:
            break
    else:
        pytest.fail(f"there is more in the ledger: {rows}")
    assert sorted(key for state, key in rows if state == State.FINISHED.value) == sorted(keys)
    budget = service.parts.uploads._deps.budget
    await until(lambda: budget.held == 0)


@ensureDeferred
async def test_one_file() -> None:
    door = Door(owner="alice")
    async with memory_service(door) as service:
        file = part("file", DATA, "film.mp4", "Content-Type: video/mp4", "Content-Transfer-Encoding: binary")
        answer = await send(service, part("title", "naïve".encode()), part("_charset_", b"UTF-8"), file, END)
        assert answer.status == 200
        said = answer.json
        assert said == {
            **said,
            "state": "finished",
            "protocol": "form",
            "owner": "alice",
            "name": "film.mp4",
            "size": len(DATA),
            "content_type": "video/mp4",
            "metadata": {"title": "naïve"},
        }
        assert stored(service) == {"alice/film.mp4": DATA}
        ask = door.asked[0]
        assert (ask.action, ask.protocol, ask.name, ask.length) == ("create", "form", "film.mp4", None)
        assert (ask.content_type, ask.method, ask.uri) == ("video/mp4", "POST", "/upload")
        # It is shown as any other, and nobody goes on with it.
        assert (await service.ask("GET", f"/uploads/{said['id']}")).json == said


@ensureDeferred
async def test_several_files() -> None:
    """Each is an upload; a field belongs to the files behind it."""
    async with memory_service() as service:
        parts = [part("k", b"1"), part("a", DATA, "a"), part("none", b"", ""), part("l", b"2"), part("b", b"", "b")]
        answer = await send(service, *parts, part("c", b"c", "c"), part("submit", b"Send"), END)
        assert answer.status == 200
        found = [(one["name"], one["size"], one["metadata"]) for one in answer.json["uploads"]]
        assert found == [("a", len(DATA), {"k": "1"}), ("b", 0, {"k": "1", "l": "2"}), ("c", 1, {"k": "1", "l": "2"})]
        assert stored(service) == {"a": DATA, "b": b"", "c": b"c"}


@pytest.mark.parametrize(
    ("to", "filename", "key"),
    [
        ("/upload", "a/b/c.txt", "c.txt"),
        ("/upload/", r"C:\dir\c.txt", "c.txt"),
        ("/upload/n%20n/m", "c.txt", "n n/m"),
        ("/upload/folder/", "c.txt", "folder/c.txt"),
        ("/upload/folder%2F", "%22c%22.txt", 'folder/"c".txt'),
        ("/upload", "x\"; filename*=UTF-8''na%C3%AFve", "naïve"),
    ],
)
@ensureDeferred
async def test_names(to: str, filename: str, key: str) -> None:
    async with memory_service() as service:
        filename = filename.removesuffix('"')
        answer = await send(service, part("f", b"1", filename).replace(b've"', b"ve"), END, to=to)
        assert answer.status == 200, answer.body
        assert stored(service) == {key: b"1"}


@ensureDeferred
async def test_a_second_file_for_one_name() -> None:
    """What was stored is said with the refusal."""
    async with memory_service() as service:
        files = [part("f", b"1", "a"), part("f", b"2", "b")]
        answer = await send(service, *files, END, to="/upload/n")
        assert (answer.status, [one["name"] for one in answer.json["uploads"]]) == (400, ["n"])
        await nothing_else(service, "n")
        assert stored(service) == {"n": b"1"}


@ensureDeferred
async def test_two_files_of_the_same_name() -> None:
    """The second does not take the first one's place."""
    async with memory_service() as service:
        answer = await send(service, part("f", b"1", "image.jpg"), part("f", b"2", "image.jpg"), END)
        assert (answer.status, [one["size"] for one in answer.json["uploads"]]) == (400, [1])
        assert stored(service) == {"image.jpg": b"1"}


BAD: list[tuple[str, list[bytes], int]] = [
    ("no file", [part("k", b"v"), END], 400),
    ("bytes without a name", [part("f", b"x", ""), END], 400),
    ("nothing", [END], 400),
    ("empty", [], 400),
    ("no form", [b"x" * (PREAMBLE_LIMIT + 1)], 400),
    ("no name", [b"--b\r\n\r\nx\r\n", part("f", b"1", "a"), END], 400),
    ("long field", [part("k", b"v" * (FIELD_LIMIT + 1)), part("f", b"1", "a"), END], 413),
    ("long fields", [*[part(f"k{n}", b"v" * FIELD_LIMIT) for n in range(1 + FIELDS_LIMIT // FIELD_LIMIT)], END], 413),
    ("many fields", [*[part(f"k{n}", b"") for n in range(MOST_FIELDS + 1)], END], 413),
    ("metadata too large", [part("k", b"v" * 2000), part("f", b"1", "a"), END], 400),
    ("a field twice", [part("k", b"1"), part("k", b"2"), part("f", b"1", "a"), END], 400),
    ("a field's name", [part("k[]", b"1"), part("f", b"1", "a"), END], 400),
    ("a reserved name", [part("resumable-token", b"1"), part("f", b"1", "a"), END], 400),
    ("a field with lines", [part("k", b"1\r\n2"), part("f", b"1", "a"), END], 400),
    ("a field that is no UTF-8", [part("k", b"\xe4"), part("f", b"1", "a"), END], 400),
    ("long headers", [part("f", b"1", "a" * PART_HEADERS_LIMIT), END], 400),
    ("a long name", [part("f", b"1", "a" * 1025), END], 400),
    ("no last segment", [part("f", b"1", "a/"), END], 400),
    ("dots", [part("f", b"1", "a/.."), END], 400),
    ("a name that is no UTF-8", [part("f", b"1", "a").replace(b'"a"', b'"\xe4"'), END], 400),
    ("a type", [part("f", b"1", "a", "Content-Type: x\x01y"), END], 400),
    ("base64", [part("f", b"1", "a", "Content-Transfer-Encoding: base64"), END], 415),
    ("quoted-printable", [part("f", b"1", "a", "Content-Transfer-Encoding: Quoted-Printable"), END], 415),
]


@pytest.mark.parametrize(("parts", "status"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
@ensureDeferred
async def test_bad_forms(parts: list[bytes], status: int) -> None:
    """Each is refused as a problem, and nothing is created; sent behind a file, that file stays."""
    async with memory_service() as service:
        answer = await send(service, *parts)
        assert (answer.status, answer.header("Content-Type")) == (status, "application/problem+json"), answer.body
        await nothing_else(service)
        if len(parts) < 2 or b"filename" not in b"".join(parts):
            return
        later = await send(service, part("f", DATA, "first"), *parts)
        assert (later.status, later.json["uploads"][0]["name"]) == (status, "first")
        await nothing_else(service, "first")


@ensureDeferred
async def test_no_file_chosen() -> None:
    """What a browser sends for an empty file field is no upload."""
    nothing = part("f", b"", "", "Content-Type: application/octet-stream")
    async with memory_service() as service:
        assert (await send(service, nothing, END)).status == 400
        await nothing_else(service)
        assert (await send(service, nothing, part("f", b"1", "a"), nothing, END)).json["name"] == "a"


@pytest.mark.parametrize(
    ("method", "target", "headers", "status"),
    [
        ("POST", "/upload", [], 415),
        ("POST", "/upload", ["Content-Type: application/x-www-form-urlencoded"], 415),
        ("POST", "/upload", ["Content-Type: multipart/form-data"], 400),
        ("POST", "/upload", ["Content-Type: multipart/form-data; boundary="], 400),
        ("POST", "/upload", [f"Content-Type: multipart/form-data; boundary={'b' * 71}"], 400),
        ("POST", "/upload", [TYPE, "Content-Encoding: gzip"], 415),
        ("POST", "/upload/..", [TYPE], 400),
        ("POST", "/upload/%ff", [TYPE], 400),
        ("GET", "/upload", [], 405),
        ("PUT", "/upload", [TYPE], 405),
        # As before: what is no form is the protocol `put`'s.
        ("POST", "/upload/n", ["Content-Type: application/x-www-form-urlencoded"], 405),
        ("POST", "/upload/n", [], 405),
        ("PUT", "/upload/n", [TYPE], 200),
    ],
)
@ensureDeferred
async def test_what_is_no_form(method: str, target: str, headers: list[str], status: int) -> None:
    async with memory_service() as service:
        assert (await service.ask(method, target, headers, part("f", b"1", "a") + END)).status == status


@ensureDeferred
async def test_a_client_that_goes_away() -> None:
    """At any byte: the upload that was under way is given up, those whose part was whole stay."""
    body = part("k", b"v") + part("a", DATA[:CHUNK], "a") + part("b", DATA[: 3 * CHUNK + 1], "b") + END
    first = body.index(b"--b", body.index(b'filename="a"')) + 5
    for cut in [*range(0, len(body), 7), len(body) - 3, len(body) - 2]:
        async with memory_service() as service:
            wire = service.connect()
            wire.send(request_head(len(body)) + body[:cut])
            await until(lambda wire=wire: is_waiting(wire))
            wire.lose()
            await nothing_else(service, *(["a"] if cut >= first else []), *(["b"] if cut >= len(body) - 2 else []))


def request_head(length: int) -> bytes:
    return f"POST /upload HTTP/1.1\r\nHost: test\r\n{TYPE}\r\nContent-Length: {length}\r\n\r\n".encode()


def is_waiting(wire: Wire) -> bool:
    """Whether the service has taken all that was sent, and wants more."""
    return not wire.paused and bool(wire.channel.requests)


@pytest.mark.parametrize("call", ["upload_part", "complete_multipart_upload", "put_object"])
@ensureDeferred
async def test_a_store_in_trouble(call: str) -> None:
    """503, and what was not told to anybody is not there: sent again, the form is a new one."""
    async with memory_service() as service:
        data = DATA[: CHUNK - 1] if call == "put_object" else DATA
        store: Any = service.parts.uploads._store
        store.trouble = [(call, "before")] * 50
        answer = await send(service, part("f", data, "f"), END)
        assert answer.status == 503, answer.body
        assert answer.header("Retry-After")
        store.trouble = []
        await nothing_else(service)
        answer = await send(service, part("f", data, "f"), END)
        assert answer.status == 200
        assert stored(service) == {"f": data}


@ensureDeferred
async def test_a_no_of_the_application() -> None:
    """Before the bytes it is passed on as it is; at the end there is no object."""
    door = Door(refused=("create",))
    async with memory_service(door) as service:
        answer = await send(service, part("f", DATA, "f"), END)
        assert (answer.status, answer.body) == (403, b"not you")
        await nothing_else(service)

    class Fickle(Door):
        async def authorize(self, ask: Any) -> Any:
            self.refused = ("create",) if self.asked else ()
            return await super().authorize(ask)

    async with memory_service(Fickle()) as service:
        answer = await send(service, part("f", DATA, "f"), END)
        assert answer.status == 403
        await nothing_else(service)


@ensureDeferred
async def test_too_large() -> None:
    async with memory_service(Door(max_size=100)) as service:
        answer = await send(service, part("a", DATA[:100], "a"), part("b", DATA[:101], "b"), END)
        assert (answer.status, len(answer.json["uploads"])) == (413, 1)
        await nothing_else(service, "a")


@pytest.mark.parametrize(("to", "early"), [("/upload/n", True), ("/upload", False)])
@ensureDeferred
async def test_too_large_by_content_length(to: str, early: bool) -> None:
    """Where one file can come, a form that is much too long is refused before its bytes; several may be so long together."""
    async with memory_service(Door(max_size=100)) as service:
        wire = service.connect()
        began = part("f", DATA[:50], "f")[:-2]
        head = request_head(BESIDE + 100 + len(began) + 1).replace(b"/upload", to.encode())
        wire.send(head + began)
        if early:
            await until(lambda: parse_answers(wire.said))
            assert parse_answers(wire.said)[0].status == 413
        else:
            await until(lambda: is_waiting(wire))
        wire.lose()
        await nothing_else(service)


@pytest.mark.parametrize(
    ("allowed", "where", "goes"),
    [
        ((), "https://app.example.com/done", False),
        (("https://app.example.com/done",), "https://app.example.com/done?x=1", True),
        (("https://app.example.com/",), "https://app.example.com.evil.com/", False),
        (("https://app.example.com/",), "https://evil.com/", False),
        (("https://app.example.com/",), "/done", False),
        (("https://app.example.com/",), "javascript:alert(1)", False),
    ],
)
@ensureDeferred
async def test_redirect(allowed: tuple[str, ...], where: str, goes: bool) -> None:
    """Only where the application allows it; else the field is ignored. It is never metadata."""
    async with memory_service(Door(redirect=allowed)) as service:
        answer = await send(service, part("f", b"1", "f"), part("redirect", where.encode()), END)
        if goes:
            assert (answer.status, answer.header("Location")) == (303, where)
        else:
            assert (answer.status, answer.header("Location"), answer.json["metadata"]) == (200, None, {})
        assert stored(service) == {"f": b"1"}


@ensureDeferred
async def test_waiting_for_the_application() -> None:
    """What it says to one file is the answer; to several, the first that is no yes; a no wins over the redirect."""
    says = {
        "a": HookResult(True, 201, (), b"created"),
        "b": HookResult(True, 202, (), b"later"),
        "c": HookResult(False, 422, (), b"bad"),
    }

    async def hear(upload_id: str) -> HookResult:
        return says[(await service.parts.uploads.get(upload_id, "")).name]

    door = Door(redirect=("https://app/",))
    async with memory_service(door) as service:
        names = [name for name, _ in PROTOCOLS]
        service.router = Router(make_protocols(names, service.parts.uploads, door, Results(hear)), {})
        one = await send(service, part("a", b"1", "a"), END)
        assert (one.status, one.body) == (201, b"created")
        two = await send(service, part("a", b"1", "a"), part("b", b"1", "b"), END)
        assert (two.status, len(two.json["uploads"])) == (200, 2)
        redirected = await send(service, part("a", b"1", "a"), part("redirect", b"https://app/ok"), END)
        assert redirected.status == 303
        three = await send(
            service, part("a", b"1", "a"), part("c", b"1", "c"), part("redirect", b"https://app/ok"), END
        )
        assert (three.status, three.body) == (422, b"bad")


@pytest.mark.parametrize("seed", range(20))
@ensureDeferred
async def test_however_the_network_cuts(seed: int) -> None:
    """The same objects, in one segment or many, with Content-Length or chunked."""
    chance = random.Random(seed)
    files = [b"\r\n--bx" + chance.randbytes(chance.randrange(5 * CHUNK)) for _ in range(chance.randrange(1, 4))]
    body = b"preamble\r\n" + b"".join(part("f", file, f"f{n}") for n, file in enumerate(files)) + END + b"epilogue"
    cuts = sorted({0, len(body), *(chance.randrange(len(body)) for _ in range(chance.randrange(20)))})
    segments = [body[first:last] for first, last in pairwise(cuts)]
    async with memory_service() as service:
        wire = service.connect()
        if seed % 2:
            head = request_head(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
            wire.send(head, chunked(*segments))
        else:
            wire.send(request_head(len(body)), *segments)
        await until(lambda: parse_answers(wire.said))
        assert parse_answers(wire.said)[0].status == 200, wire.said
        assert stored(service) == {f"f{n}": file for n, file in enumerate(files)}
        await nothing_else(service, *stored(service))


@ensureDeferred
async def test_problems_are_json_for_programs() -> None:
    async with memory_service() as service:
        answer = await send(service, part("k", b"v"), END)
        assert json.loads(answer.body)["detail"].startswith("the form has no file")
