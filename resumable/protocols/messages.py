"""Requests as the protocols see them, and what their answers are made of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from twisted.internet.interfaces import IConsumer
from twisted.web.http_headers import Headers

from resumable.model import Invalid
from resumable.protocols.origin import Origin
from resumable.protocols.response import HeaderPairs, Response

#: The most bytes of a ``Range``'s value. A proxy takes the whole head of an answer in a buffer of 4 KiB (nginx's default), so
#: the header leaves some of that to the others.
RANGE_LIMIT = 3 << 10


class Request(Protocol):
    """A request whose headers are in; its body is taken only by `pour_into`."""

    method: bytes
    uri: bytes
    path: bytes
    requestHeaders: Headers
    #: Declared bytes of the body, None for a chunked one.
    length: int | None
    #: Who sends it, and the base of URLs handed out to the sender.
    origin: Origin

    @property
    def query(self) -> Mapping[str, list[str]]:
        """The query's fields and their values; see `resumable.protocols.query.parse_query`."""

    @property
    def trailers(self) -> Headers:
        """The fields after a chunked body, once all of it has been poured; else empty."""

    async def pour_into(self, consumer: IConsumer) -> None:
        """Give the body to `consumer`; see `resumable.uploads.registry.Body`."""

    def inform(self, status: int, headers: HeaderPairs = ()) -> bool:
        """Send an interim answer (1xx) at once, where the client can take one; else do nothing. Return whether it was sent.

        It can where it speaks HTTP/1.1, and the answer to this request is the next to go out and has not begun.

        :param headers: checked as those of an answer are.
        :raises ValueError: `status` is no interim one, or is 101.
        """


def json_response(status: int, value: Any) -> Response:
    """Return `value` as JSON. It ends in a newline, for people at a terminal."""
    # (A lone surrogate, of an upload from before they were refused, is written as JSON escapes it.)
    body = json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
    return Response(status, body, {"Content-Type": "application/json"})


def read_json_object(body: bytes, what: str = "the body") -> dict[str, Any]:
    """Return the JSON object that a small body is.

    :param what: what the body is called in the error.
    :raises Invalid: it is something else.
    """
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        raise Invalid(f"{what} is not JSON") from None
    if not isinstance(said, dict):
        raise Invalid(f"{what} is not a JSON object")
    return said


def range_header(stored: Iterable[tuple[int, int]]) -> dict[str, str]:
    """Return ``Range`` as the protocols `put` and Google answer it; nothing where nothing is stored.

    It lists the stored ranges, ascending, last bytes included. What does not fit into `RANGE_LIMIT` is left out.

    :param stored: ranges ``[first, end)`` that have no byte in common.
    """
    shown = "bytes="
    for first, end in sorted(stored):
        if end > first:
            following = f"{first}-{end - 1}" if shown.endswith("=") else f",{first}-{end - 1}"
            if len(shown) + len(following) > RANGE_LIMIT:
                break
            shown += following
    return {"Range": shown} if not shown.endswith("=") else {}
