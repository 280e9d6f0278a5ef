"""tus 1.0.0, row by row: what the protocol's text asks (https://tus.io/protocols/resumable-upload), and what its clients need."""

from __future__ import annotations

import base64
import hashlib
import zlib
from contextlib import suppress
from typing import Any

import crc32c
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.defer import ensureDeferred as started

from resumable.model import Invalid, Unavailable
from resumable.protocols.tus.metadata import read_metadata
from tests.protocols.harness import Answer, Door, Memory, memory_service, parse_answers, until

V = "Tus-Resumable: 1.0.0"
BYTES = "Content-Type: application/offset+octet-stream"
DATA = bytes(range(100)) * 2  # thirteen chunks of the grid, the last one short


def b64(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


async def create(service: Memory, *headers: str, length: int | None = len(DATA), body: bytes | None = None) -> Answer:
    lengths = [] if length is None else [f"Upload-Length: {length}"]
    return await service.ask("POST", "/files/", [V, *lengths, *headers], body)


def path_of(answer: Answer) -> str:
    location = answer.header("Location") or ""
    assert location.startswith("http://test/files/")
    return location.removeprefix("http://test")


async def begin(service: Memory, *headers: str, length: int | None = len(DATA)) -> str:
    made = await create(service, *headers, length=length)
    assert made.status == 201, made
    return path_of(made)


async def patch(service: Memory, path: str, offset: int | str, data: bytes, *headers: str, kind: str = BYTES) -> Answer:
    return await service.ask("PATCH", path, [V, kind, f"Upload-Offset: {offset}", *headers], data)


async def head(service: Memory, path: str) -> Answer:
    return await service.ask("HEAD", path, [V])


async def offset_of(service: Memory, path: str) -> str | None:
    return (await head(service, path)).header("Upload-Offset")


def stored(service: Memory, name: str) -> bytes:
    return service.parts.bucket.objects[name][0]


def nothing_left(service: Memory) -> bool:
    bucket = service.parts.bucket
    return not bucket.multiparts and not bucket.objects


# Core


@ensureDeferred
async def test_a_whole_upload() -> None:
    """POST, PATCH by PATCH, HEAD in between: the object is right."""
    async with memory_service() as service:
        path = await begin(
            service, f"Upload-Metadata: filename {b64('film.mp4')},filetype {b64('video/mp4')},k {b64('v')}"
        )
        offset = 0
        for size in (1, 15, 16, 33, 100, 35):
            answer = await patch(service, path, offset, DATA[offset : offset + size])
            offset += size
            assert (answer.status, answer.header("Upload-Offset"), answer.header("Tus-Resumable")) == (
                204,
                str(offset),
                "1.0.0",
            )
            assert (answer.header("Upload-Expires") is None) is (offset == len(DATA))
            assert await offset_of(service, path) == str(offset)
        assert stored(service, "film.mp4") == DATA
        assert service.parts.bucket.objects["film.mp4"][1]["k"] == "v"
        shown = await service.ask("GET", f"/uploads/{path.rpartition('/')[2]}")
        assert (shown.json["content_type"], shown.json["protocol"]) == ("video/mp4", "tus")


@ensureDeferred
async def test_every_answer_has_the_version_but_that_to_options() -> None:
    async with memory_service() as service:
        path = await begin(service)
        for method, target in (("HEAD", path), ("DELETE", "/files/none"), ("GET", path), ("PUT", path), ("POST", path)):
            assert (await service.ask(method, target, [V])).header("Tus-Resumable") == "1.0.0", method
        assert (await service.ask("OPTIONS", "/files/")).header("Tus-Resumable") is None


@pytest.mark.parametrize("version", [[], ["Tus-Resumable: 0.2.2"], ["Tus-Resumable: 1.0.0 "], ["Tus-Resumable: 2"]])
@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
@ensureDeferred
async def test_another_version(method: str, version: list[str]) -> None:
    """412 and the version that is spoken; nothing is processed."""
    if version == ["Tus-Resumable: 1.0.0 "]:
        pytest.skip("blanks around a value are not part of it")
    async with memory_service() as service:
        path = await begin(service)
        service.authorizer.asked.clear()  # type: ignore[attr-defined]
        target = "/files/" if method == "POST" else path
        answer = await service.ask(method, target, [*version, BYTES, "Upload-Offset: 0", "Upload-Length: 5"], b"hello")
        assert (answer.status, answer.header("Tus-Version")) == (412, "1.0.0")
        assert service.authorizer.asked == []  # type: ignore[attr-defined]
        assert await offset_of(service, path) == "0"


@pytest.mark.parametrize("version", [[], [V], ["Tus-Resumable: 0.0.1"]])
@pytest.mark.parametrize("target", ["/files", "/files/", "/files/some"])
@ensureDeferred
async def test_options(target: str, version: list[str]) -> None:
    door = Door(refused=("create", "append", "status", "cancel"))
    async with memory_service(door) as service:
        answer = await service.ask("OPTIONS", target, version)
        assert (answer.status, answer.header("Tus-Version"), door.asked) == (204, "1.0.0", [])
        extensions = (answer.header("Tus-Extension") or "").split(",")
        assert {
            "creation",
            "creation-with-upload",
            "creation-defer-length",
            "expiration",
            "checksum",
            "termination",
        } <= {*extensions}
        assert answer.header("Tus-Max-Size") == str(service.parts.uploads.policy.max_size)
        assert "sha1" in (answer.header("Tus-Checksum-Algorithm") or "").split(",")


@pytest.mark.parametrize("actual", ["POST", "GET", "PUT"])
@ensureDeferred
async def test_the_method_that_counts(actual: str) -> None:
    """X-HTTP-Method-Override: the actual method is ignored."""
    async with memory_service() as service:
        path = await begin(service)
        headers = [V, BYTES, "Upload-Offset: 0", "X-HTTP-Method-Override: PATCH"]
        answer = await service.ask(actual, path, headers, DATA[:20])
        assert (answer.status, answer.header("Upload-Offset")) == (204, "20")
        gone = await service.ask(actual, path, [V, "X-HTTP-Method-Override: DELETE"])
        assert gone.status == 204
        assert (await head(service, path)).status == 410


@ensureDeferred
async def test_head() -> None:
    """Offset always, length if it is known, no cache; the metadata as it came."""
    async with memory_service() as service:
        written = f"filename {b64('a')},empty,k {b64('v')}"
        path = await begin(service, f"Upload-Metadata: {written}")
        answer = await head(service, path)
        assert (answer.status, answer.body) == (200, b"")
        assert (answer.header("Upload-Offset"), answer.header("Upload-Length")) == ("0", str(len(DATA)))
        assert answer.header("Cache-Control") == "no-store"
        assert answer.header("Upload-Metadata") == written
        assert answer.header("Upload-Expires") is not None
        await patch(service, path, 0, DATA)
        done = await head(service, path)
        assert (done.status, done.header("Upload-Offset"), done.header("Upload-Expires")) == (200, str(len(DATA)), None)


@ensureDeferred
async def test_what_is_not_there() -> None:
    async with memory_service() as service:
        for method, body in (("HEAD", None), ("PATCH", b"x"), ("DELETE", None)):
            answer = await service.ask(method, "/files/none", [V, BYTES, "Upload-Offset: 0"], body)
            assert (answer.status, answer.header("Upload-Offset")) == (404, None)


@pytest.mark.parametrize(
    "kind", ["Content-Type: application/octet-stream", "X: y", "Content-Type: multipart/form-data"]
)
@ensureDeferred
async def test_another_content_type(kind: str) -> None:
    async with memory_service() as service:
        path = await begin(service)
        assert (await patch(service, path, 0, DATA, kind=kind)).status == 415
        assert await offset_of(service, path) == "0"


@pytest.mark.parametrize("offset", [0, 19, 21, 200, 10**18])
@ensureDeferred
async def test_another_offset(offset: int) -> None:
    """409; nothing is changed. The right one is told, for people."""
    async with memory_service() as service:
        path = await begin(service)
        await patch(service, path, 0, DATA[:20])
        answer = await patch(service, path, offset, DATA[20:30])
        assert (answer.status, answer.header("Upload-Offset")) == (409, "20")
        assert await offset_of(service, path) == "20"
        assert (await patch(service, path, 20, DATA[20:])).status == 204
        assert [one[0] for one in service.parts.bucket.objects.values()] == [DATA]


@pytest.mark.parametrize("offset", ["-1", "+0", "0x0", "", "1.0", "٣", "9" * 20, "0, 0"])
@ensureDeferred
async def test_an_offset_that_is_none(offset: str) -> None:
    async with memory_service() as service:
        path = await begin(service)
        line = f"Upload-Offset: {offset}".encode().decode("latin-1")
        assert (await service.ask("PATCH", path, [V, BYTES, line], DATA)).status == 400
        assert (await service.ask("PATCH", path, [V, BYTES], DATA)).status == 400
        assert await offset_of(service, path) == "0"


@ensureDeferred
async def test_more_than_the_length() -> None:
    """Nothing goes past the end."""
    async with memory_service() as service:
        path = await begin(service, length=20)
        answer = await patch(service, path, 0, DATA[:30])
        assert answer.status in (400, 413)
        assert stored_offset(await head(service, path)) <= 20


def stored_offset(answer: Answer) -> int:
    return int(answer.header("Upload-Offset") or -1)


@ensureDeferred
async def test_a_body_that_breaks_off_is_kept() -> None:
    """As much as possible of it."""
    async with memory_service() as service:
        path = await begin(service)
        wire = service.connect()
        wire.send(
            f"PATCH {path} HTTP/1.1\r\nHost: t\r\n{V}\r\n{BYTES}\r\nUpload-Offset: 0\r\nContent-Length: 200\r\n\r\n".encode()
        )
        await until(lambda: wire.channel.requests and not wire.paused)
        wire.send(DATA[:40])
        wire.lose()
        await until_offset(service, path, "40")
        assert (await patch(service, path, 40, DATA[40:])).status == 204


async def until_offset(service: Memory, path: str, offset: str) -> None:
    for _ in range(200):
        if await offset_of(service, path) == offset:
            return
    pytest.fail(f"the offset is {await offset_of(service, path)}")


@ensureDeferred
async def test_the_last_answer_is_lost() -> None:
    """HEAD says that all is there; a PATCH of nothing at the end is well; of something it is not."""
    async with memory_service() as service:
        path = await begin(service)
        await patch(service, path, 0, DATA)
        again = await patch(service, path, len(DATA), b"")
        assert (again.status, again.header("Upload-Offset")) == (204, str(len(DATA)))
        assert (await patch(service, path, 0, DATA)).status == 409
        assert (await patch(service, path, len(DATA), b"x")).status == 409


# Creation


@pytest.mark.parametrize(
    "headers",
    [
        [],
        ["Upload-Length: -1"],
        ["Upload-Length: x"],
        ["Upload-Length: 5", "Upload-Length: 5"],
        ["Upload-Length: 5", "Upload-Defer-Length: 1"],
        ["Upload-Defer-Length: 2"],
        ["Upload-Defer-Length: true"],
    ],
)
@ensureDeferred
async def test_no_length_that_can_be_understood(headers: list[str]) -> None:
    async with memory_service() as service:
        assert (await create(service, *headers, length=None)).status == 400
        assert nothing_left(service)


@ensureDeferred
async def test_too_long() -> None:
    async with memory_service() as service:
        most = service.parts.uploads.policy.max_size
        answer = await create(service, length=most + 1)
        assert (answer.status, answer.header("Tus-Max-Size")) == (413, str(most))


@ensureDeferred
async def test_an_empty_file() -> None:
    """No PATCH follows."""
    async with memory_service() as service:
        path = await begin(service, f"Upload-Metadata: filename {b64('empty')}", length=0)
        assert stored(service, "empty") == b""
        answer = await head(service, path)
        assert (answer.header("Upload-Offset"), answer.header("Upload-Length")) == ("0", "0")


@ensureDeferred
async def test_an_upload_without_a_name_is_called_by_its_id() -> None:
    async with memory_service() as service:
        path = await begin(service, "Upload-Metadata:")  # tuspy sends it empty
        await patch(service, path, 0, DATA)
        assert stored(service, path.rpartition("/")[2]) == DATA


@pytest.mark.parametrize(
    "written",
    [
        "k YQ==,k YQ==",
        "YQ== k,",
        "k !!!",
        "k YQ",
        "filename " + b64(b"\xff"),
        "filename " + b64("a//b"),
        "filename " + b64("x" * 2000),
        "k\xfc YQ==",
        "a\tb:c YQ==",
        "resumable-token " + b64("x"),
        "filetype " + b64("\x01"),
    ],
)
@ensureDeferred
async def test_metadata_that_cannot_be_kept(written: str) -> None:
    async with memory_service() as service:
        answer = await create(service, f"Upload-Metadata: {written}")
        assert answer.status == 400, answer.body
        assert nothing_left(service)


@given(st.binary(max_size=60))
def test_any_metadata(value: bytes) -> None:
    """Read, or refused as the client's fault."""
    with suppress(Invalid):
        read_metadata([value])


@ensureDeferred
async def test_what_the_application_is_asked() -> None:
    door = Door()
    async with memory_service(door) as service:
        path = await begin(service, f"Upload-Metadata: name {b64('n')},type {b64('a/b')}")
        (asked,) = door.asked
        assert (asked.action, asked.name, asked.length, asked.content_type) == ("create", "n", len(DATA), "a/b")
        assert asked.protocol == "tus"
        await patch(service, path, 0, DATA)
        await head(service, path)
        assert [ask.action for ask in door.asked[1:]] == ["append", "append", "status"]
        assert {ask.upload_id for ask in door.asked[1:]} == {path.rpartition("/")[2]}


@ensureDeferred
async def test_a_no_is_passed_on() -> None:
    door = Door(refused=("create",))
    async with memory_service(door) as service:
        answer = await create(service)
        assert (answer.status, answer.body, answer.header("Tus-Resumable")) == (403, b"not you", "1.0.0")


@ensureDeferred
async def test_another_owners_is_not_there() -> None:
    door = Door(owner="alice")
    async with memory_service(door) as service:
        path = await begin(service)
        door.owner = "mallory"
        assert (await head(service, path)).status == 404
        assert (await patch(service, path, 0, DATA)).status == 404
        assert (await service.ask("DELETE", path, [V])).status == 404


# Creation with upload


@pytest.mark.parametrize("size", [1, 16, 40, len(DATA)])
@ensureDeferred
async def test_bytes_with_the_creation(size: int) -> None:
    async with memory_service() as service:
        made = await create(service, BYTES, f"Upload-Metadata: name {b64('n')}", body=DATA[:size])
        assert (made.status, made.header("Upload-Offset")) == (201, str(size))
        path = path_of(made)
        assert await offset_of(service, path) == str(size)
        if size < len(DATA):
            assert (await patch(service, path, size, DATA[size:])).status == 204
        assert stored(service, "n") == DATA


@ensureDeferred
async def test_bytes_of_another_type_with_the_creation() -> None:
    async with memory_service() as service:
        assert (await create(service, "Content-Type: text/plain", body=b"hello")).status == 415
        assert nothing_left(service)
        made = await create(service, "Content-Type: application/octet-stream", body=b"")  # aiotus
        assert made.status == 201


@ensureDeferred
async def test_more_bytes_than_it_is_said_to_have() -> None:
    """Nobody was told of the upload: nothing of it is left."""
    async with memory_service() as service:
        assert (await create(service, BYTES, length=5, body=DATA)).status in (400, 413)
        await until(lambda: nothing_left(service))


@pytest.mark.parametrize("vanishes", [True, False])
@pytest.mark.parametrize("size", [5, 40])
@ensureDeferred
async def test_a_creation_that_breaks_off(size: int, vanishes: bool) -> None:
    """Its client does not know where the upload is, and nobody ever will: nothing of it is left."""
    async with memory_service() as service:
        wire = service.connect()
        lines = [V, BYTES, "Upload-Length: 200", "Content-Length: 200", f"Upload-Metadata: name {b64('n')}", "Host: t"]
        wire.send("\r\n".join(["POST /files/ HTTP/1.1", *lines, "", ""]).encode())
        await until(lambda: wire.channel.requests and wire.channel.requests[-1]._outlet is not None)
        wire.send(DATA[:size])
        await until(lambda: size < 16 or not nothing_left(service))
        if vanishes:
            wire.lose()
        else:
            wire.clock.advance(31)
            await until(lambda: parse_answers(wire.said))
            assert parse_answers(wire.said)[-1].status == 408
        await until_none_lives(service)
        await until(lambda: nothing_left(service))


async def until_none_lives(service: Memory) -> None:
    for _ in range(500):
        upload = await service.parts.ledger.find("", "n", "tus")
        if upload is None or not upload.live:
            return
    pytest.fail("an upload is left")


@pytest.mark.parametrize(("length", "call"), [(0, "put_object"), (10, "put_object"), (200, "upload_part")])
@ensureDeferred
async def test_a_creation_whose_bytes_are_not_stored(length: int, call: str) -> None:
    """The client is told 503 and no Location, and begins again. The first upload is not in its way, and is freed."""
    async with memory_service() as service:
        service.parts.uploads._store.trouble.append((call, "before"))  # type: ignore[attr-defined]
        kind, name = ([BYTES] if length else []), f"Upload-Metadata: name {b64('n')}"
        body = DATA[:length] if length else None
        refused = await create(service, *kind, name, length=length, body=body)
        assert (refused.status, refused.header("Location")) == (503, None)
        await until_none_lives(service)
        await until(lambda: nothing_left(service))
        assert (await create(service, *kind, name, length=length, body=body)).status == 201
        assert stored(service, "n") == DATA[:length]


# Deferred length


@ensureDeferred
async def test_a_length_that_is_said_later() -> None:
    async with memory_service() as service:
        path = await begin(service, "Upload-Defer-Length: 1", f"Upload-Metadata: name {b64('n')}", length=None)
        answer = await head(service, path)
        assert (answer.header("Upload-Defer-Length"), answer.header("Upload-Length")) == ("1", None)
        await patch(service, path, 0, DATA[:50])
        assert (await head(service, path)).header("Upload-Defer-Length") == "1"
        said = await patch(service, path, 50, DATA[50:100], f"Upload-Length: {len(DATA)}")
        assert said.status == 204
        answer = await head(service, path)
        assert (answer.header("Upload-Defer-Length"), answer.header("Upload-Length")) == (None, str(len(DATA)))
        assert (await patch(service, path, 100, DATA[100:], "Upload-Length: 300")).status == 400
        assert await offset_of(service, path) == "100"
        assert (await patch(service, path, 100, DATA[100:])).status == 204
        assert stored(service, "n") == DATA


@ensureDeferred
async def test_a_length_that_is_said_with_the_last_bytes_and_alone() -> None:
    async with memory_service() as service:
        path = await begin(service, "Upload-Defer-Length: 1", f"Upload-Metadata: name {b64('n')}", length=None)
        assert (await patch(service, path, 0, DATA)).header("Upload-Offset") == str(len(DATA))
        ended = await patch(service, path, len(DATA), b"", f"Upload-Length: {len(DATA)}")
        assert (ended.status, ended.header("Upload-Offset")) == (204, str(len(DATA)))
        assert stored(service, "n") == DATA


# Checksum

DIGESTS = {
    "sha1": lambda data: hashlib.sha1(data).digest(),
    "sha256": lambda data: hashlib.sha256(data).digest(),
    "sha512": lambda data: hashlib.sha512(data).digest(),
    "md5": lambda data: hashlib.md5(data).digest(),
    "crc32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
    "crc32c": lambda data: crc32c.crc32c(data).to_bytes(4, "big"),
}


@pytest.mark.parametrize("algorithm", DIGESTS)
@ensureDeferred
async def test_a_checksum(algorithm: str) -> None:
    """460 where it does not fit, and the offset is as before; then the right bytes are taken."""
    async with memory_service() as service:
        path = await begin(service, f"Upload-Metadata: name {b64('n')}")
        right = f"Upload-Checksum: {algorithm} {b64(DIGESTS[algorithm](DATA[:50]))}"
        wrong = await patch(service, path, 0, DATA[1:51], right)
        assert (wrong.status, await offset_of(service, path)) == (460, "0")
        assert (await patch(service, path, 0, DATA[:50], right)).status == 204
        last = f"Upload-Checksum: {algorithm} {b64(DIGESTS[algorithm](DATA[50:]))}"
        wrong = await patch(service, path, 50, DATA[50:-1] + b"!", last)
        assert (wrong.status, await offset_of(service, path)) == (460, "50")
        assert "n" not in service.parts.bucket.objects
        assert (await patch(service, path, 50, DATA[50:], last)).status == 204
        assert stored(service, "n") == DATA


@pytest.mark.parametrize("line", ["md4 YQ==", "sha1", "sha1 !", "sha1 YQ", "", "YQ=="])
@ensureDeferred
async def test_a_checksum_that_is_none(line: str) -> None:
    async with memory_service() as service:
        path = await begin(service)
        answer = await patch(service, path, 0, DATA[:50], f"Upload-Checksum: {line}")
        assert answer.status in (400, 460)
        assert await offset_of(service, path) == "0"


@pytest.mark.parametrize("right", [True, False])
@ensureDeferred
async def test_a_checksum_with_the_creation(right: bool) -> None:
    async with memory_service() as service:
        line = f"Upload-Checksum: sha1 {b64(hashlib.sha1(DATA[:40] if right else b'').digest())}"
        made = await create(service, BYTES, line, body=DATA[:40])
        assert made.status == (201 if right else 460)
        if not right:
            await until(lambda: nothing_left(service))


@pytest.mark.parametrize("right", [True, False])
@ensureDeferred
async def test_a_checksum_in_a_trailer(right: bool) -> None:
    async with memory_service() as service:
        path = await begin(service)
        digest = b64(hashlib.sha1(DATA[:40] if right else b"").digest())
        answer = await chunked(service, path, DATA[:40], f"Upload-Checksum: sha1 {digest}")
        assert answer.status == (204 if right else 460)
        assert await offset_of(service, path) == ("40" if right else "0")


@ensureDeferred
async def test_a_trailer_that_does_not_come() -> None:
    async with memory_service() as service:
        path = await begin(service)
        assert (await chunked(service, path, DATA[:40], None)).status == 400
        assert await offset_of(service, path) == "0"


async def chunked(service: Memory, path: str, data: bytes, trailer: str | None) -> Answer:
    wire = service.connect()
    lines = [V, BYTES, "Upload-Offset: 0", "Transfer-Encoding: chunked", "Trailer: Upload-Checksum", "Host: t"]
    wire.send("\r\n".join([f"PATCH {path} HTTP/1.1", *lines, "", ""]).encode())
    wire.send(b"%x\r\n%s\r\n0\r\n%s\r\n" % (len(data), data, b"" if trailer is None else trailer.encode() + b"\r\n"))
    await until(lambda: parse_answers(wire.said))
    return parse_answers(wire.said)[-1]


# Expiration and termination


@ensureDeferred
async def test_termination() -> None:
    """Its resources are freed; afterwards it is gone."""
    async with memory_service() as service:
        path = await begin(service)
        await patch(service, path, 0, DATA[:50])
        assert (await service.ask("DELETE", path, [V])).status == 204
        await until(lambda: nothing_left(service))
        for method in ("HEAD", "PATCH", "DELETE"):
            answer = await service.ask(
                method, path, [V, BYTES, "Upload-Offset: 50"], None if method != "PATCH" else DATA[50:]
            )
            assert (answer.status, answer.header("Upload-Offset")) == (410, None)


@ensureDeferred
async def test_termination_of_a_finished_upload() -> None:
    """It is gone for its client. The object is the application's, and stays."""
    async with memory_service() as service:
        path = await begin(service, f"Upload-Metadata: name {b64('n')}")
        await patch(service, path, 0, DATA)
        assert (await service.ask("DELETE", path, [V])).status == 204
        assert (await head(service, path)).status == 410
        assert stored(service, "n") == DATA


@ensureDeferred
async def test_one_that_has_expired() -> None:
    async with memory_service() as service:
        path = await begin(service)
        upload = await service.parts.uploads.get(path.rpartition("/")[2], "")
        assert await service.parts.uploads.expire(upload, untouched_since=upload.updated + 1)
        assert (await head(service, path)).status == 410


# Trouble


@ensureDeferred
async def test_to_head_passing_trouble_is_no_5xx(monkeypatch: pytest.MonkeyPatch) -> None:
    """tus-js-client would begin again at byte 0."""
    async with memory_service() as service:
        path = await begin(service)

        async def trouble(*_: Any, **__: Any) -> Any:
            raise Unavailable("the ledger is away")

        monkeypatch.setattr(service.parts.ledger, "get", trouble)
        assert (await head(service, path)).status == 423
        answer = await patch(service, path, 0, DATA)
        assert (answer.status, answer.header("Retry-After")) == (503, "5")


@ensureDeferred
async def test_two_that_bring_the_same() -> None:
    """The newer ends the older, which may have stored it all: both ask how far it is, and nothing is there twice."""
    async with memory_service() as service:
        path = await begin(service, f"Upload-Metadata: name {b64('n')}")
        both: list[Deferred[Answer]] = [started(patch(service, path, 0, DATA[:30])) for _ in range(2)]
        assert {(await one).status for one in both} <= {204, 409}
        offset = stored_offset(await head(service, path))
        assert offset in (0, 30)
        assert (await patch(service, path, offset, DATA[offset:])).status == 204
        assert stored(service, "n") == DATA


NAMES = ["Tus-Resumable", "Upload-Length", "Upload-Offset", "Upload-Metadata", "Upload-Defer-Length", "Upload-Checksum",
         "Upload-Concat", "X-HTTP-Method-Override", "Content-Type", "Trailer"]  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(
        ["1.0.0", "0", "1", "5", "sha1 YQ==", "PATCH", "DELETE", "k YQ==", "application/offset+octet-stream", "final;a"]
    ),
    st.text(st.characters(min_codepoint=33, max_codepoint=255, exclude_characters="\x7f"), max_size=12),
)


@ensureDeferred
async def test_any_headers() -> None:
    """Never a 500, never a traceback."""
    async with memory_service() as service:
        path = await begin(service)
        made: list[tuple[list[tuple[str, str]], str]] = []

        @settings(max_examples=150, deadline=None, database=None, derandomize=True)
        @given(
            st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=6),
            st.sampled_from(["POST", "PATCH", "HEAD", "DELETE"]),
        )
        def examples(headers: list[tuple[str, str]], method: str) -> None:
            made.append((headers, method))

        examples()
        for headers, method in made:
            lines = [V, *(f"{name}: {value}" for name, value in headers)]
            body = b"hello" if method in ("POST", "PATCH") else None
            answer = await service.ask(method, "/files/" if method == "POST" else path, lines, body)
            assert answer.status < 500, (headers, method)
