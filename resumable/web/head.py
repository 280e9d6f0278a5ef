"""The head of a request that nobody serves: read as far as it takes to answer in the words of its protocol. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import define, field
from twisted.internet.interfaces import IConsumer
from twisted.web.http_headers import Headers, InvalidHeaderName

from resumable.protocols.origin import Origin
from resumable.protocols.query import parse_query
from resumable.protocols.response import HeaderPairs
from resumable.web.target import BadTarget, read_target

#: What ends a head.
END = b"\r\n\r\n"


@define
class Head:
    """A request of which there is only the head (`resumable.protocols.messages.Request`)."""

    method: bytes
    uri: bytes
    #: The target without its query.
    path: bytes
    requestHeaders: Headers
    length: int | None = None
    origin: Origin = field(factory=lambda: Origin("", "http://localhost"))
    trailers: Headers = field(factory=Headers)

    @property
    def query(self) -> Mapping[str, list[str]]:
        """See `resumable.protocols.query.parse_query`."""
        return parse_query(self.uri.partition(b"?")[2])

    async def pour_into(self, consumer: IConsumer) -> None:
        """Refuse: nobody has read the body."""
        raise RuntimeError("there is no body")

    def inform(self, status: int, headers: HeaderPairs = ()) -> bool:
        """Send nothing: the answer is the next to go out."""
        return False


def read_head(received: bytes) -> Head | None:
    """Return the head that `received` begins with; None if it is none, or not all of one.

    Nothing is served by it, so that not every fault is looked for.
    """
    text, end, _ = received.partition(END)
    first, *lines = text.split(b"\r\n")
    words = first.split(b" ")
    if not end or len(words) != 3 or not words[2].startswith(b"HTTP/1."):
        return None
    try:
        target, _ = read_target(words[0], words[1])
    except BadTarget:
        return None
    headers = Headers()
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon:
            return None
        try:
            headers.addRawHeader(name.strip(), value.strip())
        except InvalidHeaderName:
            return None
    return Head(words[0], target, target.partition(b"?")[0], headers)
