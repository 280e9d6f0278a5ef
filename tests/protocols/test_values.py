"""What clients and applications say, on its way in and out: refused by name, before anything is created, and never a 500."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred
from twisted.web.http_headers import Headers

from resumable import model
from resumable.callbacks.authorizer import AuthorizationRequest, Grant
from resumable.callbacks.formats import HookResult
from resumable.ledger.rows import as_upload
from resumable.model import Invalid, KeyTaken, ObjectOptions, Rejected, State, Unsupported, Upload, UploadError
from resumable.protocols.access import Gate, description_of
from resumable.protocols.base import Target
from resumable.protocols.messages import json_response
from resumable.protocols.origin import Origin
from resumable.protocols.problems import render_problem
from resumable.protocols.put import PutProtocol
from resumable.protocols.response import raw_headers
from resumable.protocols.results import Results
from resumable.protocols.session import SessionProtocol, read_description
from resumable.uploads.coverage import Coverage
from resumable.uploads.result import Report
from tests.uploads.wiring import House, ledger_in


@define
class Request:
    """One whose body is `body`."""

    method: bytes
    body: bytes = b""
    requestHeaders: Headers = field(factory=Headers)
    uri: bytes = b"/"
    path: bytes = b"/"
    origin: Origin = field(factory=lambda: Origin("192.0.2.1", "http://test"))

    @property
    def length(self) -> int | None:
        return len(self.body)

    async def pour_into(self, consumer: Any) -> None:
        consumer.write(self.body)


class Door:
    """Says what it is told to."""

    def __init__(self, grant: Grant) -> None:
        self.grant = grant
        self.asked = 0

    async def authorize(self, ask: AuthorizationRequest) -> Grant:
        self.asked += 1
        return self.grant

    async def close(self) -> None:
        """Nothing to close."""


async def begin(directory: Path, said: Any, grant: Grant | None = None) -> tuple[int, Any]:
    """POST /uploads; the status and the JSON."""
    async with ledger_in(directory) as ledger:
        wiring = House(ledger)
        authorizer = Door(grant or Grant())
        session = SessionProtocol(Gate(wiring.uploads, authorizer, "session"), Results())
        body = said if isinstance(said, bytes) else json.dumps({"name": "n", "length": 5, **said}).encode()
        try:
            answer = await session.handle(Request(b"POST", body), Target())
        except UploadError as error:
            answer = render_problem(error)
        shown = json.loads(answer.body)
        stored = [] if answer.status == 201 else await ledger.find("", "n", "session")
        assert not stored
        return answer.status, shown


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ({"metadata": {"a b": "x"}}, "metadata"),
        ({"metadata": {"ü": "x"}}, "metadata"),
        ({"metadata": {"": "x"}}, "metadata"),
        ({"metadata": {"k": "\ud800"}}, "metadata"),
        ({"metadata": {"Resumable-Token": "x"}}, "metadata"),
        ({"metadata": {"k": "x" * 3000}}, "metadata"),
        ({"metadata": {"k": "\ufffe"}}, "metadata"),
        ({"metadata": []}, "metadata"),
        ({"metadata": 0}, "metadata"),
        ({"name": "\ud800"}, "name"),
        ({"name": "a\ufffe"}, "name"),
        ({"name": "n" * 1025}, "name"),
        ({"name": "a//b"}, "name"),
        ({"name": "a/"}, "name"),
        ({"name": 5}, "name"),
        ({"content_type": "\udfff"}, "content_type"),
        ({"content_type": 5}, "content_type"),
        ({"length": True}, "length"),
    ],
)
@ensureDeferred
async def test_a_description_that_no_object_can_have(tmp_path: Path, said: Any, named: str) -> None:
    status, shown = await begin(tmp_path, said)
    assert (status, shown.get("field")) == (400, named)


@ensureDeferred
async def test_a_coding_that_cannot_be_kept(tmp_path: Path) -> None:
    assert (await begin(tmp_path, {"content_encoding": "aws-chunked"}))[0] == 415


@ensureDeferred
async def test_the_applications_word_on_metadata(tmp_path: Path) -> None:
    """Replaces the client's, whatever the capitals; and too much of both together is too much."""
    said = {"metadata": {"Name": "client", "b": "1"}}
    status, shown = await begin(tmp_path, said, Grant(metadata={"name": "application"}))
    assert (status, shown["metadata"]) == (201, {"b": "1", "name": "application"})
    (tmp_path / "2").mkdir()
    status, shown = await begin(tmp_path / "2", {"metadata": {"k": "x" * 1500}}, Grant(metadata={"l": "x" * 1500}))
    assert (status, shown["field"]) == (400, "metadata")


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(["name", "length", "content_type", "content_encoding", "metadata", "x"])


@given(st.dictionaries(KEYS, anything, max_size=5) | anything)
def test_any_description(said: Any) -> None:
    try:
        read = read_description(json.dumps(said).encode())
    except Invalid as error:
        assert 400 <= render_problem(error).status < 500
        return
    assert read.name.encode()
    assert read.length is not None
    assert read.length >= 0


# Content-Encoding


@pytest.mark.parametrize(
    ("lines", "kept"), [([], None), (["gzip"], "gzip"), (["gzip", "br"], "gzip, br"), (["identity"], None)]
)
def test_the_clients_content_encoding(lines: list[str], kept: str | None) -> None:
    request = Request(b"PUT", requestHeaders=Headers({"Content-Encoding": lines}))
    assert description_of(request, "n", 5).content_encoding == kept


@ensureDeferred
async def test_the_applications_content_encoding(tmp_path: Path) -> None:
    """Replaces the client's."""
    async with ledger_in(tmp_path) as ledger:
        authorizer = Door(Grant(object=ObjectOptions(content_encoding="zstd")))
        gate = Gate(House(ledger).uploads, authorizer, "put")
        request = Request(b"PUT", requestHeaders=Headers({"Content-Encoding": ["gzip"]}))
        said = description_of(request, "n", 5)
        upload = await (await gate.authorize(request, "create", description=said)).create(said)
        assert upload.options.content_encoding == "zstd"


@pytest.mark.parametrize("line", [b"aws-chunked", b"gzip,aws-chunked", b"gzip;q=1", b"\xff", b"a b"])
@pytest.mark.parametrize("span", [None, b"bytes 0-4/10", b"bytes 5-9/10"])
@ensureDeferred
async def test_what_is_framed_for_s3_is_not_stored(tmp_path: Path, line: bytes, span: bytes | None) -> None:
    """By no request that brings bytes: 415, before anybody is asked."""
    async with ledger_in(tmp_path) as ledger:
        wiring = House(ledger)
        authorizer = Door(Grant())
        put = PutProtocol(Gate(wiring.uploads, authorizer, "put"), Results())
        headers = Headers({b"content-encoding": [line], b"content-length": [b"5"]})
        if span is not None:
            headers.setRawHeaders(b"content-range", [span])
        with pytest.raises(Unsupported) as caught:
            await put.handle(Request(b"PUT", b"hello", headers), Target(name=b"n"))
        assert render_problem(caught.value).status == 415
        assert authorizer.asked == 0


@ensureDeferred
async def test_whoever_only_asks_may_say_anything(tmp_path: Path) -> None:
    async with ledger_in(tmp_path) as ledger:
        gate = Gate(House(ledger).uploads, Door(Grant()), "put")
        request = Request(b"GET", requestHeaders=Headers({"Content-Encoding": ["aws-chunked"]}))
        await gate.authorize(request, "status")


# Answers


def test_errors_of_every_class() -> None:
    """Those that are to come too: what is not in the table is what its nearest base is."""

    class New(KeyTaken):
        pass

    class Newer(UploadError):
        pass

    assert render_problem(New("taken")).status == 409
    assert render_problem(Newer("?")).status == 400
    assert render_problem(Rejected("name", "no")).status == 400
    for cls in vars(model).values():
        if isinstance(cls, type) and issubclass(cls, UploadError):
            made = {
                "Gap": ("x", 5),
                "OffsetMismatch": ("x", 5),
                "Rejected": ("name", "x"),
                "Unsupported": ("content_encoding", "x"),
            }
            assert 400 <= render_problem(cls(*made.get(cls.__name__, ("x",)))).status < 600


def test_what_was_stored_before_it_was_refused() -> None:
    """A lone surrogate in a row of old is shown, not a traceback."""
    assert json.loads(json_response(200, {"k": "a\ud800é"}).body) == {"k": "a\ud800é"}


UPLOAD = Upload("u1", "put", "", "n", "b", "k", 5, 16, created=1.0, updated=1.0, state=State.FINISHED)


@pytest.mark.parametrize(
    ("verdict", "status"),
    [
        (HookResult(True, None, (("a b", "c"), ("Transfer-Encoding", "chunked"), ("X", "\ud800"))), 200),
        (HookResult(True, 101, (("X-Video", "42"),), b"body"), 200),
        (HookResult(True, 9999, (("Content-Length", "1"),)), 200),
        (HookResult(True, 202, (("ü", "1"),), b"body"), 202),
    ],
)
@ensureDeferred
async def test_what_was_kept_of_an_answer_before_it_was_refused(verdict: HookResult, status: int) -> None:
    async def await_verdict(_: str) -> HookResult:
        return verdict

    answer = await Results(await_verdict).answer(Report(UPLOAD, Coverage.whole(5)))
    assert answer.status == status
    names = {name.lower() for name, _ in raw_headers(answer.headers).getAllRawHeaders()}
    assert names <= {b"content-type", b"x-video"}


def test_rows_of_other_versions() -> None:
    """Of an older program's some options are missing, of a newer's some are unknown."""
    row: dict[str, Any] = {
        **{"id": "u", "protocol": "put", "owner": "", "name": "n", "bucket": "b", "key": "k", "length": 5},
        **{"chunk_size": 5, "created": 1.0, "updated": 1.0, "state": "open", "writers": None},
    }
    old = as_upload({**row, "options": {"content_type": "a/b", "metadata": {}}})
    assert old.options == ObjectOptions(content_type="a/b")
    new = as_upload({**row, "options": {"content_encoding": "gzip", "retention": {"until": 5}}})
    assert new.options == ObjectOptions(content_encoding="gzip")
