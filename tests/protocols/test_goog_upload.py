"""X-Goog-Upload on the wire: each command, each service's own form, and what comes wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred

from tests.protocols.harness import Answer, Door, Memory, memory_service, parse_answers, until

DATA = bytes(range(100))
START = "X-Goog-Upload-Command: start"
RESUMABLE = "X-Goog-Upload-Protocol: resumable"
FIREBASE = "/v0/b/my-bucket/o?name=a%2Fb.txt"
GEMINI = "/upload/v1beta/files"
PHOTOS = "/v1/uploads"


def goog(answer: Answer) -> tuple[int, str | None, str | None]:
    return answer.status, answer.header("X-Goog-Upload-Status"), answer.header("X-Goog-Upload-Size-Received")


def stored(service: Memory, name: str) -> bytes:
    return bytes(service.parts.bucket.objects[name][0])


async def start(service: Memory, target: str = FIREBASE, *more: str, body: bytes = b"") -> str:
    """The path of the upload's URL."""
    answer = await service.ask("POST", target, [RESUMABLE, START, *more], body)
    assert goog(answer) == (200, "active", None)
    assert answer.header("X-Goog-Upload-Chunk-Granularity") == "262144"
    url = str(answer.header("X-Goog-Upload-URL"))
    assert answer.header("X-Goog-Upload-Control-URL") == url
    return url.removeprefix("http://test")


async def command(service: Memory, url: str, word: str, offset: int | None = None, body: bytes = b"") -> Answer:
    headers = [f"X-Goog-Upload-Command: {word}"]
    if offset is not None:
        headers.append(f"X-Goog-Upload-Offset: {offset}")
    return await service.ask("POST", url, headers, body)


@pytest.mark.parametrize("length", [["X-Goog-Upload-Header-Content-Length: 100"], []])
@ensureDeferred
async def test_firebase(length: list[str]) -> None:
    """As ``uploadBytesResumable`` does it, with the length known and unknown."""
    async with memory_service() as service:
        said = json.dumps({"name": "a/b.txt", "contentType": "text/plain", "metadata": {"k": "v"}}).encode()
        url = await start(service, FIREBASE, *length, body=said)
        assert url.startswith("/v0/b/my-bucket/o?upload_id=")
        assert goog(await command(service, url, "query")) == (200, "active", "0")
        assert goog(await command(service, url, "upload", 0, DATA[:40])) == (200, "active", "40")
        assert goog(await command(service, url, "query")) == (200, "active", "40")
        last = await command(service, url, "upload, finalize", 40, DATA[40:])
        assert goog(last) == (200, "final", "100")
        shown = last.json
        assert (shown["name"], shown["bucket"], shown["size"]) == ("a/b.txt", "my-bucket", "100")
        assert (shown["contentType"], shown["metadata"], shown["metageneration"]) == ("text/plain", {"k": "v"}, "1")
        assert "downloadTokens" not in shown
        assert shown["generation"].isdecimal()
        assert len(shown["crc32c"]) == 8
        assert stored(service, "a/b.txt") == DATA
        # The answer was lost: all ways to ask for it again give it.
        for again in (
            await command(service, url, "upload, finalize", 40, DATA[40:]),
            await command(service, url, "finalize"),
            await command(service, url, "query"),
        ):
            assert (goog(again), again.json) == ((200, "final", "100"), shown)
        assert (await command(service, url, "upload, finalize", 40, bytes(60))).status == 409
        assert goog(await command(service, url, "cancel"))[:2] == (400, "final")


@ensureDeferred
async def test_gemini() -> None:
    """It repeats the headers of the start with each piece; the command alone counts."""
    async with memory_service() as service:
        more = ["X-Goog-Upload-Header-Content-Length: 100", "X-Goog-Upload-Header-Content-Type: text/plain"]
        said = b'{"file": {"name": "files/mine", "displayName": "Mine", "mimeType": "text/x", "sizeBytes": 100}}'
        url = await start(service, GEMINI, *more, "X-Goog-Upload-File-Name: /home/me/clip.txt", body=said)
        again = [RESUMABLE, *more, "X-Goog-Upload-Command: upload", "X-Goog-Upload-Offset: 0"]
        assert goog(await service.ask("POST", url, again, DATA[:64])) == (200, "active", "64")
        again[-2:] = ["X-Goog-Upload-Command: upload, finalize", "X-Goog-Upload-Offset: 64"]
        last = await service.ask("POST", url, again, DATA[64:])
        assert goog(last) == (200, "final", "100")
        file = last.json["file"]
        assert (file["name"], file["displayName"], file["mimeType"]) == ("files/mine", "clip.txt", "text/x")
        assert (file["sizeBytes"], file["state"]) == ("100", "ACTIVE")
        assert stored(service, "clip.txt") == DATA
        shown = await service.ask("GET", file["uri"].removeprefix("http://test"))
        assert shown.json["protocol"] == "goog-upload"


@ensureDeferred
async def test_photos() -> None:
    """Its last answer is a token."""
    async with memory_service() as service:
        more = [
            "X-Goog-Upload-Content-Type: image/jpeg",
            "X-Goog-Upload-Raw-Size: 100",
            "X-Goog-Upload-File-Name: a.jpg",
        ]
        url = await start(service, PHOTOS, *more)
        last = await command(service, url, "upload, finalize", 0, DATA)
        assert (goog(last)[:2], last.header("Content-Type")) == ((200, "final"), "text/plain")
        assert last.body.decode() in url
        raw = ["X-Goog-Upload-Protocol: raw", "Content-Type: image/png", "X-Goog-Upload-File-Name: b.png"]
        assert goog(await service.ask("POST", PHOTOS, raw, DATA)) == (200, "final", "100")
        assert stored(service, "a.jpg") == stored(service, "b.png") == DATA


@ensureDeferred
async def test_raw_in_chunks() -> None:
    async with memory_service() as service:
        wire = service.connect()
        head = (
            "POST /upload/n HTTP/1.1\r\nHost: test\r\nX-Goog-Upload-Protocol: raw\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        wire.send(head.encode() + b"64\r\n" + DATA + b"\r\n0\r\n\r\n")
        await until(lambda: parse_answers(wire.said))
        assert parse_answers(wire.said)[0].json["name"] == "n"
        assert stored(service, "n") == DATA
        assert (await service.ask("POST", "/upload/n", ["X-Goog-Upload-Protocol: raw"])).status == 411


RELATED = ["X-Goog-Upload-Protocol: multipart", "Content-Type: multipart/related; boundary=x"]
JSON_PART = b'--x\r\nContent-Type: application/json; charset=utf-8\r\n\r\n{"name": "a/b.txt", "metadata": {"k": "v"}}'
FILE_PART = b"\r\n--x\r\nContent-Type: text/x\r\n\r\n" + DATA


@ensureDeferred
async def test_multipart() -> None:
    """Firebase's ``uploadBytes``."""
    async with memory_service() as service:
        answer = await service.ask("POST", FIREBASE, RELATED, JSON_PART + FILE_PART + b"\r\n--x--")
        assert goog(answer) == (200, "final", "100")
        assert (answer.json["contentType"], answer.json["metadata"]) == ("text/x", {"k": "v"})
        assert stored(service, "a/b.txt") == DATA


@pytest.mark.parametrize(
    "body",
    [b"", b"--x--", JSON_PART + b"\r\n--x--", b"--x\r\n\r\n[]" + FILE_PART + b"\r\n--x--", JSON_PART + FILE_PART],
)
@ensureDeferred
async def test_multipart_bodies_that_are_none(body: bytes) -> None:
    async with memory_service() as service:
        assert goog(await service.ask("POST", FIREBASE, RELATED, body))[:2] == (400, "final")
        assert not service.parts.bucket.objects


@ensureDeferred
async def test_finalize_alone_and_an_unknown_length() -> None:
    async with memory_service() as service:
        url = await start(service, "/upload/n")
        assert goog(await command(service, url, "upload", 0, DATA)) == (200, "active", "100")
        assert "n" not in service.parts.bucket.objects
        assert goog(await command(service, url, "finalize")) == (200, "final", "100")
        assert stored(service, "n") == DATA
        empty = await start(service, "/upload/empty")
        assert goog(await command(service, empty, "finalize")) == (200, "final", "0")
        assert stored(service, "empty") == b""


@ensureDeferred
async def test_all_of_it_without_finalize() -> None:
    """The client has not said that this is the end: it gets its last answer when it does."""
    async with memory_service() as service:
        url = await start(service, "/upload/n", "X-Goog-Upload-Header-Content-Length: 100")
        assert goog(await command(service, url, "upload", 0, DATA)) == (200, "active", "100")
        assert goog(await command(service, url, "finalize")) == (200, "final", "100")


@ensureDeferred
async def test_overlap_gap_and_an_early_end() -> None:
    async with memory_service() as service:
        url = await start(service, "/upload/n", "X-Goog-Upload-Header-Content-Length: 100")
        await command(service, url, "upload", 0, DATA[:40])
        gap = await command(service, url, "upload", 50, DATA[50:60])
        assert (goog(gap), gap.json["error"]["status"]) == ((400, "active", "40"), "INVALID_ARGUMENT")
        assert goog(await command(service, url, "finalize")) == (400, "active", "40")
        # What came is kept all the same.
        assert goog(await command(service, url, "upload, finalize", 40, DATA[40:60])) == (400, "active", "60")
        assert (await command(service, url, "upload", 60, DATA[60:] + b"x")).status == 400
        assert goog(await command(service, url, "query")) == (200, "active", "60")
        assert goog(await command(service, url, "upload, finalize", 30, DATA[30:])) == (200, "final", "100")
        assert stored(service, "n") == DATA


@ensureDeferred
async def test_cancelled() -> None:
    async with memory_service() as service:
        url = await start(service)
        await command(service, url, "upload", 0, DATA[:40])
        assert goog(await command(service, url, "cancel"))[:2] == (200, "cancelled")
        for word in ("query", "finalize", "upload"):
            assert goog(await command(service, url, word, 40))[:2] == (410, "cancelled")
        assert goog(await command(service, url, "cancel"))[:2] == (200, "cancelled")


@ensureDeferred
async def test_a_store_in_trouble() -> None:
    """What may pass carries no status: google-genai would go on with the next piece."""
    async with memory_service() as service:
        trouble: list[tuple[str, str]] = service.parts.uploads._store.trouble  # type: ignore[attr-defined]
        url = await start(service, "/upload/n")
        trouble.append(("complete_multipart_upload", "before"))
        busy = await command(service, url, "upload, finalize", 0, DATA)
        assert (goog(busy), busy.header("Retry-After")) == ((503, None, None), "5")
        assert goog(await command(service, url, "query")) == (200, "final", "100")
        assert stored(service, "n") == DATA


@ensureDeferred
async def test_a_request_that_comes_late() -> None:
    """Of a connection that the client has given up: the piece was sent again, and that request came first.

    The client hears that it may try again, and not that the upload has come to nothing.
    """
    async with memory_service() as service:
        url = await start(service)
        lines = [f"POST {url} HTTP/1.1", "Host: test", "X-Goog-Upload-Command: upload", "X-Goog-Upload-Offset: 0"]
        wires = []
        for size in (40, 10):
            wire = service.connect()
            wire.send("\r\n".join([*lines, "Content-Length: 64", "", ""]).encode() + DATA[:size])
            await until(lambda wire=wire: wire.channel.requests and wire.channel.requests[-1]._outlet is not None)
            wires.append(wire)
        await until(lambda: parse_answers(wires[0].said))
        (answer,) = parse_answers(wires[0].said)
        assert (goog(answer), answer.header("Retry-After")) == ((503, None, None), "1")
        wires[1].lose()
        assert goog(await command(service, url, "query")) == (200, "active", "40")
        assert goog(await command(service, url, "upload, finalize", 40, DATA[40:])) == (200, "final", "100")
        assert stored(service, "a/b.txt") == DATA


@ensureDeferred
async def test_refused_and_not_found() -> None:
    door = Door(refused=("append",))
    async with memory_service(door) as service:
        url = await start(service)
        no = await command(service, url, "upload", 0, DATA)
        assert (goog(no)[:2], no.body) == ((403, "final"), b"not you")
        door.refused, door.owner = (), "mallory"
        missing = await command(service, url, "query")
        assert (goog(missing)[:2], missing.json["error"]["code"]) == ((404, "final"), 404)


@ensureDeferred
async def test_firebase_asks_for_the_object() -> None:
    """Where the answer to its last bytes was an error, it asks how far it is, and then for what it was not told."""
    door = Door(owner="alice")
    async with memory_service(door) as service:
        where = "/v0/b/my-bucket/o/a%2Fb.txt"
        missing = await service.ask("GET", where)
        assert (missing.status, missing.json["error"]["code"]) == (404, 404)
        url = await start(service)
        await command(service, url, "upload", 0, DATA)
        assert (await service.ask("GET", where)).status == 404
        made = await command(service, url, "finalize")
        told = await service.ask("GET", where)
        assert (told.status, told.json) == (200, made.json)
        assert (await service.ask("HEAD", where)).status == 200
        assert (await service.ask("GET", f"{where}?alt=media")).status == 404
        assert (await service.ask("GET", "/v0/b/my-bucket/o/..")).status == 400
        for method, target in (("GET", "/v0/b/my-bucket/o"), ("DELETE", where), ("PATCH", where)):
            assert (await service.ask(method, target)).status in (404, 405)
        door.owner = "mallory"
        assert (await service.ask("GET", where)).status == 404
        door.refused = ("status",)
        assert (await service.ask("GET", where)).body == b"not you"
        assert {ask.name for ask in door.asked if ask.action == "status"} == {"a/b.txt"}


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (["X-Goog-Upload-Command: begin"], b""),
        (["X-Goog-Upload-Command: start, upload"], b""),
        (["X-Goog-Upload-Command: start", "X-Goog-Upload-Command: query"], b""),
        (["X-Goog-Upload-Command:"], b""),
        (["X-Goog-Upload-Command: upload", "X-Goog-Upload-Offset: 0"], b""),
        ([RESUMABLE], b""),
        (["X-Goog-Upload-Protocol: multipart", "Content-Type: multipart/related"], b""),
        ([START, "X-Goog-Upload-Header-Content-Length: -5"], b""),
        ([START, "X-Goog-Upload-Header-Content-Length: 5", "X-Goog-Upload-Header-Content-Length: 5"], b""),
        ([START, "X-Goog-Upload-File-Name: \xff"], b""),
        ([START, "X-Goog-Upload-File-Name: .."], b""),
        ([START], b"[]"),
        ([START], b"{"),
        ([START], b'{"name": 5}'),
        ([START], b'{"name": "\\ud800"}'),
        ([START], b'{"contentType": {"a": 1}}'),
        ([START], b'{"metadata": [1]}'),
        ([START], b'{"file": {"name": ["files/x"]}}'),
        ([START], b"[" * 9000),
    ],
)
@ensureDeferred
async def test_starts_that_are_none(headers: list[str], body: bytes) -> None:
    """They are refused before anybody is asked."""
    door = Door()
    async with memory_service(door) as service:
        answer = await service.ask("POST", "/upload", headers, body)
        assert (goog(answer)[:2], answer.json["error"]["code"]) == ((400, "final"), 400)
        assert not door.asked


@ensureDeferred
async def test_absurd_sizes_and_methods() -> None:
    async with memory_service() as service:
        huge = await service.ask("POST", "/upload/n", [START, f"X-Goog-Upload-Header-Content-Length: {'9' * 19}"])
        assert goog(huge)[:2] == (413, "final")
        assert (await service.ask("POST", "/upload/n", [START], b" " * 20_000)).status == 413
        assert goog(await service.ask("GET", "/upload/n", [START]))[:2] == (405, "final")
        url = await start(service, "/upload/n")
        assert (await command(service, url, "upload", int("9" * 19), DATA)).status == 400
        assert (await command(service, url, "upload", None, DATA)).status == 400
        assert (await command(service, url, "finalize", None, DATA)).status == 400
        assert goog(await command(service, url, "query")) == (200, "active", "0")


WORDS = st.sampled_from(["start", "upload", "finalize", "query", "upload, finalize", "UPLOAD ,finalize", "", "x", "é"])
NUMBERS = st.sampled_from(["", "0", "40", "41", "60", "100", "-1", "9" * 19, "9" * 20, "0x1", "1.5"])


@ensureDeferred
async def test_nothing_is_lost_whatever_comes_between() -> None:
    """Headers of every kind between two honest requests: never a 5xx, and what was acknowledged stays."""
    samples: list[tuple[str, str, str, int]] = []

    @settings(max_examples=150, deadline=None, database=None, derandomize=True)
    @given(st.tuples(WORDS.filter(lambda word: "final" not in word.lower()), NUMBERS, NUMBERS, st.integers(0, 30)))
    def gather(one: tuple[str, str, str, int]) -> None:
        samples.append(one)

    gather()
    seen: set[int] = set()
    async with memory_service() as service:
        url = await start(service, "/upload/n", "X-Goog-Upload-Header-Content-Length: 100")
        await command(service, url, "upload", 0, DATA[:40])
        for word, offset, length, size in samples:
            first = int(offset) if offset.isdecimal() and int(offset) <= 100 else 0
            headers = [f"X-Goog-Upload-Command: {word}", f"X-Goog-Upload-Header-Content-Length: {length}"]
            headers.append(f"X-Goog-Upload-Offset: {offset}")
            body: Any = DATA[first : first + size] if "upload" in word.lower() else b""
            seen.add((await service.ask("POST", url, headers, body)).status)
            status, state, received = goog(await command(service, url, "query"))
            assert (status, state, int(received or 0) >= 40) == (200, "active", True), (word, offset, length)
        assert max(seen) < 500
        assert {200, 400} <= seen
        assert goog(await command(service, url, "upload, finalize", 40, DATA[40:])) == (200, "final", "100")
        assert stored(service, "n") == DATA
