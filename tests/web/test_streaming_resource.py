"""The resource that a site serves."""

from __future__ import annotations

from typing import Any

from resumable.protocols.response import Response
from resumable.web.router import Root
from tests.web.wire import Wire, head, statuses


def test_it_is_asked_for_every_path() -> None:
    """Nothing of Twisted's way through a tree of resources is left between the site and it."""
    seen: list[bytes] = []

    async def answer(request: Any, rest: bytes) -> Response:
        seen.append(rest)
        return Response(200, b"here")

    wire = Wire(root=Root({b"/a/": answer}))
    wire.send(head("GET", "/a/b%2Fc/d"), head("GET", "/a/"), head("GET", "/nowhere"))
    assert statuses(wire.said) == [200, 200, 404]
    assert seen == [b"b%2Fc/d", b""]
    assert not wire.closing
