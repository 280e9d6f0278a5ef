"""HTTP to the store: persistent connections, bodies that are neither joined nor copied, and a watchdog for silence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web._newclient import RequestNotSent
from twisted.web.client import BrowserLikePolicyForHTTPS, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IPolicyForHTTPS, IResponse
from zope.interface import implementer

from resumable.answering import BoundedPool
from resumable.stores.addressing import Base
from resumable.stores.chunks import ChunksProducer
from resumable.stores.proxies import Proxy, Tunnel
from resumable.stores.sending import SegmentsRequest, make_request

USER_AGENT = "resumable"

#: Seconds: to connect, and without a byte moving while a body is sent or received.
CONNECT = 10.0
SILENCE = 30.0
#: Seconds from the end of the request to the beginning of the answer.
ANSWER = 60.0
#: Seconds an idle connection is kept: stores close theirs after 20 or so, and a request on a closed one is lost.
IDLE = 10
#: Idle connections kept for each host; there is no bound for those in use.
IDLE_CONNECTIONS = 256
#: Bytes of an answer, where nobody asked for an object: 1000 keys of the greatest length are less.
ANSWER_LIMIT = 16 * 1024 * 1024
#: Bytes of an answer that is no success: no error document is longer.
ERROR_LIMIT = 64 * 1024
#: Bytes from which a segment is kept as it came, and of the blocks that smaller ones are collected in: each that is kept costs
#: some 50 bytes beside its own.
SEGMENT = 4 * 1024
BLOCK = 64 * 1024


@frozen
class Answer:
    """What came back; the body in the segments in which it came, small ones joined.

    :ivar sent: whether the whole request was out when the answer came.
    :ivar cut: whether the body was too long to be an error document, and was let go.
    """

    status: int
    headers: Headers
    segments: list[bytes]
    sent: bool = True
    cut: bool = False

    def header(self, name: bytes) -> str | None:
        """The header's first value."""
        values = self.headers.getRawHeaders(name)
        return values[0].decode("utf-8", "replace") if values else None


@frozen
class Broken:
    """No answer, or half of one. A value and not an exception, whose traceback would keep the body alive.

    :ivar sent: whether all of the request had been handed over, so that it may have had its effect.
    """

    code: str
    message: str = ""
    sent: bool = False


class CutOff(CancelledError):
    """A request was cancelled.

    :ivar sent: whether all of it had been handed over.
    """

    def __init__(self, sent: bool) -> None:
        super().__init__()
        self.sent = sent


class _Exchange(Protocol):
    """One request and its answer, whose body it receives.

    :ivar done: fires once, with what came; cancelled, it ends the connection.
    """

    def __init__(
        self, clock: Any, producer: ChunksProducer | None, silence: float, answer: float, limit: int, framed: bool
    ) -> None:
        self.done: Deferred[Answer | Broken] = Deferred(self._cancelled)
        self._clock = clock
        self._producer = producer
        self._silence = silence
        self._answer_within = answer
        # Who may take long to begin the answer may also take long in the middle of it.
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
        """Twisted's: a piece of the answer's body."""
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
        """More is coming than is wanted: end the connection."""
        if 200 <= response.code < 300:
            self._end(Broken("AnswerTooLong", f"more than {self._limit} bytes", self._sent))
        else:
            self._end(Answer(response.code, response.headers, [], self._sent, cut=True))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Twisted's: the end of the answer's body."""
        response = self._response
        # An answer that only the end of the connection ends may have been cut short: XML shows it, an object does not.
        whole = (ResponseDone,) if self._framed else (ResponseDone, PotentialDataLoss)
        if response is None or not isinstance(reason.value, whole):
            self._failed(reason)
        else:
            self._collect()
            self._end(Answer(response.code, response.headers, self._segments, self._sent))

    @property
    def _sent(self) -> bool:
        """Whether all of the request has been handed over: to the kernel, or under TLS to what encrypts it."""
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
        """Seconds that nothing may move for, as things stand."""
        if self._producer is not None and not self._producer.finished:
            return self._silence
        return self._answer_within if self._response is None else self._body_within

    def _watch(self) -> None:
        """End what has not moved for too long; look again when that could be so at the earliest."""
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
        """Let go of everything; of the connection too if it is `ended`, or if the answer came before the body was out."""
        self._ended = True
        self._segments = []
        self._small.clear()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        early = self._producer is not None and not self._producer.finished
        if ended:
            self._waiting.cancel()
        if self._producer is not None:
            self._producer.stopProducing()
        # A connection whose producer has stopped in the middle would wait for it for ever.
        if self._connection is not None and (ended or early):
            self._connection.transport.abortConnection()
        self._connection = self._response = None


def root_cause(error: BaseException | None) -> BaseException | None:
    """What is behind Twisted's ResponseFailed, RequestTransmissionFailed and their like."""
    reasons = getattr(error, "reasons", None)
    return root_cause(reasons[0].value) if reasons else error


@implementer(IStreamClientEndpoint)
class _Quiet:
    """An endpoint whose connections are not each worth two lines in the log."""

    def __init__(self, endpoint: IStreamClientEndpoint) -> None:
        self._endpoint = endpoint

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Twisted's."""
        protocolFactory.noisy = False  # type: ignore[attr-defined]
        return self._endpoint.connect(protocolFactory)


#: Where connections lead: scheme, host, port, and what they go through.
_Way = tuple[str, str, int, Proxy | None]


class Transport:
    """Sends requests, each on a connection of its own; connections are kept for the next.

    :param silence: seconds without a byte moving after which a request is given up.
    :param tls: whom to trust; OpenSSL's own list by default, which ``SSL_CERT_FILE`` replaces.
    """

    def __init__(self, reactor: Any, *, silence: float = SILENCE, tls: IPolicyForHTTPS | None = None) -> None:
        self._reactor = reactor
        self._silence = silence
        self._tls = tls
        self._endpoints: dict[_Way, IStreamClientEndpoint] = {}
        self._pool = BoundedPool(reactor)
        self._pool.maxPersistentPerHost = IDLE_CONNECTIONS
        self._pool.cachedConnectionTimeout = IDLE
        # It would repeat only what has no body, and here everything is tried again.
        self._pool.retryAutomatically = False

    def request(
        self,
        base: Base,
        method: str,
        target: str,
        headers: Sequence[tuple[str, str]],
        body: Sequence[bytes] = (),
        *,
        answer: float = ANSWER,
        limit: int = ANSWER_LIMIT,
        framed: bool = False,
    ) -> Deferred[Answer | Broken]:
        """Send; what came of it. Cancelled, it fails with `CutOff`.

        :param target: path and query, percent-encoded.
        :param headers: all of them, Host included, but those of the body's framing.
        :param answer: seconds until the answer has to begin.
        :param limit: bytes that the body of a successful answer may have.
        :param framed: whether the body has to tell its own end: one that only the connection's end ends may have been cut.
        """
        fields = Headers()
        for name, value in headers:
            fields.addRawHeader(name, value)
        fields.addRawHeader("User-Agent", USER_AGENT)
        proxy = base.proxy
        if proxy is not None and base.scheme == "http":
            target = f"http://{base.authority}{target}"
            if proxy.authorization is not None:
                fields.addRawHeader("Proxy-Authorization", proxy.authorization)
        length = sum(map(len, body))
        producer = ChunksProducer(body, length, self._reactor) if length else None
        request = make_request(method.encode(), target.encode(), fields, producer)
        exchange = _Exchange(self._reactor, producer, self._silence, answer, limit, framed)
        key = (base.scheme, base.host, base.port, proxy)
        exchange.start(self._pool.getConnection(key, self._endpoint(key)), request)
        return exchange.done

    def _endpoint(self, way: _Way) -> IStreamClientEndpoint:
        endpoint = self._endpoints.get(way)
        if endpoint is None:
            scheme, host, port, proxy = way
            if proxy is None:
                endpoint = HostnameEndpoint(self._reactor, host, port, timeout=CONNECT)
            else:
                endpoint = HostnameEndpoint(self._reactor, proxy.host, proxy.port, timeout=CONNECT)
                if proxy.scheme == "https":
                    endpoint = self._wrap(endpoint, proxy.host, proxy.port)
                if scheme == "https":
                    shown = f"[{host}]" if ":" in host else host
                    endpoint = Tunnel(self._reactor, _Quiet(endpoint), f"{shown}:{port}", proxy.authorization)
            if scheme == "https":
                endpoint = self._wrap(endpoint, host, port)
            endpoint = self._endpoints[way] = _Quiet(endpoint)
        return endpoint

    def _wrap(self, endpoint: IStreamClientEndpoint, host: str, port: int) -> IStreamClientEndpoint:
        """The endpoint with TLS in it, which ends at the host."""
        policy = self._tls or BrowserLikePolicyForHTTPS()
        return wrapClientTLS(policy.creatorForNetloc(host.encode(), port), endpoint)

    async def close(self) -> None:
        """Close the connections that are not in use."""
        await self._pool.closeCachedConnections()
