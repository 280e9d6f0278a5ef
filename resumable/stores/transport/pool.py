"""HTTP to the store: persistent connections, and bodies that are neither joined nor copied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.web.client import BrowserLikePolicyForHTTPS
from twisted.web.http_headers import Headers
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from resumable.answering import BoundedPool
from resumable.stores.transport.base import Base
from resumable.stores.transport.body_producer import ChunksProducer
from resumable.stores.transport.exchange import ANSWER, ANSWER_LIMIT, Answer, Broken, Exchange
from resumable.stores.transport.proxies import Proxy, Tunnel
from resumable.stores.transport.sending import make_request
from resumable.stores.transport.tls import TlsEndpoint

USER_AGENT = "resumable"

#: Seconds to connect, and seconds without a byte moving while a body is sent or received.
CONNECT = 10.0
SILENCE = 30.0
#: Seconds for which an idle connection is kept. Stores close theirs after about 20, and a request on a closed one is
#: lost.
IDLE = 10
#: Idle connections that are kept for each host. Those in use are not limited.
IDLE_CONNECTIONS = 256


@implementer(IStreamClientEndpoint)
class _Quiet:
    """An endpoint whose connections are not logged (Twisted would write two lines for each)."""

    def __init__(self, endpoint: IStreamClientEndpoint) -> None:
        self._endpoint = endpoint

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect, as the endpoint does."""
        protocolFactory.noisy = False  # type: ignore[attr-defined]
        return self._endpoint.connect(protocolFactory)


#: Where connections lead: scheme, host, port, and the proxy in between.
_Way = tuple[str, str, int, Proxy | None]


class Transport:
    """Sends requests, at most one at a time on a connection. Connections are kept for later requests.

    :param silence: seconds without a byte moving after which a request is given up.
    :param tls: which certificates to trust. By default OpenSSL's own list, which ``SSL_CERT_FILE`` replaces.
    """

    def __init__(self, reactor: Any, *, silence: float = SILENCE, tls: IPolicyForHTTPS | None = None) -> None:
        self._reactor = reactor
        self._silence = silence
        self._tls = tls
        self._endpoints: dict[_Way, IStreamClientEndpoint] = {}
        self._pool = BoundedPool(reactor)
        self._pool.maxPersistentPerHost = IDLE_CONNECTIONS
        self._pool.cachedConnectionTimeout = IDLE
        # Twisted would repeat only requests without a body. Here the caller repeats them all.
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
        """Send a request. The Deferred fires with the outcome; if cancelled, it fails with `CutOff`.

        :param target: path and query, percent-encoded.
        :param headers: all of them, including Host, except those of the body's framing.
        :param answer: seconds within which the answer has to begin.
        :param limit: the most bytes of a successful answer's body.
        :param framed: whether the answer's body has to tell its own length, since one that ends with the connection may
            have been cut short.
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
        exchange = Exchange(self._reactor, producer, self._silence, answer, limit, framed)
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
        """Return the endpoint with TLS inside, up to the host."""
        policy = self._tls or BrowserLikePolicyForHTTPS()
        return TlsEndpoint(endpoint, policy.creatorForNetloc(host.encode(), port))

    async def close(self) -> None:
        """Close the connections that are not in use."""
        await self._pool.closeCachedConnections()
