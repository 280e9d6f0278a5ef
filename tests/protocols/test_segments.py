"""nginx-upload-module's resumable uploads on the wire: in order, out of order, at once."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, gatherResults
from twisted.web.http_headers import Headers

from resumable.protocols.messages import RANGE_LIMIT
from resumable.protocols.segments import ranges_text, read_file_name
from tests.protocols.harness import Answer, Door, Memory, memory_service, until

DATA = bytes(range(100))
TOTAL = len(DATA)


async def send(
    service: Memory,
    first: int,
    end: int,
    *more: str,
    session: str = "s-1_A",
    target: str = "/upload",
    total: int = TOTAL,
    data: bytes = DATA,
) -> Answer:
    headers = [f"X-Session-ID: {session}", f"X-Content-Range: bytes {first}-{end - 1}/{total}", *more]
    return await service.ask("POST", target, headers, data[first:end])


def stored(service: Memory, name: str = "s-1_A") -> bytes:
    return bytes(service.parts.bucket.objects[name][0])


@ensureDeferred
async def test_in_order() -> None:
    """As the examples of the protocol's own document show it."""
    async with memory_service() as service:
        disposition = 'Content-Disposition: attachment, filename="big.TXT"'
        kind = "Content-Type: text/x-big"
        one = await send(service, 0, 40, disposition, kind)
        assert (one.status, one.header("Range"), one.body) == (201, "0-39/100", b"0-39/100")
        two = await send(service, 40, 70, disposition, kind)
        assert (two.status, two.header("Range"), two.body) == (201, "0-69/100", b"0-69/100")
        last = await send(service, 70, 100, disposition, kind)
        assert (last.status, last.json["state"], last.json["protocol"]) == (200, "finished", "segments")
        assert (last.json["name"], last.json["metadata"]) == ("s-1_A", {"filename": "big.TXT"})
        assert last.json["content_type"] == "text/x-big"
        assert stored(service) == DATA
        # Its answer was lost.
        assert (await send(service, 70, 100)).json == last.json
        other = await send(service, 70, 100, data=bytes(100))
        assert other.status == 409


@ensureDeferred
async def test_out_of_order_and_the_other_headers() -> None:
    async with memory_service() as service:
        headers = ["Session-ID: s-1_A", "Content-Range: bytes 70-99/100"]
        assert (await service.ask("POST", "/upload/a/b.txt", headers, DATA[70:])).header("Range") == "70-99/100"
        middle = await send(service, 20, 50)
        assert middle.header("Range") == middle.body.decode() == "20-49/100,70-99/100"
        assert (await send(service, 50, 70)).header("Range") == "20-99/100"
        # Once more, and over what is there.
        assert (await send(service, 45, 75)).header("Range") == "20-99/100"
        last = await send(service, 0, 20)
        assert (last.status, last.json["metadata"]) == (200, {"filename": "a/b.txt"})
        assert stored(service) == DATA


@ensureDeferred
async def test_all_at_once() -> None:
    """Whichever comes first begins the upload; there is one."""
    async with memory_service() as service:
        segments = [(first, first + 10) for first in range(0, 100, 10)]
        answers = await gatherResults([Deferred.fromCoroutine(send(service, *segment)) for segment in segments])
        assert {answer.status for answer in answers} <= {200, 201}
        assert 200 in {answer.status for answer in answers}
        assert stored(service) == DATA
        assert len(service.parts.bucket.objects) == 1


@ensureDeferred
async def test_two_clients_with_one_id() -> None:
    door = Door()
    async with memory_service(door) as service:
        assert (await send(service, 0, 40)).status == 201
        other = await send(service, 0, 40, total=99)
        assert (other.status, "100 bytes" in other.json["detail"]) == (400, True)
        # Another owner's session of the same id is another one.
        door.owner = "bob"
        assert (await send(service, 60, 100)).header("Range") == "60-99/100"
        door.owner = ""
        conflict = await send(service, 0, 40, data=bytes(100))
        assert conflict.status == 409
        assert (await send(service, 40, 100)).status == 200
        assert stored(service) == DATA
        # The session is over, and its id may be taken for another file.
        assert (await send(service, 0, 30, total=30)).status == 200
        assert stored(service) == DATA[:30]


@ensureDeferred
async def test_what_another_protocol_calls_the_same_is_another_upload() -> None:
    async with memory_service() as service:
        put = await service.ask("PUT", "/upload/s-1_A", ["Content-Range: bytes 0-39/100"], bytes(40))
        assert put.status == 308
        assert (await send(service, 0, 40)).header("Range") == "0-39/100"
        assert (await service.ask("GET", "/upload/s-1_A")).json["protocol"] == "put"


@ensureDeferred
async def test_a_segment_that_breaks_off() -> None:
    """What came of it is kept, and the next answer says so."""
    async with memory_service() as service:
        wire = service.connect()
        head = "POST /upload HTTP/1.1\r\nHost: test\r\nSession-ID: s-1_A\r\nContent-Range: bytes 0-99/100\r\n"
        wire.send(f"{head}Content-Length: 100\r\n\r\n".encode() + DATA[:50])
        await until(lambda: wire.channel.requests and wire.channel.requests[-1]._outlet is not None)
        wire.lose()
        for _ in range(500):
            shown = (await send(service, 90, 100)).header("Range")
            if shown == "0-49/100,90-99/100":
                break
        assert shown == "0-49/100,90-99/100"
        assert (await send(service, 0, 90)).status == 200
        assert stored(service) == DATA


@ensureDeferred
async def test_an_empty_file() -> None:
    async with memory_service() as service:
        headers = ["Session-ID: s-1_A", "Content-Range: bytes */0"]
        for _ in range(2):
            assert (await service.ask("POST", "/upload", headers, b"")).json["size"] == 0
        assert stored(service) == b""


@ensureDeferred
async def test_a_store_in_trouble() -> None:
    async with memory_service() as service:
        trouble: list[tuple[str, str]] = service.parts.uploads._store.trouble  # type: ignore[attr-defined]
        await send(service, 0, 40)
        trouble.append(("complete_multipart_upload", "before"))
        assert (await send(service, 40, 100)).status == 503
        assert (await send(service, 40, 100)).status == 200
        assert stored(service) == DATA


@pytest.mark.parametrize("session", ["", "a b", "a/b", "..", "é", "a" * 256, "a,b"])
@ensureDeferred
async def test_ids_that_are_none(session: str) -> None:
    door = Door()
    async with memory_service(door) as service:
        assert (await send(service, 0, 40, session=session)).status == 400
        assert not door.asked


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (["X-Session-ID: s", "Session-ID: t", "Content-Range: bytes 0-99/100"], 400),
        (["X-Session-ID: s", "Content-Range: bytes 0-99/100", "X-Content-Range: bytes 1-99/100"], 400),
        (["X-Session-ID: s", "Content-Range: bytes 0-99/*"], 400),
        (["X-Session-ID: s", "Content-Range: bytes */100"], 400),
        (["X-Session-ID: s", "Content-Range: bytes */*"], 400),
        (["X-Session-ID: s", "Content-Range: bytes 0-98/100"], 400),
        (["X-Session-ID: s", "Content-Range: bytes 1-100/100"], 400),
        (["X-Session-ID: s", "Content-Range: bytes */0"], 400),
        (["X-Session-ID: s", "Content-Range: bytes 0-99/9999999999999999999"], 413),
        (["X-Session-ID: s", "Content-Range: bytes 0-99/100", "Content-Type: multipart/form-data; boundary=x"], 415),
        (["X-Session-ID: s", "Content-Range: bytes 0-99/100", f"Content-Disposition: a; filename={'n' * 3000}"], 400),
    ],
)
@ensureDeferred
async def test_requests_that_contradict_themselves(headers: list[str], status: int) -> None:
    """They are refused, and leave no upload behind."""
    async with memory_service() as service:
        assert (await service.ask("POST", "/upload", headers, DATA)).status == status
        assert (await send(service, 0, 100, session="s")).status == 200


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('attachment; filename="a.txt"', "a.txt"),
        ("attachment; filename=a.txt", "a.txt"),
        ('attachment; filename="C:\\\\dir\\\\a.txt"', "a.txt"),
        ('attachment; filename="/etc/a.txt"', "a.txt"),
        ("attachment; filename*=UTF-8''%E2%82%AC.txt", "€.txt"),
        ("attachment", None),
        ("attachment; filename*=nonsense''%FF", "ÿ"),
        # Charsets that Python knows, and that are none of a header's.
        ("attachment; filename*=idna''a.txt", "a.txt"),
        ("attachment; filename*=undefined''a.txt", "a.txt"),
        ("attachment; filename*=punycode''%ff", "ÿ"),
        ("attachment; filename*=a%00b''a.txt", "a.txt"),
        (f"attachment; filename*{'9' * 5000}*=a.txt", None),
    ],
)
@ensureDeferred
async def test_file_names(disposition: str, name: str | None) -> None:
    async with memory_service() as service:
        answer = await send(service, 0, 100, f"Content-Disposition: {disposition}")
        assert answer.json["metadata"].get("filename") == name


def test_many_ranges_fit_into_a_header() -> None:
    """It is ended at a range, under 4 KiB."""
    text = ranges_text(((first, first + 1) for first in range(0, 10**6, 100)), 10**18)
    assert RANGE_LIMIT - 100 < len(text) <= RANGE_LIMIT
    assert all(re.fullmatch(rf"\d+-\d+/{10**18}", one) for one in text.split(","))
    assert ranges_text([], 5) == ""


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=80)
    | st.builds(
        lambda name, charset, text: f"a; filename{name}={charset}'{text}".encode(),
        st.sampled_from(["*", "*0", "*0*", "*1*", "*" + "9" * 5000]),
        st.sampled_from(["utf-8'", "idna'", "undefined'", "punycode'", "hex'", "utf-16'en", "a%00b'", "", "'"]),
        st.text("%fF0ed aé/\\'\";", max_size=20),
    )
)
def test_no_disposition_breaks_the_reader(said: bytes) -> None:
    headers = Headers()
    headers.addRawHeader(b"Content-Disposition", said)
    name = read_file_name(SimpleNamespace(requestHeaders=headers), None)  # type: ignore[arg-type]
    assert name is None or (name and "/" not in name)
