"""Uploads of one request, and what clients of Cloud Storage ask before and after."""

from __future__ import annotations

import json
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred

from resumable.model import Invalid
from resumable.protocols.google.content_range import parse_range
from resumable.protocols.google.simple import PARTS
from resumable.protocols.multipart_events import PART_HEADERS_LIMIT, MultipartEvents, PartEnd, PartHead
from tests.protocols.harness import Door, memory_service, until
from tests.protocols.test_google import DATA, START, crc, error, finished, nothing_left, stored

MULTIPART = START.replace("resumable", "multipart")
RELATED = 'Content-Type: multipart/related; boundary="b0und"'


def related(data: bytes, metadata: Any, end: bytes = b"\r\n", kind: bytes = b"video/mp4", more: bytes = b"") -> bytes:
    """A body of metadata and object, its lines ended by `end`."""
    written = metadata if isinstance(metadata, bytes) else json.dumps(metadata).encode()
    lines = [
        *(b"--b0und", b"Content-Type: application/json", b"", written),
        *(b"--b0und", b"Content-Type: " + kind, *([more] if more else []), b"", data),
        *(b"--b0und--", b""),
    ]
    return end.join(lines)


@pytest.mark.parametrize("data", [DATA, DATA[:16], b"", b"\r", b"\n", b"x\r\n", b"\r\n--b0un", b"\r\n--b0u\r\n-"])
@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
@ensureDeferred
async def test_multipart(data: bytes, end: bytes) -> None:
    """CR LF as the standard has it, bare LF as google-api-python-client writes it."""
    async with memory_service() as service:
        metadata = {"name": "n", "metadata": {"k": "v"}, "crc32c": crc(data)}
        shown = finished(await service.ask("POST", MULTIPART, [RELATED], related(data, metadata, end)), data)
        assert (shown["contentType"], shown["metadata"]) == ("video/mp4", {"k": "v"})
        assert stored(service) == data


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
@ensureDeferred
async def test_multipart_byte_by_byte(end: bytes) -> None:
    """Nothing hangs on where the network cuts."""
    async with memory_service() as service:
        body = related(DATA, {"name": "n"}, end)
        wire = service.connect()
        wire.send(f"POST {MULTIPART} HTTP/1.1\r\nHost: h\r\n{RELATED}\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        for at in range(len(body)):
            wire.send(body[at : at + 1])
        await until(lambda: b"storage#object" in wire.said)
        assert stored(service) == DATA


@ensureDeferred
async def test_parts_without_a_type() -> None:
    """rclone's."""
    async with memory_service() as service:
        body = b'--b0und\r\n\r\n{"name": "n"}\r\n--b0und\r\n\r\n' + DATA + b"\r\n--b0und--"
        finished(await service.ask("POST", MULTIPART, [RELATED], body), DATA)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"nonsense", 400),
        (b"--b0und--", 400),
        (b"--b0und\r\n\r\n{}\r\n--b0und--", 400),
        (related(DATA, b"{"), 400),
        (related(DATA, b"[]"), 400),
        (related(DATA, {"name": "n", "crc32c": crc(b"other")}), 400),
        (related(DATA, {"name": "n", "md5Hash": "AAAAAAAAAAAAAAAAAAAAAA=="}), 400),
        (related(DATA, {"name": "n"})[:-6], 400),
        (related(DATA, {"name": "n"})[:-30], 400),
        (related(DATA, {"name": "n"}, more=b"Content-Transfer-Encoding: base64"), 415),
        (related(DATA, {"name": "n"}, more=b"no field"), 400),
        (related(DATA, {"name": "n"}, more=b"A: " + b"a" * PART_HEADERS_LIMIT), 400),
        (related(DATA, {"name": "n", "more": "a" * 70_000}), 413),
    ],
)
@ensureDeferred
async def test_faulty_multiparts(body: bytes, status: int) -> None:
    """An error in Google's form, no object, and nothing left of what came."""
    async with memory_service() as service:
        answer = await service.ask("POST", MULTIPART, [RELATED], body)
        assert (answer.status, answer.json["error"]["code"]) == (status, status), answer
        await until(lambda: not service.parts.bucket.objects and not service.parts.bucket.multiparts)
        nothing_left(service)


@pytest.mark.parametrize(
    ("written", "data"),
    [
        # What follows the object is nobody's.
        (DATA + b"\r\n--b0und\r\n\r\nthird", DATA),
        # A line that only begins like the boundary is none.
        (DATA + b"\r\n--b0undary\r\n", DATA + b"\r\n--b0undary\r\n"),
    ],
)
@ensureDeferred
async def test_odd_multiparts(written: bytes, data: bytes) -> None:
    async with memory_service() as service:
        finished(await service.ask("POST", MULTIPART, [RELATED], related(written, {"name": "n"})), data)
        assert stored(service) == data


@ensureDeferred
async def test_multipart_of_another_type() -> None:
    async with memory_service() as service:
        for kind in ("", "Content-Type: application/json", "Content-Type: multipart/form-data; boundary=b0und"):
            error(await service.ask("POST", MULTIPART, [kind] if kind else [], b"{}"), 415, "wrongContentType")
        error(await service.ask("POST", MULTIPART, ["Content-Type: multipart/related"], b"{}"), 400, "invalid")


@pytest.mark.parametrize("kind", ["media", "multipart"])
@ensureDeferred
async def test_one_that_breaks_off(kind: str) -> None:
    """Nobody knows where to go on with it: it is given up, and what came is freed."""
    door = Door()
    async with memory_service(door) as service:
        body = DATA if kind == "media" else related(DATA, {"name": "n"})
        wire = service.connect()
        head = [f"POST /upload/n?uploadType={kind} HTTP/1.1", "Host: h", f"Content-Length: {len(body)}"]
        wire.send("\r\n".join([*head, *([RELATED] if kind == "multipart" else []), "", ""]).encode() + body[:-20])
        await until(lambda: service.parts.bucket.multiparts)
        wire.lose()
        await until(lambda: not service.parts.bucket.objects and not service.parts.bucket.multiparts)
        nothing_left(service)
        error(await service.ask("GET", "/storage/v1/b/bucket/o/n"), 404, "notFound")


@ensureDeferred
async def test_one_that_is_refused() -> None:
    """The body is not waited for."""
    async with memory_service(Door(refused=("create",))) as service:
        answer = await service.ask("POST", MULTIPART, [RELATED], related(DATA, {"name": "n"}))
        assert (answer.status, answer.body) == (403, b"not you")
        nothing_left(service)


@pytest.mark.parametrize("data", [DATA, DATA[:16], b""], ids=len)
@ensureDeferred
async def test_media(data: bytes) -> None:
    async with memory_service() as service:
        target = START.replace("resumable", "media") + "&name=a/n"
        headers = ["Content-Type: image/png", "Content-Encoding: gzip", f"X-Goog-Hash: crc32c={crc(data)}"]
        shown = finished(await service.ask("POST", target, headers, data), data, "a/n")
        assert (shown["contentType"], shown["contentEncoding"]) == ("image/png", "gzip")
        assert stored(service, "a/n") == data


# Before and after


@pytest.mark.parametrize("prefix", ["", "/upload", "/download", "/resumable/upload"])
@ensureDeferred
async def test_the_object_afterwards(prefix: str) -> None:
    """Whatever the client puts before the path."""
    async with memory_service() as service:
        where = f"{prefix}/storage/v1/b/bucket/o/a%2Fn"
        error(await service.ask("GET", where), 404, "notFound")
        made = finished(await service.ask("POST", "/upload/a/n?uploadType=media", body=DATA), DATA, "a/n")
        assert (await service.ask("GET", where)).json == made
        error(await service.ask("GET", f"{where}?alt=media"), 404, "notFound")
        error(await service.ask("GET", f"{where}?ifGenerationMatch=1"), 412, "conditionNotMet")
        right = f"{where}?ifGenerationMatch={made['generation']}&ifMetagenerationMatch=1&ifGenerationNotMatch=1"
        assert (await service.ask("GET", right)).status == 200
        error(await service.ask("DELETE", f"{where}?ifGenerationMatch=1"), 412, "conditionNotMet")
        gone = await service.ask("DELETE", where)
        assert (gone.status, gone.header("Upload-Object")) == (204, "kept")
        assert stored(service, "a/n") == DATA
        error(await service.ask("GET", where), 404, "notFound")
        error(await service.ask("DELETE", where), 404, "notFound")


@ensureDeferred
async def test_the_object_while_another_is_brought() -> None:
    """What was finished is shown until the next is, and to its owner alone."""
    door = Door(owner="alice")
    async with memory_service(door) as service:
        where = "/storage/v1/b/bucket/o/n"
        made = finished(await service.ask("POST", "/upload/n?uploadType=media", body=DATA), DATA)
        await service.ask("POST", START + "&name=n", body=b"")
        assert (await service.ask("GET", where)).json == made
        door.owner = "mallory"
        error(await service.ask("GET", where), 404, "notFound")
        error(await service.ask("DELETE", where), 404, "notFound")


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/storage/v1/b", 404),
        ("GET", "/storage/v1/b/bucket/o", 404),
        ("GET", "/storage/v1/b/bucket/o?prefix=a&delimiter=/", 404),
        ("GET", "/storage/v1/b/bucket/o/..", 400),
        ("POST", "/storage/v1/b/bucket/o/n/rewriteTo/b/bucket/o/m", 400),
        ("POST", "/storage/v1/b/bucket/o/n/compose", 400),
        ("PATCH", "/storage/v1/b/bucket/o/n", 405),
        ("DELETE", "/storage/v1/b/bucket", 405),
        ("GET", "/upload/storage/v1/b/bucket/o", 405),
        ("GET", "/upload/n?upload_id=id", 405),
    ],
)
@ensureDeferred
async def test_what_is_not_served(method: str, target: str, status: int) -> None:
    async with memory_service() as service:
        answer = await service.ask(method, target)
        assert (answer.status, answer.json["error"]["code"]) == (status, status)


@ensureDeferred
async def test_other_protocols_keep_their_paths() -> None:
    async with memory_service() as service:
        assert (await service.ask("PUT", "/upload/storage.txt", body=b"1")).json["protocol"] == "put"
        assert (await service.ask("POST", "/upload/n", body=b"1")).status == 405
        command = await service.ask("POST", "/upload/n?uploadType=resumable", ["X-Goog-Upload-Command: start"], b"")
        assert (command.status, command.header("X-Goog-Upload-Status")) == (200, "active")


# Pure


def events_of(segments: list[bytes]) -> list[Any]:
    """The parts: their headers and bytes; the segments as they were handed on."""
    parser = MultipartEvents(b"b0und", PARTS)
    for segment in segments:
        parser.write(segment)
    assert parser.closed
    return list(parser.events)


@settings(max_examples=300, deadline=None)
@given(
    data=st.lists(st.sampled_from([b"\r", b"\n", b"-", b"--b0und"[:6], b"b", b"x", b"\r\n--", b"\x00"]), max_size=30),
    cuts=st.lists(st.integers(0, 400), max_size=12),
    end=st.sampled_from([b"\r\n", b"\n"]),
)
def test_any_bytes_cut_anywhere(data: list[bytes], cuts: list[int], end: bytes) -> None:
    content = b"".join(data)
    if end + b"--b0und" in end + content + end:
        return
    body = related(content, {"name": "n"}, end)
    edges = [0, *sorted({cut for cut in cuts if cut < len(body)}), len(body)]
    found = events_of([body[first:last] for first, last in pairwise(edges) if last > first])
    assert sum(isinstance(one, PartHead) for one in found) == sum(isinstance(one, PartEnd) for one in found) == 2
    middle = next(at for at, one in enumerate(found) if isinstance(one, PartEnd))
    assert b"".join(one for one in found[middle:] if isinstance(one, bytes)) == content


def test_segments_are_handed_on_uncopied() -> None:
    segment = b"x" * 70_000
    start, stop = related(b"|", {"name": "n"}).split(b"|")
    assert any(one is segment for one in events_of([start, segment, segment, stop]))


@settings(max_examples=500, deadline=None)
@given(
    first=st.one_of(st.integers(-1, 10**20), st.just("*"), st.just("")),
    last=st.one_of(st.integers(-1, 10**20), st.just("*"), st.just(""), st.none()),
    total=st.one_of(st.integers(-1, 10**20), st.just("*"), st.just("")),
    length=st.one_of(st.none(), st.integers(0, 10**20)),
)
def test_any_content_range(first: object, last: object, total: object, length: int | None) -> None:
    """It is understood as it was meant, or refused; what is understood holds together."""
    written = f"bytes {first}-{last}/{total}" if last is not None else f"bytes {first}/{total}"
    try:
        found = parse_range([written.encode()], length)
    except Invalid:
        return
    assert found is not None
    assert found.total == (None if total == "*" else total)
    if found.query:
        assert (first, last) == ("*", None)
        return
    assert found.first == first
    if last == "*":
        assert found.end is None
        assert found.total is None or found.first + (length or 0) <= found.total
        return
    assert found.end is not None
    assert found.end in (last, (last if isinstance(last, int) else 0) + 1)
    assert found.first < found.end
    assert length is None or found.end - found.first == length
    assert found.total is None or found.end <= found.total


@given(st.binary(max_size=40), st.one_of(st.none(), st.integers(0, 100)))
def test_any_bytes_for_a_content_range(value: bytes, length: int | None) -> None:
    with suppress(Invalid):
        parse_range([value], length)
