"""``POST /uploads`` with a protocol: the application makes the upload, and a client of that protocol goes on with it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred

from resumable.model import DigestMismatch, State, Unavailable
from resumable.protocols.registry import make_protocols
from resumable.protocols.results import Results
from resumable.protocols.tus.metadata import NAMES, TYPES, read_metadata, write_metadata
from resumable.stores.xmlapi.options import TOKEN_SYNTAX
from resumable.web.router import Router
from tests.protocols.harness import Answer, Door, Memory, memory_service
from tests.protocols.test_tus import DATA, V, head, patch, stored


async def make(service: Memory, **said: Any) -> Answer:
    body = {"name": "film.mp4", "length": len(DATA), "protocol": "tus", **said}
    return await service.ask("POST", "/uploads", [], json.dumps(body).encode())


def path_of(answer: Answer) -> str:
    assert answer.status == 201, answer.body
    assert answer.header("Location") == answer.json["url"]
    return str(answer.json["url"]).removeprefix("http://test")


@ensureDeferred
async def test_a_tus_client_goes_on() -> None:
    """HEAD and PATCH at once; the upload is one of tus, for a single connection, and its object is what was sent."""
    door = Door(owner="alice")
    async with memory_service(door) as service:
        made = await make(service, content_type="video/mp4", metadata={"k": "grüß"}, content_encoding="gzip")
        path = path_of(made)
        assert path == f"/files/{made.json['id']}"
        assert (made.json["protocol"], made.json["state"], made.json["offset"]) == ("tus", "open", 0)
        (asked,) = door.asked
        assert (asked.action, asked.protocol, asked.name, asked.length) == ("create", "session", "film.mp4", len(DATA))
        upload = await service.parts.uploads.get(made.json["id"], "alice")
        assert (upload.protocol, upload.swarm, upload.options.content_encoding) == ("tus", False, "gzip")
        answer = await head(service, path)
        assert (answer.header("Upload-Offset"), answer.header("Upload-Length")) == ("0", str(len(DATA)))
        shown = read_metadata([(answer.header("Upload-Metadata") or "").encode()])
        assert (shown.name, shown.content_type, shown.rest) == ("film.mp4", "video/mp4", {"k": "grüß"})
        assert (await patch(service, path, 0, DATA[:50])).header("Upload-Offset") == "50"
        assert (await patch(service, path, 60, DATA[60:])).status == 409, "exactly where it is, as every upload of tus"
        assert (await patch(service, path, 50, DATA[50:])).status == 204
        assert stored(service, "alice/film.mp4") == DATA
        shown_there = await service.ask("GET", f"/uploads/{made.json['id']}")
        assert (shown_there.json["state"], shown_there.json["protocol"]) == ("finished", "tus")


@pytest.mark.parametrize("protocol", [{}, {"protocol": None}, {"protocol": "session"}])
@ensureDeferred
async def test_without_a_protocol_it_is_a_session(protocol: Any) -> None:
    """As it ever was: many connections, any order; its URL is in the answer too."""
    async with memory_service() as service:
        body = json.dumps({"name": "n", "length": 5, **protocol}).encode()
        made = await service.ask("POST", "/uploads", [], body)
        assert path_of(made) == f"/uploads/{made.json['id']}"
        upload = await service.parts.uploads.get(made.json["id"], "")
        assert (upload.protocol, upload.swarm, dict(upload.remembered)) == ("session", True, {})


@pytest.mark.parametrize("protocol", ["", "TUS", "put", "webdav", "tus ", "x" * 5000, 5, True, [], {}])
@ensureDeferred
async def test_a_protocol_that_is_none(protocol: Any) -> None:
    """400, before the application is asked; it says which there are."""
    door = Door()
    async with memory_service(door) as service:
        answer = await make(service, protocol=protocol)
        assert (answer.status, answer.json["field"], door.asked) == (400, "protocol", [])
        if isinstance(protocol, str):
            assert "known are session, tus" in answer.json["detail"]
        assert len(answer.body) < 1000


@ensureDeferred
async def test_a_protocol_that_is_not_enabled() -> None:
    door = Door()
    async with memory_service(door) as service:
        service.router = Router(make_protocols(["put", "session"], service.parts.uploads, door, Results()), {})
        answer = await make(service)
        assert (answer.status, answer.json["field"], door.asked) == (400, "protocol", [])
        assert answer.json["detail"].endswith("known are session")


@ensureDeferred
async def test_an_empty_file() -> None:
    """It is finished at once; the client's HEAD says so."""
    async with memory_service() as service:
        made = await make(service, length=0)
        assert made.json["state"] == "finished"
        assert stored(service, "film.mp4") == b""
        answer = await head(service, path_of(made))
        assert (answer.header("Upload-Offset"), answer.header("Upload-Length")) == ("0", "0")


@pytest.mark.parametrize("trouble", [Unavailable("the application is away"), DigestMismatch("refused for good")])
@ensureDeferred
async def test_an_empty_file_that_is_not_stored(trouble: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is told of the upload, so none is left."""
    async with memory_service() as service:

        async def receive(*_: Any, **__: Any) -> Any:
            raise trouble

        monkeypatch.setattr(service.parts.uploads, "receive", receive)
        assert (await make(service, length=0)).status >= 400
        upload = await service.parts.ledger.find("", "film.mp4", "tus")
        assert upload is None or upload.state is State.CANCELLED


@ensureDeferred
async def test_the_applications_no_makes_nothing() -> None:
    async with memory_service(Door(refused=("create",))) as service:
        assert (await make(service)).status == 403
        assert await service.parts.ledger.find("", "film.mp4", "tus") is None


@ensureDeferred
async def test_another_owner_does_not_find_it() -> None:
    door = Door(owner="alice")
    async with memory_service(door) as service:
        path = path_of(await make(service))
        door.owner = "mallory"
        assert (await head(service, path)).status == 404
        assert (await patch(service, path, 0, DATA)).status == 404
        assert (await service.ask("DELETE", path, [V])).status == 404


TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs", "Cn"]), max_size=12)
TOKENS = st.text(st.sampled_from("abcXYZ019!#$%&'*+-.^_`|~"), min_size=1, max_size=8).filter(TOKEN_SYNTAX.match)


@given(
    st.none() | TEXT.filter(lambda text: text.strip(".") != ""),
    st.none() | TEXT.filter(bool),
    st.dictionaries(TOKENS | st.sampled_from(["filename", "name", "type", "filetype"]), TEXT, max_size=4),
)
def test_what_is_written_is_read(name: str | None, kind: str | None, rest: dict[str, str]) -> None:
    """A header of ASCII, whatever was said, with each key once."""
    if len({key.lower() for key in rest}) < len(rest) or (name and "/" in name):
        return
    written = write_metadata(name, kind, rest)
    assert written.isascii()
    read = read_metadata([written.encode()])
    assert (read.name, read.content_type) == (name, kind)
    assert read.rest == {key: value for key, value in rest.items() if key not in (*NAMES, *TYPES)}
