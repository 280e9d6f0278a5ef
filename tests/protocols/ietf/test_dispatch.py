"""Which protocol serves a request that several could mean: the order in which they are asked, and what each of them reads."""

from __future__ import annotations

from pytest_twisted import ensureDeferred

from resumable.model import State
from resumable.protocols.registry import make_protocols
from resumable.protocols.results import Results
from resumable.web.router import Router
from tests.protocols.harness import Door, Memory, memory_service
from tests.protocols.ietf.talk import DATA, PARTIAL, begin, patch, row, state, stored, version

WHOLE = "Upload-Complete: ?1"
MORE = "Upload-Complete: ?0"
TUS = "Tus-Resumable: 1.0.0"
BYTES = "Content-Type: application/offset+octet-stream"
FORM = "Content-Type: multipart/form-data; boundary=b"
A_FILE = b'--b\r\nContent-Disposition: form-data; name="file"; filename="n"\r\n\r\n12345\r\n--b--\r\n'


def served_by(service: Memory) -> str:
    """The protocol whose request the application was asked about last."""
    door = service.authorizer
    assert isinstance(door, Door)
    return door.asked[-1].protocol


async def tus_upload(service: Memory) -> str:
    answer = await service.ask("POST", "/files/", [TUS, "Upload-Length: 42"], b"")
    return (answer.header("Location") or "").removeprefix("http://test")


@ensureDeferred
async def test_put_with_upload_complete_is_ietf_and_without_it_is_put() -> None:
    async with memory_service() as service:
        assert (await service.ask("PUT", "/upload/n", [WHOLE], b"x")).json["protocol"] == "ietf"
        assert (await service.ask("PUT", "/upload/n", [], b"x")).json["protocol"] == "put"


@ensureDeferred
async def test_a_malformed_upload_complete_is_as_none() -> None:
    """MUST be ignored: an ordinary PUT, and no new upload of this protocol."""
    async with memory_service() as service:
        for value in ("yes", "1", "?2", "true", "?1, ?0", '"?1"'):
            answer = await service.ask("PUT", "/upload/n", [f"Upload-Complete: {value}"], b"x")
            assert (answer.status, answer.json["protocol"]) == (200, "put")


@ensureDeferred
async def test_a_version_alone_begins_nothing_resumable() -> None:
    """Without Upload-Complete a request is a conventional one, whatever version it names (draft-12, 4.2)."""
    async with memory_service() as service:
        assert (await service.ask("PUT", "/upload/n", [version(9)], b"x")).json["protocol"] == "put"


@ensureDeferred
async def test_a_query_of_googles_wins_over_upload_complete() -> None:
    async with memory_service() as service:
        answer = await service.ask("POST", "/upload/n?uploadType=resumable", [WHOLE], b"{}")
        assert answer.status == 200
        assert served_by(service) == "google"


@ensureDeferred
async def test_a_command_of_goog_upload_wins_over_upload_complete() -> None:
    async with memory_service() as service:
        await service.ask("POST", "/upload/n", ["X-Goog-Upload-Command: start", WHOLE], b"{}")
        assert served_by(service) == "goog-upload"


@ensureDeferred
async def test_a_form_with_upload_complete_is_a_file_like_any_other() -> None:
    """The representation is the body; without the header it is a form."""
    async with memory_service() as service:
        answer = await service.ask("POST", "/upload/n", [FORM, WHOLE], A_FILE)
        assert (answer.json["protocol"], stored(service, "n")) == ("ietf", A_FILE)
        assert (await service.ask("POST", "/upload/n", [FORM], A_FILE)).json["protocol"] == "form"


@ensureDeferred
async def test_tus_resumable_wins_over_upload_complete() -> None:
    """At an upload's URL the version of tus says that tus is spoken."""
    async with memory_service() as service:
        path = await tus_upload(service)
        said = [TUS, BYTES, "Upload-Offset: 0", WHOLE]
        answer = await service.ask("PATCH", path, said, DATA[:5])
        assert (answer.status, answer.header("Tus-Resumable"), served_by(service)) == (204, "1.0.0", "tus")


@ensureDeferred
async def test_a_patch_of_its_media_type_is_ietf_whatever_else_is_missing() -> None:
    async with memory_service() as service:
        path = await begin(service)
        answer = await service.ask("PATCH", path, [PARTIAL, "Upload-Offset: 0"], DATA)
        assert (answer.status, answer.json["status"]) == (400, 400)
        assert answer.header("Tus-Resumable") is None


@ensureDeferred
async def test_a_patch_that_says_nothing_is_tus() -> None:
    async with memory_service() as service:
        path = await begin(service)
        answer = await service.ask("PATCH", path, [BYTES, "Upload-Offset: 0"], DATA)
        assert (answer.status, answer.header("Tus-Version")) == (412, "1.0.0")


@ensureDeferred
async def test_head_that_says_nothing_is_answered_as_the_upload_was_begun() -> None:
    async with memory_service() as service:
        mine, theirs = await begin(service, DATA[:5]), await tus_upload(service)
        answer = await service.ask("HEAD", mine, [])
        assert (answer.status, answer.header("Upload-Complete"), answer.header("Upload-Offset")) == (204, "?0", "5")
        assert answer.header("Tus-Resumable") is None
        answer = await service.ask("HEAD", theirs, [])
        assert (answer.status, answer.header("Tus-Resumable"), answer.header("Upload-Complete")) == (200, "1.0.0", None)


@ensureDeferred
async def test_delete_that_says_nothing_is_served_as_the_upload_was_begun() -> None:
    async with memory_service() as service:
        mine, theirs = await begin(service), await tus_upload(service)
        assert (await service.ask("DELETE", mine, [])).status == 204
        answer = await service.ask("DELETE", theirs, [])
        assert (answer.status, answer.header("Tus-Version")) == (412, "1.0.0")
        assert ((await row(service, mine)).state, (await row(service, theirs)).state) == (State.CANCELLED, State.OPEN)


@ensureDeferred
async def test_a_version_at_an_upload_of_tus_shows_it_and_goes_on() -> None:
    """It ends at its length, whatever ?0 says: nobody holds it open for its own client."""
    async with memory_service() as service:
        path = await tus_upload(service)
        assert await state(service, path) == (204, "0", "?0")
        assert (await patch(service, path, 0, DATA[:5], "?0")).status == 204
        upload = await row(service, path)
        assert (upload.length, upload.state) == (42, State.OPEN)
        assert (await patch(service, path, 5, DATA[5:], "?1")).status == 200


@ensureDeferred
async def test_tus_at_an_upload_of_ietf_shows_it_and_goes_on() -> None:
    async with memory_service() as service:
        path = await begin(service, DATA[:5])
        assert (await service.ask("HEAD", path, [TUS])).header("Upload-Offset") == "5"
        assert (await service.ask("PATCH", path, [TUS, BYTES, "Upload-Offset: 5"], DATA[5:])).status == 204
        assert await state(service, path) == (204, "42", "?0")


@ensureDeferred
async def test_the_url_for_every_upload_shows_it_goes_on_and_cancels_it() -> None:
    async with memory_service() as service:
        path = await begin(service, DATA[:5])
        upload_id = path.rpartition("/")[2]
        shown = await service.ask("GET", f"/uploads/{upload_id}")
        assert (shown.json["protocol"], shown.json["offset"]) == ("ietf", 5)
        put = await service.ask("PUT", f"/uploads/{upload_id}", ["Content-Range: bytes 5-9/*"], DATA[5:10])
        assert (put.status, put.header("Range")) == (308, "bytes=0-9")
        assert (await service.ask("DELETE", f"/uploads/{upload_id}")).status == 204
        assert (await state(service, path))[0] == 410


@ensureDeferred
async def test_a_post_that_overrides_its_method() -> None:
    async with memory_service() as service:
        path = await begin(service)
        said = ["X-HTTP-Method-Override: PATCH", PARTIAL, "Upload-Offset: 0", WHOLE]
        assert (await service.ask("POST", path, said, DATA)).status == 200
        assert stored(service, "n") == DATA


@ensureDeferred
async def test_options_is_answered_without_asking_anybody() -> None:
    """Of tus where tus is begun, with the limits where uploads of this protocol are."""
    door = Door()
    async with memory_service(door) as service:
        assert (await service.ask("OPTIONS", "/files/", [])).header("Tus-Version") == "1.0.0"
        assert (await service.ask("OPTIONS", "/upload/n", [])).header("Upload-Limit") is not None
        assert door.asked == []


@ensureDeferred
async def test_a_protocol_that_is_not_spoken_is_not_handed_to() -> None:
    """Where `tus` speaks alone it says that the upload is another's, and the other way round."""
    door = Door()
    async with memory_service(door) as service:
        mine, theirs = await begin(service), await tus_upload(service)
        for alone, method, path in (("tus", "HEAD", mine), ("ietf", "DELETE", theirs)):
            service.router = Router(make_protocols([alone], service.parts.uploads, door, Results()), {})
            assert (await service.ask(method, path, [])).status == 409
