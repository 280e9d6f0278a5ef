"""What is written as the answer to a request."""

from __future__ import annotations

from typing import Any

import pytest

from resumable.protocols.response import Response, reason_phrase
from resumable.web.request import StreamingRequest
from tests.web.wire import (
    CONTINUE,
    Basin,
    Wire,
    head,
    statuses,
)


@pytest.mark.parametrize(
    ("response", "line", "length"),
    [
        (Response(200, b"abc"), b"200 OK", b"3"),
        (Response(201), b"201 Created", b"0"),
        (Response(204), b"204 No Content", None),
        (Response(304), b"304 Not Modified", None),
        (Response(308), b"308 Resume Incomplete", b"0"),
        (Response(423), b"423 Locked", b"0"),
        (Response(418, reason=b"Short and Stout"), b"418 Short and Stout", b"0"),
    ],
)
def test_what_is_written(response: Response, line: bytes, length: bytes | None) -> None:
    """Status line, Content-Length by RFC 9110, 8.6, and no default type for what has none."""

    async def answer(request: StreamingRequest) -> Response:
        return response

    wire = Wire(answer)
    wire.send(head("GET"))
    top, _, body = wire.said.partition(b"\r\n\r\n")
    assert top.startswith(b"HTTP/1.1 " + line + b"\r\n")
    assert body == response.body
    assert (b"Content-Length: " in top) == (length is not None)
    if length is not None:
        assert b"Content-Length: " + length in top
    assert b"Content-Type" not in top
    assert b"Transfer-Encoding" not in top
    assert b"Date: " in top


def test_headers_are_written_as_given_but_for_line_breaks() -> None:
    """Text or bytes, pairs or mapping, a field twice; and no second header smuggled in."""

    async def answer(request: StreamingRequest) -> Response:
        return Response(200, headers=[("Link", "a"), (b"Link", b"b"), ("X", "c\r\nY: d")])

    wire = Wire(answer)
    wire.send(head("GET"))
    assert b"Link: a\r\nLink: b\r\n" in wire.said
    assert b"\r\nY:" not in wire.said
    assert Response(200, headers={"a": "b"}).headers == (("a", "b"),)


def test_head_has_no_body() -> None:
    """HEAD is told the length and nothing else; a resource may name another length."""

    async def answer(request: StreamingRequest) -> Response:
        return Response(200, b"abc", {"Content-Length": "77"} if request.path == b"/own" else {})

    wire = Wire(answer)
    wire.send(head("HEAD"))
    assert wire.said.endswith(b"\r\n\r\n")
    assert b"Content-Length: 3\r\n" in wire.said
    wire.transport.clear()
    wire.send(head("HEAD", "/own"))
    assert b"Content-Length: 77\r\n" in wire.said
    assert wire.said.count(b"Content-Length") == 1
    wire.send(head("GET", "/own"))
    assert b"Content-Length: 3\r\n" in wire.said
    assert not wire.closing


def test_interim_answers() -> None:
    """Any number of them, not to HTTP/1.0."""

    async def answer(request: StreamingRequest) -> Response:
        request.inform(104, {"Location": "/u"})
        await request.pour_into(Basin())
        return Response(200)

    wire = Wire(answer)
    wire.send(head("PUT", "/", "Content-Length: 1", "Expect: 100-continue"), b"a")
    assert wire.said.startswith(b"HTTP/1.1 104 Upload Resumption Supported\r\nLocation: /u\r\n\r\n" + CONTINUE)
    assert statuses(wire.said) == [104, 100, 200]
    old = Wire(answer)
    old.send(head("PUT", "/", "Content-Length: 1", version="1.0"), b"a")
    assert statuses(old.said) == [200]


def test_reason_of_an_unknown_status_is_empty() -> None:
    """No words are better than wrong ones."""
    assert reason_phrase(599) == b""


def test_a_failing_handler_gives_500_and_tells_only_the_log(logged_errors: list[Any]) -> None:
    """The traceback is for us, the client gets a status."""

    async def fail(request: StreamingRequest) -> Response:
        raise ValueError("secret")

    wire = Wire(fail)
    wire.send(head("GET"))
    assert statuses(wire.said) == [500]
    assert wire.said.endswith(b'\r\n\r\n{"type":"about:blank","title":"Internal Server Error","status":500}\n')
    assert b"application/problem+json" in wire.said
    assert logged_errors[0]["log_failure"].value.args == ("secret",)
    assert not wire.closing
    logged_errors.clear()


def test_an_answer_that_cannot_be_written_gives_500(logged_errors: list[Any]) -> None:
    """A name that is no field name fails before anything is written."""

    async def fail(request: StreamingRequest) -> Response:
        return Response(200, b"x", {"Fine": "1", "Not fine": "x"})

    wire = Wire(fail)
    wire.send(head("GET"))
    assert statuses(wire.said) == [500]
    assert b"Fine" not in wire.said
    logged_errors.clear()
