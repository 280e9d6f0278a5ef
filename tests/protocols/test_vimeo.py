"""Vimeo's streaming API on the wire, with what its clients do wrong; and tickets for tus."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred

from resumable.model import Invalid
from resumable.protocols.vimeo.ranges import Brought, parse_range
from tests.protocols.harness import Door, Memory, memory_service, parse_answers, until

DATA = bytes(range(100))
SIZE = len(DATA)


async def ticket(service: Memory, body: bytes = b"type=streaming&name=clip.mp4") -> tuple[str, str]:
    """The paths of the upload link and of the complete link."""
    answer = await service.ask("POST", "/vimeo/me/videos", ["Content-Type: application/x-www-form-urlencoded"], body)
    assert answer.status == 201
    said = answer.json
    assert said["upload_link_secure"] == said["upload_link"]
    assert said["user"]["upload_quota"]["space"]["free"] > SIZE
    return said["upload_link"].removeprefix("http://test"), "/vimeo" + said["complete_uri"]


async def verify(service: Memory, link: str) -> tuple[int, str | None]:
    answer = await service.ask("PUT", link, ["Content-Range: bytes */*"], b"")
    return answer.status, answer.header("Range")


def stored(service: Memory, name: str) -> bytes:
    return bytes(service.parts.bucket.objects[name][0])


@pytest.mark.parametrize("range_", ["bytes 0-100/100", "bytes: 0-100/100", "bytes 0-99/100", None])
@ensureDeferred
async def test_the_whole_dance(range_: str | None) -> None:
    async with memory_service() as service:
        link, complete = await ticket(service)
        assert await verify(service, link) == (308, "bytes=0-0")
        sent = await service.ask("PUT", link, [] if range_ is None else [f"Content-Range: {range_}"], DATA)
        assert sent.status == 200
        # 308 also now, and the count is not that of the last byte.
        assert await verify(service, link) == (308, "bytes=0-100")
        done = await service.ask("DELETE", complete)
        assert (done.status, done.header("Location")) == (201, "/videos/" + link.rpartition("/")[2])
        assert stored(service, "clip.mp4") == DATA
        # Its answer was lost.
        assert (await service.ask("DELETE", complete)).status == 201
        assert (await service.ask("PUT", link, ["Content-Range: bytes 60-100/100"], DATA[60:])).status == 200
        video = await service.ask("GET", "/vimeo" + str(done.header("Location")))
        assert (video.json["upload"]["status"], video.json["state"]) == ("complete", "finished")


@ensureDeferred
async def test_a_connection_that_breaks_and_a_length_that_is_too_large() -> None:
    """vimeo.js goes on with Content-Length: SIZE, and waits for the answer when it has sent the rest."""
    async with memory_service() as service:
        link, complete = await ticket(service)
        wire = service.connect()
        head = f"PUT {link} HTTP/1.1\r\nHost: test\r\nContent-Range: bytes 0-100/100\r\nContent-Length: 100\r\n\r\n"
        wire.send(head.encode() + DATA[:43])
        await until(lambda: wire.channel.requests and wire.channel.requests[-1]._outlet is not None)
        wire.lose()
        for _ in range(500):
            if (await verify(service, link))[1] == "bytes=0-43":
                break
        assert await verify(service, link) == (308, "bytes=0-43")
        assert (await service.ask("DELETE", complete)).status == 400
        wire = service.connect()
        wire.send(head.replace("bytes 0-", "bytes 43-").encode() + DATA[43:])
        await until(lambda: parse_answers(wire.said))
        answer = parse_answers(wire.said)[0]
        assert (answer.status, answer.header("Connection")) == (200, "close")
        assert stored(service, "clip.mp4") == DATA
        assert (await service.ask("DELETE", complete)).status == 201


@ensureDeferred
async def test_a_length_that_is_too_large_with_nothing_left_to_send() -> None:
    async with memory_service() as service:
        link, _ = await ticket(service)
        assert (await service.ask("PUT", link, ["Content-Range: bytes 0-100/100"], DATA)).status == 200
        wire = service.connect()
        wire.send(
            f"PUT {link} HTTP/1.1\r\nHost: test\r\nContent-Range: bytes 100-100/100\r\nContent-Length: 100\r\n\r\n".encode()
        )
        await until(lambda: parse_answers(wire.said))
        assert parse_answers(wire.said)[0].status == 200


@ensureDeferred
async def test_pieces_and_gaps() -> None:
    async with memory_service() as service:
        link, complete = await ticket(service)
        for first, end in ((0, 40), (40, 80)):
            said = [f"Content-Range: bytes {first}-{SIZE}/{SIZE}"]
            assert (await service.ask("PUT", link, said, DATA[first:end])).status == 200
        gap = await service.ask("PUT", link, ["Content-Range: bytes 90-100/100"], DATA[90:])
        assert (gap.status, gap.header("Range")) == (308, "bytes=0-80")
        other = await service.ask("PUT", link, ["Content-Range: bytes 80-101/101"], DATA[80:] + b"x")
        assert (other.status, "100 bytes" in other.json["error"]) == (400, True)
        assert await verify(service, link) == (308, "bytes=0-80")
        # From further back than has to be.
        assert (await service.ask("PUT", link, ["Content-Range: bytes 50-100/100"], DATA[50:])).status == 200
        assert (await service.ask("DELETE", complete)).status == 201
        assert stored(service, "clip.mp4") == DATA


@pytest.mark.parametrize("headers", [[], ["Content-Range: bytes 0-0/0"]])
@ensureDeferred
async def test_an_empty_file(headers: list[str]) -> None:
    async with memory_service() as service:
        link, complete = await ticket(service)
        assert (await service.ask("PUT", link, headers, b"")).status == 200
        assert (await service.ask("DELETE", complete)).status == 201
        assert stored(service, "clip.mp4") == b""


@ensureDeferred
async def test_a_store_in_trouble() -> None:
    """503 while the object cannot be made; no byte is lost, and the DELETE makes it."""
    async with memory_service() as service:
        link, complete = await ticket(service)
        trouble: list[tuple[str, str]] = service.parts.uploads._store.trouble  # type: ignore[attr-defined]
        trouble.append(("complete_multipart_upload", "before"))
        sent = await service.ask("PUT", link, ["Content-Range: bytes 0-100/100"], DATA)
        assert (sent.status, sent.header("Retry-After")) == (503, "5")
        assert await verify(service, link) == (308, "bytes=0-100")
        trouble.append(("complete_multipart_upload", "before"))
        assert (await service.ask("DELETE", complete)).status == 503
        assert (await service.ask("DELETE", complete)).status == 201
        assert stored(service, "clip.mp4") == DATA


@pytest.mark.parametrize(
    ("target", "method", "status"),
    [
        ("/vimeo/upload/none", "PUT", 404),
        ("/vimeo/complete/none", "DELETE", 404),
        ("/vimeo/videos/none", "GET", 404),
        ("/vimeo/upload/none", "POST", 405),
        ("/vimeo/complete/none", "GET", 405),
        ("/vimeo/videos/none", "PUT", 405),
        ("/vimeo/me/videos", "GET", 405),
        ("/vimeo/upload/", "PUT", 404),
        ("/vimeo/x/y", "GET", 404),
        ("/vimeo/", "GET", 404),
    ],
)
@ensureDeferred
async def test_what_is_not_there(target: str, method: str, status: int) -> None:
    async with memory_service() as service:
        answer = await service.ask(method, target, [], b"x" if method == "PUT" else None)
        assert answer.status == status
        assert answer.json["error"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"type=pull",
        b"type=streaming&name=..",
        b'{"upload": {"approach": "post"}}',
        b'{"upload": {"approach": "tus"}}',
        b'{"upload": {"approach": "tus", "size": -1}}',
        b'{"upload": {"approach": "tus", "size": true}}',
        b'{"upload": {"approach": "tus", "size": 5}, "name": 5}',
        b'{"upload": {"approach": ["tus"], "size": 5}}',
        b'{"type": {"a": 1}}',
        b'{"type": "streaming", "name": "\\ud800"}',
        b"[]",
        b"{",
        b"[" * 5000,
        b"{" + b" " * 20000,
    ],
)
@ensureDeferred
async def test_tickets_that_nobody_gets(body: bytes) -> None:
    door = Door()
    async with memory_service(door) as service:
        kind = "application/json" if body[:1] in (b"{", b"[") else "application/x-www-form-urlencoded"
        answer = await service.ask("POST", "/vimeo/me/videos", [f"Content-Type: {kind}"], body)
        assert answer.status in (400, 413)
        assert not door.asked


@ensureDeferred
async def test_cancelled_and_refused() -> None:
    door = Door()
    async with memory_service(door) as service:
        link, complete = await ticket(service)
        upload_id = link.rpartition("/")[2]
        door.refused = ("append",)
        assert (await service.ask("PUT", link, [], DATA)).body == b"not you"
        door.refused = ()
        assert (await service.ask("DELETE", f"/uploads/{upload_id}")).status == 204
        for method, target in (("PUT", link), ("DELETE", complete), ("GET", f"/vimeo/videos/{upload_id}")):
            assert (await service.ask(method, target, [], b"x" if method == "PUT" else None)).status == 410
        door.owner = "mallory"
        assert (await verify(service, link))[0] == 404


@pytest.mark.parametrize("size", [SIZE, 0, str(SIZE)])
@ensureDeferred
async def test_a_ticket_for_tus(size: Any) -> None:
    """Its link speaks tus, and nobody has to create anything there."""
    door = Door()
    async with memory_service(door) as service:
        body = json.dumps({"upload": {"approach": "tus", "size": size}, "name": "clip.mp4"}).encode()
        answer = await service.ask("POST", "/vimeo/me/videos", ["Content-Type: application/json"], body)
        assert answer.status == 200
        assert (door.asked[0].protocol, door.asked[0].length, door.asked[0].name) == ("vimeo", int(size), "clip.mp4")
        link = answer.json["upload"]["upload_link"].removeprefix("http://test")
        tus = ["Tus-Resumable: 1.0.0"]
        head = await service.ask("HEAD", link, tus)
        assert (head.status, head.header("Upload-Offset"), head.header("Upload-Length")) == (200, "0", str(size))
        if int(size):
            assert answer.json["upload"]["status"] == "in_progress"
            put = [*tus, "Content-Type: application/offset+octet-stream", "Upload-Offset: 0"]
            assert (await service.ask("PATCH", link, put, DATA)).status == 204
            assert stored(service, "clip.mp4") == DATA
        else:
            assert answer.json["upload"]["status"] == "complete"
            assert stored(service, "clip.mp4") == b""


# The header


@pytest.mark.parametrize(
    ("said", "length", "meant"),
    [
        ("bytes 0-100/100", 100, Brought(0, 100, 100)),
        ("bytes: 40-100/100", 60, Brought(40, 100, 100)),
        ("bytes 40-100/100", 100, Brought(40, 100, 100, cut=True)),
        ("bytes 40-99/100", 100, Brought(40, 100, 100, cut=True)),
        ("bytes 40-99/100", 60, Brought(40, 100, 100)),
        ("bytes 40-99/100", 59, Brought(40, 99, 100)),
        ("bytes 40-100/100", 10, Brought(40, 50, 100)),
        ("bytes 40-50/100", 10, Brought(40, 50, 100)),
        ("bytes 40-49/100", 10, Brought(40, 50, 100)),
        ("bytes 40-100/100", None, Brought(40, 100, 100)),
        ("bytes 100-100/100", 0, Brought(100, 100, 100)),
        ("bytes */*", 0, Brought(None, None, None)),
        ("bytes */100", 0, Brought(None, None, 100)),
    ],
)
def test_ranges(said: str, length: int | None, meant: Brought) -> None:
    assert parse_range([said.encode()], length) == meant


@pytest.mark.parametrize(
    ("said", "length"),
    [
        ("bytes 50-40/100", 10),
        ("bytes 40-101/100", 61),
        ("bytes 40-50/100", 5),
        ("bytes 40-50/100", 20),
        ("bytes 40-50/100", None),
        ("bytes 40-50/*", 10),
        ("bytes -5-5/5", 10),
        ("bytes 0-99999999999999999999/100", 10),
        ("items 0-1/1", 1),
        ("bytes0-1/1", 1),
        ("bytes ²-³/³", 1),
    ],
)
def test_no_ranges(said: str, length: int | None) -> None:
    with pytest.raises(Invalid):
        parse_range([said.encode()], length)


def test_only_one_range() -> None:
    assert parse_range([], 5) is None
    with pytest.raises(Invalid):
        parse_range([b"bytes */*"] * 2, 0)


NUMBERS = st.sampled_from(["0", "1", "40", "99", "100", "101", "*", "", "-1", "9" * 19, "9" * 20, "0x5", " 5"])
RANGES = st.one_of(
    st.builds("{}{}-{}/{}".format, st.sampled_from(["bytes ", "bytes: ", "bytes=", ""]), NUMBERS, NUMBERS, NUMBERS),
    st.builds("bytes */{}".format, NUMBERS),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30),
)

#: Honest ones, that leave the file unfinished.
PIECES = [("bytes 40-60/100", 20), ("bytes: 60-100/100", 5), ("bytes 30-39/100", 10), ("bytes 0-100/100", 61)]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(RANGES, st.integers(0, SIZE)), min_size=1, max_size=4))
def test_whatever_the_header_says_parses_or_is_refused(asked: list[tuple[str, int]]) -> None:
    for said, length in asked:
        try:
            brought = parse_range([said.encode()], length)
        except Invalid:
            continue
        assert brought is not None
        if brought.first is not None:
            assert brought.end is not None
            assert brought.total is not None
            assert brought.first <= brought.end <= brought.total
            assert brought.first + length >= brought.end
            assert brought.cut == (brought.first + length > brought.end)


@ensureDeferred
async def test_nothing_is_lost_whatever_comes_between() -> None:
    """Hundreds of headers between two honest requests: never a 5xx, and what was acknowledged stays."""
    answers: list[int] = []
    samples: list[tuple[str, int | None]] = []

    @settings(max_examples=120, deadline=None, database=None, derandomize=True)
    @given(st.tuples(RANGES, st.integers(0, SIZE) | st.none()) | st.sampled_from(PIECES))
    def gather(one: tuple[str, int | None]) -> None:
        samples.append(one)

    gather()
    async with memory_service() as service:
        link, complete = await ticket(service)
        assert (await service.ask("PUT", link, ["Content-Range: bytes 0-100/100"], DATA[:60])).status == 200
        for said, length in samples:
            first = int(digits) if (digits := said.split("-")[0].split(" ")[-1]).isdecimal() else 0
            # None: what an honest client sends.
            body = DATA[first:] if length is None else DATA[first : first + length]
            wire_said = said.strip()
            answers.append((await service.ask("PUT", link, [f"Content-Range: {wire_said}"], body)).status)
            status, shown = await verify(service, link)
            assert (status, int(str(shown).removeprefix("bytes=0-")) >= 60) == (308, True), said
        assert max(answers) < 500
        assert {200, 308, 400} <= set(answers)
        await service.ask("PUT", link, ["Content-Range: bytes 60-100/100"], DATA[60:])
        assert (await service.ask("DELETE", complete)).status == 201
        assert stored(service, "clip.mp4") == DATA
