"""One request to the store and its answer, with limits on the answer's bytes and on silence."""

from __future__ import annotations

from typing import Any

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web._newclient import RequestNotSent
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IResponse

from resumable.clock import cancel_if_active
from resumable.stores.transport.body_producer import ChunksProducer
from resumable.stores.transport.sending import SegmentsRequest

#: Seconds from the end of the request to the beginning of the answer.
ANSWER = 60.0
#: The most bytes of an answer that only says that something is done, and of an answer that is no success.
ANSWER_LIMIT = ERROR_LIMIT = 64 * 1024
#: The code of a `Broken` answer that has more bytes than its limit.
TOO_LONG = "AnswerTooLong"
#: The most bytes of a page of a listing: 1000 keys of the greatest length take less.
PAGE_LIMIT = 16 * 1024 * 1024
#: Segments of at least so many bytes are kept as they came. Smaller ones are collected in blocks of this size, because
#: each object costs some 50 bytes besides its content.
SEGMENT = 4 * 1024
BLOCK = 64 * 1024


@frozen
class Answer:
    """The answer to a request. The body is in the segments in which it came; small ones are joined.

    :ivar sent: whether the whole request was sent when the answer came.
    :ivar cut: whether the body was too long for an error document, and was dropped.
    :ivar framed: whether the body has told its own length. One that ended with the connection may have been cut short.
    """

    status: int
    headers: Headers
    segments: list[bytes]
    sent: bool = True
    cut: bool = False
    framed: bool = True

    def header(self, name: bytes) -> str | None:
        """Return the header's first value, or None."""
        values = self.headers.getRawHeaders(name)
        return values[0].decode("utf-8", "replace") if values else None


@frozen
class Broken:
    """No answer, or half of one. This is a value and not an exception, because a traceback would keep the body alive.

    :ivar sent: whether the whole request had been handed over, so that it may have taken effect.
    """

    code: str
    message: str = ""
    sent: bool = False


class CutOff(CancelledError):
    """A request was cancelled.

    :ivar sent: whether the whole request had been handed over.
    """

    def __init__(self, sent: bool) -> None:
        super().__init__()
        self.sent = sent


class Exchange(Protocol):
    """Makes one request, and receives its answer.

    :ivar done: fires once, with the outcome. Cancelling it ends the connection.
    """

    def __init__(
        self, clock: Any, producer: ChunksProducer | None, silence: float, answer: float, limit: int, framed: bool
    ) -> None:
        self.done: Deferred[Answer | Broken] = Deferred(self._cancelled)
        self._clock = clock
        self._producer = producer
        self._silence = silence
        self._answer_within = answer
        # A store that may take long to begin the answer may also take long in the middle of it.
        self._body_within = answer if answer > ANSWER else silence
        self._limit = limit
        self._framed = framed
        self._ended = self._unsent = False
        self._response: IResponse | None = None
        self._connection: Any = None
        self._segments: list[bytes] = []
        self._small = bytearray()
        self._size = 0
        self._moved = clock.seconds()
        self._timer = clock.callLater(min(silence, answer), self._watch)

    def start(self, connecting: Deferred[Any], request: SegmentsRequest) -> None:
        """Send the request when there is a connection."""
        self._waiting = connecting
        connecting.addCallback(self._connected, request)
        connecting.addCallbacks(self._answered, self._failed).addErrback(self._failed)

    def _connected(self, connection: Any, request: SegmentsRequest) -> Deferred[IResponse]:
        self._connection = connection
        return connection.request(request)  # type: ignore[no-any-return]

    def _answered(self, response: IResponse) -> None:
        if self._ended:
            return
        self._response = response
        self._moved = self._clock.seconds()
        if not 200 <= response.code < 300:
            self._limit = ERROR_LIMIT
        if response.length is not UNKNOWN_LENGTH and response.length > self._limit:
            self._too_long(response)
        else:
            response.deliverBody(self)
        if not self._ended:
            self._timer.reset(self._bound())

    def dataReceived(self, data: bytes) -> None:
        """Take the next bytes of the answer's body."""
        if self._ended or self._response is None:
            return
        self._size += len(data)
        self._moved = self._clock.seconds()
        if self._size > self._limit:
            self._too_long(self._response)
        elif len(data) >= SEGMENT and not self._small:
            self._segments.append(data)
        else:
            self._small += data
            if len(self._small) >= BLOCK:
                self._collect()

    def _collect(self) -> None:
        if self._small:
            self._segments.append(bytes(self._small))
            self._small.clear()

    def _too_long(self, response: IResponse) -> None:
        """End the connection, because the answer is longer than its limit."""
        if 200 <= response.code < 300:
            self._end(Broken(TOO_LONG, f"more than {self._limit} bytes", self._sent))
        else:
            self._end(Answer(response.code, response.headers, [], self._sent, cut=True))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """End the exchange: with the answer if its body is complete."""
        response = self._response
        # A body that ends with the connection may have been cut short. In XML that shows, in an object it does not.
        whole = (ResponseDone,) if self._framed else (ResponseDone, PotentialDataLoss)
        if response is None or not isinstance(reason.value, whole):
            self._failed(reason)
        else:
            self._collect()
            framed = isinstance(reason.value, ResponseDone)
            self._end(Answer(response.code, response.headers, self._segments, self._sent, framed=framed))

    @property
    def _sent(self) -> bool:
        """Whether the whole request has been handed over: to the kernel, or with TLS inside TLS to what encrypts it."""
        out = self._producer is None or self._producer.finished
        return self._connection is not None and out and not self._unsent

    def _cancelled(self, done: Deferred[Answer | Broken]) -> None:
        sent = self._sent
        self._finish(ended=True)
        done.errback(CutOff(sent))

    def _failed(self, failure: Failure) -> None:
        if failure.check(RequestNotSent):
            self._unsent = True
        cause = root_cause(failure.value)
        self._end(Broken(type(cause).__name__, str(cause), self._sent))

    def _bound(self) -> float:
        """Seconds for which nothing may move, in the present phase of the exchange."""
        if self._producer is not None and not self._producer.finished:
            return self._silence
        return self._answer_within if self._response is None else self._body_within

    def _watch(self) -> None:
        """End the exchange if nothing has moved for too long.

        Otherwise look again when that can be so at the earliest.
        """
        moved = max(self._moved, self._producer.moved) if self._producer is not None else self._moved
        left = moved + self._bound() - self._clock.seconds()
        if left > 0:
            self._timer = self._clock.callLater(left, self._watch)
        else:
            self._timer = None
            doing = "answering" if self._producer is None or self._producer.finished else "taking the body"
            self._end(Broken("Silent", f"nothing moved for {self._bound():g} s while it was {doing}", self._sent))

    def _end(self, outcome: Answer | Broken) -> None:
        if not self._ended:
            self._finish(ended=isinstance(outcome, Broken) or outcome.cut)
            self.done.callback(outcome)

    def _finish(self, *, ended: bool) -> None:
        """Let go of everything.

        :param ended: whether to end the connection. It is also ended if the answer came before the body was sent.
        """
        self._ended = True
        self._segments = []
        self._small.clear()
        cancel_if_active(self._timer)
        early = self._producer is not None and not self._producer.finished
        if ended:
            self._waiting.cancel()
        if self._producer is not None:
            self._producer.stopProducing()
        # A connection whose producer has stopped in the middle would wait for the rest for ever.
        if self._connection is not None and (ended or early):
            self._connection.transport.abortConnection()
        self._connection = self._response = None


def root_cause(error: BaseException | None) -> BaseException | None:
    """Return the first error inside Twisted's ResponseFailed, RequestTransmissionFailed and the like."""
    reasons = getattr(error, "reasons", None)
    return root_cause(reasons[0].value) if reasons else error
