"""One upload through several protocols, and requests that contradict what was made: none gets more than its protocol may give."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import pytest
from pytest_twisted import ensureDeferred

from resumable.crc32c_text import encode_crc32c
from resumable.protocols.access import Gate
from resumable.protocols.results import Results
from resumable.protocols.vimeo import VimeoProtocol
from resumable.uploads.checksum import checksum
from tests.protocols.harness import Door, Memory, memory_service, parse_answers, until

DATA = bytes(range(100))
OTHER = bytes(reversed(DATA))


async def google(service: Memory) -> str:
    """The id of an upload of Google's whose length nobody has said."""
    answer = await service.ask("POST", "/upload/n?uploadType=resumable", [], b"")
    return answer.header("X-GUploader-UploadID") or ""


async def scotty(service: Memory, *headers: str) -> str:
    answer = await service.ask("POST", "/upload/n", ["X-Goog-Upload-Command: start", *headers], b"")
    url = urlsplit(answer.header("X-Goog-Upload-URL") or "")
    return f"{url.path}?{url.query}"


@ensureDeferred
async def test_a_look_from_elsewhere_sets_no_length_and_finishes_nothing() -> None:
    async with memory_service() as service:
        upload_id = await google(service)
        session = f"/upload/n?uploadType=resumable&upload_id={upload_id}"
        assert (await service.ask("PUT", session, ["Content-Range: bytes 0-49/*"], DATA[:50])).status == 308
        looked = await service.ask("PUT", f"/uploads/{upload_id}", ["Content-Range: bytes */50"], b"")
        assert (looked.status, looked.header("Range")) == (308, "bytes=0-49")
        upload = await service.parts.uploads.get(upload_id, "")
        assert (upload.length, upload.state.value) == (None, "open")
        # Nor does any other protocol bring bytes.
        tus = ["Tus-Resumable: 1.0.0", "Content-Type: application/offset+octet-stream", "Upload-Offset: 50"]
        put = ["Content-Range: bytes 50-99/100"]
        goog = ["X-Goog-Upload-Command: upload, finalize", "X-Goog-Upload-Offset: 50"]
        assert (await service.ask("PATCH", f"/files/{upload_id}", tus, DATA[50:])).status == 409
        assert (await service.ask("PUT", f"/uploads/{upload_id}", put, DATA[50:])).status == 409
        assert (await service.ask("POST", f"/upload/n?upload_id={upload_id}", goog, DATA[50:])).status == 409
        vimeo = ["Content-Range: bytes 50-100/100"]
        assert (await service.ask("PUT", f"/vimeo/upload/{upload_id}", vimeo, DATA[50:])).status == 409
        assert (await service.ask("DELETE", f"/vimeo/complete/{upload_id}")).status == 409
        assert (await service.ask("PUT", session, put, DATA[50:])).status == 200
        assert bytes(service.parts.bucket.objects["n"][0]) == DATA


@pytest.mark.parametrize("kind", ["google", "goog-upload", "vimeo", "segments", "session"])
@ensureDeferred
async def test_another_file_for_a_finished_upload_is_refused_for_good(kind: str) -> None:
    """503 would have its client send all of it again, for ever."""
    async with memory_service() as service:
        method, headers = "PUT", ["Content-Range: bytes 0-99/100"]
        if kind == "google":
            target = f"/upload/n?uploadType=resumable&upload_id={await google(service)}"
        elif kind == "goog-upload":
            target = await scotty(service)
            method, headers = "POST", ["X-Goog-Upload-Command: upload, finalize", "X-Goog-Upload-Offset: 0"]
        elif kind == "vimeo":
            made = await service.ask("POST", "/vimeo/me/videos", [], b"type=streaming&name=n")
            target, headers = "/vimeo/upload/" + made.json["ticket_id"], ["Content-Range: bytes 0-100/100"]
        elif kind == "segments":
            target, method, headers = "/upload", "POST", ["X-Session-ID: n", "X-Content-Range: bytes 0-99/100"]
        else:
            made = await service.ask("POST", "/uploads", [], json.dumps({"name": "n", "length": 100}).encode())
            target = urlsplit(made.json["url"]).path
        assert (await service.ask(method, target, headers, DATA)).status == 200
        assert (await service.ask(method, target, headers, DATA)).status == 200, "its answer was lost"
        assert (await service.ask(method, target, headers, OTHER)).status == 409
        assert bytes(service.parts.bucket.objects["n"][0]) == DATA


@ensureDeferred
async def test_the_beginning_of_a_finished_file_is_not_all_of_it() -> None:
    async with memory_service() as service:
        url = await scotty(service)
        last = ["X-Goog-Upload-Command: upload, finalize", "X-Goog-Upload-Offset: 0"]
        assert (await service.ask("POST", url, last, DATA)).status == 200
        assert (await service.ask("POST", url, last, DATA[:50])).status == 400
        chunked = b"32\r\n" + DATA[:50] + b"\r\n0\r\n\r\n"
        made = await service.ask("POST", "/vimeo/me/videos", [], b"type=streaming&name=v")
        link = "/vimeo/upload/" + made.json["ticket_id"]
        assert (await service.ask("PUT", link, [], DATA)).status == 200
        wire = service.connect()
        wire.send(f"PUT {link} HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + chunked)
        await until(lambda: [one for one in parse_answers(wire.said) if one.status >= 200])
        assert [one.status for one in parse_answers(wire.said) if one.status >= 200] == [400]


@pytest.mark.parametrize("asked", ["*/100", "0-99/100"])
@ensureDeferred
async def test_a_checksum_that_is_said_of_an_object_that_is_made(asked: str) -> None:
    async with memory_service() as service:
        session = f"/upload/n?uploadType=resumable&upload_id={await google(service)}"
        assert (await service.ask("PUT", session, [], DATA)).status == 200
        body = b"" if asked[0] == "*" else DATA
        for said, status in ((DATA, 200), (OTHER, 400)):
            crc32c = encode_crc32c(checksum([said]))
            headers = [f"Content-Range: bytes {asked}", f"X-Goog-Hash: crc32c={crc32c}"]
            assert (await service.ask("PUT", session, headers, body)).status == status


@ensureDeferred
async def test_no_ticket_for_tus_where_nobody_speaks_it() -> None:
    async with memory_service() as service:
        alone = VimeoProtocol(Gate(service.parts.uploads, Door(), "vimeo"), Results())
        alone.make_for([])
        service.router._protocols = (alone,)
        said = json.dumps({"upload": {"approach": "tus", "size": 5}}).encode()
        answer = await service.ask("POST", "/vimeo/me/videos", ["Content-Type: application/json"], said)
        assert (answer.status, "tus is not spoken here" in answer.json["error"]) == (400, True)


@pytest.mark.parametrize("upload_id", ["%00", "a%00b", "%ff", "%ed%a0%80", "", "x" * 5000])
@ensureDeferred
async def test_what_is_no_id(upload_id: str) -> None:
    """404, whatever database there is: some take no NUL."""
    async with memory_service() as service:
        for target in (f"/upload/n?upload_id={upload_id}", f"/uploads/{upload_id}", f"/files/{upload_id}"):
            answer = await service.ask("PUT", target, ["Content-Range: bytes */*"], b"")
            assert 400 <= answer.status < 500, (target, answer)
