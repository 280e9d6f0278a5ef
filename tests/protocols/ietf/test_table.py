"""What draft-ietf-httpbis-resumable-upload-12 asks of a server, requirement by requirement."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred

from resumable.model import State
from tests.protocols.harness import Door, Memory, memory_service, until
from tests.protocols.ietf.talk import (
    COMPLETED,
    DATA,
    INCONSISTENT,
    MISMATCH,
    PARTIAL,
    answers,
    begin,
    interim,
    patch,
    row,
    send_chunked,
    start,
    state,
    stored,
    version,
)
from tests.web.wire import statuses, unfinished

WHOLE = "Upload-Complete: ?1"
MORE = "Upload-Complete: ?0"


# Creation (4.2)


async def break_off(service: Memory, method: str, lines: list[str], sent: bytes) -> str:
    """Begin an upload, and lose the connection after some of its body. Return its URL's path when all that came is stored."""
    wire = service.connect()
    start(wire, method, "/upload/n", lines)
    (first,) = await interim(wire)
    wire.send(sent)
    wire.lose()
    await until(lambda: not service.parts.uploads.writing._users)
    return (first.header("Location") or "").removeprefix("http://test")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
@ensureDeferred
async def test_a_whole_upload_in_its_creation(method: str) -> None:
    """The target's own answer, with Upload-Complete: ?1; one request to the store where it is one chunk."""
    async with memory_service() as service:
        answer = await service.ask(method, "/upload/n", [WHOLE], DATA[:10])
        assert (answer.status, answer.header("Upload-Complete")) == (200, "?1")
        assert (answer.json["state"], answer.json["protocol"], answer.json["size"]) == ("finished", "ietf", 10)
        assert (answer.header("Upload-Offset"), stored(service, "n")) == ("10", DATA[:10])
        assert service.parts.bucket.calls == ["put_object"]


@ensureDeferred
async def test_a_creation_with_a_part() -> None:
    """201, Location, Upload-Limit, Upload-Complete: ?0, and Upload-Offset, which tus-js-client needs."""
    async with memory_service() as service:
        answer = await service.ask("POST", "/upload/n", [MORE], DATA[:10])
        assert (answer.status, answer.header("Upload-Complete"), answer.header("Upload-Offset")) == (201, "?0", "10")
        assert (answer.header("Upload-Limit") or "").startswith("max-size=")
        path = (answer.header("Location") or "").removeprefix("http://test")
        assert path.startswith("/files/")
        assert len(path) >= len("/files/") + 20
        assert (await patch(service, path, 10, DATA[10:], "?1")).status == 200
        assert stored(service, "n") == DATA


@pytest.mark.parametrize(("complete", "made"), [("?1", b""), ("?0", None)])
@ensureDeferred
async def test_a_creation_without_content(complete: str, made: bytes | None) -> None:
    """With ?1 the representation is empty; with ?0 the URL is what was asked for."""
    async with memory_service() as service:
        answer = await service.ask("POST", "/upload/n", [f"Upload-Complete: {complete}"], b"")
        assert (answer.status, answer.header("Upload-Offset")) == (200 if made == b"" else 201, "0")
        assert stored(service, "n") == made


@ensureDeferred
async def test_an_interim_answer_comes_as_soon_as_the_upload_is_created() -> None:
    """104 with Location, Upload-Limit and the version; the final answer has the same Location."""
    async with memory_service() as service:
        wire = service.connect()
        start(wire, "POST", "/upload/n", [version(9), MORE, "Content-Length: 10"])
        (first,) = await interim(wire)
        assert first.header("Upload-Draft-Interop-Version") == "9"
        assert (first.header("Upload-Limit") or "").startswith("max-size=")
        assert first.header("Upload-Offset") is None
        wire.send(DATA[:10])
        *_, last = await answers(wire)
        assert last.header("Location") == first.header("Location")


@pytest.mark.parametrize(
    "said", [[], [version(2)], [version(10)], [version("9.5")], [version('"9"')], [version("9, 9")]]
)
@ensureDeferred
async def test_no_interim_answer_for_who_names_no_version_that_is_spoken(said: list[str]) -> None:
    """MUST NOT: http.client, and so requests and urllib3, take a 104 for the final answer."""
    async with memory_service() as service:
        wire = service.connect()
        start(wire, "POST", "/upload/n", [*said, WHOLE, "Content-Length: 42"])
        wire.send(DATA)
        await answers(wire)
        assert statuses(wire.said) == [200]


@ensureDeferred
async def test_no_interim_answer_for_http_1_0() -> None:
    async with memory_service() as service:
        wire = service.connect()
        wire.send(f"POST /upload/n HTTP/1.0\r\n{version(9)}\r\n{WHOLE}\r\nContent-Length: 3\r\n\r\nabc".encode())
        await answers(wire)
        assert statuses(wire.said) == [200]


@ensureDeferred
async def test_an_interim_answer_is_no_leave_to_send() -> None:
    """To Expect: 100-continue comes 104, and then 100."""
    async with memory_service() as service:
        wire = service.connect()
        start(wire, "POST", "/upload/n", [version(9), WHOLE, "Content-Length: 3", "Expect: 100-continue"])
        await until(lambda: statuses(wire.said) == [104, 100])
        wire.send(b"abc")
        await answers(wire)
        assert statuses(wire.said)[:2] == [104, 100]
        assert statuses(wire.said)[-1] == 200


@ensureDeferred
async def test_a_creation_that_breaks_off_is_kept_for_who_knows_its_url() -> None:
    """What arrived is appended, and the upload is not complete."""
    async with memory_service() as service:
        # The second chunk is not whole: it is stored when the connection is lost.
        said = [version(8), WHOLE, f"Content-Length: {len(DATA)}"]
        path = await break_off(service, "POST", said, DATA[:20])
        assert await state(service, path) == (204, "20", "?0")
        answer = await patch(service, path, 20, DATA[20:], "?1")
        assert (answer.status, stored(service, "n")) == (200, DATA)


@ensureDeferred
async def test_a_creation_that_breaks_off_is_ended_where_nobody_knows_its_url() -> None:
    async with memory_service() as service:
        wire = service.connect()
        start(wire, "POST", "/upload/n", [WHOLE, f"Content-Length: {len(DATA)}"])
        await until(lambda: service.parts.uploads.writing._writers)
        (upload_id,) = service.parts.uploads.writing._writers
        wire.send(DATA[:20])
        wire.lose()
        await until(lambda: not service.parts.uploads.writing._users)
        assert (await row(service, f"/files/{upload_id}")).state is State.CANCELLED


@ensureDeferred
async def test_an_optimistic_creation_may_be_repeated() -> None:
    """Who lost the 104 sends the whole once more: another upload, and the same object."""
    async with memory_service() as service:
        for _ in range(2):
            assert (await service.ask("POST", "/upload/n", [version(9), WHOLE], DATA)).status == 200
        assert stored(service, "n") == DATA


@ensureDeferred
async def test_an_error_after_the_interim_answer_has_the_same_location() -> None:
    """The store is in trouble: 503, Upload-Complete: ?0, and the client goes on at the URL that it knows."""
    async with memory_service() as service:
        service.parts.uploads._store.trouble.append(  # type: ignore[attr-defined]
            ("put_object", "before")
        )
        wire = service.connect()
        start(wire, "POST", "/upload/n", [version(9), WHOLE, "Content-Length: 10"])
        wire.send(DATA[:10])
        first, *_, last = await answers(wire)
        assert (last.status, last.header("Upload-Complete")) == (503, "?0")
        assert last.header("Retry-After") is not None
        assert last.header("Location") == first.header("Location")
        path = (first.header("Location") or "").removeprefix("http://test")
        assert (await patch(service, path, 0, DATA[:10], "?1")).status == 200
        assert stored(service, "n") == DATA[:10]


@ensureDeferred
async def test_an_error_without_an_interim_answer_leaves_nothing() -> None:
    """The client begins anew, and the upload that it does not know is ended."""
    async with memory_service() as service:
        service.parts.uploads._store.trouble.append(  # type: ignore[attr-defined]
            ("put_object", "before")
        )
        answer = await service.ask("POST", "/upload/n", [WHOLE], DATA[:10])
        assert (answer.status, answer.header("Location")) == (503, None)
        assert await service.parts.ledger.find("", "n", "ietf") is None


# Names


@pytest.mark.parametrize(
    ("url", "said", "name"),
    [
        ("/upload/a%20film.mp4", ["Content-Disposition: inline; filename=other"], "a film.mp4"),
        ("/upload/folder/n", [], "folder/n"),
        ("/upload", ['Content-Disposition: inline; filename="C:\\films\\a.mp4"'], "a.mp4"),
        ("/upload/", ["Content-Disposition: inline; filename=x; filename*=UTF-8''F%C3%BC%C3%9Fe.mp4"], "Füße.mp4"),
        ("/upload", ["Upload-Metadata: filename bi50eHQ="], "n.txt"),
    ],
)
@ensureDeferred
async def test_names(url: str, said: list[str], name: str) -> None:
    """The path counts first, then Content-Disposition, then what tus-js-client says."""
    async with memory_service() as service:
        answer = await service.ask("POST", url, [WHOLE, *said], b"x")
        assert (answer.status, answer.json["name"]) == (200, name)


@ensureDeferred
async def test_without_a_name_it_is_the_id() -> None:
    async with memory_service() as service:
        answer = await service.ask("POST", "/upload", [WHOLE, "Content-Type: video/mp4"], b"x")
        assert (answer.status, answer.json["name"]) == (200, answer.json["id"])
        assert answer.json["content_type"] == "video/mp4"


@ensureDeferred
async def test_a_parts_type_is_not_the_files() -> None:
    """tus-js-client says application/partial-upload from the start, and the file's own type in its metadata."""
    async with memory_service() as service:
        said = [WHOLE, PARTIAL, "Upload-Metadata: filetype dmlkZW8vbXA0"]
        assert (await service.ask("POST", "/upload/n", said, b"x")).json["content_type"] == "video/mp4"


# The length (4.1.3)


@ensureDeferred
async def test_reaching_the_length_does_not_complete() -> None:
    """Only ?1 does: also without content, and whatever the length is."""
    async with memory_service() as service:
        path = await begin(service, DATA, length=len(DATA))
        assert await state(service, path) == (204, "42", "?0")
        assert stored(service, "n") is None
        assert (await row(service, path)).state is State.OPEN
        answer = await patch(service, path, 42, b"", "?1")
        assert (answer.status, answer.header("Upload-Complete"), stored(service, "n")) == (200, "?1", DATA)


@ensureDeferred
async def test_an_upload_that_was_said_to_end_goes_on_when_the_client_says_so() -> None:
    """A ?1 breaks off; then the rest comes with ?0: it is not complete, though its length was said and is reached."""
    async with memory_service() as service:
        path = await break_off(service, "PUT", [version(9), WHOLE, f"Content-Length: {len(DATA)}"], DATA[:20])
        assert (await row(service, path)).length == len(DATA)
        answer = await patch(service, path, 20, DATA[20:], "?0")
        assert (answer.status, answer.header("Upload-Complete")) == (204, "?0")
        upload = await row(service, path)
        assert (upload.state, upload.length, upload.announced) == (State.OPEN, None, len(DATA))
        assert stored(service, "n") is None
        assert (await patch(service, path, len(DATA), b"", "?1")).status == 200
        assert stored(service, "n") == DATA


@ensureDeferred
async def test_a_refused_request_changes_nothing_of_the_end() -> None:
    """Of one at another offset neither ?0 nor ?1 counts."""
    async with memory_service() as service:
        path = await begin(service, DATA, length=len(DATA))
        assert (await patch(service, path, 40, DATA[40:], "?1")).status == 409
        upload = await row(service, path)
        assert (upload.state, upload.length, stored(service, "n")) == (State.OPEN, None, None)


@pytest.mark.parametrize("complete", ["?1", "?0"])
@ensureDeferred
async def test_two_lengths_in_one_request(complete: str) -> None:
    """They MUST match; nothing is created."""
    async with memory_service() as service:
        answer = await service.ask("POST", "/upload/n", [f"Upload-Complete: {complete}", "Upload-Length: 4"], b"12345")
        assert (answer.status, answer.json["type"]) == (400, INCONSISTENT)
        assert answer.header("Upload-Complete") == "?0"
        assert await service.parts.ledger.find("", "n", "ietf") is None


@pytest.mark.parametrize(
    ("length", "body", "complete", "said"),
    [
        (20, b"12345", "?1", []),
        (20, b"12345", "?0", ["Upload-Length: 30"]),
        (20, b"", "?1", []),
        (None, b"12345", "?0", ["Upload-Length: 12"]),
        (None, b"", "?0", ["Upload-Length: 5"]),
    ],
)
@ensureDeferred
async def test_a_length_that_does_not_agree(length: int | None, body: bytes, complete: str, said: list[str]) -> None:
    """400 with its own problem type, Upload-Complete: ?0, and the upload goes on as before."""
    async with memory_service() as service:
        path = await begin(service, DATA[:10], length=length)
        answer = await patch(service, path, 10, body, complete, *said)
        assert (answer.status, answer.json["type"]) == (400, INCONSISTENT)
        assert answer.header("Upload-Complete") == "?0"
        assert await state(service, path) == (204, "10", "?0")
        assert (await row(service, path)).announced == length


@ensureDeferred
async def test_a_length_counts_only_at_the_right_offset() -> None:
    """Who is answered 409 has said nothing: what it took for the whole may be another upload."""
    async with memory_service() as service:
        path = await begin(service, DATA[:10])
        for offset, body, length in ((0, b"", 50), (0, DATA[:20], 15), (0, b"", 5), (12, b"x", 10**12), (0, b"", 10)):
            answer = await patch(service, path, offset, body, "?0", f"Upload-Length: {length}")
            assert (answer.status, answer.json["type"], answer.header("Upload-Offset")) == (409, MISMATCH, "10")
            assert (await row(service, path)).announced is None
        assert (await patch(service, path, 10, DATA[10:], "?1", f"Upload-Length: {len(DATA)}")).status == 200


@ensureDeferred
async def test_a_length_that_comes_later() -> None:
    """It is remembered, told, and holds."""
    async with memory_service() as service:
        path = await begin(service, DATA[:10])
        assert (await service.ask("HEAD", path, [version(9)])).header("Upload-Length") is None
        assert (await patch(service, path, 10, DATA[10:20], "?0", "Upload-Length: 42")).status == 204
        assert (await service.ask("HEAD", path, [version(9)])).header("Upload-Length") == "42"
        assert (await service.ask("GET", f"/uploads/{path.rpartition('/')[2]}")).json["length"] == 42
        assert (await patch(service, path, 20, DATA[20:], "?0", "Upload-Length: 43")).status == 400
        assert (await patch(service, path, 20, DATA[20:], "?1", "Upload-Length: 42")).status == 200
        assert stored(service, "n") == DATA


@ensureDeferred
async def test_a_chunked_body_that_completes() -> None:
    """Its end is the upload's."""
    async with memory_service() as service:
        answer = await send_chunked(service, "POST", "/upload/n", [WHOLE], DATA[:7], DATA[7:])
        assert (answer.status, answer.header("Upload-Complete"), stored(service, "n")) == (200, "?1", DATA)


@ensureDeferred
async def test_a_chunked_body_that_breaks_off_completes_nothing() -> None:
    """All bytes are there, and the end is not: the upload MUST NOT be considered complete."""
    async with memory_service() as service:
        said = [version(9), WHOLE, f"Upload-Length: {len(DATA)}", "Transfer-Encoding: chunked"]
        path = await break_off(service, "POST", said, unfinished(DATA))
        assert (await state(service, path), stored(service, "n")) == ((204, "42", "?0"), None)
        assert (await patch(service, path, 42, b"", "?1")).status == 200


@ensureDeferred
async def test_a_chunked_body_that_is_complete_too_early() -> None:
    """The length must be reached where a request says ?1. What came is kept."""
    async with memory_service() as service:
        path = await begin(service, length=42)
        said = [PARTIAL, "Upload-Offset: 0", WHOLE]
        answer = await send_chunked(service, "PATCH", path, said, DATA[:30])
        assert (answer.status, answer.json["type"]) == (400, INCONSISTENT)
        assert (answer.header("Upload-Complete"), stored(service, "n")) == ("?0", None)
        assert await state(service, path) == (204, "30", "?0")


@pytest.mark.parametrize("way", ["declared", "chunked"])
@pytest.mark.parametrize("complete", ["?1", "?0"])
@ensureDeferred
async def test_a_body_that_goes_past_the_end(way: str, complete: str) -> None:
    """Rejected by its real count of bytes too, and the upload resource is invalid from then on."""
    async with memory_service() as service:
        path = await begin(service, DATA[:20], length=30)
        if way == "declared":
            answer = await patch(service, path, 20, DATA[20:], complete)
        else:
            said = [PARTIAL, "Upload-Offset: 20", f"Upload-Complete: {complete}"]
            answer = await send_chunked(service, "PATCH", path, said, DATA[20:])
        assert (answer.status, answer.json["type"]) == (400, INCONSISTENT)
        assert (await row(service, path)).state is State.CANCELLED
        assert (await state(service, path))[0] == 410
        assert (await patch(service, path, 20, DATA[20:30], "?1")).status == 410
        assert stored(service, "n") is None


@ensureDeferred
async def test_a_body_past_the_end_at_another_offset_invalidates_nothing() -> None:
    """It is a stale request, and its own range means nothing."""
    async with memory_service() as service:
        path = await begin(service, DATA[:20], length=30)
        assert (await patch(service, path, 25, DATA[20:], "?1")).status == 409
        assert await state(service, path) == (204, "20", "?0")


# Asking (4.3)


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@ensureDeferred
async def test_asking_for_the_offset(method: str) -> None:
    """Upload-Offset, Upload-Complete, Upload-Length, Upload-Limit; no cache keeps it; it changes nothing."""
    async with memory_service() as service:
        path = await begin(service, DATA[:10], length=42)
        answer = await service.ask(method, path, [version(9)])
        assert (answer.status, answer.body) == (204, b"")
        assert (answer.header("Upload-Offset"), answer.header("Upload-Complete")) == ("10", "?0")
        assert (answer.header("Upload-Length"), answer.header("Cache-Control")) == ("42", "no-store")
        limit = answer.header("Upload-Limit") or ""
        assert limit.startswith("max-size=")
        assert "max-age=" in limit


@ensureDeferred
async def test_asking_does_not_disturb_who_writes() -> None:
    """And the offset that is told is taken, though the older connection looks alive."""
    async with memory_service() as service:
        path = await begin(service, length=42)
        wire = service.connect()
        start(wire, "PATCH", path, [PARTIAL, "Upload-Offset: 0", WHOLE, "Content-Length: 42"])
        wire.send(DATA[:16])
        offset = None
        while offset != "16":
            _, offset, _ = await state(service, path)
        wire.send(DATA[16:20])
        answer = await patch(service, path, 16, DATA[16:], "?1")
        assert (answer.status, stored(service, "n")) == (200, DATA)
        assert (await answers(wire))[-1].status == 409


@ensureDeferred
async def test_an_upload_that_nobody_knows() -> None:
    async with memory_service() as service:
        assert (await state(service, "/files/none"))[0] == 404
        assert (await patch(service, "/files/none", 0, b"x", "?0")).status == 404


# Appending (4.4)


@ensureDeferred
async def test_parts_one_after_the_other() -> None:
    """?0 is answered 204 with Upload-Complete: ?0 and the new offset; ?1 with the result and ?1."""
    async with memory_service() as service:
        path = await begin(service)
        for first in range(0, 40, 10):
            answer = await patch(service, path, first, DATA[first : first + 10], "?0")
            assert (answer.status, answer.header("Upload-Complete")) == (204, "?0")
            assert answer.header("Upload-Offset") == str(first + 10)
        answer = await patch(service, path, 40, DATA[40:], "?1")
        assert (answer.status, answer.header("Upload-Complete"), answer.json["size"]) == (200, "?1", 42)
        assert stored(service, "n") == DATA


@pytest.mark.parametrize("kind", ["Content-Type: text/plain", "X: y", "Content-Type: application/offset+octet-stream"])
@ensureDeferred
async def test_another_media_type(kind: str) -> None:
    async with memory_service() as service:
        path = await begin(service)
        assert (await patch(service, path, 0, DATA, "?1", version(9), kind=kind)).status == 415
        assert await state(service, path) == (204, "0", "?0")


@pytest.mark.parametrize("said", [["Upload-Offset: 0"], [WHOLE], ["Upload-Offset: zero", WHOLE]])
@ensureDeferred
async def test_an_append_that_does_not_say_all(said: list[str]) -> None:
    """Both headers MUST be there; a malformed one is not there."""
    async with memory_service() as service:
        path = await begin(service)
        assert (await service.ask("PATCH", path, [version(9), PARTIAL, *said], DATA)).status == 400
        assert await state(service, path) == (204, "0", "?0")


@pytest.mark.parametrize("offset", [0, 9, 11, 10**15 - 1])
@ensureDeferred
async def test_another_offset(offset: int) -> None:
    """409 with the right offset, Upload-Complete: ?0, and the problem's members; the client may go on there."""
    async with memory_service() as service:
        path = await begin(service, DATA[:10])
        answer = await patch(service, path, offset, DATA, "?0")
        assert (answer.status, answer.header("Upload-Offset"), answer.header("Upload-Complete")) == (409, "10", "?0")
        assert answer.json["type"] == MISMATCH
        assert (answer.json["expected-offset"], answer.json["provided-offset"]) == (10, offset)
        assert (await patch(service, path, 10, DATA[10:], "?1")).status == 200


@ensureDeferred
async def test_progress() -> None:
    """104 with Upload-Offset and without Location, while the body comes, up to what is acknowledged."""
    async with memory_service() as service:
        path = await begin(service)
        wire = service.connect()
        start(wire, "PATCH", path, [version(9), PARTIAL, "Upload-Offset: 0", WHOLE, "Content-Length: 42"])
        wire.send(DATA[:16])
        (first, *_) = await interim(wire)
        assert (first.header("Upload-Offset"), first.header("Location")) == ("16", None)
        assert first.header("Upload-Draft-Interop-Version") == "9"
        wire.send(DATA[16:])
        said = await answers(wire)
        assert said[-1].status == 200
        told = [int(one.header("Upload-Offset") or 0) for one in said[:-1]]
        assert told == sorted(told)


@ensureDeferred
async def test_the_last_answer_is_replayed() -> None:
    """To who asks for it properly: nothing more, at the end, ?1. Anything else is told that it is over."""
    async with memory_service() as service:
        path = await begin(service)
        first = await patch(service, path, 0, DATA, "?1")
        again = await patch(service, path, 42, b"", "?1")
        assert (again.status, again.json, again.header("Upload-Complete")) == (200, first.json, "?1")
        assert await state(service, path) == (204, "42", "?1")
        behind = await patch(service, path, 0, DATA, "?1")
        assert (behind.status, behind.header("Upload-Offset"), behind.header("Upload-Complete")) == (409, "42", "?0")
        assert (await patch(service, path, 42, b"more", "?1")).status == 409
        assert (await patch(service, path, 42, b"", "?0", version(9))).status == 400
        assert stored(service, "n") == DATA


@pytest.mark.parametrize(("number", "kind"), [(6, COMPLETED), (8, COMPLETED), (9, "about:blank")])
@ensureDeferred
async def test_more_to_a_complete_upload(number: int, kind: str) -> None:
    """Its problem type was dropped by the draft whose version is 9."""
    async with memory_service() as service:
        path = await begin(service)
        await patch(service, path, 0, DATA, "?1")
        answer = await patch(service, path, 42, b"", "?0", version(number))
        assert (answer.status, answer.json["type"], answer.header("Upload-Complete")) == (400, kind, "?0")


# Limits (4.1.4)


@pytest.mark.parametrize("target", ["/upload", "/upload/", "/upload/n", "*"])
@ensureDeferred
async def test_options(target: str) -> None:
    """MUST: Upload-Limit. Nobody is asked."""
    door = Door()
    async with memory_service(door) as service:
        answer = await service.ask("OPTIONS", target, [])
        assert (answer.status, door.asked) == (204, [])
        assert answer.header("Upload-Limit") == f"max-size={service.parts.uploads.policy.max_size}"


@ensureDeferred
async def test_more_than_the_application_allows() -> None:
    """413 with Upload-Limit at the creation, where the length is said, and where the bytes come without one."""
    async with memory_service(Door(max_size=20)) as service:
        limit = "max-size=20"
        answer = await service.ask("POST", "/upload/n", [WHOLE], DATA)
        assert (answer.status, answer.header("Upload-Limit")) == (413, limit)
        path = await begin(service, DATA[:10])
        answer = await patch(service, path, 10, DATA[10:15], "?0", "Upload-Length: 21")
        assert (answer.status, answer.header("Upload-Limit")) == (413, limit)
        answer = await patch(service, path, 10, DATA[10:], "?1")
        assert (answer.status, answer.header("Upload-Limit")) == (413, limit)
        said = [PARTIAL, "Upload-Offset: 10", MORE]
        answer = await send_chunked(service, "PATCH", path, said, DATA[10:])
        assert (answer.status, answer.header("Upload-Limit")) == (413, limit)
        assert (await row(service, path)).state is State.OPEN


# Cancelling (4.5)


@pytest.mark.parametrize("said", [[], [version(9)]])
@ensureDeferred
async def test_cancelling(said: list[str]) -> None:
    """204; then the upload is gone, and so is what was stored of it."""
    async with memory_service() as service:
        path = await begin(service, DATA[:20])
        assert (await service.ask("DELETE", path, said)).status == 204
        assert (await state(service, path))[0] == 410
        await until(lambda: not service.parts.bucket.objects)


@ensureDeferred
async def test_cancelling_ends_who_writes() -> None:
    async with memory_service() as service:
        path = await begin(service)
        wire = service.connect()
        start(wire, "PATCH", path, [PARTIAL, "Upload-Offset: 0", WHOLE, "Content-Length: 42"])
        wire.send(DATA[:20])
        await until(lambda: service.parts.uploads.writing._writers)
        assert (await service.ask("DELETE", path, [version(9)])).status == 204
        assert (await answers(wire))[-1].status == 410


@ensureDeferred
async def test_cancelling_what_is_complete_leaves_the_object() -> None:
    async with memory_service() as service:
        path = await begin(service)
        await patch(service, path, 0, DATA, "?1")
        assert (await service.ask("DELETE", path, [version(9)])).status == 204
        assert (await state(service, path), stored(service, "n")) == ((410, None, "?0"), DATA)


# Who may


@ensureDeferred
async def test_another_owners_upload_is_not_there() -> None:
    door = Door(owner="alice")
    async with memory_service(door) as service:
        path = await begin(service)
        door.owner = "mallory"
        assert (await state(service, path))[0] == 404
        assert (await patch(service, path, 0, DATA, "?1")).status == 404
        assert (await service.ask("DELETE", path, [version(9)])).status == 404


@ensureDeferred
async def test_the_application_is_asked_again_before_the_finish() -> None:
    """It is told the length that was only announced, too."""
    door = Door()
    async with memory_service(door) as service:
        path = await begin(service, length=42)
        assert [(ask.action, ask.length, ask.name) for ask in door.asked] == [("create", 42, "n")]
        door.asked.clear()
        await patch(service, path, 0, DATA, "?1")
        assert [ask.action for ask in door.asked] == ["append", "append"]


# At the same time


@ensureDeferred
async def test_a_newer_request_ends_the_older_and_what_it_said_of_the_end() -> None:
    """The older has said ?1, the newer ?0: nobody completes it until somebody says ?1 again."""
    async with memory_service() as service:
        wire = service.connect()
        start(wire, "PUT", "/upload/n", [version(9), WHOLE, f"Content-Length: {len(DATA)}"])
        (first,) = await interim(wire)
        path = (first.header("Location") or "").removeprefix("http://test")
        wire.send(DATA[:20])
        # The first connection still looks alive, and its request has said where the upload ends.
        while (await state(service, path))[1] != "16":
            pass
        answer = await patch(service, path, 16, DATA[16:], "?0")
        assert (answer.status, answer.header("Upload-Offset")) == (204, "42")
        assert (await answers(wire))[-1].status == 409
        assert ((await row(service, path)).state, stored(service, "n")) == (State.OPEN, None)
        assert (await patch(service, path, 42, b"", "?1")).status == 200
        assert stored(service, "n") == DATA


@ensureDeferred
async def test_head_finishes_what_was_said_to_be_complete() -> None:
    """All of a ?1 is stored, and the store refuses its object: who asks later is told ?1 when it is made."""
    async with memory_service() as service:
        path = await begin(service, DATA[:20], length=len(DATA))
        trouble = service.parts.uploads._store.trouble  # type: ignore[attr-defined]
        trouble.append(("complete_multipart_upload", "before"))
        assert (await patch(service, path, 20, DATA[20:], "?1")).status == 503
        assert stored(service, "n") is None
        assert await state(service, path) == (204, "42", "?1")
        assert stored(service, "n") == DATA


@pytest.mark.parametrize("way", ["empty", "chunked"])
@ensureDeferred
async def test_saying_complete_again_after_the_store_was_in_trouble(way: str) -> None:
    """All is stored, and no object is made yet: ?1 without content makes it, however the client says that it has none."""
    async with memory_service() as service:
        path = await begin(service, DATA[:20], length=len(DATA))
        trouble = service.parts.uploads._store.trouble  # type: ignore[attr-defined]
        trouble.append(("complete_multipart_upload", "before"))
        assert (await patch(service, path, 20, DATA[20:], "?1")).status == 503
        assert (await patch(service, path, 42, b"", "?0")).status == 400
        if way == "empty":
            answer = await patch(service, path, 42, b"", "?1")
        else:
            answer = await send_chunked(service, "PATCH", path, [PARTIAL, "Upload-Offset: 42", WHOLE])
        assert (answer.status, answer.header("Upload-Complete"), stored(service, "n")) == (200, "?1", DATA)


@ensureDeferred
async def test_what_was_said_to_be_complete_and_is_all_stored_is_not_held_back() -> None:
    """A process died between the last byte of a ?1 and its object: whatever comes next at the end makes it."""
    async with memory_service() as service:
        path = await begin(service, DATA, length=len(DATA))
        await service.parts.ledger.declare(await row(service, path), len(DATA))
        answer = await patch(service, path, 42, b"", "?0")
        assert (answer.status, answer.header("Upload-Offset")) == (204, "42")
        assert (await row(service, path)).state is State.FINISHED
        assert (await state(service, path), stored(service, "n")) == ((204, "42", "?1"), DATA)
