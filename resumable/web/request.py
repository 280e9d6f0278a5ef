"""A request that is served at its headers, and whose body is poured, not spooled.

Twisted Web calls a resource when the whole body has arrived, and keeps the body in a temporary file until then. Here a
coroutine is started as soon as the headers are in. The socket stays paused, and ``100 Continue`` unsent, until that
coroutine says where the body is to go. An answer given before that never takes the body in (RFC 9110, 10.1.1).

The life of a request (`State`)::

    HEAD --begin--> WAITING --pour_into--> POURING --_end_pouring--> POURED
                       |                                               |
                       +---------------> ANSWERED <--------------------+
                                _answer           _answer

What still arrives of the body is kept in WAITING, written in POURING, and dropped in POURED and ANSWERED.

The consumer's demand (`Demand`) changes independently of that, and may change before the pouring begins::

    TAKING <--pauseProducing / resumeProducing--> PAUSED
       +----------------> STOPPED <----------------+
                       stopProducing
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from http import HTTPStatus
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import server
from twisted.web.http import NO_BODY_CODES, datetimeToString, parse_qs
from twisted.web.http_headers import Headers
from zope.interface import implementer

from resumable.blocks import Blocks
from resumable.clock import cancel_if_active
from resumable.model import InternalError, Interrupted, ShuttingDown, UploadError
from resumable.protocols.origin import Origin
from resumable.protocols.query import parse_query
from resumable.protocols.response import NO_STORE, Answer, HeaderPairs, problem, raw_headers, reason_phrase
from resumable.request_info import RequestInfo, id_from, serve
from resumable.web.access import REQUEST_ID, reason_of
from resumable.web.connection import Site, StreamingChannel

log = Logger()


class State(Enum):
    """How far a request is; see the diagram above."""

    #: The head is in or still being read; nobody serves it yet.
    HEAD = auto()
    #: It is served, and nobody has asked for the body.
    WAITING = auto()
    #: A consumer takes the body.
    POURING = auto()
    #: The pouring has ended; the answer is to come.
    POURED = auto()
    #: The answer has been given, to be written or (the client is gone) dropped.
    ANSWERED = auto()


class Demand(Enum):
    """What the consumer of the body wants; see the diagram above."""

    TAKING = auto()
    PAUSED = auto()
    STOPPED = auto()


@implementer(IPushProducer)
class StreamingRequest(server.Request):
    """One request. Towards the consumer of its body it is an ``IPushProducer`` whose pause reaches the socket."""

    #: Declared bytes of the body; None: chunked, nobody knows yet.
    length: int | None = 0
    #: Who sends it, and the base of URLs handed out to the sender; known when the head is in.
    origin: Origin

    def __init__(self, channel: StreamingChannel, *args: object, **kwargs: Any) -> None:
        super().__init__(channel, *args, **kwargs)
        #: For the log, and for those who are asked or told because of this request.
        self.info = RequestInfo("")
        #: The fields after a chunked body, once all of it has been poured; else empty.
        self.trailers = Headers()
        self._arrived_trailers: Headers | None = None
        self._state = State.HEAD
        self._demand = Demand.TAKING
        self._inbox = Blocks()
        self._told = 0  # bytes of the inbox that the consumer has been told of
        self._outlet: IConsumer | None = None
        self._poured: Deferred[None] | None = None
        self._query: Mapping[str, list[str]] | None = None
        # What has happened outside; each of these is independent of the state.
        self._owes_continue = False  # the client waits for a 100 Continue before it sends the body
        self._whole = False  # the end of the body has arrived
        self._broken: Interrupted | None = None  # no more of the body will come, unless it was whole
        self._turned_away = False  # the server shuts down
        self._pumping = False  # `_pump` is at work: the consumer may call us from its `write`

    @property
    def _wire(self) -> StreamingChannel | None:
        """The channel, or None when the client is gone or has its answer. (Twisted then deletes the attribute.)"""
        return getattr(self, "channel", None)

    @property
    def _is_over(self) -> bool:
        """Whether nobody wants what still comes of the body."""
        return self._state is State.POURED or self._state is State.ANSWERED

    @property
    def query(self) -> Mapping[str, list[str]]:
        """The query's fields and their values, decoded; see `resumable.protocols.query.parse_query`."""
        if self._query is None:
            self._query = parse_query(self.uri.partition(b"?")[2])
        return self._query

    # What the channel tells us

    def gotLength(self, length: int | None) -> None:
        """Remember the length in bytes; unlike our base, make no file to spool the body in."""
        self.length = length

    def head_received(self, command: bytes, target: bytes, version: bytes, owes_continue: bool) -> None:
        """Take note of what the head says, before any of the body has been looked at.

        :param target: in origin-form, or ``*``.
        :param owes_continue: the client waits for ``100 Continue`` before it sends the body.
        """
        self.method, self.uri, self.clientproto = command, target, version
        self.path, _, query = target.partition(b"?")
        self.args = parse_qs(query, True) if query else {}
        self._owes_continue = owes_continue
        self.info.id = id_from(self.requestHeaders.getRawHeaders(REQUEST_ID, []))
        site = self.channel.site  # type: ignore[attr-defined]
        peer = getattr(self.client, "host", "")
        self.origin = site.proxies.origin(peer, self.requestHeaders, secure=self.isSecure())

    def begin(self) -> None:
        """Start the coroutine that answers."""
        self._state = State.WAITING
        Deferred.fromCoroutine(self._serve())

    def handleContentChunk(self, data: bytes) -> None:
        """Take in a decoded segment of the body. Never raises: that would cost the client its connection."""
        state = self._state
        if state is State.POURED or state is State.ANSWERED:
            return
        if self._inbox or self._pumping or self._outlet is None or self._demand is not Demand.TAKING:
            self._inbox.add(data)
            self._pump()
        else:
            self._pump(data)

    def trailers_received(self, trailers: Headers) -> None:
        """Keep the fields that followed a chunked body, until it has been poured."""
        self._arrived_trailers = trailers

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Take note that the whole body is in."""
        self._whole = True
        if self._state is State.HEAD:
            self.begin()
        elif self._state is not State.ANSWERED:
            self._pump()
        elif self._wire is not None:
            self._wire.loseConnection()

    def connectionLost(self, reason: Failure) -> None:
        """End a pouring after what arrived: the client is gone. The answer will be dropped."""
        super().connectionLost(reason)
        self.break_off(f"the client went away: {reason.getErrorMessage()}")

    @property
    def incomplete(self) -> bool:
        """Whether more of the body is still to come, and would be taken."""
        return not self._whole and not self._is_over

    def break_off(self, why: str) -> None:
        """Take note that no more of the body will come.

        :param why: told to whoever pours.
        """
        self._broken = self._broken or Interrupted(why)
        self._pump()

    def turn_away(self) -> None:
        """End the pouring, now or when it begins: the server shuts down. A body that is whole stays welcome."""
        self._turned_away = True
        self.break_off("the server is shutting down")

    def fell_silent(self) -> bool:
        """End a pouring whose client sends nothing. Return False when there is none to end."""
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
        wait here while it pauses us. One that wants all of a small body in time may have an attribute ``seconds``: how
        long the body may take from now on, however steadily it drips.

        Returns after the last byte, or early when ``consumer`` called ``stopProducing``. Whatever ``consumer.write``
        raises comes out here.

        :raises Interrupted: the body broke off, or took too long. What arrived of it has been written. If it is
            ``idle`` the client is still there and can be told so (408).
        """
        if self._outlet is not None or self._is_over:
            raise RuntimeError("the body has been poured already")
        consumer.registerProducer(self, True)
        poured = self._poured = Deferred()
        self._outlet, self._state = consumer, State.POURING
        self._pump()
        seconds, wire = getattr(consumer, "seconds", None), self._wire
        limit = None
        if seconds is not None and wire is not None and not poured.called:
            limit = wire.callLater(seconds, lambda: self._cut(f"the body took more than {seconds:g} seconds"))
        try:
            await poured
        finally:
            cancel_if_active(limit)
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
            while self._inbox.size and self._demand is Demand.TAKING:
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
        if self._demand is Demand.STOPPED or (self._whole and not self._inbox):
            self._end_pouring(None)
        elif self._broken is not None and not self._inbox:
            self._end_pouring(Failure(self._broken))
        elif self._demand is Demand.TAKING:
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
        if self._owes_continue:
            self.inform(HTTPStatus.CONTINUE)
        wire.release(getattr(self._outlet, "room", None))

    def _end_pouring(self, failure: Failure | None) -> None:
        """Let ``pour_into`` go on. What is left of the body stays with the client until the answer is written."""
        poured, self._poured, self._outlet = self._poured, None, None
        if failure is None and self._arrived_trailers is not None and self._demand is not Demand.STOPPED:
            self.trailers = self._arrived_trailers
        if self._state is State.POURING:
            self._state = State.POURED
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
        if self._demand is Demand.TAKING:
            self._demand = Demand.PAUSED
        if self._outlet is not None and not self._whole and self._wire is not None:
            self._wire.hold()

    def resumeProducing(self) -> None:
        """Go on where the pause began."""
        if self._demand is Demand.PAUSED:
            self._demand = Demand.TAKING
        self._pump()

    def stopProducing(self) -> None:
        """End the pouring: the consumer wants no more. It knows why, so ``pour_into`` just returns."""
        self._demand = Demand.STOPPED
        self._pump()

    # The answer

    def inform(self, status: int, headers: HeaderPairs = ()) -> bool:
        """Send an interim answer (1xx; RFC 9110, 15.2) at once. Return whether it was sent.

        Nothing is sent to HTTP/1.0, which knows none; after the answer has begun; to a client that is gone; or while
        the answer to an earlier request on the connection is still to come.

        :param headers: checked as those of an answer are.
        :raises ValueError: ``status`` is no interim one, or is 101 (which changes the protocol).
        :raises twisted.web.http_headers.InvalidHeaderName: a field's name is none.
        """
        if not 100 <= status < 200 or status == HTTPStatus.SWITCHING_PROTOCOLS:
            raise ValueError(f"{int(status)} is no status of an interim answer")
        fields = raw_headers(headers)
        wire = self._wire
        if wire is None or wire.deaf or self.startedWriting or self.clientproto != b"HTTP/1.1":
            return False
        if wire.requests[:1] != [self]:
            return False
        if status == HTTPStatus.CONTINUE:
            self._owes_continue = False
        wire.writeHeaders(b"HTTP/1.1", b"%d" % status, reason_phrase(status), fields)
        return True

    async def _serve(self) -> None:
        serve(self.info)
        try:
            self._answer(await self.channel.site.serve(self))  # type: ignore[attr-defined]
        except Exception:
            # Not the query, in which clients send tokens.
            log.failure("no answer to {method} {path}", method=self.method.decode("latin-1"), path=ascii(self.path))
            self._answer_fault()

    def _answer_fault(self) -> None:
        """Say that the service has a fault. Say it plainly where the form of what the request speaks is at fault."""
        try:
            self.responseHeaders = Headers()
            self.info.reason = "the service has a fault"
            fault = InternalError(self.info.reason)
            self._write_answer(problem(500) if self._wire is None else self._explain(fault))
        except Exception:
            log.failure("no answer of its own form to {path}", path=ascii(self.path))
            self.responseHeaders = Headers()
            self._write_answer(problem(500))

    def _explain(self, error: UploadError) -> Answer:
        """Return the answer for an error, in the form of what the request speaks."""
        site: Site = self.channel.site  # type: ignore[attr-defined]
        return site.answer_error(self, error)

    def _decide_persistence(self, wire: StreamingChannel) -> None:
        """Close after this answer if the rest of the body is in the way, or someone wants it (RFC 9112, 9.6)."""
        options = b",".join(self.responseHeaders.getRawHeaders(b"connection", [])).lower().split(b",")
        wanted = b"close" in (option.strip() for option in options)
        if wanted or not self._whole or not wire.persistent or wire.site.draining:
            self.responseHeaders.setRawHeaders(b"connection", [b"close"])
            wire.persistent = False

    def _answer(self, response: Answer) -> None:
        """Write the answer, or that the service stops, where that is why it is none that the client wants."""
        stopped = self._turned_away and self._is_over and not self._whole and response.status >= 400
        if stopped and self._wire is not None:
            # Nothing was wrong with what the client did, and elsewhere or later it can go on.
            self.info.reason = str(self._broken)
            response = self._explain(ShuttingDown(self.info.reason))
        self._write_answer(response)

    def _write_answer(self, response: Answer) -> None:
        """Write the answer, whatever of the body is still to come. Drop it if the client is gone."""
        self._state = State.ANSWERED
        self._inbox.clear()
        wire = self._wire
        if wire is None or wire.deaf:
            return
        if self.startedWriting:  # and then it failed: this cannot be made good
            wire.loseConnection()
            return
        self.responseHeaders.setRawHeaders(b"date", [datetimeToString()])
        # How far an upload is, or what came of it, is true for a moment only.
        self.responseHeaders.setRawHeaders(*NO_STORE)
        self.responseHeaders.setRawHeaders(REQUEST_ID, [self.info.id.encode("ascii")])
        for name, values in raw_headers(response.headers).getAllRawHeaders():
            self.responseHeaders.setRawHeaders(name, values)
        self._declare_length(response)
        self._decide_persistence(wire)
        self.defaultContentType = None
        reason = reason_phrase(response.status) if response.reason is None else response.reason
        self.setResponseCode(response.status, reason)
        if response.status >= 400 and not self.info.reason:
            self.info.reason = reason_of(response)
        self.write(response.body)
        if self._whole:
            self.finish()
        else:
            # finish() would take us out of the channel's queue, where the end of the body still looks for us.
            wire.site.log(self)
            wire.linger()

    def _declare_length(self, response: Answer) -> None:
        """Set Content-Length as RFC 9110, 8.6, wants it: none for a status without a body; an answer to HEAD may name
        the length that GET would give.
        """
        if response.status in NO_BODY_CODES:
            self.responseHeaders.removeHeader(b"content-length")
        elif self.method != b"HEAD" or not self.responseHeaders.hasHeader(b"content-length"):
            self.responseHeaders.setRawHeaders(b"content-length", [b"%d" % len(response.body)])
