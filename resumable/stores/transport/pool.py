"""HTTP to the store: persistent connections, bodies that are neither joined nor copied, and a watchdog for silence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
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

USER_AGENT = "resumable"

#: Seconds: to connect, and without a byte moving while a body is sent or received.
CONNECT = 10.0
SILENCE = 30.0
#: Seconds an idle connection is kept: stores close theirs after 20 or so, and a request on a closed one is lost.
IDLE = 10
#: Idle connections kept for each host; there is no bound for those in use.
IDLE_CONNECTIONS = 256


@implementer(IStreamClientEndpoint)
class _Quiet:
    """An endpoint whose connections are not each worth two lines in the log."""

    def __init__(self, endpoint: IStreamClientEndpoint) -> None:
        self._endpoint = endpoint

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect, as the endpoint does."""
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
        """Send a request; fires with what came of it. Cancelled, it fails with `CutOff`.

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
        """Return the endpoint with TLS in it, which ends at the host."""
        policy = self._tls or BrowserLikePolicyForHTTPS()
        return wrapClientTLS(policy.creatorForNetloc(host.encode(), port), endpoint)

    async def close(self) -> None:
        """Close the connections that are not in use."""
        await self._pool.closeCachedConnections()
