"""The resource that a site serves."""

from __future__ import annotations

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
