"""Whatever the main application says, in any JSON types: it is understood, or it is an answer that cannot be used."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.web.http_headers import Headers

from resumable.callbacks.answers import read_answer
from resumable.callbacks.authorizer import Grant, Refused, _judge
from resumable.callbacks.caller import CallFailure, Said
from resumable.callbacks.formats import Format, HookResult, OwnFormat, TusdFormat
from resumable.model import ObjectOptions, Upload, UploadError
from resumable.protocols.response import raw_headers
from resumable.stores.s3.options import option_headers
from resumable.uploads.events import event_of
from resumable.uploads.policy import CreateOverrides, CreateRequest
from tests.policy import policy

UPLOAD = Upload("u1", "put", "alice", "n", "bucket", "alice/n", 5, 16, created=1.0, updated=1.0)
JSON = Headers({"Content-Type": ["application/json"]})

texts = st.text(max_size=20) | st.sampled_from(
    [
        "",
        "a\nb",
        "\x00",
        "\ud800",
        "\ufffe",
        "..",
        "a//b",
        "/",
        ".resumable/x",
        "resumable-token",
        "Transfer-Encoding",
        "x" * 5000,
    ]
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -1, 0, 599, 600, 204, 101])
    | st.floats()
    | texts
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)


def objects(*names: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(names) | texts, values, max_size=6)


def said(body: Any, status: int = 200) -> Said:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Said(status, JSON, raw)


grants = objects("owner", "bucket", "key", "max_size", "content_type", "metadata")
options = objects("acl", "storage_class", "content_disposition", "content_encoding", "tags")


@given(grants, st.none() | options | values)
def test_any_grant(answer: dict[str, Any], of_object: Any) -> None:
    """A yes that can be used whole, or trouble: nothing else, and never half of it."""
    try:
        grant = _judge(said({**answer, "object": of_object}))
    except CallFailure as trouble:
        assert str(trouble.reason) == "gave an answer that cannot be used"
        return
    usable(grant)


@given(
    st.binary(max_size=60)
    | st.sampled_from([b'{"max_size": 1e400}', b'{"max_size": NaN}', b"[" * 60_000, b'{"a":' * 20_000])
)
def test_any_bytes(body: bytes) -> None:
    with contextlib.suppress(CallFailure):
        usable(_judge(said(body)))


def usable(grant: Grant) -> None:
    """The service can go on with it."""
    assert grant.max_size is None or (type(grant.max_size) is int and grant.max_size >= 0)
    wanted = CreateRequest(
        "put",
        "n",
        owner=grant.owner,
        max_size=grant.max_size,
        bucket=grant.bucket,
        key=grant.key,
        options=grant.object,
    )
    for header in option_headers(grant.object).values():
        assert header.isascii()
        assert header.isprintable()
    try:
        upload = policy("bucket").new_upload(wanted, "id", 0.0)
    except UploadError:
        return
    json.dumps(upload.key).encode("ascii")
    upload.key.encode()


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"metadata": {"Resumable-Token": "x"}}, "service's own"),
        ({"metadata": {"a b": "x"}}, "names that a header can have"),
        ({"metadata": {"k": "x" * 2000}}, "at most 1990 bytes"),
        ({"key": "a/../b"}, "key must not"),
        ({"key": "a//b"}, "key must not"),
        ({"key": "k" * 1025}, "key must have at most 1024 bytes"),
        ({"key": "a\ufffe"}, "key must be a text"),
        ({"owner": "a\x85"}, "owner must be a text"),
        ({"owner": "o" * 1025}, "owner must have at most"),
        ({"bucket": "a/b"}, "bucket must be"),
        ({"bucket": ".."}, "bucket must be"),
        ({"max_size": 1.0}, "max_size must be"),
        ({"content_type": "x" * 1025}, "content_type must have"),
        ({"object": {"acl": "a b"}}, "object.acl must be a word"),
        ({"object": {"content_disposition": "ü"}}, "object.content_disposition must be"),
        ({"object": {"content_encoding": "aws-chunked"}}, "object.content_encoding must not"),
        ({"object": {"tags": {str(number): "" for number in range(11)}}}, "object.tags must be at most 10"),
        ({"object": {"tags": {"k": "v" * 257}}}, "object.tags must have"),
    ],
)
def test_what_no_object_can_have(answer: dict[str, Any], problem: str) -> None:
    """The application is told, in the log, and not its client."""
    with pytest.raises(ValueError, match=problem):
        read_answer(answer)


def test_what_an_object_can_have() -> None:
    answer = {"owner": "a/b", "object": {"content_encoding": "gzip", "content_disposition": 'attachment; filename="ü"'}}
    options = ObjectOptions(content_encoding="gzip", content_disposition='attachment; filename="ü"')
    assert Grant(**read_answer(answer)) == Grant(owner="a/b", object=options)


# Answers to events


@given(
    make=st.sampled_from([OwnFormat, TusdFormat]),
    data=st.data(),
    status=st.sampled_from([200, 201, 204, 299, 403, 500]),
    waiting=st.booleans(),
    part=objects("StatusCode", "Body", "Header") | values,
    change=objects("ID", "Storage", "MetaData", "bucket", "key", "metadata") | values,
    header=st.dictionaries(texts, values, max_size=4),
    reject=values,
)
def test_any_answer_to_an_event(
    make: Callable[[], Format], data: Any, status: int, waiting: bool, part: Any, change: Any, header: Any, reject: Any
) -> None:
    """A verdict of which all can be used, or trouble."""
    event = event_of(UPLOAD)
    assert event is not None
    if isinstance(part, dict) and data.draw(st.booleans()):
        part = {**part, "Header": header}
    answer: dict[str, Any] = {"HTTPResponse": part, "RejectUpload": reject, "ChangeFileInfo": change}
    if isinstance(change, dict):
        answer |= change
    try:
        verdict = make().verdict(event, said(answer, status), waiting=waiting)
    except CallFailure:
        return
    answerable(verdict)
    if verdict.accepted:
        CreateOverrides(**verdict.changes).of(CreateRequest("put", "n"))


def answerable(verdict: HookResult) -> None:
    """It can be kept as JSON, and written to a client."""
    assert verdict.status is None or 200 <= verdict.status <= 599
    assert isinstance(verdict.body, bytes | None)
    json.dumps(verdict.headers)
    for name, lines in raw_headers(verdict.headers).getAllRawHeaders():
        assert name.lower() not in (b"transfer-encoding", b"content-length", b"connection")
        assert not any(b"\n" in line or b"\r" in line for line in lines)


@pytest.mark.parametrize(
    "http",
    [
        {"Header": {"Transfer-Encoding": "chunked"}},
        {"Header": {"Content-Length": "5"}},
        {"Header": {"connection": "upgrade"}},
        {"Header": {"a b": "c"}},
        {"Header": {"X": "a\r\nSet-Cookie: b"}},
        {"Header": {"X": ["a"]}},
        {"Header": {"Location": "http://\u00e9/"}},
        {"Header": {"X": "\u20ac", "Y": "\u2028"}},
        {"Header": "x"},
        {"StatusCode": 101},
        {"StatusCode": 99},
        {"StatusCode": 600},
        {"StatusCode": "200"},
        {"StatusCode": True},
        {"StatusCode": 1e300},
        {"Body": 5},
        ["x"],
        "x",
    ],
)
def test_a_hook_whose_answer_is_partly_useless(http: Any) -> None:
    """The event is delivered all the same, and the log says what was left out."""
    event = event_of(UPLOAD)
    assert event is not None
    verdict = TusdFormat().verdict(event, said({"HTTPResponse": http}), waiting=True)
    assert (verdict.accepted, verdict.status, verdict.headers, verdict.body) == (True, None, (), None)
    assert len(verdict.unusable) == 1
    rejected = TusdFormat().verdict(event, said({"HTTPResponse": http, "RejectUpload": True}), waiting=True)
    assert (rejected.accepted, rejected.status) == (False, 400)


def test_a_body_of_a_hook_that_is_in_no_encoding() -> None:
    event = event_of(UPLOAD)
    assert event is not None
    verdict = TusdFormat().verdict(event, said(b'{"HTTPResponse": {"Body": "a\\ud800b"}}'), waiting=True)
    assert (verdict.accepted, verdict.body) == (True, b"a?b")


@pytest.mark.parametrize("make", [OwnFormat, TusdFormat])
def test_what_nobody_waits_for_changes_nothing(make: Callable[[], Format]) -> None:
    """Told of an upload that is there already, the application may say what it likes: it is not told again for that."""
    event = event_of(UPLOAD)
    assert event is not None
    answer: Any = {"key": 5, "metadata": [], "ChangeFileInfo": {"ID": 5, "Storage": "x"}}
    verdict = make().verdict(event, said(answer), waiting=False)
    assert (verdict.accepted, verdict.changes) == (True, {})
    with pytest.raises(CallFailure, match="cannot be used"):
        make().verdict(event, said(answer), waiting=True)


def test_a_no_keeps_its_headers() -> None:
    with pytest.raises(Refused) as caught:
        _judge(Said(403, Headers({"WWW-Authenticate": ["Basic"], "Content-Length": ["5"]}), b"no"))
    assert caught.value.headers == Headers({"WWW-Authenticate": ["Basic"]})
