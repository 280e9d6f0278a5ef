"""One upload, many views: what is begun in one protocol is looked at, and gone on with, at the URL of another."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from attrs import frozen
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred

from resumable.model import State, Upload
from tests.protocols.harness import Answer, Door, Memory, memory_service, until
from tests.uploads.memory_store import Bucket, MemoryStore

DATA = bytes(range(48))
#: What has been stored before another view is used: a chunk and a half.
STORED = 24

TUS = "Tus-Resumable: 1.0.0"
BYTES = "Content-Type: application/offset+octet-stream"
PARTIAL = "Content-Type: application/partial-upload"
VERSION = "Upload-Draft-Interop-Version: 9"


def id_of(answer: Answer) -> str:
    location = answer.header("Location") or ""
    return location.rpartition("/")[2].rpartition("upload_id=")[2].partition("&")[0]


# How each protocol begins an upload of 48 bytes and brings the first of them


async def begin_put(service: Memory, first: bytes, length: int | None) -> str:
    total = "*" if length is None else length
    await service.ask("PUT", "/upload/n", [f"Content-Range: bytes 0-{len(first) - 1}/{total}"], first)
    upload: str = (await service.ask("GET", "/upload/n")).json["id"]
    return upload


async def begin_tus(service: Memory, first: bytes, length: int | None) -> str:
    said = "Upload-Defer-Length: 1" if length is None else f"Upload-Length: {length}"
    name = "Upload-Metadata: filename bg=="  # n
    return id_of(await service.ask("POST", "/files/", [TUS, BYTES, said, name], first))


async def begin_ietf(service: Memory, first: bytes, length: int | None) -> str:
    said = [] if length is None else [f"Upload-Length: {length}"]
    return id_of(await service.ask("POST", "/upload/n", ["Upload-Complete: ?0", *said], first))


async def begin_session(service: Memory, first: bytes, length: int | None) -> str:
    made = await service.ask("POST", "/uploads", [], json.dumps({"name": "n", "length": length}).encode())
    await service.ask("PUT", f"/uploads/{id_of(made)}", [f"Content-Range: bytes 0-{len(first) - 1}/{length}"], first)
    return id_of(made)


async def begin_google(service: Memory, first: bytes, length: int | None) -> str:
    made = await service.ask("POST", "/upload/n?uploadType=resumable", [], b"{}")
    total = "*" if length is None else length
    said = [f"Content-Range: bytes 0-{len(first) - 1}/{total}"]
    await service.ask("PUT", f"/upload/n?upload_id={id_of(made)}", said, first)
    return id_of(made)


async def begin_goog_upload(service: Memory, first: bytes, length: int | None) -> str:
    said = [] if length is None else [f"X-Goog-Upload-Header-Content-Length: {length}"]
    made = await service.ask("POST", "/upload/n", ["X-Goog-Upload-Command: start", *said], b"")
    upload_id = (made.header("X-Goog-Upload-URL") or "").rpartition("upload_id=")[2].partition("&")[0]
    bring = ["X-Goog-Upload-Command: upload", "X-Goog-Upload-Offset: 0"]
    await service.ask("POST", f"/upload/n?upload_id={upload_id}", bring, first)
    return upload_id


async def begin_vimeo(service: Memory, first: bytes, length: int | None) -> str:
    made = await service.ask("POST", "/vimeo/me/videos", [], b"type=streaming&name=n")
    ticket: str = made.json["ticket_id"]
    said = [f"Content-Range: bytes 0-{len(first)}/{length}"]
    await service.ask("PUT", f"/vimeo/upload/{ticket}", said, first)
    return ticket


BEGIN: dict[str, Callable[[Memory, bytes, int | None], Any]] = {
    "put": begin_put,
    "tus": begin_tus,
    "ietf": begin_ietf,
    "session": begin_session,
    "google": begin_google,
    "goog-upload": begin_goog_upload,
    "vimeo": begin_vimeo,
}
#: Begun with these, an upload is gone on with by its id everywhere; begun with the others, where it was begun.
OPEN = ("put", "tus", "ietf", "session")
#: Many connections write these at once, in any order: a body has no exact offset there.
SWARMS = ("session",)
EXACT = ("tus", "ietf")


# What a client sees, and how it goes on, in each view


@frozen
class View:
    """A protocol at a URL with an id.

    :ivar look: the request that asks how far the upload is, and how its answer says so.
    :ivar rest: the request that brings all from an offset on.
    """

    look: Callable[[str], tuple[str, str, list[str], bytes | None]]
    told: Callable[[Answer], int]
    rest: Callable[[str, int], tuple[str, str, list[str]]]
    #: The statuses of the answers: to a look, and to the last byte.
    looked: int
    done: int


def in_range(answer: Answer) -> int:
    said = answer.header("Range")
    return 0 if said is None else int(said.rpartition("-")[2]) + 1


ASK = ["Content-Range: bytes */*"]
VIEWS: dict[str, View] = {
    "session": View(
        lambda i: ("PUT", f"/uploads/{i}", ASK, b""),
        in_range,
        lambda i, at: ("PUT", f"/uploads/{i}", [f"Content-Range: bytes {at}-47/48"]),
        308,
        200,
    ),
    "tus": View(
        lambda i: ("HEAD", f"/files/{i}", [TUS], None),
        lambda answer: int(answer.header("Upload-Offset") or -1),
        lambda i, at: ("PATCH", f"/files/{i}", [TUS, BYTES, f"Upload-Offset: {at}", "Upload-Length: 48"]),
        200,
        204,
    ),
    "ietf": View(
        lambda i: ("HEAD", f"/files/{i}", [VERSION], None),
        lambda answer: int(answer.header("Upload-Offset") or -1),
        lambda i, at: ("PATCH", f"/files/{i}", [VERSION, PARTIAL, f"Upload-Offset: {at}", "Upload-Complete: ?1"]),
        204,
        200,
    ),
    "google": View(
        lambda i: ("PUT", f"/upload/n?upload_id={i}", ASK, b""),
        in_range,
        lambda i, at: ("PUT", f"/upload/n?upload_id={i}", [f"Content-Range: bytes {at}-47/48"]),
        308,
        200,
    ),
    "goog-upload": View(
        lambda i: ("POST", f"/upload/n?upload_id={i}", ["X-Goog-Upload-Command: query"], b""),
        lambda answer: int(answer.header("X-Goog-Upload-Size-Received") or -1),
        lambda i, at: (
            "POST",
            f"/upload/n?upload_id={i}",
            ["X-Goog-Upload-Command: upload, finalize", f"X-Goog-Upload-Offset: {at}"],
        ),
        200,
        200,
    ),
    "vimeo": View(
        lambda i: ("PUT", f"/vimeo/upload/{i}", ASK, b""),
        # The second number is their count.
        lambda answer: int((answer.header("Range") or "-1").rpartition("-")[2]),
        lambda i, at: ("PUT", f"/vimeo/upload/{i}", [f"Content-Range: bytes {at}-48/48"]),
        308,
        200,
    ),
}


async def row(service: Memory, upload_id: str) -> Upload:
    upload = await service.parts.ledger.get(upload_id)
    assert upload is not None
    return upload


def stored(service: Memory) -> bytes | None:
    found = service.parts.bucket.objects.get("n")
    return None if found is None else bytes(found[0])


def asked(service: Memory) -> list[tuple[str, str, str | None]]:
    door = service.authorizer
    assert isinstance(door, Door)
    return [(ask.protocol, ask.action, ask.upload_id) for ask in door.asked]


#: Each protocol, with a length that was said before and without, where it can do without.
ROWS = [(begun, length) for begun in BEGIN for length in (48, None) if length or begun not in ("session", "vimeo")]


@pytest.mark.parametrize(("begun", "length"), ROWS)
@ensureDeferred
async def test_every_upload_is_seen_in_every_view(begun: str, length: int | None) -> None:
    """In the view's own words, by who may see it; and nothing has changed by that."""
    async with memory_service(Door()) as service:
        upload_id = await BEGIN[begun](service, DATA[:STORED], length)
        before = await service.parts.ledger.whole(upload_id)
        assert before[0].protocol == begun
        door: Any = service.authorizer
        for name, view in VIEWS.items():
            door.asked.clear()
            answer = await service.ask(*view.look(upload_id))
            assert (answer.status, view.told(answer)) == (view.looked, STORED), name
            assert asked(service) == [(name, "status", upload_id)]
        door.owner = "mallory"
        for name, view in VIEWS.items():
            assert (await service.ask(*view.look(upload_id))).status == 404, name
        assert await service.parts.ledger.whole(upload_id) == before


@pytest.mark.parametrize(("begun", "length"), ROWS)
@ensureDeferred
async def test_an_upload_is_gone_on_with_in_another_view(begun: str, length: int | None) -> None:
    """Where that is allowed: to its end, and it is the object. Elsewhere: a clear no, and nothing has changed."""
    async with memory_service(Door()) as service:
        for name, view in VIEWS.items():
            await service.ask("DELETE", "/upload/n")
            service.parts.bucket.objects.clear()
            upload_id = await BEGIN[begun](service, DATA[:STORED], length)
            door: Any = service.authorizer
            door.asked.clear()
            answer = await service.ask(*view.rest(upload_id, STORED), DATA[STORED:])
            # And again before the object was made, in the same words.
            assert set(asked(service)) == {(name, "append", upload_id)}
            if begun == name or (begun in OPEN and not (begun in SWARMS and name in EXACT)):
                assert (answer.status, stored(service)) == (view.done, DATA), (name, answer)
                assert (await row(service, upload_id)).state is State.FINISHED
            else:
                assert answer.status in (400, 409), (name, answer)
                assert ((await row(service, upload_id)).state, stored(service)) == (State.OPEN, None)
                assert view.told(await service.ask(*view.look(upload_id))) == STORED


@pytest.mark.parametrize("begun", ["put", "tus", "ietf"])
@ensureDeferred
async def test_offsets_have_to_agree(begun: str) -> None:
    """409 with the offset, as in the protocol itself; nothing was taken."""
    async with memory_service() as service:
        upload_id = await BEGIN[begun](service, DATA[:STORED], 48)
        for view in EXACT:
            for offset in (STORED - 1, STORED + 1, 0, 48):
                answer = await service.ask(*VIEWS[view].rest(upload_id, offset), DATA[offset:])
                assert (answer.status, answer.header("Upload-Offset")) == (409, str(STORED)), (view, offset)
        upload = await row(service, upload_id)
        assert (upload.state, stored(service)) == (State.OPEN, None)
        # Its own client goes on as if nothing had been.
        own = "session" if begun == "put" else begun
        answer = await service.ask(*VIEWS[own].rest(upload_id, STORED), DATA[STORED:])
        assert (answer.status, stored(service)) == (VIEWS[own].done, DATA)


@ensureDeferred
async def test_who_may_look_may_not_write() -> None:
    """The right is asked for by action, in the view's own name: a no to appending leaves all as it is."""
    async with memory_service(Door(refused=["append"])) as service:
        made = await service.ask("POST", "/files/", [TUS, "Upload-Length: 48"], b"")
        for name, view in VIEWS.items():
            assert (await service.ask(*view.rest(id_of(made), 0), DATA)).status == 403
            assert asked(service)[-1] == (name, "append", id_of(made))
            assert view.told(await service.ask(*view.look(id_of(made)))) == 0


# What ends an upload: as it was begun


async def patch(service: Memory, upload_id: str, offset: int, body: bytes, *said: str) -> Answer:
    return await service.ask("PATCH", f"/files/{upload_id}", [f"Upload-Offset: {offset}", *said], body)


@ensureDeferred
async def test_an_upload_of_ietf_ends_when_somebody_says_so() -> None:
    """Bytes that came in tus do not end it while nobody knows where that is; then its own client says so."""
    async with memory_service() as service:
        upload_id = await begin_ietf(service, DATA[:STORED], None)
        assert (await patch(service, upload_id, STORED, DATA[STORED:], TUS, BYTES)).status == 204
        head = await service.ask("HEAD", f"/files/{upload_id}", [TUS])
        assert (head.header("Upload-Offset"), head.header("Upload-Length")) == ("48", None)
        assert head.header("Upload-Defer-Length") == "1"
        assert stored(service) is None
        assert (await patch(service, upload_id, 48, b"", VERSION, PARTIAL, "Upload-Complete: ?1")).status == 200
        assert stored(service) == DATA


@pytest.mark.parametrize("coded", [False, True])
@ensureDeferred
async def test_tus_ends_an_upload_of_ietf_at_the_length_that_it_is_told(coded: bool) -> None:
    """A client of tus is done when it has brought the Upload-Length that HEAD has told it: then there has to be an object."""
    async with memory_service() as service:
        upload_id = await begin_ietf(service, DATA[:STORED], 48)
        head = await service.ask("HEAD", f"/files/{upload_id}", [TUS])
        assert (head.header("Upload-Length"), head.header("Upload-Defer-Length")) == ("48", None)
        if coded:
            wire = service.connect()
            said = [f"PATCH /files/{upload_id} HTTP/1.1", "Host: t", TUS, BYTES, f"Upload-Offset: {STORED}"]
            framed = b"%x\r\n%s\r\n0\r\n\r\n" % (48 - STORED, DATA[STORED:])
            wire.send("\r\n".join([*said, "Transfer-Encoding: chunked", "", ""]).encode() + framed)
            await until(lambda: b"\r\n\r\n" in wire.said)
            assert wire.said.startswith(b"HTTP/1.1 204 ")
        else:
            assert (await patch(service, upload_id, STORED, DATA[STORED:], TUS, BYTES)).status == 204
        assert stored(service) == DATA


@ensureDeferred
async def test_all_bytes_of_an_upload_of_ietf_are_not_its_end() -> None:
    """Its client has yet to say ?1: no other view says that it is done, and a look does not end it."""
    async with memory_service() as service:
        upload_id = await begin_ietf(service, DATA, 48)
        head = await service.ask("HEAD", f"/files/{upload_id}", [TUS])
        assert (head.header("Upload-Offset"), head.header("Upload-Length")) == ("48", None)
        for view in VIEWS.values():
            assert (await service.ask(*view.look(upload_id))).status == view.looked
        upload = await row(service, upload_id)
        assert (upload.length, upload.state, stored(service)) == (None, State.OPEN, None)
        # Who says in tus that these are all has said it.
        assert (await patch(service, upload_id, 48, b"", TUS, BYTES, "Upload-Length: 48")).status == 204
        assert stored(service) == DATA


@ensureDeferred
async def test_another_length_than_the_announced_one() -> None:
    """In no view: it is said once. What goes past it is not taken."""
    async with memory_service() as service:
        upload_id = await begin_ietf(service, DATA[:STORED], 48)
        for view in ("session", "google", "vimeo"):
            method, target, said = VIEWS[view].rest(upload_id, STORED)
            other = [line.replace("47/48", "40/41").replace("48/48", "41/41") for line in said]
            assert (await service.ask(method, target, other, DATA[STORED:41])).status == 400, view
        assert (await patch(service, upload_id, STORED, DATA[STORED:], TUS, BYTES, "Upload-Length: 99")).status == 400
        assert (await patch(service, upload_id, STORED, DATA + DATA, TUS, BYTES)).status == 400
        assert (await patch(service, upload_id, 3, DATA + DATA, TUS, BYTES)).status == 409
        upload = await row(service, upload_id)
        assert (upload.announced, upload.state) == (48, State.OPEN)
        final = await patch(service, upload_id, STORED, DATA[STORED:], VERSION, PARTIAL, "Upload-Complete: ?1")
        assert (final.status, stored(service)) == (200, DATA)


@pytest.mark.parametrize("begun", ["put", "tus"])
@ensureDeferred
async def test_ietf_cannot_hold_an_upload_of_others_open(begun: str) -> None:
    """It ends at its length. Who said ?0 with its last byte asks, or says ?1, and hears that it is complete."""
    async with memory_service() as service:
        upload_id = await BEGIN[begun](service, DATA[:STORED], 48)
        last = await patch(service, upload_id, STORED, DATA[STORED:], VERSION, PARTIAL, "Upload-Complete: ?0")
        assert (last.status, last.header("Upload-Complete")) == (204, "?0")
        assert stored(service) == DATA
        looked = await service.ask("HEAD", f"/files/{upload_id}", [VERSION])
        assert (looked.header("Upload-Complete"), looked.header("Upload-Offset")) == ("?1", "48")
        again = await patch(service, upload_id, 48, b"", VERSION, PARTIAL, "Upload-Complete: ?1")
        assert (again.status, again.json["state"]) == (200, "finished")


@pytest.mark.parametrize("said", ["Upload-Complete: ?1", "Upload-Complete: ?0"])
@ensureDeferred
async def test_who_errs_in_ietf_does_not_end_an_upload_of_others(said: str) -> None:
    """More bytes than it has end one of its own (draft-12, 4.4.2), and no other's. The same of fewer and a ?1."""
    async with memory_service() as service:
        upload_id = await begin_tus(service, DATA[:STORED], 48)
        answer = await patch(service, upload_id, STORED, DATA[STORED:] + b"more", VERSION, PARTIAL, said)
        assert (answer.status, answer.json["type"].rpartition("#")[2]) == (400, "inconsistent-upload-length")
        early = await patch(service, upload_id, STORED, DATA[STORED:40], VERSION, PARTIAL, "Upload-Complete: ?1")
        assert (early.status, early.json["type"].rpartition("#")[2]) == (400, "inconsistent-upload-length")
        assert (await row(service, upload_id)).state is State.OPEN
        assert (await patch(service, upload_id, STORED, DATA[STORED:], TUS, BYTES)).status == 204
        assert stored(service) == DATA


@ensureDeferred
async def test_what_is_finished_is_finished_in_every_view() -> None:
    """Whoever asks hears it, and the object stays what it is, whatever else somebody brings."""
    async with memory_service() as service:
        upload_id = await begin_tus(service, DATA, 48)
        for name, view in VIEWS.items():
            assert (await service.ask(*view.look(upload_id))).status in (200, 204, 308), name
            assert (await service.ask(*view.rest(upload_id, STORED), bytes(48 - STORED))).status == 409, name
        assert stored(service) == DATA


@pytest.mark.parametrize("begun", BEGIN)
@ensureDeferred
async def test_every_upload_is_cancelled_in_every_view_that_cancels(begun: str) -> None:
    """The owner's right, wherever it is used: then it is gone in all of them."""
    cancels: dict[str, tuple[str, str, list[str]]] = {
        "session": ("DELETE", "/uploads/{}", []),
        "tus": ("DELETE", "/files/{}", [TUS]),
        "ietf": ("DELETE", "/files/{}", [VERSION]),
        "google": ("DELETE", "/upload/n?upload_id={}", []),
        "goog-upload": ("POST", "/upload/n?upload_id={}", ["X-Goog-Upload-Command: cancel"]),
    }
    async with memory_service(Door()) as service:
        for view, (method, target, said) in cancels.items():
            upload_id = await BEGIN[begun](service, DATA[:STORED], 48)
            answer = await service.ask(method, target.format(upload_id), said, b"")
            assert answer.status in (200, 204, 499), view
            assert asked(service)[-1] == (view, "cancel", upload_id)
            assert (await row(service, upload_id)).state is State.CANCELLED
            assert (await service.ask("HEAD", f"/files/{upload_id}", [TUS])).status == 410


# A look waits a moment for a body that has ended


class Slow(MemoryStore):
    """A store that keeps back its answer to what it is given until it is told to go on."""

    def __init__(self, bucket: Bucket) -> None:
        super().__init__(bucket)
        self.gate: Deferred[None] | None = None
        self.waiting = 0

    async def put_object(self, *args: Any, **kwargs: Any) -> Any:
        await self._wait()
        return await super().put_object(*args, **kwargs)

    async def upload_part(self, *args: Any, **kwargs: Any) -> Any:
        await self._wait()
        return await super().upload_part(*args, **kwargs)

    async def _wait(self) -> None:
        while self.gate is not None:
            self.waiting += 1
            await self.gate

    def go_on(self) -> None:
        gate, self.gate = self.gate, None
        if gate is not None:
            gate.callback(None)


LOOKS: Sequence[tuple[str, str, str, list[str], bytes | None]] = [
    ("tus", "HEAD", "/files/{}", [TUS], None),
    ("tus", "HEAD", "/files/{}", [VERSION], None),
    ("tus", "PUT", "/uploads/{}", ASK, b""),
    ("tus", "GET", "/uploads/{}", [], None),
    ("google", "PUT", "/upload/n?upload_id={}", ASK, b""),
    ("goog-upload", "POST", "/upload/n?upload_id={}", ["X-Goog-Upload-Command: query"], b""),
    ("vimeo", "PUT", "/vimeo/upload/{}", ASK, b""),
    ("put", "PUT", "/upload/n", ASK, b""),
    ("put", "GET", "/upload/n", [], None),
]


def offset_in(answer: Answer) -> int:
    """The offset in whichever words."""
    for header in ("Upload-Offset", "X-Goog-Upload-Size-Received"):
        if answer.header(header) is not None:
            return int(answer.header(header) or "")
    if answer.status == 308:
        return in_range(answer)
    offset: int = answer.json["offset"]
    return offset


#: How each of them brings the rest.
def rest_of(begun: str, upload_id: str) -> tuple[str, str, list[str]]:
    if begun == "put":
        return "PUT", "/upload/n", [f"Content-Range: bytes {STORED}-47/48"]
    return VIEWS[begun].rest(upload_id, STORED)


@asynccontextmanager
async def broken_off(begun: str) -> AsyncIterator[tuple[Memory, Slow, str]]:
    """An upload whose client has gone, while the store still has what came last: 6 bytes behind the first 24."""
    bucket = Bucket()
    store = Slow(bucket)
    async with memory_service(store=store) as service:
        service.parts.bucket = bucket
        upload_id = await BEGIN[begun](service, DATA[:STORED], 48)
        store.gate = Deferred()
        method, target, said = rest_of(begun, upload_id)
        wire = service.connect()
        lines = [f"{method} {target} HTTP/1.1", "Host: t", *said, f"Content-Length: {48 - STORED}", "", ""]
        wire.send("\r\n".join(lines).encode() + DATA[STORED : STORED + 6])
        await until(lambda: [stream for stream in streams(service, upload_id) if stream.position == STORED + 6])
        wire.lose()
        await until(lambda: store.waiting)
        yield service, store, upload_id
        store.go_on()
        await until(lambda: not streams(service, upload_id))


def streams(service: Memory, upload_id: str) -> list[Any]:
    writer = service.parts.uploads.writing._writers.get(upload_id)
    return [] if writer is None else writer.streams


@pytest.mark.parametrize(("begun", "method", "target", "said", "body"), LOOKS)
@ensureDeferred
async def test_a_look_counts_what_is_just_being_stored(
    begun: str, method: str, target: str, said: list[str], body: bytes | None
) -> None:
    """The client has come back at once: it is told the offset that there is when its last bytes are stored."""
    async with broken_off(begun) as (service, store, upload_id):
        looking = Deferred.fromCoroutine(service.ask(method, target.format(upload_id), said, body))
        # The question has come, and is waiting for the same store.
        await until(lambda: [stream for stream in streams(service, upload_id) if len(stream._idle) > 1])
        assert not looking.called
        store.go_on()
        answer = await looking
        expected = STORED + 6 + (1 if begun == "vimeo" else 0)
        assert offset_in(answer) == expected


@ensureDeferred
async def test_a_look_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store does not answer: then the offset is told that there is; nobody is disturbed, and what comes later counts."""
    monkeypatch.setattr("resumable.uploads.registry.LOOK_PATIENCE", 0.05)
    async with broken_off("tus") as (service, store, upload_id):
        for _ in range(2):
            assert (await service.ask("HEAD", f"/files/{upload_id}", [TUS])).header("Upload-Offset") == str(STORED)
        (stream,) = streams(service, upload_id)
        assert not stream.failed
        store.go_on()
        await until(lambda: not streams(service, upload_id))
        assert (await service.ask("HEAD", f"/files/{upload_id}", [TUS])).header("Upload-Offset") == str(STORED + 6)


@ensureDeferred
async def test_a_look_does_not_wait_for_who_is_still_sending() -> None:
    """That may take hours, and promise 7 stands: it is not disturbed."""
    bucket = Bucket()
    store = Slow(bucket)
    async with memory_service(store=store) as service:
        upload_id = await begin_tus(service, DATA[:16], 48)
        store.gate = Deferred()
        wire = service.connect()
        head = [f"PATCH /files/{upload_id} HTTP/1.1", "Host: t", TUS, BYTES, "Upload-Offset: 16", "Content-Length: 32"]
        wire.send("\r\n".join([*head, "", ""]).encode() + DATA[16:40])
        await until(lambda: store.waiting)
        answer = await service.ask("HEAD", f"/files/{upload_id}", [TUS])
        assert answer.header("Upload-Offset") == "16"
        (stream,) = streams(service, upload_id)
        assert (stream._idle, stream.failed) == ([], False)
        store.go_on()
        wire.send(DATA[40:])
        await until(lambda: b"204 No Content" in wire.said)
        assert bytes(next(data for key, (data, _) in bucket.objects.items() if not key.startswith("."))) == DATA


@pytest.mark.parametrize("protocol", ["tus", "ietf", "put"])
@ensureDeferred
async def test_a_length_in_tus_counts_only_at_the_right_offset(protocol: str) -> None:
    """Otherwise the upload would end there: the next look would find it complete, and make an object of half a file."""
    async with memory_service() as service:
        upload = await BEGIN[protocol](service, DATA[:STORED], None)
        for offset, length in ((0, STORED), (STORED + 1, STORED), (0, 40)):
            lines = [TUS, BYTES, f"Upload-Offset: {offset}", f"Upload-Length: {length}"]
            assert (await service.ask("PATCH", f"/files/{upload}", lines, b"")).status == 409
            look = await service.ask("HEAD", f"/files/{upload}", [TUS])
            assert (look.header("Upload-Defer-Length"), look.header("Upload-Length")) == ("1", None)
        lines = [TUS, BYTES, f"Upload-Offset: {STORED}", f"Upload-Length: {len(DATA)}"]
        assert (await service.ask("PATCH", f"/files/{upload}", lines, DATA[STORED:])).status == 204
        ((data, _),) = service.parts.bucket.objects.values()
        assert data == DATA


@pytest.mark.parametrize("protocol", ["tus", "ietf", "put"])
@ensureDeferred
async def test_the_total_of_a_range_that_is_refused_does_not_count(protocol: str) -> None:
    """Neither of one with other bytes, which would end the upload where it is; nor of one that comes too early."""
    async with memory_service() as service:
        upload = await BEGIN[protocol](service, DATA[:STORED], None)
        url = f"/uploads/{upload}"
        other = await service.ask("PUT", url, [f"Content-Range: bytes 8-{STORED - 1}/{STORED}"], b"x" * (STORED - 8))
        early = await service.ask("PUT", url, [f"Content-Range: bytes 40-49/{STORED + 26}"], b"x" * 10)
        assert (other.status, early.status) == (409, 416)
        shown = (await service.ask("GET", url)).json
        assert (shown["state"], shown["length"], shown["offset"]) == ("open", None, STORED)
        # That of the same bytes does.
        same = await service.ask("PUT", url, [f"Content-Range: bytes 8-{STORED - 1}/{len(DATA)}"], DATA[8:STORED])
        assert (same.status, (await service.ask("GET", url)).json["length"]) == (308, len(DATA))
        last = await service.ask("PUT", url, [f"Content-Range: bytes {STORED}-47/48"], DATA[STORED:])
        assert last.status in (200, 201)
        ((data, _),) = service.parts.bucket.objects.values()
        assert data == DATA


@ensureDeferred
async def test_the_total_of_stored_bytes_ends_the_upload() -> None:
    """A last range is repeated, with the total that it lacked before: what is stored is all."""
    async with memory_service() as service:
        upload = await BEGIN["put"](service, DATA, None)
        last = await service.ask("PUT", f"/uploads/{upload}", ["Content-Range: bytes 24-47/48"], DATA[24:])
        assert (last.status, last.json["state"]) == (200, "finished")
        ((data, _),) = service.parts.bucket.objects.values()
        assert data == DATA
