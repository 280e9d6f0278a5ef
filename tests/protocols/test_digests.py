"""Digests, in every protocol that can carry them: right ones are taken, and nothing with a wrong one becomes an object."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred
from twisted.web.http_headers import Headers

from resumable.model import Invalid, State
from resumable.protocols.digests import SIZES, digests_in, parse_dictionary, parse_digests, parse_legacy, parse_md5
from resumable.stores.port import Made, PartRef, StoredObject
from resumable.uploads.digest import HASHES
from tests.protocols.harness import Answer, Memory, memory_service, parse_answers, until
from tests.uploads.memory_store import Bucket, MemoryStore

#: Several chunks of the harness's 16 bytes.
DATA = bytes(range(100))
OTHER = b"\x00" + DATA[:99]
TUS = ("Tus-Resumable: 1.0.0", "Content-Type: application/offset+octet-stream")
DRAFT = ("Upload-Draft-Interop-Version: 8", "Content-Type: application/partial-upload")


def b64(digest: bytes) -> str:
    return b64encode(digest).decode()


def digest(algorithm: str, data: bytes) -> bytes:
    running = HASHES[algorithm]()
    running.update(data)
    return running.digest()


def said(data: bytes, *algorithms: str) -> str:
    """A structured field with digests."""
    return ", ".join(f"{name}=:{b64(digest(name, data))}:" for name in algorithms)


def stored(service: Memory, key: str = "f") -> bytes | None:
    found = service.parts.bucket.objects.get(key)
    return None if found is None else found[0]


def only(service: Memory) -> bytes:
    """The one object that there is, whatever it is called."""
    ((data, _),) = service.parts.bucket.objects.values()
    return data


def nothing(service: Memory) -> bool:
    return not service.parts.bucket.objects and not service.parts.bucket.multiparts


def fields(data: bytes) -> list[str]:
    """Each way to say a digest of a body."""
    return [
        *(f"Content-Digest: {said(data, name)}" for name in SIZES),
        f"Content-Digest: {said(data, 'sha-256', 'sha-512', 'crc32c')}",
        f"Content-Digest: sha-3000=:AAAA:, {said(data, 'sha-256')}",
        f"Content-MD5: {b64(digest('md5', data))}",
        f"Digest: SHA-256={b64(digest('sha-256', data))},md5={b64(digest('md5', data))}",
        f"Digest: sha={b64(digest('sha', data))}",
        f"Digest: crc32c={digest('crc32c', data).hex()}",
        f"Digest: unixsum=30637, CRC32C={b64(digest('crc32c', data))}",
    ]


@pytest.mark.parametrize("number", range(len(fields(DATA))))
@ensureDeferred
async def test_a_body(number: int) -> None:
    """A right digest is taken, a wrong one refused, and the answer says what was computed."""
    async with memory_service() as service:
        wrong = await service.ask("PUT", "/upload/f", [fields(OTHER)[number]], DATA)
        assert (wrong.status, wrong.header("Content-Type")) == (400, "application/problem+json")
        algorithm = wrong.json["algorithm"]
        assert wrong.json["computed"] == b64(digest(algorithm, DATA))
        assert stored(service) is None
        right = await service.ask("PUT", "/upload/f", [fields(DATA)[number]], DATA)
        assert (right.status, stored(service)) == (200, DATA)


@ensureDeferred
async def test_all_algorithms_count() -> None:
    async with memory_service() as service:
        field = f"Content-Digest: {said(DATA, 'sha-256')}, {said(OTHER, 'sha-512')}"
        answer = await service.ask("PUT", "/upload/f", [field], DATA)
        assert (answer.status, answer.json["algorithm"]) == (400, "sha-512")
        # So do all fields.
        fields = [f"Content-Digest: {said(DATA, 'sha-256')}", f"Content-MD5: {b64(digest('md5', OTHER))}"]
        answer = await service.ask("PUT", "/upload/f", fields, DATA)
        assert (answer.status, answer.json["algorithm"]) == (400, "md5")
        assert stored(service) is None


@pytest.mark.parametrize(
    "field",
    [
        "Content-Digest: sha-256",
        "Content-Digest: sha-256=5",
        'Content-Digest: sha-256="text"',
        "Content-Digest: sha-256=(:AAAA:)",
        "Content-Digest: sha-256=:AAA",
        "Content-Digest: \xff",
        "Content-Digest: SHA-256=:AAAA:",
        "Content-Digest: " + "a=1, " * 1000,
        "Repr-Digest: ,",
        "Digest: sha-256",
        "Digest: =",
        "Digest: md5=*",
        "Content-MD5: *",
        "Want-Repr-Digest: ?1",
        "Want-Content-Digest: sha-256=11",
    ],
)
@ensureDeferred
async def test_a_malformed_field_says_nothing(field: str) -> None:
    async with memory_service() as service:
        assert (await service.ask("PUT", "/upload/f", [field], DATA)).status == 200
        assert stored(service) == DATA


@pytest.mark.parametrize("name", ["Content-Digest", "Repr-Digest"])
@ensureDeferred
async def test_what_no_digest_can_be_is_refused(name: str) -> None:
    """Before the body: no bytes have a SHA-256 of three."""
    async with memory_service() as service:
        answer = await service.ask("PUT", "/upload/f", [f"{name}: sha-256=:AAAA:"], DATA)
        assert answer.status == 400
        assert "32 bytes" in answer.json["detail"]
        assert nothing(service)


def in_range(first: int, end: int, total: int = len(DATA)) -> str:
    return f"Content-Range: bytes {first}-{end - 1}/{total}"


@ensureDeferred
async def test_put_goes_on() -> None:
    """A range with a wrong digest leaves the offset as it was, wherever in a chunk it ends."""
    async with memory_service() as service:
        for first, end in ((0, 16), (16, 40), (40, 95), (95, 100)):
            wrong = [in_range(first, end), f"Content-Digest: {said(OTHER, 'sha-256')}"]
            assert (await service.ask("PUT", "/upload/f", wrong, DATA[first:end])).status == 400
            asked = await service.ask("PUT", "/upload/f", ["Content-Range: bytes */100"], b"")
            assert asked.header("Range") == (f"bytes=0-{first - 1}" if first else None), asked
            right = [in_range(first, end), f"Content-Digest: {said(DATA[first:end], 'sha-256')}"]
            assert (await service.ask("PUT", "/upload/f", right, DATA[first:end])).status == (308 if end < 100 else 200)
        assert stored(service) == DATA
        # The last answer was lost: what comes again is compared, and its digest checked.
        assert (await service.ask("PUT", "/upload/f", right, DATA[95:])).status == 200
        assert (await service.ask("PUT", "/upload/f", [in_range(95, 100), wrong[1]], DATA[95:])).status == 400
        assert stored(service) == DATA


@ensureDeferred
async def test_tus() -> None:
    async with memory_service() as service:
        begun = await service.ask("POST", "/files/", [TUS[0], "Upload-Length: 100"], b"")
        where = "/files/" + (begun.header("Location") or "").rpartition("/")[2]
        wrong = await service.ask("PATCH", where, [*TUS, "Upload-Offset: 0", fields(OTHER)[0]], DATA)
        assert wrong.status == 460
        assert b64(digest("sha-256", DATA)) in wrong.body.decode()
        assert (await service.ask("HEAD", where, TUS[:1])).header("Upload-Offset") == "0"
        both = f"Upload-Checksum: sha1 {b64(digest('sha', DATA))}"
        assert (
            await service.ask("PATCH", where, [*TUS, "Upload-Offset: 0", both, fields(OTHER)[0]], DATA)
        ).status == 460
        assert (
            await service.ask("PATCH", where, [*TUS, "Upload-Offset: 0", both, fields(DATA)[0]], DATA)
        ).status == 204
        assert only(service) == DATA


@ensureDeferred
async def test_ietf() -> None:
    """draft-ietf-httpbis-resumable-upload: nothing of the transfer is appended."""
    async with memory_service() as service:
        begin = [
            "Upload-Complete: ?0",
            "Upload-Draft-Interop-Version: 8",
            f"Content-Digest: {said(DATA[:50], 'sha-256')}",
        ]
        begun = await service.ask("POST", "/upload/f", begin, DATA[:50], final=1)
        where = "/files/" + (begun.header("Location") or "").rpartition("/")[2]
        go_on = ["Upload-Complete: ?1", "Upload-Offset: 50", *DRAFT]
        wrong = await service.ask("PATCH", where, [*go_on, f"Content-Digest: {said(OTHER, 'crc32c')}"], DATA[50:])
        assert (wrong.status, wrong.header("Upload-Complete"), wrong.json["algorithm"]) == (400, "?0", "crc32c")
        assert (await service.ask("HEAD", where, DRAFT[:1])).header("Upload-Offset") == "50"
        right = [*go_on, f"Content-Digest: {said(DATA[50:], 'crc32c')}", "Want-Repr-Digest: crc32c=1"]
        last = await service.ask("PATCH", where, right, DATA[50:])
        assert (last.header("Upload-Complete"), stored(service)) == ("?1", DATA)
        assert last.header("Repr-Digest") == said(DATA, "crc32c")


@ensureDeferred
async def test_google() -> None:
    """node-uploadx says a digest of each chunk; errors are Google's."""
    async with memory_service() as service:
        begun = await service.ask("POST", "/upload/storage/v1/b/bucket/o?uploadType=resumable&name=f", (), b"")
        where = (begun.header("Location") or "").removeprefix("http://test")
        wrong = await service.ask(
            "PUT", where, [in_range(0, 64), f"Digest: sha={b64(digest('sha', OTHER))}"], DATA[:64]
        )
        assert (wrong.status, wrong.json["error"]["code"]) == (400, 400)
        assert (await service.ask("PUT", where, ["Content-Range: bytes */100"], b"")).header("Range") is None
        for first, end in ((0, 64), (64, 100)):
            line = f"Digest: sha={b64(digest('sha', DATA[first:end]))}"
            assert (await service.ask("PUT", where, [in_range(first, end), line], DATA[first:end])).status == (
                308 if end < 100 else 200
            )
        assert stored(service) == DATA


@pytest.mark.parametrize("target", ["media", "raw"])
@ensureDeferred
async def test_google_at_once(target: str) -> None:
    async with memory_service() as service:
        url = f"/upload/storage/v1/b/bucket/o?uploadType={target}&name=f" if target == "media" else "/upload/v1/files"
        more = [] if target == "media" else ["X-Goog-Upload-Protocol: raw", "X-Goog-Upload-File-Name: f"]
        wrong = await service.ask("POST", url, [*more, fields(OTHER)[0]], DATA)
        assert wrong.status == 400
        await until(lambda: nothing(service))
        assert (await service.ask("POST", url, [*more, fields(DATA)[0]], DATA)).status == 200
        assert only(service) == DATA


@ensureDeferred
async def test_vimeo() -> None:
    async with memory_service() as service:
        made = await service.ask(
            "POST", "/vimeo/me/videos", ["Content-Type: application/json"], b'{"type": "streaming"}'
        )
        where = "/vimeo/upload/" + made.json["ticket_id"]
        assert (await service.ask("PUT", where, [fields(OTHER)[0]], DATA)).status == 400
        assert (await service.ask("PUT", where, [fields(DATA)[0]], DATA)).status == 200
        assert (await service.ask("DELETE", "/vimeo/complete/" + made.json["ticket_id"])).status == 201
        assert only(service) == DATA


def form(*parts: tuple[str, bytes]) -> bytes:
    body = b""
    for number, (line, data) in enumerate(parts):
        name = f'Content-Disposition: form-data; name="f{number}"; filename="f{number}"'
        body += f"--b0und\r\n{name}\r\n{line}\r\n\r\n".encode() + data + b"\r\n"
    return body + b"--b0und--\r\n"


@ensureDeferred
async def test_form() -> None:
    """Each file of a form has a digest of its own; that of the whole form could be checked only when all is stored."""
    async with memory_service() as service:
        kind = "Content-Type: multipart/form-data; boundary=b0und"
        for name in (*(line for line in fields(OTHER)[:2]), f"Repr-Digest: {said(OTHER, 'sha-256')}"):
            answer = await service.ask("POST", "/upload", [kind], form((name, DATA)))
            assert answer.status == 400, answer
            await until(lambda: nothing(service))
        body = form((fields(DATA)[0], DATA), (f"Repr-Digest: {said(OTHER, 'sha-256', 'crc32c')}", OTHER))
        assert (await service.ask("POST", "/upload", [kind, fields(body)[0]], body)).status == 400
        assert nothing(service)
        assert (await service.ask("POST", "/upload", [kind], body)).status == 200
        assert (stored(service, "f0"), stored(service, "f1")) == (DATA, OTHER)


@ensureDeferred
async def test_swarms() -> None:
    """Nobody could vouch for a part that two connections write: the digest of a range is refused, before it comes."""
    async with memory_service() as service:
        asked = {"name": "f", "length": 100}
        made = await service.ask("POST", "/uploads", (), json.dumps(asked).encode())
        where = "/uploads/" + made.json["id"]
        refused = await service.ask(
            "PUT", where, [in_range(0, 16), f"Content-Digest: {said(DATA[:16], 'sha-256')}"], DATA[:16]
        )
        assert refused.status == 400
        # The whole object's CRC32C can be said whatever the order is.
        for first, end in ((48, 100), (0, 48)):
            last = await service.ask(
                "PUT",
                where,
                [in_range(first, end), f"Repr-Digest: {said(DATA, 'crc32c')}", "Want-Repr-Digest: crc32c=3"],
                DATA[first:end],
            )
        assert (last.status, last.header("Repr-Digest"), stored(service)) == (200, said(DATA, "crc32c"), DATA)


@ensureDeferred
async def test_segments() -> None:
    async with memory_service() as service:
        for field, status in ((said(OTHER, "crc32c"), 400), (said(DATA, "crc32c"), 200)):
            for first, end in ((50, 100), (0, 50)):
                lines = ["X-Session-ID: s", f"X-Content-Range: bytes {first}-{end - 1}/100", f"Repr-Digest: {field}"]
                answer = await service.ask("POST", "/upload", lines, DATA[first:end])
            assert answer.status == status
        refused = ["X-Session-ID: t", "X-Content-Range: bytes 0-49/100", f"Repr-Digest: {said(DATA, 'sha-256')}"]
        assert (await service.ask("POST", "/upload", refused, DATA[:50])).status == 400
        assert [data for data, _ in service.parts.bucket.objects.values()] == [DATA]


# The whole object


@pytest.mark.parametrize("algorithm", ["sha-256", "sha-512", "crc32c"])
@ensureDeferred
async def test_the_whole_in_one_body(algorithm: str) -> None:
    async with memory_service() as service:
        wrong = await service.ask("PUT", "/upload/f", [f"Repr-Digest: {said(OTHER, algorithm)}"], DATA)
        assert (wrong.status, wrong.json["algorithm"]) == (400, algorithm)
        assert wrong.json["computed"] == b64(digest(algorithm, DATA))
        assert stored(service) is None
        lines = [f"Repr-Digest: {said(DATA, algorithm)}", "Want-Repr-Digest: md5=10, sha-256=5, sha-512=0, crc32c=3"]
        right = await service.ask("PUT", "/upload/f", lines, DATA)
        shown = said(DATA, "sha-256", "crc32c") if algorithm == "sha-256" else said(DATA, "crc32c")
        assert (right.status, right.header("Repr-Digest"), stored(service)) == (200, shown, DATA)


@ensureDeferred
async def test_a_crc32c_of_several_bodies() -> None:
    async with memory_service() as service:
        for data, status in ((OTHER, 400), (DATA, 200)):
            begin = [in_range(0, 50), f"Repr-Digest: {said(data, 'crc32c')}"]
            assert (await service.ask("PUT", "/upload/f", begin, DATA[:50])).status == 308
            last = await service.ask("PUT", "/upload/f", [in_range(50, 100)], DATA[50:])
            assert (last.status, stored(service)) == (status, None if status == 400 else DATA)


@ensureDeferred
async def test_another_file_under_the_name() -> None:
    """Its digest is another, and it begins: what was said of the former does not hold it back."""
    async with memory_service() as service:
        begin = [in_range(0, 50), f"Repr-Digest: {said(OTHER, 'crc32c')}"]
        assert (await service.ask("PUT", "/upload/f", begin, OTHER[:50])).status == 308
        begin = [in_range(0, 50), f"Repr-Digest: {said(DATA, 'crc32c')}"]
        assert (await service.ask("PUT", "/upload/f", begin, DATA[:50])).status == 308
        # But who goes on cannot say another.
        wrong = [in_range(50, 100), f"Repr-Digest: {said(OTHER, 'crc32c')}"]
        assert (await service.ask("PUT", "/upload/f", wrong, DATA[50:])).status == 400
        assert (await service.ask("PUT", "/upload/f", [in_range(50, 100)], DATA[50:])).status == 200
        assert stored(service) == DATA


@ensureDeferred
async def test_what_cannot_be_checked_is_refused() -> None:
    """A SHA-256 of several bodies, before anything comes. The same upload can still be brought in one."""
    async with memory_service() as service:
        whole = f"Repr-Digest: {said(DATA, 'sha-256')}"
        begun = await service.ask("POST", "/files/", [TUS[0], "Upload-Length: 100", whole], b"")
        where = "/files/" + (begun.header("Location") or "").rpartition("/")[2]
        for more in ([], [whole]):
            refused = await service.ask("PATCH", where, [*TUS, "Upload-Offset: 0", *more], DATA[:50])
            assert refused.status == 400
            assert b"crc32c" in refused.body
        assert (await service.ask("PATCH", where, [*TUS, "Upload-Offset: 0"], OTHER)).status == 460
        last = await service.ask("PATCH", where, [*TUS, "Upload-Offset: 0", "Want-Repr-Digest: sha-256=1"], DATA)
        assert (last.status, last.header("Repr-Digest")) == (204, said(DATA, "sha-256"))
        # With a CRC32C beside it that is checked, and nothing else claimed.
        both = f"Repr-Digest: {said(DATA, 'sha-256', 'crc32c')}"
        assert (await service.ask("PUT", "/upload/f", [in_range(0, 50), both], DATA[:50])).status == 308
        lines = [in_range(50, 100), "Want-Repr-Digest: sha-256=1, crc32c=1"]
        last = await service.ask("PUT", "/upload/f", lines, DATA[50:])
        assert last.header("Repr-Digest") == said(DATA, "crc32c")


@pytest.mark.parametrize("told", [False, True])
@ensureDeferred
async def test_what_could_never_be_checked_is_not_begun(told: bool) -> None:
    """Its client leaves the digest out then, as it is told to, and nothing that was entered before asks for it."""
    async with memory_service() as service:
        whole = f"Repr-Digest: {said(DATA, 'sha-256')}"
        if told:
            lines = [DRAFT[0], "Upload-Complete: ?0", whole]
            begun = await service.ask("POST", "/upload/f", lines, DATA[:50])
            assert begun.status == 400
            where = (begun.header("Location") or "").removeprefix("http://test")
            assert (await service.ask("HEAD", where, [DRAFT[0]])).status == 410
        else:
            assert (await service.ask("PUT", "/upload/f", [in_range(0, 50), whole], DATA[:50])).status == 400
            assert (await service.ask("GET", "/upload/f")).status == 404
        assert (await service.ask("PUT", "/upload/f", [in_range(0, 50)], DATA[:50])).status == 308
        assert (await service.ask("PUT", "/upload/f", [in_range(50, 100)], DATA[50:])).status == 200
        assert stored(service) == DATA


@ensureDeferred
async def test_no_bytes_where_a_digest_says_that_there_are_some() -> None:
    """An upload of no bytes is whole without a body that could be checked."""
    async with memory_service() as service:
        for data, status, state in ((DATA, 460, State.FAILED), (b"", 200, State.FINISHED)):
            lines = [TUS[0], "Upload-Defer-Length: 1", f"Repr-Digest: {said(data, 'sha-256', 'sha-512')}"]
            where = (await service.ask("POST", "/files/", lines, b"")).header("Location") or ""
            where = where.removeprefix("http://test")
            asked = await service.ask("PUT", where.replace("/files/", "/uploads/"), ["Content-Range: bytes */0"], b"")
            assert (asked.status, nothing(service)) == ((400, True) if data else (200, False))
            upload = await service.parts.ledger.get(where.rpartition("/")[2])
            assert upload is not None
            assert upload.state is state
            assert (await service.ask("HEAD", where, [TUS[0]])).status == (410 if data else status)


@pytest.mark.parametrize("complete", ["?0", "?1"])
@ensureDeferred
async def test_ietf_the_whole_in_one_chunked_body(complete: str) -> None:
    async with memory_service() as service:
        lines = [f"Upload-Complete: {complete}", f"Repr-Digest: {said(DATA, 'sha-256')}"]
        answer = await ask_chunked(service, "POST", "/upload/f", lines, DATA)
        assert answer.status == (200 if complete == "?1" else 400)
        assert stored(service) == (DATA if complete == "?1" else None)


# Reading back


class Lying(MemoryStore):
    """Says that all is well, and makes an object in which one bit is another."""

    lies = True

    def _flip(self, key: str) -> None:
        data, metadata = self._bucket.objects[key]
        if self.lies and not key.startswith(".resumable/"):
            self._bucket.objects[key] = (bytes([data[0] ^ 1]) + data[1:], metadata)

    async def put_object(self, bucket: str, key: str, *args: Any, **how: Any) -> Any:
        made = await super().put_object(bucket, key, *args, **how)
        self._flip(key)
        return await self._made(key, made)

    async def complete_multipart_upload(
        self, bucket: str, key: str, multipart_id: str, parts: Sequence[PartRef], **how: Any
    ) -> Any:
        made = await super().complete_multipart_upload(bucket, key, multipart_id, parts, **how)
        self._flip(key)
        return await self._made(key, made)

    async def _made(self, key: str, made: Made) -> Made:
        found = await self.head_object("bucket", key)
        return made if found is None else Made(found.etag, True)


WHOLE = f"Repr-Digest: {said(DATA, 'sha-256')}"


async def bring(service: Memory, *more: str) -> Answer:
    """DATA in two bodies."""
    assert (await service.ask("PUT", "/upload/f", [in_range(0, 50), WHOLE], DATA[:50])).status == 308
    return await service.ask("PUT", "/upload/f", [in_range(50, 100), *more], DATA[50:])


@ensureDeferred
async def test_read_back() -> None:
    """With `digest: verify` a digest of several bodies is computed from the object, before anybody hears of it."""
    async with memory_service(reads_back=True) as service:
        last = await bring(service, "Want-Repr-Digest: sha-256=1", "Want-Content-Digest: sha-256=1")
        assert (last.status, last.header("Repr-Digest"), stored(service)) == (200, said(DATA, "sha-256"), DATA)
        assert last.header("Content-Digest") == said(last.body, "sha-256")
        assert "get_object" in service.parts.bucket.calls


@ensureDeferred
async def test_nothing_is_read_back_unasked() -> None:
    async with memory_service(reads_back=True) as service:
        assert (await service.ask("PUT", "/upload/f", [f"Repr-Digest: {said(DATA, 'crc32c')}"], DATA)).status == 200
        assert "get_object" not in service.parts.bucket.calls


@pytest.mark.parametrize("size", [100, 10])
@ensureDeferred
async def test_a_store_that_keeps_other_bytes(size: int) -> None:
    """The object is deleted, and the upload has failed; of one part or of several."""
    bucket, data = Bucket(), DATA[:size]
    async with memory_service(reads_back=True, store=Lying(bucket)) as service:
        answer = await service.ask("PUT", "/upload/f", [f"Repr-Digest: {said(data, 'sha-256')}"], data)
        assert (answer.status, answer.json["algorithm"]) == (400, "sha-256")
        assert answer.json["computed"] == b64(digest("sha-256", bytes([data[0] ^ 1]) + data[1:]))
        await until(lambda: not bucket.objects and not bucket.multiparts)
        assert (await service.ask("GET", "/upload/f")).json["state"] == "failed"


@pytest.mark.parametrize("call", ["get_object", "delete_object"])
@ensureDeferred
async def test_trouble_while_it_is_read_back(call: str) -> None:
    """Then nobody knows, and nobody is told of it: whoever asks again has it read again."""
    bucket = Bucket()
    store = Lying(bucket)
    async with memory_service(reads_back=True, store=store) as service:
        store.lies = call == "delete_object"
        # (A fragment is deleted too.)
        store.trouble = [(call, "before")] * 2
        assert (await bring(service)).status == 503
        again = await service.ask("PUT", "/upload/f", ["Content-Range: bytes */100"], b"")
        while again.status == 503:
            again = await service.ask("PUT", "/upload/f", ["Content-Range: bytes */100"], b"")
        if store.lies:
            assert again.status in (400, 410)
            await until(lambda: not bucket.objects)
        else:
            assert (again.status, bucket.objects["f"][0]) == (200, DATA)


@ensureDeferred
async def test_cancelled_while_it_is_read_back() -> None:
    """The object goes, and the upload stays cancelled."""
    bucket = Bucket()

    class Cancelling(MemoryStore):
        async def get_object(self, *args: Any, **how: Any) -> Any:
            found = await self.ledger.find("", "f", "put")
            await service.parts.uploads.cancel(found)
            return await super().get_object(*args, **how)

        ledger: Any = None

    store = Cancelling(bucket)
    async with memory_service(reads_back=True, store=store) as service:
        store.ledger = service.parts.ledger
        assert (await bring(service)).status == 410
        await until(lambda: not bucket.objects and not bucket.multiparts)


# Trailers


async def ask_chunked(
    service: Memory, method: str, target: str, headers: Sequence[str], data: bytes, trailers: Mapping[str, str] = {}
) -> Answer:
    wire = service.connect()
    lines = [f"{method} {target} HTTP/1.1", "Host: test", "Transfer-Encoding: chunked", *headers, "", ""]
    half = len(data) // 2
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (data[:half], data[half:]) if part)
    end = b"0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in trailers.items()).encode() + b"\r\n"
    wire.send("\r\n".join(lines).encode() + chunks + end)

    def finals() -> list[Answer]:
        return [one for one in parse_answers(wire.said, [method]) if one.status >= 200]

    await until(finals)
    return finals()[-1]


@pytest.mark.parametrize("name", ["Content-Digest", "Repr-Digest"])
@pytest.mark.parametrize("algorithm", ["sha-256", "sha-512", "crc32c"])
@ensureDeferred
async def test_trailers(name: str, algorithm: str) -> None:
    async with memory_service() as service:
        for data, status in ((OTHER, 400), (DATA, 200)):
            answer = await ask_chunked(
                service, "PUT", "/upload/f", [f"Trailer: {name}"], DATA, {name: said(data, algorithm)}
            )
            assert (answer.status, stored(service)) == (status, None if status == 400 else DATA), answer


@ensureDeferred
async def test_a_trailer_that_does_not_come() -> None:
    async with memory_service() as service:
        answer = await ask_chunked(service, "PUT", "/upload/f", ["Trailer: X, content-digest"], DATA)
        assert answer.status == 400
        assert "did not come" in answer.json["detail"]
        assert stored(service) is None


@ensureDeferred
async def test_the_whole_digest_in_the_last_trailer() -> None:
    """Of several bodies: its CRC32C is combined, and a wrong one means that no object is made."""
    async with memory_service() as service:
        for data, status in ((OTHER, 400), (DATA, 200)):
            assert (await service.ask("PUT", "/upload/f", [in_range(0, 50)], DATA[:50])).status == 308
            lines = [in_range(50, 100), "Trailer: Repr-Digest"]
            last = await ask_chunked(
                service, "PUT", "/upload/f", lines, DATA[50:], {"Repr-Digest": said(data, "crc32c")}
            )
            assert (last.status, stored(service)) == (status, None if status == 400 else DATA), last


# Whatever is said

VALUES = st.one_of(
    st.builds(
        lambda data, names: said(data, *names), st.sampled_from([DATA, OTHER]), st.lists(st.sampled_from(list(SIZES)))
    ),
    st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=40),
    st.lists(
        st.sampled_from(
            ["sha-256", "md5", "=", ":", ",", "(", ")", ";", '"', "AAAA", "?1", "1", "-", "a", " ", "\\", "."]
        ),
        max_size=12,
    ).map("".join),
)
NAMES = ("Content-Digest", "Repr-Digest", "Digest", "Content-MD5", "Want-Repr-Digest", "Want-Content-Digest", "Trailer")


@given(st.lists(VALUES, max_size=3))
@settings(max_examples=300, deadline=None)
def test_parsing(values: list[str]) -> None:
    """Whatever a field is: digests, or nothing, or a refusal."""
    lines = [value.encode("latin-1") for value in values]
    parse_dictionary(lines)
    assert all(isinstance(value, bytes) for value in parse_digests(lines).values())
    parse_legacy(lines)
    parse_md5(lines)
    headers = Headers()
    for name in NAMES:
        headers.setRawHeaders(name, lines)
    try:
        digests_in(headers)
    except Invalid:
        return


@given(st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=3), st.booleans())
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@ensureDeferred
async def test_never_a_500(lines: list[tuple[str, str]], chunked: bool) -> None:
    """And never an object that is not what was sent."""
    async with memory_service() as service:
        headers = [f"{name}: {value}" for name, value in lines]
        if chunked:
            answer = await ask_chunked(
                service, "PUT", "/upload/f", [h.encode().decode("latin-1") for h in headers], DATA
            )
        else:
            answer = await service.ask("PUT", "/upload/f", headers, DATA)
        assert answer.status in (200, 400)
        assert stored(service) == (DATA if answer.status == 200 else None)


@pytest.mark.parametrize("right", [True, False])
@ensureDeferred
async def test_at_every_cut_of_the_network(right: bool) -> None:
    """The head, the body, and the trailer, cut anywhere in two."""
    data = DATA[:40]
    trailer = said(data if right else OTHER, "sha-256")
    head = b"PUT /upload/f HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: Content-Digest\r\n\r\n"
    sent = head + b"28\r\n" + data + b"\r\n0\r\nContent-Digest: " + trailer.encode() + b"\r\n\r\n"
    async with memory_service() as service:
        for cut in range(len(head) - 2, len(sent), 3):
            service.parts.bucket.objects.clear()
            wire = service.connect()
            wire.send(sent[:cut])
            wire.send(sent[cut:])
            await until(lambda wire=wire: b"\r\n\r\n" in wire.said)  # type: ignore[misc]
            assert wire.said.startswith(b"HTTP/1.1 200" if right else b"HTTP/1.1 400"), (cut, wire.said)
            assert stored(service) == (data if right else None)


@ensureDeferred
async def test_a_body_that_breaks_off() -> None:
    """It has a digest, so nothing of it counts; and without one what came stays, though the whole has a CRC32C."""
    async with memory_service() as service:
        for field, kept in (
            (f"Content-Digest: {said(DATA, 'sha-256')}", 0),
            (f"Repr-Digest: {said(DATA, 'crc32c')}", 60),
        ):
            wire = service.connect()
            lines = ["PUT /upload/f HTTP/1.1", "Host: h", "Content-Length: 100", field, "", ""]
            wire.send("\r\n".join(lines).encode() + DATA[:60])
            await until(lambda: service.parts.uploads.writing.streams)
            wire.lose()
            await until(lambda: not service.parts.uploads.writing.streams)
            asked = await service.ask("PUT", "/upload/f", ["Content-Range: bytes */100"], b"")
            assert asked.header("Range") == (f"bytes=0-{kept - 1}" if kept else None)
        assert (await service.ask("PUT", "/upload/f", [in_range(60, 100)], DATA[60:])).status == 200
        assert stored(service) == DATA


def test_names() -> None:
    assert set(SIZES) <= set(HASHES)
    assert all(len(digest(name, b"")) == size for name, size in SIZES.items())
    assert digest("sha-256", DATA) == hashlib.sha256(DATA).digest()


# What the store itself tells


class Telling(Lying):
    """Keeps other bytes, and tells their CRC32C: in the answer to Complete, or when it is asked."""

    def __init__(self, bucket: Bucket, at_once: bool) -> None:
        super().__init__(bucket)
        self._at_once = at_once

    async def _made(self, key: str, made: Made) -> Made:
        found = await self.head_object("bucket", key)
        assert found is not None
        return Made(found.etag, False, found.crc32c if self._at_once else None)

    async def head_object(self, bucket: str, key: str) -> StoredObject | None:
        found = await super().head_object(bucket, key)
        told = digest("crc32c", self._bucket.objects[key][0]) if found is not None else b""
        return None if found is None else evolve(found, crc32c=int.from_bytes(told, "big"))


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("size", [100, 10])
@pytest.mark.parametrize("lies", [True, False])
@ensureDeferred
async def test_a_store_that_tells_another_checksum(size: int, at_once: bool, lies: bool) -> None:
    """No client has asked for it, and nothing is read back: what the store tells is compared all the same."""
    bucket, data = Bucket(), DATA[:size]
    store = Telling(bucket, at_once)
    store.lies = lies
    async with memory_service(store=store) as service:
        answer = await service.ask("PUT", "/upload/f", (), data)
        if lies:
            assert (answer.status, bucket.objects, bucket.multiparts) == (410, {}, {})
            assert "other bytes" in answer.json["detail"]
        else:
            assert (answer.status, stored(service)) == (200, None)
            assert bucket.objects["f"][0] == data
        assert "get_object" not in bucket.calls


@pytest.mark.parametrize("call", ["complete_multipart_upload", "delete_object"])
@ensureDeferred
async def test_another_checksum_after_a_lost_answer(call: str) -> None:
    """The next try finds the object made already, and does not take it for the right one."""
    bucket = Bucket()
    store = Telling(bucket, False)
    async with memory_service(store=store) as service:
        store.trouble = [(call, "after" if call == "complete_multipart_upload" else "before")]
        answer = await service.ask("PUT", "/upload/f", (), DATA)
        assert answer.status == 503
        for key in list(bucket.objects):
            store._flip(key) if bucket.objects[key][0] == DATA else None
        while answer.status == 503:
            answer = await service.ask("PUT", "/upload/f", ["Content-Range: bytes */100"], b"")
        assert answer.status == 410
        await until(lambda: not bucket.objects)


class Open:
    """A fence that lets everything through."""

    async def proceed(self) -> None:
        """Go on."""

    async def pause(self, seconds: float) -> None:
        """Wait for nothing."""

    def doubt(self) -> None:
        """There is none."""


@pytest.mark.parametrize("lies", [True, False])
@ensureDeferred
async def test_another_upload_wants_the_key(lies: bool) -> None:
    """What an abandoned upload has left under it is read back then too, before it counts as finished."""
    bucket = Bucket()
    store = Lying(bucket)
    store.lies = lies
    async with memory_service(reads_back=True, store=store) as service:
        store.trouble = [("get_object", "before")] * 2
        assert (await bring(service)).status == 503
        former = await service.parts.ledger.find("", "f", "put")
        assert (former.state, list(bucket.objects)) == (State.FINISHING, ["f"])
        store.trouble.clear()
        fence: Any = Open()
        await service.parts.uploads._completer._settle(former, fence)
        found = await service.parts.ledger.get(former.id)
        assert found.state is (State.FAILED if lies else State.FINISHED)
        assert list(bucket.objects) == ([] if lies else ["f"])
