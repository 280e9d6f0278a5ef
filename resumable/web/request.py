"""A request that is served at its headers, and whose body is poured, not spooled.

Twisted Web calls a resource when the whole body has arrived, and keeps the body in a temporary file until then. Here a
coroutine is started as soon as the headers are in; the socket stays paused, and ``100 Continue`` unsent, until that
coroutine says where the body is to go. An answer given before that never takes the body in (RFC 9110, 10.1.1).
"""

from __future__ import annotations

from http import HTTPStatus
from io import BytesIO
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable
from urllib.parse import unquote_to_bytes

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http, server
from twisted.web.http_headers import Headers
from twisted.web.resource import IResource
from zope.interface import implementer

from resumable.blocks import Blocks
from resumable.model import Interrupted, UploadError
from resumable.protocols.origin import Origin
from resumable.protocols.problems import render_problem
from resumable.protocols.response import NO_STORE, Answer, HeaderPairs, problem, raw_headers, reason_phrase

if TYPE_CHECKING:
    from resumable.web.connection import StreamingChannel

log = Logger()

#: The most body bytes an ordinary Twisted resource, which wants all of its body in memory, is given.
ORDINARY_LIMIT = 16 * 1024


@runtime_checkable
class IStreamingResource(Protocol):
    """A resource of the tree that is asked at the headers of a request, not at its end."""

    async def serve(self, request: StreamingRequest) -> Answer:
        """Answer ``request``; its body arrives only if, and when, this awaits ``request.pour_into(consumer)``."""


@implementer(IPushProducer)
class StreamingRequest(server.Request):
    """One request. Towards the consumer of its body it is an ``IPushProducer`` whose pause reaches the socket."""

    #: Declared bytes of the body; None: chunked, nobody knows yet.
    length: int | None = 0
    #: Who sends it, and the base of URLs handed out to the sender; known when the head is in.
    origin: Origin

    def __init__(self, channel: StreamingChannel, *args: object, **kwargs: Any) -> None:
        super().__init__(channel, *args, **kwargs)
        self._inbox = Blocks()
        self._told = 0  # bytes of the inbox that the consumer has been told of
        self._outlet: IConsumer | None = None
        self._poured: Deferred[None] | None = None
        self._invites = False  # a 100 Continue is owed before the body may come
        self._begun = False
        self._whole = False  # the end of the body has arrived
        self._over = False  # what still comes of the body is wanted by nobody
        self._answered = False  # before the body was in
        self._paused = False
        self._stopped = False
        self._pumping = False
        self._turned_away = False
        self._broken: Interrupted | None = None

    @property
    def _wire(self) -> StreamingChannel | None:
        """The channel, or None when the client is gone or has its answer (Twisted then deletes the attribute)."""
        return getattr(self, "channel", None)

    # What the channel tells us

    def gotLength(self, length: int | None) -> None:
        """Remember the length; unlike our base, make no file to spool the body in."""
        self.length = length

    def head_received(self, command: bytes, target: bytes, version: bytes, invites: bool) -> None:
        """Know everything the head says, before any of the body has been looked at.

        :param target: in origin-form, or ``*``.
        """
        self.method, self.uri, self.clientproto = command, target, version
        self.path, _, query = target.partition(b"?")
        self.args = http.parse_qs(query, True) if query else {}
        self._invites = invites
        site = self.channel.site  # type: ignore[attr-defined]
        peer = getattr(self.client, "host", "")
        self.origin = site.proxies.origin(peer, self.requestHeaders, secure=self.isSecure())

    def begin(self) -> None:
        """Start the coroutine that answers."""
        self._begun = True
        Deferred.fromCoroutine(self._serve())

    def handleContentChunk(self, data: bytes) -> None:
        """Take in a decoded segment of the body. Never raises: that would cost the client its connection."""
        if self._over:
            return
        if self._inbox or self._paused or self._pumping or self._outlet is None or self._stopped:
            self._inbox.add(data)
            self._pump()
        else:
            self._pump(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """The whole body is in."""
        self._whole = True
        if not self._begun:
            self.begin()
        elif not self._answered:
            self._pump()
        elif self._wire is not None:
            self._wire.loseConnection()

    def connectionLost(self, reason: Failure) -> None:
        """The client is gone: a pouring ends after what arrived, an answer will be dropped."""
        super().connectionLost(reason)
        self.break_off(f"the client went away: {reason.getErrorMessage()}")

    @property
    def incomplete(self) -> bool:
        """Whether more of the body is still to come, and would be taken."""
        return not self._whole and not self._over

    def break_off(self, why: str) -> None:
        """No more of the body will come."""
        self._broken = self._broken or Interrupted(why)
        self._pump()

    def turn_away(self) -> None:
        """The server shuts down: end the pouring, now or when it begins. A body that is whole stays welcome."""
        self._turned_away = True
        self.break_off("the server is shutting down")

    def fell_silent(self) -> bool:
        """End a pouring whose client sends nothing; False when there is none to end."""
        if self._outlet is None:
            return False
        self._cut("the client fell silent in the middle of the body")
        return True

    def _cut(self, why: str) -> None:
        """End the pouring; the client is there, and can be told."""
        self._broken = Interrupted(why, idle=True)
        self._pump()

    # The body

    async def pour_into(self, consumer: IConsumer) -> None:
        """Give the body to ``consumer``, segment by segment, as the very objects that came off the socket.

        A consumer that would have to cut segments may have an attribute ``room``: the bytes it takes up to the next
        edge. No more are then read at once. (Over TLS, and of a chunked body, segments come as they come. Small ones that
        have to wait are put together.) One that counts memory may have a method ``backlog``: it is told how many bytes
        wait here while it has us pause. One that wants all of a small body in time may have an attribute ``seconds``: how long
        the body may take from now on, however steadily it drips.

        Returns after the last byte, or early when ``consumer`` called ``stopProducing``. Whatever ``consumer.write``
        raises comes out here.

        Raises:
            Interrupted: the body broke off, or took too long. What arrived of it has been written. If it is ``idle``
                the client is still there and can be told so (408).
        """
        if self._outlet is not None or self._over:
            raise RuntimeError("the body has been poured already")
        consumer.registerProducer(self, True)
        poured = self._poured = Deferred()
        self._outlet = consumer
        self._pump()
        seconds, wire = getattr(consumer, "seconds", None), self._wire
        limit = None
        if seconds is not None and wire is not None and not poured.called:
            limit = wire.callLater(seconds, lambda: self._cut(f"the body took more than {seconds:g} seconds"))
        try:
            await poured
        finally:
            if limit is not None and limit.active():
                limit.cancel()
            consumer.unregisterProducer()

    def _pump(self, fresh: bytes = b"") -> None:
        """Write what has arrived while the consumer takes it, then read on, or end.

        :param fresh: what has just come, where nothing was waiting.
        The consumer may pause, resume and stop us from inside its ``write``. The end does not wait for a paused
        consumer once everything is written: it may need that end to make room.
        """
        if self._pumping or self._outlet is None:
            return
        self._pumping = True
        try:
            if fresh:
                self._outlet.write(fresh)
            while self._inbox.size and not self._paused and not self._stopped:
                block = self._inbox.take()
                if self._told:
                    self._tell_backlog()
                self._outlet.write(block)
            if self._inbox.size != self._told:
                self._tell_backlog()
        except Exception:
            self._end_pouring(Failure())
            return
        finally:
            self._pumping = False
        if self._stopped or (self._whole and not self._inbox):
            self._end_pouring(None)
        elif self._broken is not None and not self._inbox:
            self._end_pouring(Failure(self._broken))
        elif not self._paused:
            self._read_on()

    def _tell_backlog(self) -> None:
        backlog = getattr(self._outlet, "backlog", None)
        if backlog is not None:
            self._told = self._inbox.size
            backlog(self._told)

    def _read_on(self) -> None:
        """Let the client send, asking it to if it waits for that (RFC 9110, 10.1.1)."""
        wire = self._wire
        if wire is None:
            return
        if self._invites:
            self._invites = False
            self.inform(100)
        wire.release(getattr(self._outlet, "room", None))

    def _end_pouring(self, failure: Failure | None) -> None:
        """Let ``pour_into`` go on. What is left of the body stays with the client until the answer is written."""
        poured, self._poured, self._outlet = self._poured, None, None
        self._over = True
        self._inbox.clear()
        if not self._whole and self._wire is not None:
            self._wire.hold()
        if poured is not None and failure is not None:
            poured.errback(failure)
        elif poured is not None:
            poured.callback(None)

    # IPushProducer

    def pauseProducing(self) -> None:
        """Stop reading from the client. The time until we are resumed is not held against it."""
        self._paused = True
        if self._outlet is not None and not self._whole and self._wire is not None:
            self._wire.hold()

    def resumeProducing(self) -> None:
        """Go on where the pause began."""
        self._paused = False
        self._pump()

    def stopProducing(self) -> None:
        """The consumer wants no more; it knows why, so ``pour_into`` just returns."""
        self._stopped = True
        self._pump()

    # The answer

    def inform(self, status: int, headers: HeaderPairs = ()) -> None:
        """Send an interim answer (1xx; RFC 9110, 15.2). HTTP/1.0 knows none, and none may follow the answer."""
        wire = self._wire
        if wire is not None and not wire.deaf and not self.startedWriting and self.clientproto == b"HTTP/1.1":
            wire.writeHeaders(b"HTTP/1.1", b"%d" % status, reason_phrase(status), raw_headers(headers))

    async def _serve(self) -> None:
        try:
            response = await self._respond()
            if response is not None:
                self._answer(response)
        except UploadError as error:
            # A body that broke off, or that there is no room for. One who is gone cannot be told, and hears nothing.
            self._answer(render_problem(error))
        except Exception:
            # Not the query, in which clients send tokens.
            log.failure("no answer to {method} {path}", method=self.method.decode("ascii"), path=ascii(self.path))
            self.responseHeaders = Headers()
            self._answer(problem(HTTPStatus.INTERNAL_SERVER_ERROR))

    async def _respond(self) -> Answer | None:
        """Find the resource and let it answer; None when it did so by Twisted's own means."""
        self.prepath = []
        self.postpath = [unquote_to_bytes(segment) for segment in self.path[1:].split(b"/")]
        resource = self.channel.site.getResourceFor(self)  # type: ignore[attr-defined]
        if isinstance(resource, IStreamingResource):
            return await resource.serve(self)
        return await self._render_ordinary(resource)

    async def _render_ordinary(self, resource: IResource) -> Answer | None:
        """Serve a resource as Twisted has them, which finds a small body in ``content`` and writes its own answer."""
        async with self.channel.site.small_bodies.of(self, ORDINARY_LIMIT) as body:  # type: ignore[attr-defined]
            if self._wire is not None:
                self.content = BytesIO(body)
                self._decide_persistence(self._wire)
                self.render(resource)
        return None

    def _decide_persistence(self, wire: StreamingChannel) -> None:
        """Close after this answer if the rest of the body is in the way, or someone wants it (RFC 9112, 9.6)."""
        options = b",".join(self.responseHeaders.getRawHeaders(b"connection", [])).lower().split(b",")
        wanted = b"close" in (option.strip() for option in options)
        if wanted or not self._whole or not wire.persistent or wire.site.draining:
            self.responseHeaders.setRawHeaders(b"connection", [b"close"])
            wire.persistent = False

    def _answer(self, response: Answer) -> None:
        """Write the answer, whatever of the body is still to come."""
        if self._turned_away and self._over and not self._whole and response.status >= 400:
            # Nothing was wrong with what the client did, and elsewhere or later it can go on.
            response = problem(HTTPStatus.SERVICE_UNAVAILABLE, str(self._broken), {"Retry-After": "1"})
        self._over = True
        self._inbox.clear()
        wire = self._wire
        if wire is None or wire.deaf:
            return
        if self.startedWriting:  # by an ordinary resource that then failed: this cannot be made good
            wire.loseConnection()
            return
        self.responseHeaders.setRawHeaders(b"date", [http.datetimeToString()])
        # How far an upload is, or what came of it, is true for a moment only.
        self.responseHeaders.setRawHeaders(*NO_STORE)
        for name, values in raw_headers(response.headers).getAllRawHeaders():
            self.responseHeaders.setRawHeaders(name, values)
        self._declare_length(response)
        self._decide_persistence(wire)
        self.defaultContentType = None
        reason = reason_phrase(response.status) if response.reason is None else response.reason
        self.setResponseCode(response.status, reason)
        self.write(response.body)
        if self._whole:
            self.finish()
        else:
            # finish() would take us out of the channel's queue, where the end of the body still looks for us.
            self._answered = True
            wire.site.log(self)
            wire.linger()

    def _declare_length(self, response: Answer) -> None:
        """Content-Length as RFC 9110, 8.6, wants it: none without a body by definition; HEAD may name GET's."""
        if response.status in http.NO_BODY_CODES:
            self.responseHeaders.removeHeader(b"content-length")
        elif self.method != b"HEAD" or not self.responseHeaders.hasHeader(b"content-length"):
            self.responseHeaders.setRawHeaders(b"content-length", [b"%d" % len(response.body)])
