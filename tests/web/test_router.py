"""The resource that a site serves."""

from __future__ import annotations

from typing import Any

import pytest

from resumable.model import Invalid, UploadError
from resumable.protocols.base import Plain, Target
from resumable.protocols.messages import Request
from resumable.protocols.response import Response
from resumable.web.router import Router
from tests.web.wire import Wire, head, statuses


class Below(Plain):
    """Everything below ``/a/``."""

    name = "below"

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    def match(self, request: Request) -> Target | None:
        return Target(name=request.path[3:]) if request.path.startswith(b"/a/") else None

    async def handle(self, request: Request, target: Target) -> Response:
        self.seen.append(target.name or b"")
        return Response(200, b"here")


def test_it_is_asked_for_every_path() -> None:
    """Nothing of Twisted's way through a tree of resources is left between the site and it."""
    below = Below()
    wire = Wire(root=Router([below], {}))
    wire.send(head("GET", "/a/b%2Fc/d"), head("GET", "/a/"), head("GET", "/nowhere"))
    assert statuses(wire.said) == [200, 200, 404]
    assert below.seen == [b"b%2Fc/d", b""]
    assert not wire.closing


def test_the_first_that_matches_serves() -> None:
    first, second = Below(), Below()
    wire = Wire(root=Router([first, second], {}))
    wire.send(head("GET", "/a/x"))
    assert (first.seen, second.seen) == ([b"x"], [])


class Faulty(Below):
    """A protocol with a fault in one of its methods."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where

    def match(self, request: Request) -> Target | None:
        if self.where == "match":
            raise RuntimeError("a fault")
        return super().match(request)

    async def handle(self, request: Request, target: Target) -> Response:
        if self.where == "handle":
            raise RuntimeError("a fault")
        raise Invalid("what a client did wrong")

    def render_error(self, request: Request, error: UploadError) -> Response:
        if self.where == "render_error":
            raise RuntimeError("a fault")
        return super().render_error(request, error)

    def decorate(self, request: Request, response: Response) -> Response:
        if self.where == "decorate":
            raise RuntimeError("a fault")
        if self.where == "field":
            return Response(response.status, response.body, {"not a field": "name"})
        return super().decorate(request, response)


@pytest.mark.parametrize("where", ["match", "handle", "render_error", "decorate", "field"])
@pytest.mark.parametrize("fields", [(), ("Content-Length: 5",)])
def test_a_faulty_protocol_leaves_nobody_without_an_answer(
    where: str, fields: tuple[str, ...], logged_errors: list[Any]
) -> None:
    """Wherever it fails, the client is told, and does not wait for ever."""
    wire = Wire(root=Router([Faulty(where)], {}))
    wire.send(head("PUT", "/a/x", *fields))
    assert statuses(wire.said) == [500]
    assert all(event.get("log_failure") for event in logged_errors)
    logged_errors.clear()


@pytest.mark.parametrize("where", ["match", "render_error", "decorate"])
def test_a_refusal_of_the_connection_where_the_protocol_is_faulty(where: str, logged_errors: list[Any]) -> None:
    """What the connection has to say does not depend on what the protocol makes of it."""
    wire = Wire(root=Router([Faulty(where)], {}))
    asked: Any = Asked()
    answer = wire.site.answer_error(asked, Invalid("malformed"))
    assert answer.status == 400
    assert len(logged_errors) == 1
    logged_errors.clear()


class Asked:
    """A request, as far as a router looks at it."""

    path = b"/a/x"
