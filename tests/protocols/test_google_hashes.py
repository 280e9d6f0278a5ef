"""What the client says of the whole object is checked before there is an object: checksums, and that there is none yet."""

from __future__ import annotations

import hashlib
from base64 import b64encode

import pytest
from pytest_twisted import ensureDeferred

from resumable.model import State
from tests.protocols.harness import Memory, memory_service, until
from tests.protocols.test_google import (
    DATA,
    FIRST,
    REST,
    START,
    begin,
    crc,
    error,
    finished,
    incomplete,
    nothing_left,
    put,
    stored,
)

RIGHT, WRONG = f"X-Goog-Hash: crc32c={crc(DATA)}", f"X-Goog-Hash: crc32c={crc(FIRST)}"


async def freed(service: Memory) -> None:
    """What was stored is given back, in the background perhaps."""
    await until(lambda: not service.parts.bucket.objects and not service.parts.bucket.multiparts)
    nothing_left(service)


@pytest.mark.parametrize("data", [DATA, DATA[:16], DATA[:10], b""], ids=len)
@pytest.mark.parametrize("where", ["start", "metadata", "first chunk", "last chunk", "finaliser"])
@pytest.mark.parametrize("right", [True, False])
@ensureDeferred
async def test_the_checksum_of_the_whole_object(data: bytes, where: str, right: bool) -> None:
    """On whichever request it comes: with a wrong one there is no object, and nothing of it is kept."""
    said = crc(data if right else data + b"x")
    header = f"X-Goog-Hash: crc32c={said},md5=not-looked-at"
    cut = len(data) // 2
    async with memory_service() as service:
        metadata = b'{"crc32c": "%s"}' % said.encode() if where == "metadata" else b""
        session = await begin(service, START + "&name=n", *([header] if where == "start" else []), body=metadata)
        if cut:
            lines = [header] if where == "first chunk" else []
            incomplete(await put(service, session, f"0-{cut - 1}/*", data[:cut], *lines), cut)
        lines = [header] if where in ("last chunk", "first chunk") else []
        if where == "finaliser":
            if data:
                incomplete(await put(service, session, f"{cut}-{len(data) - 1}/*", data[cut:]), len(data))
            answer = await put(service, session, f"*/{len(data)}", b"", header)
        elif data:
            answer = await put(service, session, f"{cut}-{len(data) - 1}/{len(data)}", data[cut:], *lines)
        else:
            answer = await put(service, session, "*/0", b"", *lines)
        if right:
            finished(answer, data)
            assert stored(service) == data
            return
        assert "CRC32C" in error(answer, 400, "invalid")
        await freed(service)
        # For good: the client begins again.
        error(await put(service, session, "*/*"), 410, "gone")


@ensureDeferred
async def test_the_failed_upload_says_why() -> None:
    async with memory_service() as service:
        session = await begin(service)
        await put(service, session, None, DATA, WRONG)
        upload = await service.parts.uploads.get(session.rpartition("=")[2], "")
        assert upload.state is State.FAILED
        assert crc(DATA) in (upload.reason or "")
        assert (await service.parts.ledger.get(upload.id)).expected_crc32c is not None


@ensureDeferred
async def test_two_checksums_that_differ() -> None:
    """Which is right nobody knows: 400, and all stays as it is."""
    async with memory_service() as service:
        session = await begin(service, START + "&name=n", RIGHT)
        error(await put(service, session, "0-63/100", FIRST, WRONG), 400, "invalid")
        incomplete(await put(service, session, "*/*"), 0)
        finished(await put(service, session, None, DATA, RIGHT), DATA)
        error(await put(service, session, None, DATA, WRONG), 400, "invalid")
        finished(await put(service, session, None, DATA, RIGHT), DATA)
        error(await service.ask("POST", START, [RIGHT, WRONG], b""), 400, "invalid")


@ensureDeferred
async def test_a_checksum_that_is_said_while_another_request_brings_the_bytes() -> None:
    """Whoever writes it in this process hears of it."""
    async with memory_service() as service:
        session = await begin(service, START + "&name=n", "X-Upload-Content-Length: 100")
        incomplete(await put(service, session, "0-63/100", FIRST), 64)
        wire = service.connect()
        head = f"PUT {session} HTTP/1.1\r\nHost: test\r\nContent-Range: bytes 64-99/100\r\nContent-Length: 36\r\n\r\n"
        wire.send(head.encode() + REST[:20])
        await until(lambda: wire.channel.requests and wire.channel.requests[-1]._outlet is not None)
        assert (await put(service, session, "1-1/100", DATA[1:2], WRONG)).status == 308
        wire.send(REST[20:])
        await until(lambda: b"400 Bad Request" in wire.said)
        await freed(service)


@pytest.mark.parametrize("data", [DATA, DATA[:16]], ids=len)
@ensureDeferred
async def test_only_if_there_is_none(data: bytes) -> None:
    """``ifGenerationMatch=0``: 412 in Google's form, and what is there stays."""
    async with memory_service() as service:
        session = await begin(service, START + "&name=n&ifGenerationMatch=0")
        finished(await put(service, session, None, data), data)
        # The repeat of a request whose answer was lost is no second object.
        finished(await put(service, session, None, data), data)
        other = await begin(service, START + "&name=n&ifGenerationMatch=0")
        error(await put(service, other, None, bytes(len(data))), 412, "conditionNotMet")
        assert stored(service) == data
        await until(lambda: not service.parts.bucket.multiparts)
        # What was uploaded before is still known.
        assert (await service.ask("GET", "/storage/v1/b/bucket/o/n")).json["size"] == str(len(data))
        finished(await put(service, await begin(service), None, bytes(len(data))), bytes(len(data)))


@pytest.mark.parametrize(
    "condition",
    [
        "ifGenerationMatch=7",
        "ifGenerationMatch=",
        "ifGenerationMatch=-1",
        "ifGenerationMatch=0&ifGenerationMatch=1",
        "ifGenerationNotMatch=0",
        "ifMetagenerationMatch=1",
        "ifMetagenerationNotMatch=1",
        "ifGenerationMatch=0&ifMetagenerationMatch=1",
    ],
)
@ensureDeferred
async def test_conditions_that_cannot_be_kept(condition: str) -> None:
    """They are refused, never passed over."""
    async with memory_service() as service:
        error(await service.ask("POST", f"{START}&{condition}", body=b""), 400, "invalid")
        media = START.replace("resumable", "media")
        error(await service.ask("POST", f"{media}&name=n&{condition}", body=b"12345"), 400, "invalid")
        nothing_left(service)


@pytest.mark.parametrize("right", [True, False])
@ensureDeferred
async def test_md5_of_an_object_in_one_body(right: bool) -> None:
    """There it can be checked, for the object comes in one piece or not at all."""
    md5 = b64encode(hashlib.md5(DATA if right else FIRST).digest()).decode()
    async with memory_service() as service:
        answer = await service.ask("POST", "/upload/n?uploadType=media", [f"X-Goog-Hash: md5={md5}"], DATA)
        if right:
            finished(answer, DATA)
        else:
            error(answer, 400, "invalid")
            await freed(service)


@pytest.mark.parametrize("value", ["md5=nonsense", "md5=AAAA", "crc32c=AAAAAAAAAAA=", "crc32c=\xe4"])
@ensureDeferred
async def test_a_hash_that_is_none(value: str) -> None:
    async with memory_service() as service:
        error(await service.ask("POST", "/upload/n?uploadType=media", [f"X-Goog-Hash: {value}"], DATA), 400, "invalid")
        nothing_left(service)
