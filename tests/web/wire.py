"""A client without a network: a string for the socket, a clock for the time."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IConsumer
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.resource import IResource, Resource
from zope.interface import implementer

from resumable.blocks import LARGE
from resumable.model import UploadError
from resumable.protocols.problems import render_problem
from resumable.protocols.response import Response, problem
from resumable.web.connection import StreamingChannel
from resumable.web.request import StreamingRequest
from resumable.web.site import StreamingSite

IDLE = 30.0
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

#: Chunks that are handed on one by one: small ones are put together.
A, B, C = (letter * LARGE for letter in (b"a", b"b", b"c"))

Handler = Callable[[StreamingRequest], Awaitable[Response]]


class Transport(StringTransport):
    """Remembers in which order it was paused, resumed and written to."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Any] = []

    def pauseProducing(self) -> None:
        self.events.append("pause")
        super().pauseProducing()

    def resumeProducing(self) -> None:
        self.events.append("resume")
        super().resumeProducing()

    def writeSequence(self, data: Any) -> None:
        data = list(data)
        self.events.append(b"".join(data).split(b"\r\n")[0])
        super().writeSequence(data)


@implementer(IConsumer)
class Basin:
    """A consumer that keeps what it was given, and can be told what to do in each write."""

    def __init__(self, on_write: Callable[[Basin, bytes], None] | None = None) -> None:
        self.chunks: list[bytes] = []
        self.events: list[str] = []
        self.producer: Any = None
        self.on_write = on_write

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        self.producer = producer
        self.events.append("register")

    def unregisterProducer(self) -> None:
        self.events.append("unregister")

    def write(self, data: bytes) -> None:
        self.chunks.append(data)
        if self.on_write is not None:
            self.on_write(self, data)

    @property
    def data(self) -> bytes:
        return b"".join(self.chunks)


class Leaf(Resource):
    """The root resource: serves every path by one coroutine."""

    isLeaf = True

    def __init__(self, handler: Handler) -> None:
        super().__init__()
        self.handler = handler

    async def serve(self, request: StreamingRequest) -> Response:
        try:
            return await self.handler(request)
        except UploadError as error:
            return render_problem(error)

    def answer_error(self, request: object, error: UploadError) -> Response:
        return render_problem(error)


class Wire:
    """One connection to a site whose handler is given."""

    def __init__(self, handler: Handler | None = None, root: IResource | None = None, **options: Any) -> None:
        self.clock = Clock()
        if root is None:
            assert handler is not None
            root = Leaf(handler)
        self.site = StreamingSite(root, idle_timeout=IDLE, reactor=self.clock, **options)  # type: ignore[arg-type]
        self.transport = Transport()
        channel = self.site.buildProtocol(None)
        assert isinstance(channel, StreamingChannel)
        self.channel = channel
        self.channel.makeConnection(self.transport)  # type: ignore[arg-type]

    def send(self, *segments: bytes) -> None:
        for segment in segments:
            self.channel.dataReceived(segment)

    def lose(self, reason: Exception | None = None) -> None:
        self.channel.connectionLost(Failure(reason or ConnectionDone()))

    @property
    def said(self) -> bytes:
        return self.transport.value()

    @property
    def paused(self) -> bool:
        return self.transport.producerState == "paused"

    @property
    def closing(self) -> bool:
        return bool(self.transport.disconnecting)


class Service:
    """A handler that pours into a basin and answers what came of it; ``gate`` holds it back before or after."""

    def __init__(self, basin: Basin | None = None, before: bool = False, after: bool = False) -> None:
        self.basin = basin or Basin()
        self.before: Deferred[None] | None = Deferred() if before else None
        self.after: Deferred[None] | None = Deferred() if after else None
        self.requests: list[StreamingRequest] = []
        self.outcome: Any = None

    async def __call__(self, request: StreamingRequest) -> Response:
        self.requests.append(request)
        if self.before is not None:
            await self.before
        try:
            await request.pour_into(self.basin)
        except Exception as error:
            self.outcome = error
            raise
        self.outcome = "poured"
        if self.after is not None:
            await self.after
        return Response(200, b"got %d" % len(self.basin.data))


def head(method: str = "PUT", target: str = "/a", *fields: str, version: str = "1.1") -> bytes:
    """The head of a request."""
    return "\r\n".join([f"{method} {target} HTTP/{version}", "Host: h", *fields, "", ""]).encode("latin-1")


def statuses(said: bytes) -> list[int]:
    """The status of each answer, in order."""
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", said)]


def body_of(said: bytes) -> Any:
    """The JSON body of the last answer."""
    return json.loads(said.rsplit(b"\r\n\r\n", 1)[1])


def unfinished(*chunks: bytes) -> bytes:
    """The beginning of a chunked body."""
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)


def chunked(*chunks: bytes) -> bytes:
    """A chunked body."""
    return unfinished(*chunks, b"")


async def refuse(request: StreamingRequest) -> Response:
    """A handler that answers without the body."""
    return problem(401, "who are you?")
