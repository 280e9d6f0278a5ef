"""The connection under the streaming requests: when it is read, and how it is closed.

HTTP/1.1 only: Twisted's HTTP/2 costs five times the CPU for a body and loses the connection on an early answer.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from twisted.web import http
from zope.interface import implementer

from resumable.protocols.response import NO_STORE, problem, raw_headers, reason_phrase
from resumable.web.chunked import ChunkedDecoder, MalformedChunk
from resumable.web.reading import ReadSize
from resumable.web.target import BadTarget, check_host, read_target

if TYPE_CHECKING:
    from resumable.web.site import StreamingSite

log = Logger()

#: Bytes asked at a time of a socket under TLS, which hands on 16 KiB at a time whatever it is given.
TLS_READ_SIZE = 256 * 1024

#: As long as nobody has asked for the body: what comes with the head lies in memory uncounted while the application and
#: the ledger are asked, on every connection at once.
HEAD_READ_SIZE = 16 * 1024

#: Requests begun in a turn of the reactor, on all connections together, of those that were read together with a former one
#: (pipelined): 16 KiB hold some 250, each costs a fraction of a millisecond, and everybody else waits meanwhile.
REQUESTS_PER_TURN = 32
#: The same on one connection.
REQUESTS_AT_ONCE = 4

#: How long (seconds) a client that got its answer early may go on sending; many send all they have before they read. Closing
#: with unread bytes in the socket resets the connection, which can destroy the answer on its way (RFC 9112, 9.6).
LINGER_SECONDS = 30.0
#: The longest silence (seconds) meanwhile: then it has read the answer, or never will.
LINGER_SILENCE = 5.0
#: In place of both when the service stops.
LINGER_STOPPING = 2.0

#: The longest (seconds) that the head of a request may take from its first byte on, unless the idle timeout is shorter.
HEAD_SECONDS = 20.0


@implementer(IHalfCloseableProtocol)
class StreamingChannel(http.HTTPChannel):
    """An HTTP/1.1 connection whose requests decide, from their headers on, whether it is read."""

    site: StreamingSite
    #: True when nothing that still arrives is looked at: the connection is about to be closed.
    deaf = False
    _greeted = False
    _held = False
    _patience: float | None = None
    _lingering: IDelayedCall | None = None
    _linger_ends = 0.0
    _heard = 0.0  # when something came last, while lingering
    _behind = False  # what was read is not decoded yet
    _last_said = False  # the client has closed its half of the connection
    _head_ends: IDelayedCall | None = None  # there is a head that has begun and is not complete
    _closing = False
    _ahead = False  # the socket is paused because more was read than the request that is served
    _in_turn = False  # the next request waits for its turn
    _at_once = 0  # requests begun since bytes came, or we had a turn

    def connectionMade(self) -> None:
        """Join the site's channels."""
        super().connectionMade()
        self.site.channels.add(self)
        self.site.metrics.connections.set(len(self.site.channels))
        innermost: Any = self.transport
        while isinstance(innermost, ProtocolWrapper):  # TLS: only the socket below it has a read size
            innermost = innermost.transport
        self._socket = innermost
        self._reading = ReadSize() if innermost is self.transport else None
        innermost.bufferSize = HEAD_READ_SIZE

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Leave the site's channels; the requests hear of it from our base."""
        self.site.channels.discard(self)
        self.site.metrics.connections.set(len(self.site.channels))
        if self._lingering is not None and self._lingering.active():
            self._lingering.cancel()
        self._head_is_over()
        if isinstance(self._transferDecoder, ChunkedDecoder):
            self._transferDecoder.abandon()  # only a reset, or we, can end it here
        self.clearLineBuffer()
        super().connectionLost(reason)

    def readConnectionLost(self) -> None:
        """Twisted's: the client will send no more. It may still read (as one that has gone away may not: we see no difference).

        Requests that are whole are answered; a body that has not ended is cut short.
        """
        self._last_said = True
        if self._lingering is not None:
            self.loseConnection()
        elif not self._behind:
            self._end_of_input()

    def writeConnectionLost(self) -> None:
        """Twisted's: we never close our half alone."""

    def _end_of_input(self) -> None:
        """Nothing more is going to come; all that came has been looked at."""
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

    # Whether the connection is read

    def hold(self) -> None:
        """Read no more until ``release``. The idle timer stands still: this silence is ours."""
        if not self._held and not self.deaf:
            self._held = True
            self._patience = self.setTimeout(None)
            self._networkProducer.pauseProducing()

    def release(self, room: int | None = None) -> None:
        """Read on, in large pieces but no more than ``room`` bytes at once: somebody takes them."""
        size = TLS_READ_SIZE if self._reading is None else self._reading.size
        decoder = self._transferDecoder
        if type(decoder) is ChunkedDecoder:
            most = decoder.read_size
        else:
            # What follows the body would lie in memory, uncounted, until the answer. (TLS needs more than it hands on.)
            left: int = 0 if decoder is None else decoder.contentLength
            most = (left or 1) if self._reading is not None else left + HEAD_READ_SIZE
        if most < size:
            size = most
        self._socket.bufferSize = size if room is None or size < room else room
        if self._held:
            self._held = False
            self.setTimeout(self._patience)
            self._read_on()

    def _read_on(self) -> None:
        self._ahead = self._has_more
        if not (self._held or self._behind or self._ahead or self._waitingForTransport or self._last_said):
            self._networkProducer.resumeProducing()

    def resumeProducing(self) -> None:
        """The transport could send what it had. Our base would now read on, whatever a request wants."""
        super().resumeProducing()
        if self._has_more:
            self._ahead = True
        if self._held or self._behind or self._ahead:
            self._networkProducer.pauseProducing()
        if self._has_more and not self._handlingRequest:
            self._next_request()

    def _stall(self, behind: bool) -> None:
        """What was read takes more than this turn of the reactor: read no more until it is decoded."""
        self._behind = behind
        if behind:
            self._networkProducer.pauseProducing()
        else:
            self._read_on()

    def _decode_on(self) -> None:
        """Another turn for the decoder of a body."""
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

    @property
    def _has_more(self) -> bool:
        """Whether more than the request that is served has been read."""
        return bool(self.paused and self._buffer)

    def _watch_read_ahead(self) -> None:
        """Read no more while something is left of what was read."""
        if self._has_more != self._ahead:
            if self._ahead:
                self._read_on()
            else:
                self._ahead = True
                self._networkProducer.pauseProducing()

    def _finishRequestBody(self, data: bytes) -> None:
        """Twisted's: the body has ended, and this came after it."""
        self._buffer = data
        self.allContentReceived()

    def requestDone(self, request: http.Request) -> None:
        """Twisted's: an answer is complete; go on with the next request, if there is one."""
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
        if self._in_turn or self._waitingForTransport:
            return
        turns = self.site.request_turns
        if self._at_once < REQUESTS_AT_ONCE and turns.left > 0:
            self._at_once += 1
            turns.left -= 1
            self.paused = False
            if not self._busyReceiving:  # else it comes to it by itself
                super().dataReceived(b"")
                self._after_reading()
        else:
            self._in_turn = True
            turns.wait(self._take_turn)

    def _take_turn(self) -> None:
        self._in_turn = False
        self._at_once = 0
        if self._has_more and not self._handlingRequest:
            self._next_request()
            if self.site.draining and self.line_mode and not self.paused:  # only half a head was left
                self.loseConnection()

    def _after_reading(self) -> None:
        """What was read has been looked at, as far as it may be now."""
        if self.deaf:
            return
        self._watch_read_ahead()
        if self.line_mode or self._head_ends is not None:
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
        invites = not waiting and self.length != 0 and b"100-continue" in (value.lower() for value in expectations)
        request.head_received(self._command, target, self._version, invites)
        if self.length is None or self.length > waiting:
            self.hold()
            if self.site.draining:
                request.turn_away()
            request.begin()

    def allContentReceived(self) -> None:
        """The body is in: our base takes the flow over, and must find the idle timer as it left it."""
        if self.deaf:  # the head was refused
            return
        self.paused = True
        self.release()
        self._socket.bufferSize = HEAD_READ_SIZE
        super().allContentReceived()

    def dataReceived(self, data: bytes) -> None:
        """Read; or, after an early answer, look for nothing but the end."""
        if self._lingering is not None:
            self._heard = self.site.reactor.seconds()
        if not self.deaf:
            asked = self._socket.bufferSize
            if self._reading is not None and asked != HEAD_READ_SIZE:  # how long a head is tells nothing
                self._reading.learn(asked, len(data))
            self._at_once = 0
            super().dataReceived(data)
            self._after_reading()

    def timeoutConnection(self) -> None:
        """Silence. In the middle of a body that is for the request to answer; between requests close."""
        if self._head_ends is not None:
            self._refuse_slowness()
        elif not (self.requests and self.requests[-1].fell_silent()):
            self.loseConnection()

    def _watch_head(self) -> None:
        """A head that has begun has to end in time, however steadily it drips: the idle timer begins anew with each byte."""
        begun = self.line_mode and not (self.deaf or self.paused) and bool(self._buffer or self._receivedHeaderSize)
        if not begun:
            self._head_is_over()
        elif self._head_ends is None:
            self._head_ends = self.callLater(self.site.head_timeout, self._refuse_slowness)

    def _head_is_over(self) -> None:
        if self._head_ends is not None and self._head_ends.active():
            self._head_ends.cancel()
        self._head_ends = None

    def _refuse_slowness(self) -> None:
        self._head_is_over()
        self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"The head took more than {self.site.head_timeout:g} seconds.")

    # The end of a connection

    def linger(self) -> None:
        """An answer was given before the request's end: let the client read it, discarding what it sends, and close."""
        self.persistent = False
        self._held = False
        self.setTimeout(None)
        if self._last_said:
            self.loseConnection()
            return
        self._heard = self.site.reactor.seconds()
        self._linger_ends = self._heard + (LINGER_STOPPING if self.site.draining else LINGER_SECONDS)
        self._linger_on()
        self._socket.bufferSize = TLS_READ_SIZE
        self._read_on()

    def _linger_on(self) -> None:
        """Close when the time is over, or the client has been silent for long; else see to it that we look again."""
        now = self.site.reactor.seconds()
        left = min(self._linger_ends, self._heard + LINGER_SILENCE) - now
        if left > 0:
            self._lingering = self.callLater(left, self._linger_on)
        else:
            self.loseConnection()

    def loseConnection(self) -> None:
        """Close after what is written has gone out; by force if that takes too long.

        Over TLS closing waits for the other side's close_notify, behind all it has still to say: nobody listens to
        that any more.
        """
        if not self._closing:
            self._closing = self.deaf = True
            self._head_is_over()
            if self._lingering is not None and self._lingering.active():
                self._lingering.cancel()
            self.clearLineBuffer()
            self._abortingCall = self.callLater(self.abortTimeout, self.forceAbortClient)
            super().loseConnection()

    def forceAbortClient(self) -> None:
        """Close without regard for what is still to be sent."""
        if self._abortingCall is not None and self._abortingCall.active():
            self._abortingCall.cancel()
        super().forceAbortClient()

    def drain(self) -> None:
        """Close if nothing was begun here, else see to it that an answer will come soon; it closes."""
        if self._lingering is not None:
            if self._lingering.active():
                self._lingering.cancel()
                self._linger_ends = min(self._linger_ends, self.site.reactor.seconds() + LINGER_STOPPING)
                self._linger_on()
        elif self.requests:
            self.requests[-1].turn_away()
        elif not self._has_more:  # else it has its turn, and the answer closes
            self.loseConnection()

    # Requests that are none

    def lineReceived(self, line: bytes) -> None:
        """A line of the head, unless the head grows too long (RFC 6585, 5; RFC 9110, 15.5.15)."""
        if self._receivedHeaderSize + len(line) > self.totalHeadersSize:
            self._refuse_length()
        else:
            super().lineReceived(line)

    def lineLengthExceeded(self, line: bytes) -> None:
        """A single line longer than the whole head may be; our base would close without a word."""
        self._refuse_length()

    def _refuse_length(self) -> None:
        if self._receivedHeaderSize:
            self._refuse(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                f"The header fields take more than {self.totalHeadersSize} bytes.",
            )
        else:
            self._refuse(
                HTTPStatus.REQUEST_URI_TOO_LONG, f"The request line takes more than {self.totalHeadersSize} bytes."
            )

    def _maybeChooseTransferDecoder(self, header: bytes, data: bytes) -> bool:
        """Choose as our base does, but for what it lets pass: a number of more digits than Python converts, and
        ``identity``, which is no transfer coding any more, and beside Content-Length leaves in doubt where the body ends.
        """
        if header == b"Transfer-Encoding" and data.lower() != b"chunked":
            return bool(self._failChooseTransferDecoder())
        try:
            chosen = bool(super()._maybeChooseTransferDecoder(header, data))
        except ValueError:
            return bool(self._failChooseTransferDecoder())
        if isinstance(self._transferDecoder, http._ChunkedTransferDecoder):
            self._transferDecoder = ChunkedDecoder(
                self.requests[-1].handleContentChunk,
                self._finishRequestBody,
                turns=self.site.turns,
                stall=self._stall,
                go_on=self._decode_on,
            )
        return chosen

    def _failChooseTransferDecoder(self) -> bool:
        """Where a body ends must be beyond doubt (RFC 9112, 6.3): or it could smuggle a request past a proxy."""
        self._refuse(
            HTTPStatus.BAD_REQUEST,
            "Content-Length or Transfer-Encoding is malformed, not supported, or given more than once.",
        )
        return super()._failChooseTransferDecoder()

    def _respondToBadRequestAndDisconnect(self) -> None:
        """Say what is wrong where our base says only that something is."""
        if self._receivedHeaderCount > self.maxHeaders:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"There are more than {self.maxHeaders} fields.")
        elif not hasattr(self, "_command"):
            self._refuse(HTTPStatus.BAD_REQUEST, "The request line is malformed.")
        elif self.line_mode:
            self._refuse(HTTPStatus.BAD_REQUEST, "A header field is malformed.")
        else:
            self._refuse(HTTPStatus.BAD_REQUEST, "The chunked transfer coding of the body is malformed.")

    def _refuse(self, status: int, detail: str) -> None:
        """Answer what cannot be understood, and close: nobody knows where the next request would begin."""
        if self.deaf:
            return
        if self._lingering is not None:  # there has been an answer
            self.loseConnection()
            return
        self.deaf = True
        self._head_is_over()
        self.clearLineBuffer()
        log.debug("{status} to {peer}: {detail}", status=int(status), peer=str(self.getPeer()), detail=detail)
        self.site.metrics.answered("", status)
        answer = problem(status, detail, {"Connection": "close"})
        headers = raw_headers(answer.headers)
        headers.setRawHeaders(b"content-length", [b"%d" % len(answer.body)])
        headers.setRawHeaders(b"date", [http.datetimeToString()])
        headers.setRawHeaders(*NO_STORE)
        self.writeHeaders(b"HTTP/1.1", b"%d" % status, reason_phrase(status), headers)
        self.write(answer.body)
        self.linger()
        if self.requests:
            self.requests[-1].break_off(detail)
