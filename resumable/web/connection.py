"""The connection under the streaming requests: when it is read, and how it is closed.

HTTP/1.1 only: Twisted's HTTP/2 costs five times the CPU for a body and loses the connection on an early answer.

The life of a connection (`State`)::

    OPEN --linger--> LINGERING --loseConnection--> CLOSING
      |                                              ^  ^
      +--_refuse--> REFUSED --------loseConnection---+  |
      +------------------------loseConnection-----------+

In OPEN and LINGERING what arrives is looked at; in REFUSED and CLOSING it is not (`deaf`).
"""

from __future__ import annotations

from enum import Enum, auto
from http import HTTPStatus
from typing import Any, Protocol

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web import http
from zope.interface import implementer

from resumable.clock import cancel_if_active
from resumable.metrics import Metrics
from resumable.model import Invalid, UploadError
from resumable.protocols.messages import Request
from resumable.protocols.origin import Proxies
from resumable.protocols.response import Answer, problem, reason_phrase
from resumable.request_info import RequestInfo, id_from
from resumable.web.access import log_refusal
from resumable.web.chunked import ChunkedDecoder, MalformedChunk, Turns
from resumable.web.head_timer import HeadTimer
from resumable.web.lingering import Lingering
from resumable.web.low_water import LowWaters
from resumable.web.pipelining import RequestTurns
from resumable.web.reading import HEAD_READ_SIZE, TLS_READ_SIZE, ReadChannel
from resumable.web.refusals import closing
from resumable.web.target import BadTarget, check_host, read_target


class Site(Protocol):
    """What a connection, and a request on it, needs of its site."""

    #: The clock. (Twisted's attribute is named so.)
    reactor: Any
    metrics: Metrics
    #: Who is believed about where requests come from.
    proxies: Proxies
    channels: set[StreamingChannel]
    #: The longest (seconds) that the head of a request may take from its first byte on.
    head_timeout: float
    #: While True every answer closes its connection.
    draining: bool
    #: Shared by all that decode chunks.
    turns: Turns
    #: Shared by all requests that were read together with a former one.
    request_turns: Turns
    low_waters: LowWaters

    async def serve(self, request: Request) -> Answer:
        """Answer `request`; its body arrives only if, and when, it is poured."""

    def answer_error(self, request: Request, error: UploadError) -> Answer:
        """Return the answer for what went wrong with a request outside `serve`."""

    def log(self, request: http.Request) -> None:
        """Write the access line."""


class State(Enum):
    """How far a connection is; see the diagram above."""

    OPEN = auto()
    #: An answer was given before the request's end; the client has time to read it.
    LINGERING = auto()
    #: The same, after a request that could not be understood.
    REFUSED = auto()
    #: It ends as soon as what was written has gone out.
    CLOSING = auto()


@implementer(IHalfCloseableProtocol)
class StreamingChannel(ReadChannel):
    """An HTTP/1.1 connection whose requests decide, from their headers on, whether it is read."""

    site: Site
    _state = State.OPEN
    _greeted = False  # the head of a request has been read
    _lingering: Lingering | None = None
    _head_timer: HeadTimer
    _turns: RequestTurns

    def connectionMade(self) -> None:
        """Join the site's channels."""
        super().connectionMade()
        self.site.channels.add(self)
        self.site.metrics.connections.set(len(self.site.channels))
        self._find_socket(self.site.low_waters)
        self._head_timer = HeadTimer(self.callLater, self.site.head_timeout, self._refuse_slowness)
        self._turns = RequestTurns(self.site.request_turns, self._take_turn)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Leave the site's channels; the requests hear of it from our base."""
        self.site.channels.discard(self)
        if self._low_water is not None:
            self._low_water.lower()
        self.site.metrics.connections.set(len(self.site.channels))
        if self._lingering is not None:
            self._lingering.stop()
        self._head_timer.stop()
        if isinstance(self._transferDecoder, ChunkedDecoder):
            self._transferDecoder.abandon()  # only a reset, or we, can end it here
        self.clearLineBuffer()
        super().connectionLost(reason)

    def readConnectionLost(self) -> None:
        """Take note that the client will send no more (Twisted's). It may still read, or may have gone: we see no difference.

        Requests that are whole are answered; a body that has not ended is cut short.
        """
        self._last_said = True
        if self._lingering is not None:
            self.loseConnection()
        elif not self._behind:
            self._end_of_input()

    def writeConnectionLost(self) -> None:
        """Do nothing (Twisted's): we never close our half alone."""

    def _end_of_input(self) -> None:
        """Cut a body short that has not ended: nothing more will come, and all that came has been looked at."""
        if self.requests and self.requests[-1].incomplete:
            self.requests[-1].break_off("the client ended the connection in the middle of the body")
        self._close_if_done()

    def _close_if_done(self) -> None:
        # Between heads, or within one that will never be complete.
        if self._last_said and self.line_mode and not (self.paused or self._busyReceiving):
            self.loseConnection()

    @property
    def busy(self) -> bool:
        """Whether there is a request to answer, or the first is still to come."""
        return bool(self.requests) or not self._greeted

    # Whether the connection is read; see also `ReadChannel`

    def resumeProducing(self) -> None:
        """Go on: the transport could send what it had. Our base would now read on, whatever a request wants."""
        super().resumeProducing()
        if self._has_more:
            self._ahead = True
        if self._held or self._behind or self._ahead:
            self._networkProducer.pauseProducing()
        if self._has_more and not self._handlingRequest:
            self._next_request()

    def _decode_on(self) -> None:
        """Give the decoder of a body another turn."""
        decoder = self._transferDecoder
        if self.deaf or not isinstance(decoder, ChunkedDecoder) or not decoder.behind:
            return
        if not self._held:
            self.resetTimeout()  # this silence is ours
        try:
            decoder.go_on()
        except MalformedChunk:
            self._respondToBadRequestAndDisconnect()
        if self._last_said and not self._behind:
            self._end_of_input()

    # One request after the other

    # What follows a request stays in `_buffer`, where it was read to, until the answer is given (`paused` is
    # LineReceiver's, and has it look at no more); as long as there is something no more is read. Our base would read a
    # little more after each request, and move all of it for each.

    def _finishRequestBody(self, data: bytes) -> None:
        """End the body (Twisted's).

        :param data: what came after it.
        """
        decoder = self._transferDecoder
        if isinstance(decoder, ChunkedDecoder):
            self.requests[-1].trailers_received(decoder.trailers)
        self._buffer = data
        self.allContentReceived()

    def requestDone(self, request: http.Request) -> None:
        """Go on with the next request, if there is one: an answer is complete (Twisted's)."""
        if request is not self.requests[0]:
            raise TypeError("answers are given in the order of the requests")
        del self.requests[0]
        if not self.persistent:
            self.loseConnection()
            return
        self._handlingRequest = False
        if self._savedTimeOut:
            self.setTimeout(self._savedTimeOut)
        self.setLineMode()
        if self._buffer:
            self._next_request()
            return
        self.paused = False
        if self._waitingForTransport:  # who does not read its answers is not read either
            self._networkProducer.pauseProducing()
        else:
            self._read_on()
        self._close_if_done()

    def _next_request(self) -> None:
        """Begin with what was read ahead: now, or, where that would be many at once, in turn with the others."""
        if self._turns.waiting or self._waitingForTransport:
            return
        if self._turns.take():
            self.paused = False
            if not self._busyReceiving:  # else it comes to it by itself
                super().dataReceived(b"")
                self._after_reading()

    def _take_turn(self) -> None:
        if self._has_more and not self._handlingRequest:
            self._next_request()
            if self.site.draining and self.line_mode and not self.paused:  # only half a head was left
                self.loseConnection()

    def _after_reading(self) -> None:
        """See what is to be done when what was read has been looked at, as far as it may be now."""
        if self.deaf:
            return
        self._watch_read_ahead()
        if self.line_mode or self._head_timer.running:
            self._watch_head()
        if self._last_said:
            self._close_if_done()

    # The way of a request

    def allHeadersReceived(self) -> None:
        """Serve the request from here on.

        When the end of the body is in the same segment ``requestReceived`` follows within this call, and begins. It
        has to: the answer to a request must not be finished before that on a connection that stays open.
        """
        request = self.requests[-1]
        self._greeted = True
        try:
            check_host(request.requestHeaders.getRawHeaders(b"host", []), required=self._version == b"HTTP/1.1")
            target, authority = read_target(self._command, self._path)
        except BadTarget as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
            return
        if authority is not None:  # whatever Host says (RFC 9112, 3.2.2)
            request.requestHeaders.setRawHeaders(b"host", [authority])
        # Our base would send 100 Continue before anyone has said that the body is wanted.
        expectations = request.requestHeaders.getRawHeaders(b"expect", [])
        request.requestHeaders.removeHeader(b"expect")
        super().allHeadersReceived()
        waiting = len(self._buffer)  # bytes of the body that came with the head
        owes_continue = (
            not waiting and self.length != 0 and b"100-continue" in (value.lower() for value in expectations)
        )
        request.head_received(self._command, target, self._version, owes_continue)
        if self.length is None or self.length > waiting:
            self.hold()
            if self.site.draining:
                request.turn_away()
            request.begin()

    def allContentReceived(self) -> None:
        """Let our base take the flow over: the body is in. It must find the idle timer as it left it."""
        if self.deaf:  # the head was refused
            return
        self.paused = True
        self.release()
        self._socket.bufferSize = HEAD_READ_SIZE
        super().allContentReceived()

    def dataReceived(self, data: bytes) -> None:
        """Read; or, after an early answer, look for nothing but the end."""
        if self._lingering is not None:
            self._lingering.hear()
        if not self.deaf:
            asked = self._socket.bufferSize
            if self._reading is not None and asked != HEAD_READ_SIZE:  # how long a head is tells nothing
                self._reading.learn(asked, len(data))
            if self._low_water is not None:
                self._low_water.hear(len(data))
            self._turns.at_once = 0
            super().dataReceived(data)
            self._after_reading()

    def timeoutConnection(self) -> None:
        """Answer silence in the middle of a head or a body; close between requests."""
        if self._head_timer.running:
            self._refuse_slowness()
        elif not (self.requests and self.requests[-1].fell_silent()):
            self.loseConnection()

    def _watch_head(self) -> None:
        """See to it that a head that has begun ends in time."""
        begun = self.line_mode and not (self.deaf or self.paused) and bool(self._buffer or self._receivedHeaderSize)
        if begun:
            self._head_timer.start()
        else:
            self._head_timer.stop()

    def _refuse_slowness(self) -> None:
        self._head_timer.stop()
        self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"The head took more than {self.site.head_timeout:g} seconds.")

    # The end of a connection

    def _become(self, state: State) -> None:
        self._state = state
        self.deaf = state is State.REFUSED or state is State.CLOSING

    def linger(self) -> None:
        """Let the client read an answer that was given before the request's end; discard what it sends, and close."""
        if self._state is State.OPEN:
            self._become(State.LINGERING)
        self.persistent = False
        self._held = False
        self.setTimeout(None)
        if self._last_said:
            self.loseConnection()
            return
        self._lingering = Lingering(self.site.reactor, self.loseConnection, hurried=self.site.draining)
        self._socket.bufferSize = TLS_READ_SIZE
        if self._low_water is not None:
            self._low_water.lower()
        self._read_on()

    def loseConnection(self) -> None:
        """Close after what is written has gone out; by force if that takes too long.

        Over TLS closing waits for the other side's close_notify, behind all it has still to say: nobody listens to
        that any more.
        """
        if self._state is not State.CLOSING:
            self._become(State.CLOSING)
            self._head_timer.stop()
            if self._lingering is not None:
                self._lingering.stop()
            self.clearLineBuffer()
            self._abortingCall = self.callLater(self.abortTimeout, self.forceAbortClient)
            super().loseConnection()

    def forceAbortClient(self) -> None:
        """Close without regard for what is still to be sent."""
        cancel_if_active(self._abortingCall)
        super().forceAbortClient()

    def drain(self) -> None:
        """Close if nothing was begun here, else see to it that an answer will come soon; it closes."""
        if self._lingering is not None:
            self._lingering.hurry()
        elif self.requests:
            self.requests[-1].turn_away()
        elif not self._has_more:  # else it has its turn, and the answer closes
            self.loseConnection()

    # Requests that are none

    def _make_chunked_decoder(self) -> ChunkedDecoder:
        return ChunkedDecoder(
            self.requests[-1].handleContentChunk,
            self._finishRequestBody,
            turns=self.site.turns,
            stall=self._stall,
            go_on=self._decode_on,
        )

    def _refuse(self, status: int, detail: str) -> None:
        """Answer what cannot be understood, and close: nobody knows where the next request would begin."""
        if self.deaf:
            return
        if self._lingering is not None:  # there has been an answer
            self.loseConnection()
            return
        self._become(State.REFUSED)
        self._head_timer.stop()
        self.clearLineBuffer()
        info, method, path = RequestInfo(id_from([])), b"-", b"-"
        answer: Answer = problem(status, detail)
        if self.requests and not self.line_mode:
            # Its head was in order: it is known how what it speaks answers.
            answer = self.site.answer_error(self.requests[-1], Invalid(detail))
            info, method, path = self.requests[-1].info, self.requests[-1].method, self.requests[-1].path
        info.reason = detail
        log_refusal(method, path, answer.status, info, getattr(self.getPeer(), "host", ""))
        self.site.metrics.answered("", answer.status)
        self.writeHeaders(b"HTTP/1.1", b"%d" % answer.status, reason_phrase(answer.status), closing(answer, info.id))
        self.write(answer.body)
        self.linger()
        if self.requests:
            self.requests[-1].break_off(detail)
