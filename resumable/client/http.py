"""One request and its answer, with limits on silence; an answer that comes early ends the body."""

from __future__ import annotations

from typing import Any, cast

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import (
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    DNSLookupError,
    TCPTimedOutError,
    TimeoutError,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse

from resumable.answering import BoundedConnection, BoundedPool
from resumable.answering import _Factory as BoundedFactory
from resumable.client.body import Body
from resumable.client.errors import Failed, Lost
from resumable.clock import cancel_if_active

#: Seconds to connect, seconds without a byte moving, and seconds from the end of the request to its answer: a server
#: tries a part again for minutes while its client waits, and makes the object before it answers.
CONNECT = 30.0
SILENCE = 60.0
ANSWER = 600.0
#: The most bytes of an answer's body.
MOST = 1024 * 1024


@frozen
class Answer:
    """An answer. The names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class _Connection(BoundedConnection):
    """A connection on which an answer may come before the body is sent."""

    def dataReceived(self, data: bytes) -> None:
        """Hand on bytes of an answer (called by Twisted)."""
        super().dataReceived(data)
        # Twisted reads no more than the head until the request is sent, and hands over the answer when it is whole:
        # without this, an early answer whose body comes in a segment of its own would be seen after the last byte.
        if self._state == "TRANSMITTING" and self._parser is not None and self._parser.bodyDecoder is not None:
            cast(Any, self.transport).resumeProducing()

    def _giveUp(self, reason: Failure) -> None:
        """End the connection (called by Twisted).

        In the middle of a body it is aborted. Twisted's orderly end would wait for the body's.
        """
        if self._state.startswith("TRANSMITTING"):
            cast(Any, self.transport).abortConnection()
            self._disconnectParser(reason)  # type: ignore[no-untyped-call]
        else:
            super()._giveUp(reason)  # type: ignore[no-untyped-call]


class _Factory(BoundedFactory):
    protocol = _Connection


class _Pool(BoundedPool):
    _factory = _Factory


class _Reader(Protocol):
    """Collects an answer's body."""

    def __init__(self) -> None:
        self.done: Deferred[bytes] = Deferred(lambda _: self._abort())
        self._data = bytearray()

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > MOST:
            self._abort()

    def _abort(self) -> None:
        if self.transport is not None:
            cast(Any, self.transport).loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.done.called:
            return
        if len(self._data) > MOST:
            self.done.errback(Lost(f"the answer has more than {MOST} bytes"))
        elif reason.check(ResponseDone, PotentialDataLoss):
            self.done.callback(bytes(self._data))
        else:
            self.done.errback(reason)


class Http:
    """Makes requests, and keeps connections for the next ones."""

    def __init__(
        self,
        reactor: Any,
        connections: int = 1,
        *,
        agent: Any = None,
        silence: float = SILENCE,
        answer: float = ANSWER,
    ) -> None:
        """
        :param connections: how many are kept.
        :param agent: makes the requests; by default `twisted.web.client.Agent`, which checks certificates as browsers do.
        """
        self._clock = reactor
        self._pool = _Pool(reactor)
        self._pool.maxPersistentPerHost = connections
        self._pool.cachedConnectionTimeout = 10
        self._pool.retryAutomatically = False
        self._agent = agent or Agent(reactor, connectTimeout=CONNECT, pool=self._pool)
        self._silence = silence
        self._answer_within = answer

    async def close(self) -> None:
        """Close the connections that are kept."""
        await self._pool.closeCachedConnections()

    async def request(self, method: bytes, url: bytes, headers: Headers, body: Body | None = None) -> Answer:
        """Make a request. No redirection is followed: 308 has a meaning of its own.

        :raises Lost: there is no whole answer.
        :raises Failed: the body cannot be read, or the server's certificate is not accepted.
        """
        inner: Deferred[IResponse] = self._agent.request(method, url, headers, body)
        watch = _Watch(self._clock, body, self._silence, self._answer_within)
        reader = _Reader()
        try:
            response = await watch.over(_apart(inner))
            response.deliverBody(reader)
            data = await watch.over(reader.done)
        except CancelledError:
            if not watch.late:
                raise
            raise Lost(watch.late) from None
        except Exception as error:
            cause = _cause(error)
            if body is not None and body.failure is not None and isinstance(body.failure.value, Failed):
                raise body.failure.value from None
            if type(cause).__module__.startswith("service_identity") or "certificate verify failed" in str(cause):
                raise Failed("the server's certificate is not one to be trusted, or not of this host") from None
            if "wrong version number" in str(cause):
                # What OpenSSL says when it reads something else than TLS.
                raise Failed("the server does not speak TLS at this port: is its URL http:// ?") from None
            if isinstance(cause, CancelledError):
                raise cause from None
            raise Lost(_reason(cause)) from None
        finally:
            watch.stop()
            if body is not None:
                body.stopProducing()
        fields = {
            name.decode("latin-1").lower(): values[0].decode("utf-8", "replace")
            for name, values in response.headers.getAllRawHeaders()
        }
        return Answer(response.code, fields, data)


def _apart(inner: Deferred[IResponse]) -> Deferred[IResponse]:
    """Return a Deferred that fails with CancelledError when it is cancelled, whatever Twisted's own then fails with."""
    outer: Deferred[IResponse] = Deferred(lambda _: cancel())
    dropped = False

    def cancel() -> None:
        nonlocal dropped
        dropped = True
        inner.cancel()

    def ended(outcome: Any) -> None:
        if not dropped:
            outer.callback(outcome)

    inner.addBoth(ended)
    return outer


class _Watch:
    """Ends what takes too long.

    :ivar late: what has taken too long; empty if nothing has.
    """

    def __init__(self, clock: Any, body: Body | None, silence: float, answer: float) -> None:
        self.late = ""
        self._clock = clock
        self._body = body
        self._silence = silence
        self._answer = answer
        self._since = clock.seconds()
        self._waiting: Deferred[Any] | None = None
        self._call: Any = clock.callLater(min(silence, answer), self._look)

    def over(self, waiting: Deferred[Any]) -> Deferred[Any]:
        """Return what is waited for, to be cancelled when it takes too long."""
        self._waiting = waiting
        return waiting

    def _look(self) -> None:
        sending = self._body is not None and not self._body.finished
        moved = self._since if self._body is None else max(self._since, self._body.moved)
        bound = self._silence if sending else self._answer
        left = moved + bound - self._clock.seconds()
        if left > 0:
            self._call = self._clock.callLater(min(left, self._silence, self._answer), self._look)
        else:
            self.late = f"no byte of the body was taken for {bound:g} s" if sending else f"no answer for {bound:g} s"
            if self._waiting is not None:
                self._waiting.cancel()

    def stop(self) -> None:
        cancel_if_active(self._call)


def _reason(cause: BaseException) -> str:
    """Return why there was no answer, for a person."""
    if isinstance(cause, ConnectionRefusedError):
        return "nobody listens there (connection refused)"
    if isinstance(cause, DNSLookupError):
        return "the host's name is not known (DNS)"
    if isinstance(cause, TCPTimedOutError | TimeoutError):
        return "the host cannot be reached (timed out)"
    if isinstance(cause, ConnectionDone | ConnectionLost):
        return "the connection was lost"
    return str(cause).rstrip(".") or type(cause).__name__


def _cause(error: BaseException) -> BaseException:
    """Return the first error inside Twisted's ResponseFailed, RequestTransmissionFailed and the like."""
    reasons = getattr(error, "reasons", None)
    return _cause(reasons[0].value) if reasons else error
