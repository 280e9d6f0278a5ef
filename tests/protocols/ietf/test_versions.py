"""The interop versions: what each draft calls things, and how it wants to be answered (draft-01 is version 3, draft-12 is 9)."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred

from tests.protocols.harness import memory_service
from tests.protocols.ietf.talk import DATA, PARTIAL, answers, begin, interim, patch, start, stored, version

VERSIONS = range(3, 10)


@pytest.mark.parametrize("number", VERSIONS)
@ensureDeferred
async def test_the_interim_answer_echoes_the_version(number: int) -> None:
    async with memory_service() as service:
        wire = service.connect()
        complete = "Upload-Incomplete: ?0" if number == 3 else "Upload-Complete: ?1"
        start(wire, "POST", "/upload/n", [version(number), complete, f"Content-Length: {len(DATA)}"])
        (first,) = await interim(wire)
        assert first.header("Upload-Draft-Interop-Version") == str(number)
        assert first.header("Location") is not None
        wire.send(DATA)
        said = await answers(wire)
        # How far it is, is told from draft-03 on.
        assert any(one.header("Upload-Offset") for one in said[:-1]) is (number >= 5)
        name, value = ("Upload-Incomplete", "?0") if number == 3 else ("Upload-Complete", "?1")
        assert (said[-1].status, said[-1].header(name), stored(service, "n")) == (200, value, DATA)


@ensureDeferred
async def test_version_3_says_what_is_incomplete() -> None:
    """In both directions, and leaves it out with the last bytes."""
    async with memory_service() as service:
        said = [version(3), "Upload-Incomplete: ?1"]
        begun = await service.ask("POST", "/upload/n", said, DATA[:10])
        assert (begun.status, begun.header("Upload-Incomplete"), begun.header("Upload-Complete")) == (201, "?1", None)
        path = (begun.header("Location") or "").removeprefix("http://test")
        more = await service.ask("PATCH", path, [*said, "Upload-Offset: 10"], DATA[10:20])
        assert (more.status, more.header("Upload-Incomplete"), more.header("Upload-Offset")) == (201, "?1", "20")
        asked = await service.ask("HEAD", path, [version(3)])
        assert (asked.status, asked.header("Upload-Incomplete"), asked.header("Upload-Offset")) == (204, "?1", "20")
        elsewhere = await service.ask("PATCH", path, [version(3), "Upload-Offset: 30"], DATA[30:])
        assert (elsewhere.status, elsewhere.header("Upload-Incomplete")) == (409, "?1")
        assert elsewhere.header("Upload-Offset") == "20"
        last = await service.ask("PATCH", path, [version(3), "Upload-Offset: 20"], DATA[20:])
        assert (last.status, last.header("Upload-Incomplete"), stored(service, "n")) == (200, "?0", DATA)
        assert (await service.ask("HEAD", path, [version(3)])).header("Upload-Incomplete") == "?0"


@pytest.mark.parametrize("number", [4, 5])
@ensureDeferred
async def test_a_patch_of_any_type(number: int) -> None:
    """Before draft-04 it had none of its own; tus-js-client sends none as draft-03."""
    async with memory_service() as service:
        path = await begin(service)
        for kind in ("X: y", "Content-Type: video/mp4"):
            offset = 0 if kind == "X: y" else 20
            end = offset + 20
            answer = await patch(service, path, offset, DATA[offset:end], "?0", version(number), kind=kind)
            assert answer.status == 201


@pytest.mark.parametrize(("number", "status"), [(3, 201), (4, 201), (5, 201), (6, 201), (7, 204), (8, 204), (9, 204)])
@ensureDeferred
async def test_the_answer_to_a_part(number: int, status: int) -> None:
    async with memory_service() as service:
        path = await begin(service)
        incomplete = ["Upload-Incomplete: ?1"] if number == 3 else ["Upload-Complete: ?0"]
        said = [version(number), PARTIAL, "Upload-Offset: 0", *incomplete]
        assert (await service.ask("PATCH", path, said, DATA)).status == status


@pytest.mark.parametrize("number", [3, 4, 5, 6])
@pytest.mark.parametrize("method", ["HEAD", "DELETE"])
@ensureDeferred
async def test_a_question_that_says_the_state(number: int, method: str) -> None:
    """MUST be rejected with 400 (draft-01 to -05); nothing happens."""
    async with memory_service() as service:
        path = await begin(service)
        for said in ("Upload-Offset: 0", "Upload-Incomplete: ?1" if number == 3 else "Upload-Complete: ?0"):
            assert (await service.ask(method, path, [version(number), said])).status == 400
        assert (await service.ask("HEAD", path, [version(number)])).status == 204


@pytest.mark.parametrize(("number", "key"), [(6, "expires"), (7, "max-age"), (9, "max-age")])
@ensureDeferred
async def test_how_the_limit_of_time_is_called(number: int, key: str) -> None:
    async with memory_service() as service:
        path = await begin(service)
        limit = (await service.ask("HEAD", path, [version(number)])).header("Upload-Limit") or ""
        said = dict(part.split("=") for part in limit.split(", "))
        assert set(said) == {"max-size", key}
        assert 7 * 86400 - 60 < int(said[key]) <= 7 * 86400


# URLSession: what Apple's client sends, by the system's version.

#: System, version, header of a whole upload, media type of a resume.
APPLE = [
    ("iOS 17", 3, "Upload-Incomplete: ?0", None),
    ("iOS 18.0", 5, "Upload-Complete: ?1", None),
    ("iOS 18.1", 6, "Upload-Complete: ?1", PARTIAL),
    ("iOS 26.2", 8, "Upload-Complete: ?1", PARTIAL),
]


@pytest.mark.parametrize(("system", "number", "complete", "kind"), APPLE, ids=[one[0] for one in APPLE])
@pytest.mark.parametrize("lost", ["in the middle", "the answer"])
@ensureDeferred
async def test_urlsession(system: str, number: int, complete: str, kind: str | None, lost: str) -> None:
    """It begins optimistically, learns the URL from the 104, asks by HEAD after a loss, and sends the rest."""
    async with memory_service() as service:
        wire = service.connect()
        said = [version(number), complete, "Content-Type: video/quicktime", f"Content-Length: {len(DATA)}"]
        if number == 8:
            said.append(f"Upload-Length: {len(DATA)}")
        start(wire, "POST", "/upload/n", said)
        (first,) = await interim(wire)
        assert first.header("Upload-Draft-Interop-Version") == str(number)
        path = (first.header("Location") or "").removeprefix("http://test")
        wire.send(DATA[:20] if lost == "in the middle" else DATA)
        if lost == "the answer":
            await answers(wire)
        wire.lose()
        while service.parts.uploads.writing._users:
            await service.ask("HEAD", path, [version(number)])
        asked = await service.ask("HEAD", path, [version(number)])
        offset = int(asked.header("Upload-Offset") or -1)
        assert (asked.status, offset) == (204, 20 if lost == "in the middle" else len(DATA))
        resumed = [version(number), f"Upload-Offset: {offset}", *([complete] if number != 3 else [])]
        if kind is not None:
            resumed.append(kind)
        last = await service.ask("PATCH", path, resumed, DATA[offset:])
        assert (last.status, last.json["content_type"], stored(service, "n")) == (200, "video/quicktime", DATA)
