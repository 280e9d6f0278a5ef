"""Proxies on the way to the store, as botocore takes them from the environment: HTTP_PROXY, HTTPS_PROXY, NO_PROXY."""

from __future__ import annotations

from base64 import b64encode
from typing import Any
from urllib.parse import unquote, urlsplit

from attrs import field, frozen
from botocore.utils import get_environ_proxies
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, TimeoutError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from resumable.clock import cancel_if_active

#: Seconds within which a proxy has to make the connection that it was asked for.
CONNECT = 15.0
#: The most bytes of the head of a proxy's answer.
MAX_HEAD = 16 * 1024


class BadProxy(ValueError):
    """What the environment names as a proxy cannot be used as one."""


class ProxyRefused(Exception):
    """The proxy will not make a connection to the store."""


@frozen
class Proxy:
    """A proxy; `authorization` is the value of the Proxy-Authorization header."""

    scheme: str
    host: str
    port: int
    authorization: str | None = field(default=None, repr=False)


def proxy_for(url: str) -> Proxy | None:
    """Return the proxy that the environment names at present for requests to the URL, or None.

    :raises BadProxy: what it names is not a URL, or no proxy for HTTP.
    """
    named = get_environ_proxies(url).get(urlsplit(url).scheme)
    if not named:
        return None
    # botocore completes it in the same way.
    if not named.startswith(("http:", "https:")):
        named = f"http:{named}" if named.startswith("//") else f"http://{named}"
    try:
        parts = urlsplit(named)
        port = parts.port
        # A URL with another scheme, prefixed with http://, would seem to have that scheme as its host.
        host = None if "://" in named.partition("://")[2] else parts.hostname
    except ValueError:
        host = port = None
    if not host:
        # The message does not quote it: its password must not get into a log.
        raise BadProxy("HTTP_PROXY or HTTPS_PROXY in the environment is not the URL of a proxy for HTTP")
    authorization = None
    if parts.username and parts.password:
        pair = f"{unquote(parts.username)}:{unquote(parts.password)}".encode()
        authorization = f"Basic {b64encode(pair).decode()}"
    return Proxy(parts.scheme, host, port or (443 if parts.scheme == "https" else 80), authorization)


@implementer(IStreamClientEndpoint)
class Tunnel:
    """An endpoint that is reached by a CONNECT request to a proxy.

    :param proxy: the endpoint of the proxy. It has its own timeout.
    :param authority: host and port in the form for a request line.
    """

    def __init__(self, clock: Any, proxy: IStreamClientEndpoint, authority: str, authorization: str | None) -> None:
        lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
        if authorization is not None:
            lines.append(f"Proxy-Authorization: {authorization}")
        self._question = "\r\n".join([*lines, "", ""]).encode()
        self._clock = clock
        self._proxy = proxy

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect to the far end, through the proxy."""
        return _connect(self._clock, self._proxy, self._question, protocolFactory)


def _connect(
    clock: Any, proxy: IStreamClientEndpoint, question: bytes, factory: IProtocolFactory
) -> Deferred[IProtocol]:
    asking = Factory.forProtocol(lambda: _Asking(clock, question, factory))
    asking.noisy = False
    connected: Deferred[Any] = proxy.connect(asking)
    return connected.addCallback(lambda protocol: protocol.open)


class _Asking(Protocol):
    """Asks the proxy for the connection, and then passes everything on to the protocol inside.

    :ivar open: fires with the protocol that uses the tunnel.
    """

    def __init__(self, clock: Any, question: bytes, factory: IProtocolFactory) -> None:
        self.open: Deferred[IProtocol] = Deferred(lambda _: self._abort())
        self._question = question
        self._factory = factory
        self._head = bytearray()
        self._inner: IProtocol | None = None
        self._timer = clock.callLater(CONNECT, self._refuse, TimeoutError("the proxy says nothing"))

    def connectionMade(self) -> None:
        """Send the CONNECT request to the proxy."""
        assert self.transport is not None
        self.transport.write(self._question)

    def dataReceived(self, data: bytes) -> None:
        """Take the proxy's answer, then pass on what comes through the tunnel."""
        if self._inner is not None:
            self._inner.dataReceived(data)
            return
        if self.open.called:
            return
        self._head += data
        end = self._head.find(b"\r\n\r\n")
        if end >= 0:
            self._judge(bytes(self._head[:end]), bytes(self._head[end + 4 :]))
        elif len(self._head) > MAX_HEAD:
            self._refuse(ProxyRefused("an answer without end"))

    def _judge(self, head: bytes, rest: bytes) -> None:
        version, _, status = head.partition(b"\r\n")[0].partition(b" ")
        code = status[:3].decode("latin-1")
        if not version.startswith(b"HTTP/1.") or not code.isdigit():
            self._refuse(ProxyRefused("what answers is no HTTP proxy"))
        elif not code.startswith("2"):
            self._refuse(ProxyRefused(f"it answers {code}"))
        else:
            self._timer.cancel()
            inner: Any = self._factory.buildProtocol(None)  # type: ignore[arg-type]
            self._inner = inner
            inner.makeConnection(self.transport)
            self.open.callback(inner)
            if rest:
                inner.dataReceived(rest)

    def _refuse(self, error: Exception) -> None:
        self._abort()
        if not self.open.called:
            self.open.errback(Failure(error))

    def _abort(self) -> None:
        cancel_if_active(self._timer)
        transport: Any = self.transport
        transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell those who use the tunnel, or wait for it, that it has ended."""
        cancel_if_active(self._timer)
        if self._inner is not None:
            self._inner.connectionLost(reason)
        elif not self.open.called:
            ended = ProxyRefused("it hangs up") if reason.check(ConnectionDone) else reason.value
            self.open.errback(Failure(ended))
