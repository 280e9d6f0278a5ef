"""Google's resumable uploads on the wire: Google's own scenarios, what each client relies on, and what goes wrong."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
from pytest_twisted import ensureDeferred

from resumable.crc32c_text import encode_crc32c
from resumable.uploads.checksum import checksum
from tests.protocols.harness import Answer, Door, Memory, memory_service, parse_answers, until

START = "/upload/storage/v1/b/bucket/o?uploadType=resumable"
DATA = bytes(range(100))
FIRST, REST = DATA[:64], DATA[64:]
NO_308 = "X-GUploader-No-308: yes"


def crc(data: bytes) -> str:
    return encode_crc32c(checksum([data]))


async def begin(service: Memory, target: str = START + "&name=n", *headers: str, body: bytes = b"") -> str:
    """Begin an upload; what its URI is to the service."""
    answer = await service.ask("POST", target, headers, body)
    assert (answer.status, answer.body) == (200, b""), answer
    url = urlsplit(answer.header("Location") or "")
    assert f"upload_id={answer.header('X-GUploader-UploadID')}" in url.query
    return f"{url.path}?{url.query}"


async def put(service: Memory, session: str, span: str | None, body: bytes = b"", *headers: str) -> Answer:
    lines = [*headers] if span is None else [f"Content-Range: bytes {span}", *headers]
    return await service.ask("PUT", session, lines, body)


def incomplete(answer: Answer, stored: int) -> None:
    """308 with what is stored; never with a Location."""
    assert (answer.status, answer.body, answer.header("Location")) == (308, b"", None), answer
    assert answer.header("Range") == (f"bytes=0-{stored - 1}" if stored else None)


def finished(answer: Answer, data: bytes, name: str = "n") -> Any:
    assert answer.status == 200, answer
    shown = answer.json
    assert (shown["kind"], shown["name"], shown["bucket"]) == ("storage#object", name, "bucket")
    assert (shown["size"], shown["crc32c"]) == (str(len(data)), crc(data))
    assert "md5Hash" not in shown
    assert (answer.header("Content-Type") or "").startswith("application/json")
    assert answer.header("X-Goog-Stored-Content-Length") == str(len(data))
    return shown


def error(answer: Answer, status: int, reason: str) -> str:
    said = answer.json["error"]
    assert (answer.status, said["code"], said["errors"][0]["reason"]) == (status, status, reason), answer
    return str(said["message"])


def stored(service: Memory, key: str = "n") -> bytes | None:
    found = service.parts.bucket.objects.get(key)
    return None if found is None else found[0]


def nothing_left(service: Memory) -> None:
    """No object, no part, no fragment."""
    assert (service.parts.bucket.objects, service.parts.bucket.multiparts) == ({}, {})


# Google's scenarios


@ensureDeferred
async def test_append_to_a_finalised_session() -> None:
    """200 and the object's size, by which the client sees that it brings too much; the same bytes are found the same."""
    async with memory_service() as service:
        session = await begin(service)
        finished(await put(service, session, "0-63/64", FIRST), FIRST)
        finished(await put(service, session, "64-99/*", REST), FIRST)
        finished(await put(service, session, "32-99/*", DATA[32:]), FIRST)
        finished(await put(service, session, "32-63/64", DATA[32:64]), FIRST)
        error(await put(service, session, "32-63/64", REST[:32]), 409, "conflict")
        error(await put(service, session, "64-99/100", REST), 400, "invalid")
        assert stored(service) == FIRST


@ensureDeferred
async def test_finalise_with_all_bytes_stored_and_once_more() -> None:
    async with memory_service() as service:
        session = await begin(service)
        incomplete(await put(service, session, "0-63/*", FIRST), 64)
        incomplete(await put(service, session, "64-99/*", REST), 100)
        first = finished(await put(service, session, "*/100"), DATA)
        # Its answer may have been lost.
        assert finished(await put(service, session, "*/100"), DATA) == first
        assert finished(await put(service, session, "*/*"), DATA) == first
        assert stored(service) == DATA


@pytest.mark.parametrize("said", [63, 65, 0, 10**18])
@ensureDeferred
async def test_finalise_with_another_number_of_bytes(said: int) -> None:
    """How far it is, and nothing has changed."""
    async with memory_service() as service:
        session = await begin(service)
        await put(service, session, "0-63/*", FIRST)
        incomplete(await put(service, session, f"*/{said}"), 64)
        finished(await put(service, session, "64-99/100", REST), DATA)


@pytest.mark.parametrize("asked", ["*/*", "*/100"])
@ensureDeferred
async def test_query(asked: str) -> None:
    """Without Range where nothing is stored."""
    async with memory_service() as service:
        session = await begin(service)
        incomplete(await put(service, session, asked), 0)
        await put(service, session, "0-63/100", FIRST)
        incomplete(await put(service, session, asked), 64)
        finished(await put(service, session, "64-99/100", REST), DATA)
        finished(await put(service, session, asked), DATA)


@ensureDeferred
async def test_a_range_of_no_bytes() -> None:
    """@google-cloud/storage that comes back to an upload of which all is stored: it asks, and says that this is all."""
    async with memory_service() as service:
        session = await begin(service)
        incomplete(await put(service, session, "0--1/*"), 0)
        incomplete(await put(service, session, "0-99/*", DATA), 100)
        # More than there is, less than there is, and what no client says.
        incomplete(await put(service, session, "101-100/101"), 100)
        incomplete(await put(service, session, "64-63/64"), 100)
        error(await put(service, session, "100-98/100"), 400, "invalid")
        error(await put(service, session, "100-99/100", b"x"), 400, "invalid")
        first = finished(await put(service, session, "100-99/100"), DATA)
        assert finished(await put(service, session, "100-99/100"), DATA) == first


@ensureDeferred
async def test_query_of_nothing() -> None:
    async with memory_service() as service:
        error(await put(service, START + "&upload_id=none", "*/*"), 404, "notFound")


@ensureDeferred
async def test_cancelled() -> None:
    """499, and what was stored is freed; from then on it is gone, so that clients begin again."""
    async with memory_service() as service:
        session = await begin(service)
        await put(service, session, "0-63/100", FIRST)
        answer = await service.ask("DELETE", session, body=b"")
        assert (answer.status, answer.body) == (499, b"")
        error(await put(service, session, "*/*"), 410, "gone")
        error(await put(service, session, "64-99/100", REST), 410, "gone")
        error(await service.ask("DELETE", session), 410, "gone")
        nothing_left(service)


@ensureDeferred
async def test_the_session_of_a_finished_upload_deleted() -> None:
    async with memory_service() as service:
        session = await begin(service)
        finished(await put(service, session, None, DATA), DATA)
        answer = await service.ask("DELETE", session)
        assert (answer.status, answer.header("Upload-Object")) == (204, "kept")
        assert stored(service) == DATA
        error(await put(service, session, "*/*"), 410, "gone")


@ensureDeferred
async def test_overlap() -> None:
    """Bytes that come again are compared; clients send the whole chunk again after trouble, without asking (grm, Go, gcsfs)."""
    async with memory_service() as service:
        session = await begin(service)
        await put(service, session, "0-63/*", FIRST)
        incomplete(await put(service, session, "48-69/*", DATA[48:70]), 70)
        incomplete(await put(service, session, "64-69/*", DATA[64:70]), 70)
        error(await put(service, session, "64-69/*", b"others"), 409, "conflict")
        finished(await put(service, session, "64-99/100", REST), DATA)
        assert stored(service) == DATA


@ensureDeferred
async def test_gap() -> None:
    """503 and Google's text, from which clients ask how far it is; nothing is taken."""
    async with memory_service() as service:
        session = await begin(service)
        await put(service, session, "0-15/*", DATA[:16])
        answer = await put(service, session, "64-99/100", REST)
        assert answer.status == 503
        assert answer.body == (
            b"Invalid request.  According to the Content-Range header, the upload offset is 64 byte(s), which exceeds already"
            b" uploaded size of 16 byte(s).\n"
        )
        incomplete(await put(service, session, "*/*"), 16)


@ensureDeferred
async def test_a_lost_connection() -> None:
    """What came of a chunk is stored, and the next query says so."""
    async with memory_service() as service:
        session = await begin(service)
        wire = service.connect()
        head = f"PUT {session} HTTP/1.1\r\nHost: test\r\nContent-Range: bytes 0-63/100\r\nContent-Length: 64\r\n\r\n"
        wire.send(head.encode() + FIRST[:40])
        await until(lambda: wire.channel.requests and wire.channel.requests[-1]._outlet is not None)
        wire.lose()
        answers: list[Answer] = []
        for _ in range(200):
            answers.append(await put(service, session, "*/*"))
            if answers[-1].header("Range") == "bytes=0-39":
                break
        incomplete(answers[-1], 40)
        finished(await put(service, session, "40-99/100", DATA[40:]), DATA)


@ensureDeferred
async def test_a_request_that_comes_late() -> None:
    """Of a connection that the client has given up: the chunk was sent again, and that request came first.

    The client hears that it may try again, and not that the upload has come to nothing.
    """
    async with memory_service() as service:
        session = await begin(service)
        head = f"PUT {session} HTTP/1.1\r\nHost: test\r\nContent-Range: bytes 0-63/100\r\nContent-Length: 64\r\n\r\n"
        wires = []
        for size in (40, 10):
            wire = service.connect()
            wire.send(head.encode() + FIRST[:size])
            await until(lambda wire=wire: wire.channel.requests and wire.channel.requests[-1]._outlet is not None)
            wires.append(wire)
        await until(lambda: parse_answers(wires[0].said))
        (answer,) = parse_answers(wires[0].said)
        error(answer, 503, "backendError")
        assert answer.header("Retry-After") == "1"
        wires[1].lose()
        incomplete(await put(service, session, "*/*"), 40)
        finished(await put(service, session, "40-99/100", DATA[40:]), DATA)


# What each client relies on


@ensureDeferred
async def test_no_308_for_go() -> None:
    """A true 308 is an error to clients in Go."""
    async with memory_service() as service:
        session = await begin(service)
        answer = await service.ask("POST", session, ["Content-Range: bytes 0-63/*", NO_308], FIRST)
        assert (answer.status, answer.header("X-HTTP-Status-Code-Override")) == (200, "308")
        assert (answer.header("Range"), answer.body) == ("bytes=0-63", b"")
        answer = await service.ask("POST", session, ["Content-Range: bytes 64-99/100", NO_308], REST)
        assert answer.header("X-HTTP-Status-Code-Override") is None
        finished(answer, DATA)


@pytest.mark.parametrize("chunk", [1, 7, 16, 33, 100])
@ensureDeferred
async def test_chunks_of_any_size(chunk: int) -> None:
    """Google wants multiples of 256 KiB; here every byte is acknowledged."""
    async with memory_service() as service:
        session = await begin(service)
        data = DATA[: 3 * chunk + 1] if chunk < 33 else DATA
        for at in range(0, len(data), chunk):
            part = data[at : at + chunk]
            end = at + len(part)
            answer = await put(service, session, f"{at}-{end - 1}/{len(data) if end == len(data) else '*'}", part)
            if end < len(data):
                incomplete(answer, end)
        finished(answer, data)
        assert stored(service) == data


@pytest.mark.parametrize(
    ("span", "method"),
    [(None, "PUT"), ("*/0", "PUT"), ("0-*/0", "PUT"), ("0-*/*", "PUT"), ("*/0", "POST"), ("0--1/0", "PUT")],
)
@pytest.mark.parametrize("announced", [(), ("X-Upload-Content-Length: 0",)])
@ensureDeferred
async def test_an_empty_file(span: str | None, method: str, announced: tuple[str, ...]) -> None:
    """google-api-python-client sends no Content-Range, google-resumable-media ``bytes */0``, @google-cloud/storage ``0--1/0``."""
    async with memory_service() as service:
        session = await begin(service, START + "&name=n", *announced)
        lines = [] if span is None else [f"Content-Range: bytes {span}"]
        finished(await service.ask(method, session, lines, b""), b"")
        assert stored(service) == b""


@ensureDeferred
async def test_no_body_at_all() -> None:
    """Neither Content-Length nor chunks: nobody can say whether that is an empty object."""
    async with memory_service() as service:
        session = await begin(service)
        error(await service.ask("PUT", session), 411, "lengthRequired")
        incomplete(await put(service, session, "*/*"), 0)


@pytest.mark.parametrize("span", ["0-*/*", "0-*/100", None])
@ensureDeferred
async def test_a_chunked_body_to_the_end(span: str | None) -> None:
    """@google-cloud/storage brings all of it so."""
    async with memory_service() as service:
        session = await begin(service)
        lines = [] if span is None else [f"Content-Range: bytes {span}"]
        chunked = b"28\r\n" + DATA[:40] + b"\r\n3c\r\n" + DATA[40:] + b"\r\n0\r\n\r\n"
        wire_body = ["Transfer-Encoding: chunked", *lines]
        finished(await raw(service, "PUT", session, wire_body, chunked), DATA)
        assert stored(service) == DATA


async def raw(service: Memory, method: str, target: str, headers: list[str], body: bytes) -> Answer:
    """A request whose framing the test writes itself."""
    wire = service.connect()
    wire.send("\r\n".join([f"{method} {target} HTTP/1.1", "Host: test", *headers, "", ""]).encode() + body)
    await until(lambda: [one for one in parse_answers(wire.said) if one.status >= 200])
    return parse_answers(wire.said)[-1]


@ensureDeferred
async def test_a_chunked_body_that_goes_on() -> None:
    """From where it was cut, to the end; with a known length a short one ends nothing."""
    async with memory_service() as service:
        session = await begin(service)
        await put(service, session, "0-63/*", FIRST)
        chunked = b"24\r\n" + REST + b"\r\n0\r\n\r\n"
        headers = ["Transfer-Encoding: chunked", "Content-Range: bytes 64-*/*"]
        finished(await raw(service, "PUT", session, headers, chunked), DATA)
        known = await begin(service, START + "&name=m", "X-Upload-Content-Length: 100")
        short = b"40\r\n" + FIRST + b"\r\n0\r\n\r\n"
        incomplete(
            await raw(service, "PUT", known, ["Transfer-Encoding: chunked", "Content-Range: bytes 0-*/*"], short), 64
        )


@ensureDeferred
async def test_a_query_that_brings_the_whole_body() -> None:
    """gcloud-aio-storage does: it is a query, and nothing of the body is taken."""
    async with memory_service() as service:
        session = await begin(service)
        incomplete(await put(service, session, "*/*", DATA), 0)
        incomplete(await put(service, session, "*/*"), 0)


@pytest.mark.parametrize(
    "headers",
    [
        ["Content-Length: -2562816", "Content-Range: bytes 6000000-3437183/9437184"],
        ["Content-Length: 5", "Content-Range: bytes 6000000-3437183/9437184"],
        ["Content-Length: 5", "Content-Range: bytes 0-9/10"],
        ["Content-Length: 5", "Content-Range: bytes 0-4/4"],
        ["Content-Length: 5", "Content-Range: bytes 0-*/4"],
        ["Content-Length: 5", "Content-Range: bytes 0-4/99999999999999999999"],
        ["Content-Length: 5", "Content-Range: bytes 0-4/10", "Content-Range: bytes 0-4/10"],
        ["Content-Length: 5", "Content-Range: nonsense"],
        ["Content-Length: 5", "X-Goog-Hash: crc32c=nonsense"],
    ],
)
@ensureDeferred
async def test_nonsense(headers: list[str]) -> None:
    """google-api-python-client with chunksize=-1 counts below zero after an interruption: 400 at once."""
    async with memory_service() as service:
        session = await begin(service)
        assert (await raw(service, "PUT", session, headers, b"12345")).status == 400
        incomplete(await put(service, session, "*/*"), 0)


@pytest.mark.parametrize("limit", [63, 99])
@ensureDeferred
async def test_more_than_is_allowed(limit: int) -> None:
    """413, at the latest where the bytes are too many; at the start where the length is said."""
    async with memory_service(Door(max_size=limit)) as service:
        error(await service.ask("POST", START, ["X-Upload-Content-Length: 100"], b""), 413, "uploadTooLarge")
        session = await begin(service)
        error(await put(service, session, "0-63/100", FIRST), 413, "uploadTooLarge")
        incomplete(await put(service, session, "*/*"), 0)


@ensureDeferred
async def test_another_total() -> None:
    async with memory_service() as service:
        session = await begin(service, START + "&name=n", "X-Upload-Content-Length: 100")
        error(await put(service, session, "0-63/101", FIRST), 400, "invalid")
        error(await put(service, session, None, FIRST), 400, "invalid")
        incomplete(await put(service, session, "*/*"), 0)


# How an upload is begun


@pytest.mark.parametrize(
    ("target", "body", "name"),
    [
        ("/upload/a/b%20c?uploadType=resumable", b'{"name": "other"}', "a/b c"),
        ("/upload?upload_protocol=resumable", b'{"name": "x"}', "x"),
        ("/resumable/upload/a?uploadType=resumable", b"", "a"),
        (START + "&name=a/b+c", b'{"name": "other"}', "a/b c"),
        (START, b'{"name": "x"}', "x"),
        ("/resumable" + START, b'{"name": "x"}', "x"),
        ("/storage/v1/b/bucket/o?uploadType=resumable", b'{"name": "x"}', "x"),
        (
            "/upload/youtube/v3/videos?uploadType=resumable&part=snippet",
            b'{"snippet": {"title": "My film"}}',
            "My film",
        ),
        ("/upload/drive/v3/files?uploadType=resumable", b'{"name": "x", "parents": ["p"]}', "x"),
        ("/upload/drive/v2/files?uploadType=resumable", b'{"title": "x"}', "x"),
        ("/upload/drive/v3/files?uploadType=resumable", b"", None),
        ("/upload/files", b'{"name": "other"}', "files"),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT"])
@ensureDeferred
async def test_names(target: str, body: bytes, name: str | None, method: str) -> None:
    door = Door()
    async with memory_service(door) as service:
        headers = ["X-Upload-Content-Type: video/mp4"]
        if "?" not in target:
            method = "POST"  # as node-uploadx
        answer = await service.ask(method, target, headers, body)
        assert answer.status == 200, answer
        assert (door.asked[0].name, door.asked[0].content_type, door.asked[0].protocol) == (name, "video/mp4", "google")
        upload_id = answer.header("X-GUploader-UploadID") or ""
        upload = await service.parts.uploads.get(upload_id, "")
        assert (upload.name, upload.protocol) == (name or upload_id, "google")


@ensureDeferred
async def test_what_json_says_of_the_object() -> None:
    async with memory_service() as service:
        body = (
            b'{"contentType": "a/b", "contentEncoding": "gzip", "metadata": {"k": "v", "gone": null}, "unknown": [1]}'
        )
        session = await begin(service, START + "&name=n", "X-Upload-Content-Type: c/d", body=body)
        shown = finished(await put(service, session, None, DATA), DATA)
        assert (shown["contentType"], shown["contentEncoding"], shown["metadata"]) == ("a/b", "gzip", {"k": "v"})
        assert shown["generation"].isdigit()
        assert shown["metageneration"] == "1"
        assert shown["id"] == f"bucket/n/{shown['generation']}"
        assert shown["etag"]
        assert shown["storageClass"] == "STANDARD"
        assert shown["timeCreated"] <= shown["updated"]
        assert shown["selfLink"] == "http://test/storage/v1/b/bucket/o/n"


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"name": 5}',
        b'{"name": "a\\u0000"}',
        b'{"name": "../x"}',
        b'{"metadata": {"k": 5}}',
        b'{"metadata": 5}',
        b'{"contentType": ["a"]}',
        b'{"crc32c": "nonsense"}',
        b"[" * 40000,
    ],
)
@ensureDeferred
async def test_a_faulty_description(body: bytes) -> None:
    """400 in Google's form, and no upload is left half made."""
    door = Door()
    async with memory_service(door) as service:
        error(await service.ask("POST", START, body=body), 400, "invalid")
        assert door.asked == []


@ensureDeferred
async def test_a_description_that_is_too_long() -> None:
    async with memory_service() as service:
        error(await service.ask("POST", START, body=b" " * 70_000), 413, "uploadTooLarge")


@pytest.mark.parametrize("length", ["-1", "1e3", "99999999999999999999", "five"])
@ensureDeferred
async def test_a_length_that_is_none(length: str) -> None:
    async with memory_service() as service:
        answer = await service.ask("POST", START, [f"X-Upload-Content-Length: {length}"], b"")
        error(answer, 400, "invalid")


@ensureDeferred
async def test_an_unknown_upload_type() -> None:
    async with memory_service() as service:
        error(await service.ask("POST", "/upload/n?uploadType=other", body=b""), 400, "invalid")
        error(await service.ask("POST", "/upload/storage/v1/b/bucket/o", body=b""), 400, "invalid")
        error(await service.ask("PATCH", "/upload/drive/v3/files/id?uploadType=resumable", body=b""), 404, "notFound")


@ensureDeferred
async def test_youtube_api_2() -> None:
    """Atom in, Atom out."""
    async with memory_service() as service:
        headers = [
            *("Content-Type: application/atom+xml; charset=UTF-8", "Slug: my%20film.mp4", "GData-Version: 2"),
            *("X-Upload-Content-Type: video/mp4", "X-Upload-Content-Length: 100"),
        ]
        session = await begin(service, "/resumable/feeds/api/users/default/uploads", *headers, body=b"<entry/>")
        incomplete(await put(service, session, "0-63/100", FIRST), 64)
        answer = await put(service, session, "64-99/100", REST)
        assert answer.status == 201
        assert (answer.header("Content-Type") or "").startswith("application/atom+xml")
        assert b"<title>my film.mp4</title>" in answer.body
        assert stored(service, "my film.mp4") == DATA


@ensureDeferred
async def test_videos_and_files() -> None:
    async with memory_service() as service:
        body = b'{"snippet": {"title": "film"}}'
        session = await begin(service, "/upload/youtube/v3/videos?uploadType=resumable", body=body)
        video = (await put(service, session, None, DATA)).json
        assert (video["kind"], video["snippet"]["title"]) == ("youtube#video", "film")
        assert video["id"]
        session = await begin(service, "/upload/drive/v3/files?uploadType=resumable", body=b'{"name": "file"}')
        file = (await put(service, session, None, DATA)).json
        assert (file["kind"], file["name"], file["size"]) == ("drive#file", "file", "100")


# Rights


@ensureDeferred
async def test_another_owner() -> None:
    door = Door(owner="alice")
    async with memory_service(door) as service:
        session = await begin(service)
        door.owner = "mallory"
        error(await put(service, session, "*/*"), 404, "notFound")
        error(await put(service, session, "0-63/100", FIRST), 404, "notFound")
        error(await service.ask("DELETE", session), 404, "notFound")
        door.owner = "alice"
        incomplete(await put(service, session, "*/*"), 0)


@ensureDeferred
async def test_one_who_may_only_ask() -> None:
    """A query neither declares a length nor finishes anything for one who may not bring bytes."""
    door = Door()
    async with memory_service(door) as service:
        session = await begin(service)
        await put(service, session, "0-63/*", FIRST)
        door.refused = ("append",)
        incomplete(await put(service, session, "*/64"), 64)
        answer = await put(service, session, "64-99/100", REST)
        assert (answer.status, answer.body) == (403, b"not you")
        door.refused = ()
        incomplete(await put(service, session, "*/*"), 64)
        finished(await put(service, session, "*/64"), FIRST)


@ensureDeferred
async def test_buckets() -> None:
    """The one of the settings is there, and the one that the application has granted."""
    door = Door()
    async with memory_service(door) as service:
        other = START.replace("/b/bucket/", "/b/other/")
        error(await service.ask("POST", other, body=b""), 404, "notFound")
        error(await service.ask("GET", "/storage/v1/b/other"), 404, "notFound")
        assert (await service.ask("GET", "/storage/v1/b/bucket?projection=noAcl")).json["name"] == "bucket"
        door.grant = {"bucket": "other"}
        assert (await service.ask("POST", other, body=b"")).status == 200
        assert (await service.ask("GET", "/storage/v1/b/other")).json["name"] == "other"


# Trouble


@pytest.mark.parametrize(
    ("call", "when"),
    [
        ("put_object", "before"),
        ("init_multipart_upload", "before"),
        ("upload_part", "before"),
        ("upload_part", "after"),
        ("complete_multipart_upload", "before"),
        ("complete_multipart_upload", "after"),
    ],
)
@ensureDeferred
async def test_a_store_in_trouble(call: str, when: str) -> None:
    """503 with Retry-After; the same chunk once more finishes, and what was acknowledged is there."""
    async with memory_service() as service:
        data = DATA[:16] if call == "put_object" else DATA
        session = await begin(service)
        service.parts.uploads._store.trouble.append((call, when))  # type: ignore[attr-defined]
        span = f"0-{len(data) - 1}/{len(data)}"
        answer = await put(service, session, span, data)
        error(answer, 503, "backendError")
        assert answer.header("Retry-After")
        query = await put(service, session, f"*/{len(data)}")
        if query.status == 308:
            finished(await put(service, session, span, data), data)
        else:
            finished(query, data)
        assert stored(service) == data
        assert service.parts.bucket.multiparts == {}
