"""The resource that a site serves."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.web.resource import Resource

from resumable.web.request import ORDINARY_LIMIT
from tests.web.wire import (
    Leaf,
    Wire,
    head,
    refuse,
    statuses,
)


class Echo(Resource):
    """An ordinary resource of Twisted."""

    isLeaf = True

    def render_POST(self, request: Any) -> bytes:
        request.setHeader("X-Half", "done")
        if request.path == b"/echo/fail":
            raise ValueError("no")
        return b"<" + request.content.read() + b">"


def tree() -> Resource:
    """A root with an ordinary and a streaming child."""
    root = Resource()
    root.putChild(b"echo", Echo())
    root.putChild(b"stream", Leaf(refuse))
    return root


@pytest.mark.filterwarnings("ignore:twisted.web.resource:DeprecationWarning")  # Twisted's own 404 and 405
def test_a_resource_tree() -> None:
    """Children are found as ever; ordinary ones find a small body in ``content``."""
    wire = Wire(root=tree())
    wire.send(head("POST", "/stream/x"))
    wire.send(head("POST", "/echo", "Content-Length: 5", "Expect: 100-continue"), b"ab", b"cde")
    wire.send(head("GET", "/nowhere"), head("GET", "/echo"))
    assert statuses(wire.said) == [401, 100, 200, 404, 405]
    assert b"\r\n\r\n<abcde>" in wire.said
    assert not wire.closing


def test_an_ordinary_resource_takes_no_big_body() -> None:
    """What it wants whole has to fit in memory."""
    wire = Wire(root=tree())
    wire.send(head("POST", "/echo", f"Content-Length: {ORDINARY_LIMIT + 1}"), bytes(ORDINARY_LIMIT), b"abc")
    assert statuses(wire.said) == [413]


def test_an_ordinary_resource_that_fails(logged_errors: list[Any]) -> None:
    """It is treated like ours; nothing of what it had prepared goes out."""
    wire = Wire(root=tree())
    wire.send(head("POST", "/echo/fail"))
    assert statuses(wire.said) == [500]
    assert b"X-Half" not in wire.said
    assert len(logged_errors) == 1
    logged_errors.clear()
