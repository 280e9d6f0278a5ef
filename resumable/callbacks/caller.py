"""Calls to the main application: one request and its whole answer, within a time limit."""

from __future__ import annotations

from typing import Any, NoReturn
from urllib.parse import urlsplit

from attrs import field, frozen
from hyperlink import EncodedURL
from OpenSSL.SSL import Error as TLSError
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectionClosed, DNSLookupError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol as WireProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from resumable.answering import PiecewisePool
from resumable.wire_url import wire_url

#: Bytes of an answer's body that are used; the rest is not read.
MAX_ANSWER = 64 * 1024
#: How many idle connections are kept, and for how many seconds.
IDLE_CONNECTIONS = 32
IDLE = 30


class CallFailure(Exception):
    """No usable answer: `reason` for the client and the log, `detail` for the log alone.

    :ivar unusable: whether there was an answer, and what it says cannot be used. The application works then.
    """

    def __init__(self, reason: str, detail: str = "", *, unusable: bool = False) -> None:
        super().__init__(reason)
        self.unusable = unusable
        self.reason = reason
        self.detail = f" ({detail})" if detail else ""


@frozen
class Said:
    """An answer of the application. `body` has `MAX_ANSWER` + 1 bytes if the whole body is longer than `MAX_ANSWER`."""

    status: int
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)

    def header(self, name: bytes) -> str | None:
        """Return the header's first value; None where the header is absent."""
        values = self.headers.getRawHeaders(name)
        return values[0].decode("utf-8", "replace") if values else None


class _ReadyURL(EncodedURL):
    """A URL as it goes on the wire. treq asks for that with each call, and with a plain one it is made anew each time."""

    def to_uri(self) -> EncodedURL:
        """Return the URL as it is (overrides hyperlink's)."""
        return self


class Caller:
    """Calls one URL. Connections are kept between calls.

    :param timeout: seconds that a call may take, the answer's body included.
    :ivar shown: the URL as it may stand in a log: its query may hold a token.
    """

    def __init__(self, url: str, *, timeout: float, reactor: Any) -> None:
        self._url = _ReadyURL.from_text(wire_url(url).to_text())
        self.shown = urlsplit(url)._replace(query="", fragment="").geturl()
        self._timeout = timeout
        self._clock = reactor
        # The answer's body may be compressed.
        self._pool = PiecewisePool(reactor)
        self._pool.maxPersistentPerHost = IDLE_CONNECTIONS
        self._pool.cachedConnectionTimeout = IDLE
        self._agent = Agent(reactor, connectTimeout=timeout, pool=self._pool)
        self._agent._endpointFactory = _OneEndpoint(self._agent._endpointFactory)

    async def call(self, method: str, headers: Headers, body: bytes | None = None) -> Said:
        """Make a request. Redirects are not followed.

        :raises CallFailure: there was no answer, or only a part of one.
        """
        try:
            calling = Deferred.fromCoroutine(self._call(method, headers, body))
            return await calling.addTimeout(self._timeout, self._clock, _timed_out)
        except (CallFailure, CancelledError):
            raise
        except Exception as error:  # what an Agent fails with has no base class of its own
            # The caller was cancelled: that is no failure of the application.
            if any(reason.check(CancelledError) for reason in getattr(error, "reasons", ())):
                raise CancelledError from None
            raise CallFailure("cannot be reached", _describe(error)) from None

    async def _call(self, method: str, headers: Headers, body: bytes | None) -> Said:
        # A client keeps cookies, so each call has its own: a cookie set for one caller must not reach the next.
        client = HTTPClient(self._agent)
        response = await client.request(
            method, self._url, headers=headers, data=body, allow_redirects=False, unbuffered=True
        )
        reader = _Body()
        response.deliverBody(reader)
        return Said(response.code, response.headers, await reader.done)

    async def close(self) -> None:
        """Close the connections that are kept; calls under way end by themselves."""
        await self._pool.closeCachedConnections()


@implementer(IAgentEndpointFactory)
class _OneEndpoint:
    """Makes the endpoint of the one URL once. An Agent makes one for each call, whether or not it will connect.

    :param factory: makes it.
    """

    def __init__(self, factory: IAgentEndpointFactory) -> None:
        self._factory = factory
        self._endpoint: IStreamClientEndpoint | None = None

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """Return the endpoint (called by Twisted)."""
        if self._endpoint is None:
            self._endpoint = self._factory.endpointForURI(uri)
        return self._endpoint


class _Body(WireProtocol):
    """Reads a body. `done` fires with all of it, or with its first `MAX_ANSWER` + 1 bytes if it is longer."""

    def __init__(self) -> None:
        self._read = bytearray()
        self.done: Deferred[bytes] = Deferred(lambda _: self._hang_up())

    def dataReceived(self, data: bytes) -> None:
        if self.done.called:
            return
        # One byte more than is used shows that there is more.
        self._read += data[: MAX_ANSWER + 1 - len(self._read)]
        if len(self._read) > MAX_ANSWER:
            self.done.callback(bytes(self._read))
            self._hang_up()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.done.called:
            return
        # Data loss is only "potential" where an answer ends with its connection, as it may in HTTP/1.0.
        if reason.check(ResponseDone, PotentialDataLoss):
            self.done.callback(bytes(self._read))
        else:
            self.done.errback(reason)

    def _hang_up(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()


def _timed_out(result: object, timeout: float) -> NoReturn:
    raise CallFailure(f"did not answer within {timeout:g} s")


def _describe(error: Exception) -> str:
    """Return what went wrong on the wire. Only messages that are known to quote neither side are used."""
    readable = (ConnectError, ConnectionClosed, DNSLookupError, TLSError)
    said = [reason.value for reason in getattr(error, "reasons", ())] or [error]
    return ", ".join(f"{type(one).__name__}{f': {one}' if isinstance(one, readable) else ''}" for one in said)
