"""tus 1.0.0 as a table: each rule of the protocol's text (https://tus.io/protocols/resumable-upload), and one test for it.

Variants of a rule are in test_tus.py. Concatenation has tests of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.web.http_headers import Headers

from resumable.callbacks.authorizer import AuthorizationRequest, Grant, Refused
from resumable.model import InternalError, ShuttingDown, Unavailable, UploadError
from resumable.protocols.tus.checksum import ALGORITHMS
from tests.protocols.harness import Answer, Door, Memory, memory_service, parse_answers, until
from tests.protocols.test_tus import (
    BYTES,
    DATA,
    V,
    b64,
    begin,
    chunked,
    create,
    head,
    nothing_left,
    offset_of,
    patch,
    path_of,
    stored,
    until_offset,
)

NAMED = f"Upload-Metadata: filename {b64('n')}"


def sha1(data: bytes) -> str:
    return f"Upload-Checksum: sha1 {b64(hashlib.sha1(data).digest())}"


async def pieces_of(service: Memory, path: str) -> list[tuple[int, int, str]]:
    """What the ledger has of an upload."""
    found = await service.parts.ledger.pieces(path.rpartition("/")[2])
    return sorted((piece.first, piece.end, piece.etag) for piece in found)


# Core


@ensureDeferred
async def test_the_version_is_on_every_answer_but_that_to_options() -> None:
    """MUST: Tus-Resumable in every request and every response, but for OPTIONS. Refusals are responses."""
    async with memory_service() as service:
        path = await begin(service)
        asked: list[tuple[int, Awaitable[Answer]]] = [
            (200, head(service, path)),
            (204, patch(service, path, 0, DATA[:5])),
            (409, patch(service, path, 0, DATA[:5])),
            (400, patch(service, path, "x", DATA[:5])),
            (415, patch(service, path, 5, DATA[5:], kind="Content-Type: text/plain")),
            (460, patch(service, path, 5, DATA[5:], sha1(b"other"))),
            (400, create(service, length=None)),
            (413, create(service, length=10**18)),
            (201, create(service)),
            (412, service.ask("PATCH", path, [], b"")),
            (404, head(service, "/files/none")),
            (405, service.ask("PUT", path, [V], b"")),
            (404, service.ask("GET", path, [V])),
            (204, service.ask("DELETE", path, [V])),
            (410, head(service, path)),
        ]
        for status, answer in asked:
            got = await answer
            assert (got.status, got.headers.getRawHeaders("Tus-Resumable")) == (status, ["1.0.0"])
        assert (await service.ask("OPTIONS", path, [V])).header("Tus-Resumable") is None


@ensureDeferred
async def test_a_version_that_is_not_spoken() -> None:
    """MUST: 412 with Tus-Version, and the request is not processed."""
    async with memory_service() as service:
        path = await begin(service)
        for method, target, body in (("POST", "/files/", b""), ("PATCH", path, DATA), ("DELETE", path, None)):
            headers = ["Tus-Resumable: 0.2.1", BYTES, "Upload-Offset: 0", f"Upload-Length: {len(DATA)}", NAMED]
            answer = await service.ask(method, target, headers, body)
            assert (answer.status, answer.header("Tus-Version")) == (412, "1.0.0")
        assert (await head(service, path)).header("Upload-Offset") == "0"
        assert await service.parts.ledger.find("", "n", "tus") is None


@ensureDeferred
async def test_the_method_override() -> None:
    """MUST: X-HTTP-Method-Override is the method; the actual one is ignored."""
    async with memory_service() as service:
        path = await begin(service)
        override = [V, BYTES, "Upload-Offset: 0", "X-HTTP-Method-Override: PATCH"]
        for actual in ("DELETE", "HEAD", "OPTIONS", "POST"):
            answer = await service.ask(actual, path, [*override, "Upload-Checksum: none"], DATA)
            assert answer.status == 400, "a PATCH whose checksum is none"
        assert (await service.ask("DELETE", path, override, DATA[:9])).header("Upload-Offset") == "9"
        assert await offset_of(service, path) == "9"


@ensureDeferred
async def test_options() -> None:
    """MUST: Tus-Version, Tus-Extension, Tus-Max-Size and Tus-Checksum-Algorithm; the request's version is not looked at."""
    async with memory_service() as service:
        for version in ([], ["Tus-Resumable: 0.0.1"]):
            answer = await service.ask("OPTIONS", "/files/", version)
            assert (answer.status, answer.body) == (204, b"")
            assert answer.header("Tus-Version") == "1.0.0"
            extensions = (answer.header("Tus-Extension") or "").split(",")
            assert {"creation", "creation-with-upload", "creation-defer-length", "termination"} <= set(extensions)
            assert {"expiration", "checksum", "checksum-trailer"} <= set(extensions)
            assert answer.header("Tus-Max-Size") == str(service.parts.uploads.policy.max_size)
            assert answer.header("Tus-Checksum-Algorithm") == ",".join(ALGORITHMS)
            assert "sha1" in ALGORITHMS


@ensureDeferred
async def test_head() -> None:
    """MUST: Upload-Offset always (at 0, and at the end); Upload-Length if it is known; no cache keeps it. 200 or 204."""
    async with memory_service() as service:
        path = await begin(service)
        for data in (b"", DATA[:50], DATA[50:]):
            before = int(await offset_of(service, path) or -1)
            if data:
                await patch(service, path, before, data)
            answer = await head(service, path)
            assert (answer.status, answer.body) == (200, b"")
            assert answer.header("Upload-Offset") == str(before + len(data))
            assert answer.header("Upload-Length") == str(len(DATA))
            assert answer.headers.getRawHeaders("Cache-Control") == ["no-store"]


@ensureDeferred
async def test_head_of_what_is_not_there() -> None:
    """SHOULD: 404, 410 or 403, without Upload-Offset."""
    async with memory_service() as service:
        ended = await begin(service)
        await service.ask("DELETE", ended, [V])
        for path, status in (("/files/none", 404), ("/files/" + "a/" * 99, 404), ("/files/%00", 404), (ended, 410)):
            answer = await head(service, path)
            assert (answer.status, answer.header("Upload-Offset")) == (status, None)


@ensureDeferred
async def test_patch_of_another_type() -> None:
    """SHOULD: 415 for what is not application/offset+octet-stream. Nothing of it is taken."""
    async with memory_service() as service:
        path = await begin(service)
        for kind in ("Content-Type: application/octet-stream", "Content-Type:", "X-None: x"):
            assert (await patch(service, path, 0, DATA, kind=kind)).status == 415
        assert (await pieces_of(service, path), await offset_of(service, path)) == ([], "0")
        assert (await patch(service, path, 0, DATA, kind=f"{BYTES}; x=y".upper())).status == 204, "it is a media type"


@ensureDeferred
async def test_patch_at_another_offset() -> None:
    """MUST: 409, and the resource is not modified."""
    async with memory_service() as service:
        path = await begin(service)
        await patch(service, path, 0, DATA[:40])
        before = await pieces_of(service, path)
        assert before
        for offset in (0, 39, 41, len(DATA), len(DATA) + 1, 2**62):
            assert (await patch(service, path, offset, DATA[40:])).status == 409
        assert (await pieces_of(service, path), await offset_of(service, path)) == (before, "40")


@ensureDeferred
async def test_patch() -> None:
    """MUST: 204, and the new offset is the old one and the bytes of this request."""
    async with memory_service() as service:
        path = await begin(service, NAMED)
        offset = 0
        for size in (1, 15, 17, 0, 67, 100):
            answer = await patch(service, path, offset, DATA[offset : offset + size])
            offset += size
            assert (answer.status, answer.header("Upload-Offset"), answer.body) == (204, str(offset), b"")
        assert stored(service, "n") == DATA


@ensureDeferred
async def test_patch_of_what_is_not_there() -> None:
    """SHOULD: 404; what was there is 410."""
    async with memory_service() as service:
        ended = await begin(service)
        await service.ask("DELETE", ended, [V])
        assert (await patch(service, "/files/none", 0, DATA)).status == 404
        assert (await patch(service, ended, 0, DATA)).status == 410
        assert nothing_left(service)


@ensureDeferred
async def test_a_peer_that_is_dead() -> None:
    """SHOULD: as much as possible of a broken request is stored; dead peers are found by time-outs, and closed."""
    async with memory_service() as service:
        path = await begin(service, NAMED)
        wire = service.connect()
        lines = [f"PATCH {path} HTTP/1.1", "Host: t", V, BYTES, "Upload-Offset: 0", f"Content-Length: {len(DATA)}"]
        wire.send("\r\n".join([*lines, "", ""]).encode(), DATA[:41])
        await until(lambda: wire.channel.requests and wire.channel.requests[-1]._outlet is not None)
        wire.clock.advance(31)
        await until(lambda: parse_answers(wire.said))
        (answer,) = parse_answers(wire.said)
        assert (answer.status, answer.header("Connection")) == (408, "close")
        await until_offset(service, path, "41")
        assert (await patch(service, path, 41, DATA[41:])).status == 204
        assert stored(service, "n") == DATA


# Creation


@ensureDeferred
async def test_creation_needs_a_length_or_word_that_it_comes_later() -> None:
    """MUST (client): Upload-Length, or Upload-Defer-Length, whose only value is 1; 400 otherwise, and there is no upload."""
    async with memory_service() as service:
        wrong = ([], ["Upload-Length: 1.5"], ["Upload-Length:"], ["Upload-Defer-Length: 0"], ["Upload-Defer-Length:"],
                 ["Upload-Length: 1", "Upload-Defer-Length: 1"], ["Upload-Length: ٣".encode().decode("latin-1")])  # fmt: skip
        for headers in wrong:
            assert (await create(service, NAMED, *headers, length=None)).status == 400, headers
        assert await service.parts.ledger.find("", "n", "tus") is None
        for headers in (["Upload-Length: 007"], ["Upload-Defer-Length: 1"]):
            assert (await create(service, NAMED, *headers, length=None)).status == 201, headers


@ensureDeferred
async def test_creation() -> None:
    """MUST: 201 and the Location, at which the upload is."""
    async with memory_service() as service:
        for target in ("/files/", "/files"):
            made = await service.ask("POST", target, [V, "Upload-Length: 5"])
            assert made.status == 201
            assert (await head(service, path_of(made))).header("Upload-Length") == "5"


@ensureDeferred
async def test_creation_of_more_than_is_allowed() -> None:
    """MUST: 413 past Tus-Max-Size; that itself is well. What the application allows is a limit too."""
    door = Door()
    async with memory_service(door) as service:
        door.grant = {"max_size": 100}
        assert (await create(service, length=101)).status == 413
        assert (await create(service, length=10**18)).status == 413
        assert (await create(service, length=100)).status == 201
        assert await service.parts.ledger.find("", "n", "tus") is None


@ensureDeferred
async def test_creation_of_nothing() -> None:
    """An upload of 0 bytes is complete at once: no PATCH follows."""
    async with memory_service() as service:
        made = await create(service, NAMED, length=0)
        assert (made.status, stored(service, "n")) == (201, b"")
        assert (await head(service, path_of(made))).header("Upload-Offset") == "0"


@ensureDeferred
async def test_metadata() -> None:
    """MUST: keys are there and unique, a value may be missing; HEAD gives the header back as it came."""
    async with memory_service() as service:
        for written in ("k YQ==,k Yg==", " YQ==", "a YQ==,,b YQ=="):
            assert (await create(service, f"Upload-Metadata: {written}")).status == 400, written
        for written in (f"filename {b64('n')},is_empty,k {b64('grüß')}", "b YQ==, a YQ==", "only"):
            path = await begin(service, f"Upload-Metadata: {written}")
            assert (await head(service, path)).headers.getRawHeaders("Upload-Metadata") == [written]
        assert (await head(service, await begin(service))).header("Upload-Metadata") is None


@ensureDeferred
async def test_a_length_that_is_deferred() -> None:
    """MUST: HEAD says Upload-Defer-Length: 1 until a PATCH says Upload-Length, which then does not change (400)."""
    async with memory_service() as service:
        path = await begin(service, NAMED, "Upload-Defer-Length: 1", length=None)
        await patch(service, path, 0, DATA[:50])
        answer = await head(service, path)
        assert (answer.header("Upload-Defer-Length"), answer.header("Upload-Length")) == ("1", None)
        assert (await patch(service, path, 50, b"", "Upload-Length: 49")).status in (400, 413), "less than is stored"
        assert (await patch(service, path, 50, DATA[50:60], f"Upload-Length: {len(DATA)}")).status == 204
        for length in (len(DATA) - 1, len(DATA) + 1):
            assert (await patch(service, path, 60, DATA[60:], f"Upload-Length: {length}")).status == 400
        assert (await patch(service, path, 60, DATA[60:], f"Upload-Length: {len(DATA)}")).status == 204
        answer = await head(service, path)
        assert (answer.header("Upload-Defer-Length"), answer.header("Upload-Length")) == (None, str(len(DATA)))
        assert stored(service, "n") == DATA


@ensureDeferred
async def test_creation_with_upload() -> None:
    """MUST: 201 and Upload-Offset. A client that waits for 100 gets it when it is let in, and no sooner."""
    door = Door(refused=("create",))
    async with memory_service(door) as service:
        lines = ["POST /files/ HTTP/1.1", "Host: test", V, BYTES, NAMED, f"Upload-Length: {len(DATA)}",
                 "Content-Length: 50", "Expect: 100-continue"]  # fmt: skip
        refused = service.connect()
        refused.send("\r\n".join([*lines, "", ""]).encode())
        await until(lambda: parse_answers(refused.said))
        assert [answer.status for answer in parse_answers(refused.said)] == [403]
        door.refused = ()
        wire = service.connect()
        wire.send("\r\n".join([*lines, "", ""]).encode())
        await until(lambda: parse_answers(wire.said))
        assert [answer.status for answer in parse_answers(wire.said)] == [100]
        wire.send(DATA[:50])
        await until(lambda: len(parse_answers(wire.said)) == 2)
        made = parse_answers(wire.said)[-1]
        assert (made.status, made.header("Upload-Offset")) == (201, "50")
        assert (await patch(service, path_of(made), 50, DATA[50:])).status == 204
        assert stored(service, "n") == DATA


# Expiration


@ensureDeferred
async def test_expiration() -> None:
    """MUST: Upload-Expires (an HTTP date) on each PATCH of an unfinished upload, and on POST; expired is 410."""
    async with memory_service() as service:
        made = await create(service)
        path = path_of(made)
        for answer in (made, await patch(service, path, 0, DATA[:20]), await head(service, path)):
            said = answer.header("Upload-Expires") or ""
            assert said.endswith(" GMT")
            upload = await service.parts.uploads.get(path.rpartition("/")[2], "")
            left = parsedate_to_datetime(said).timestamp() - upload.updated
            assert abs(left - service.parts.uploads.policy.expire_after) < 60
        other = await begin(service)
        last = await patch(service, other, 0, DATA)
        assert (last.status, last.header("Upload-Expires")) == (204, None)
        assert await service.parts.uploads.expire(upload, untouched_since=upload.updated + 60)
        assert ((await head(service, path)).status, (await patch(service, path, 20, DATA[20:])).status) == (410, 410)


# Checksum


@ensureDeferred
async def test_checksum() -> None:
    """MUST: 400 for an unknown algorithm, 460 for what does not fit; then the offset is as before. sha1 is known."""
    async with memory_service() as service:
        path = await begin(service, NAMED)
        await patch(service, path, 0, DATA[:20], sha1(DATA[:20]))
        before = await pieces_of(service, path)
        unknown = await patch(service, path, 20, DATA[20:], f"Upload-Checksum: sha3 {b64(b'x')}")
        wrong = await patch(service, path, 20, DATA[20:], sha1(DATA))
        assert (unknown.status, wrong.status) == (400, 460)
        assert (await pieces_of(service, path), await offset_of(service, path)) == (before, "20")
        assert (await patch(service, path, 20, DATA[20:], sha1(DATA[20:]))).status == 204
        assert stored(service, "n") == DATA


@ensureDeferred
async def test_a_checksum_that_comes_as_a_trailer() -> None:
    """MAY: the header as a trailer of a chunked body, with the same rules."""
    async with memory_service() as service:
        path = await begin(service)
        assert (await chunked(service, path, DATA[:40], sha1(DATA))).status == 460
        assert (await chunked(service, path, DATA[:40], f"Upload-Checksum: sha3 {b64(b'x')}")).status == 400
        assert await offset_of(service, path) == "0"
        assert (await chunked(service, path, DATA[:40], sha1(DATA[:40]))).status == 204
        assert await offset_of(service, path) == "40"


# Termination


@ensureDeferred
async def test_termination() -> None:
    """MUST: 204, and what it holds is freed; later it is 404 or 410."""
    async with memory_service() as service:
        path = await begin(service)
        await patch(service, path, 0, DATA[:50])
        assert not nothing_left(service)
        assert (await service.ask("DELETE", path, [V])).status == 204
        await until(lambda: nothing_left(service))
        again = [await head(service, path), await patch(service, path, 50, DATA[50:])]
        again.append(await service.ask("DELETE", path, [V]))
        assert [answer.status for answer in again] == [410, 410, 410]


# What tus-js-client makes of answers: to HEAD all but 423 and the network's own errors is the end of the upload


class Troubled(Door):
    """An application that cannot be asked, once `error` is set."""

    error: UploadError | None = None

    async def authorize(self, ask: AuthorizationRequest) -> Grant:
        if self.error is not None:
            raise self.error
        return await super().authorize(ask)


def of_the_ledger(error: BaseException) -> Callable[[Memory], None]:
    async def trouble(*_: Any, **__: Any) -> Any:
        raise error

    return lambda service: setattr(service.parts.ledger, "get", trouble)


def of_the_application(error: UploadError) -> Callable[[Memory], None]:
    return lambda service: setattr(service.authorizer, "error", error)


@pytest.mark.parametrize(
    "trouble",
    [
        of_the_ledger(Unavailable("the ledger is away")),
        of_the_ledger(ShuttingDown("it is about to end")),
        of_the_ledger(InternalError("a fault that is told")),
        of_the_ledger(RuntimeError("a fault that nobody has thought of")),
        of_the_application(Unavailable("the application is away")),
        of_the_application(Refused(429, Headers({"Retry-After": ["9"]}), b"slowly")),
        of_the_application(Refused(503, Headers(), b"")),
    ],
    ids=["ledger", "shutdown", "fault", "unknown fault", "application", "application 429", "application 503"],
)
@pytest.mark.parametrize("method", ["HEAD", "GET"])
@ensureDeferred
async def test_to_head_what_may_pass_is_423(method: str, trouble: Callable[[Memory], None]) -> None:
    """Never a 5xx and never 429: the client would begin again at byte 0. To PATCH it is what it is."""
    async with memory_service(Troubled()) as service:
        path = await begin(service)
        await patch(service, path, 0, DATA[:20])
        trouble(service)
        answer = await service.ask(method, path, [V, "X-HTTP-Method-Override: HEAD"])
        assert (answer.status, answer.header("Upload-Offset")) == (423, None)
        assert answer.header("Tus-Resumable") == "1.0.0"
        assert (await patch(service, path, 20, DATA[20:])).status in (429, 500, 503)


@ensureDeferred
async def test_to_head_a_store_that_is_busy_is_423() -> None:
    """All bytes are there, the object is not: HEAD tries to make it, and says neither that it is done nor that it is lost."""
    async with memory_service() as service:
        path = await begin(service, NAMED)
        store: Any = service.parts.uploads._store
        store.trouble += [("complete_multipart_upload", "before")] * 2
        assert (await patch(service, path, 0, DATA)).status == 503
        assert (await head(service, path)).status == 423
        answer = await head(service, path)
        assert (answer.status, answer.header("Upload-Offset")) == (200, str(len(DATA)))
        assert stored(service, "n") == DATA
