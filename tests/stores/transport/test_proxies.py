"""Proxies between here and the store, as the environment names them; the proxy is a small one of the test's own."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, ensureDeferred, maybeDeferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import CertificateOptions, PrivateCertificate
from twisted.internet.task import Clock, deferLater
from twisted.logger import formatEvent
from twisted.python.failure import Failure
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from resumable.model import ObjectOptions
from resumable.stores.port import StoreError, StoreUnavailable
from resumable.stores.s3.addressing import Addressing
from resumable.stores.s3.client import S3Store
from resumable.stores.transport import proxies
from resumable.stores.transport.pool import Transport
from resumable.stores.transport.proxies import BadProxy, Proxy, proxy_for
from tests.stores.fakes import FakeStore, R, answer, stored
from tests.web.test_sockets import certificate

PLAIN = ObjectOptions()
BASIC = f"Basic {b64encode(b'user:hunter2@').decode()}"


class Pipe(Protocol):
    """One end of a connection through the proxy."""

    other: Pipe | None = None

    def dataReceived(self, data: bytes) -> None:
        assert self.other is not None
        self.other.transport.write(data)  # type: ignore[union-attr]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.loseConnection()


class Asked(Pipe):
    """The end on which the proxy is asked."""

    factory: ProxyServer

    def connectionMade(self) -> None:
        self.head = b""
        self.factory.connections.append(self)

    def dataReceived(self, data: bytes) -> None:
        if self.other is not None:
            self.other.transport.write(data)  # type: ignore[union-attr]
            return
        self.head += data
        end = self.head.find(b"\r\n\r\n")
        if end < 0:
            return
        self.factory.heads.append(self.head[:end].decode())
        if self.factory.answer is not None:
            self.transport.write(self.factory.answer)  # type: ignore[union-attr]
            return
        self.transport.pauseProducing()  # type: ignore[union-attr]
        reaching = HostnameEndpoint(R, "127.0.0.1", self.factory.target).connect(Factory.forProtocol(Pipe))
        reaching.addCallback(self._reached, self.head[end + 4 :])

    def _reached(self, other: Any, rest: bytes) -> None:
        self.other, other.other = other, self
        if self.head.startswith(b"CONNECT "):
            self.transport.write(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")  # type: ignore[union-attr]
            other.transport.write(rest)
        else:
            other.transport.write(self.head)
        self.transport.resumeProducing()  # type: ignore[union-attr]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.connections.remove(self)
        super().connectionLost(reason)


class ProxyServer(Factory):
    """A proxy all of whose ways lead to one port; or one that only says `answer`."""

    protocol = Asked
    noisy = False

    def __init__(self) -> None:
        self.heads: list[str] = []
        self.connections: list[Asked] = []
        self.answer: bytes | None = None
        self.target = 0
        self.port = R.listenTCP(0, self, interface="127.0.0.1")

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port.getHost().port}"

    async def close(self) -> None:
        for connection in list(self.connections):
            connection.transport.abortConnection()  # type: ignore[union-attr]
        await maybeDeferred(self.port.stopListening)


@implementer(IPolicyForHTTPS)
class Trusting:
    """A policy that takes any certificate, and notes whose it should be."""

    def __init__(self) -> None:
        self.hosts: list[tuple[bytes, int]] = []

    def creatorForNetloc(self, hostname: bytes, port: int) -> Any:
        self.hosts.append((hostname, port))
        return CertificateOptions(verify=False)


@pytest_twisted.async_yield_fixture
async def fake() -> AsyncIterator[FakeStore]:
    server = FakeStore()
    yield server
    await server.close()


@pytest_twisted.async_yield_fixture
async def proxy(fake: FakeStore, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ProxyServer]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    server = ProxyServer()
    server.target = fake.port.getHost().port
    yield server
    await server.close()


def through(fake: FakeStore, endpoint: str, **options: Any) -> S3Store:
    """A client of a store whose name nobody but the proxy knows."""
    store = S3Store(
        R,
        endpoint=endpoint,
        access_key="key",
        secret_key="hidden",
        **{"patience": 0.0, "transport": Transport(R, tls=Trusting()), **options},
    )
    fake.stores.append(store)
    return store


@pytest_twisted.ensureDeferred
async def test_plain_http(fake: FakeStore, proxy: ProxyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request line names the store; what is signed is what the store sees."""
    monkeypatch.setenv("HTTP_PROXY", f"http://user:hunter2%40@{proxy.address}")
    fake.answers = [stored("a"), stored("b")]
    body = [b"x" * 2**18] * 8
    store = through(fake, "http://store.invalid:9000")
    assert (await store.put_object("b", "a//k", body, PLAIN)).etag == "a"
    assert (await store.put_object("b", "k", body, PLAIN)).etag == "b"
    first = fake.requests[0]
    assert first.head.startswith("PUT http://store.invalid:9000/b/a//k HTTP/1.1\r\n")
    assert (first.header("host"), first.header("proxy-authorization")) == ("store.invalid:9000", BASIC)
    assert first.body == b"".join(body)
    # The connection is kept.
    assert len(proxy.heads) == 1


@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
@pytest.mark.parametrize("tls_to_proxy", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_tunnel(
    fake: FakeStore, proxy: ProxyServer, monkeypatch: pytest.MonkeyPatch, tls_to_proxy: bool
) -> None:
    """CONNECT, then TLS with the store: the proxy sees neither request nor credentials of the store's."""
    context = PrivateCertificate.loadPEM(certificate()).options()
    port = R.listenSSL(0, fake, context, interface="127.0.0.1")
    proxy.target = port.getHost().port
    address, policy = proxy.address, Trusting()
    asked = R.listenSSL(0, proxy, context, interface="127.0.0.1") if tls_to_proxy else None
    if asked is not None:
        address = f"127.0.0.1:{asked.getHost().port}"
    monkeypatch.setenv("HTTPS_PROXY", f"http{'s' if tls_to_proxy else ''}://user:hunter2%40@{address}")
    fake.answers = [stored("a"), stored("b"), answer(200, "data" * 2**16)]
    body = [b"x" * 2**18] * 8
    store = through(fake, "https://store.invalid", transport=Transport(R, tls=policy))
    try:
        assert (await store.put_object("b", "k", body, PLAIN)).etag == "a"
        assert (await store.put_object("b", "k", body, PLAIN)).etag == "b"
        assert b"".join(await store.get_object("b", "k", limit=2**18)) == b"data" * 2**16
        await store.close()
    finally:
        await port.stopListening()
        if asked is not None:
            await asked.stopListening()
    [head] = proxy.heads
    assert head.split("\r\n") == [
        "CONNECT store.invalid:443 HTTP/1.1",
        "Host: store.invalid:443",
        f"Proxy-Authorization: {BASIC}",
    ]
    assert fake.requests[0].head.startswith("PUT /b/k HTTP/1.1\r\n")
    assert fake.requests[0].header("proxy-authorization") is None
    assert fake.requests[0].body == b"".join(body)
    assert (b"store.invalid", 443) in policy.hosts


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", "ProxyRefused: it answers 407"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "ProxyRefused: it answers 502"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "ProxyRefused: what answers is no HTTP proxy"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 20_000, "ProxyRefused: an answer without end"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_proxy_that_will_not(
    fake: FakeStore,
    proxy: ProxyServer,
    monkeypatch: pytest.MonkeyPatch,
    logged: list[Any],
    said: bytes,
    reason: str,
) -> None:
    """It may pass; nothing was sent; and its password is in no message and no log."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:hunter2@{proxy.address}")
    proxy.answer = said
    with pytest.raises(StoreUnavailable, match=reason) as caught:
        await through(fake, "https://store.invalid").put_object("b", "k", [b"x"], PLAIN)
    assert not caught.value.said
    assert "hunter2" not in str(caught.value) + repr(Proxy("http", "h", 1, "Basic hunter2"))
    assert not [event for event in logged if "hunter2" in str(formatEvent(event))]
    while proxy.connections:
        await deferLater(R, 0.005)


@pytest_twisted.ensureDeferred
async def test_a_proxy_that_hangs_up(fake: FakeStore, proxy: ProxyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy.address)
    monkeypatch.setattr(Asked, "dataReceived", lambda self, data: self.transport.loseConnection())
    with pytest.raises(StoreUnavailable, match="ProxyRefused: it hangs up"):
        await through(fake, "https://store.invalid").put_object("b", "k", [b"x"], PLAIN)


@pytest_twisted.ensureDeferred
async def test_a_proxy_that_says_nothing(fake: FakeStore, proxy: ProxyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy.address)
    monkeypatch.setattr(proxies, "CONNECT", 0.1)
    proxy.answer = b""
    with pytest.raises(StoreUnavailable, match="the proxy says nothing"):
        await through(fake, "https://store.invalid").put_object("b", "k", [b"x"], PLAIN)
    while proxy.connections:
        await deferLater(R, 0.005)


@pytest_twisted.ensureDeferred
async def test_cancelled_while_the_proxy_is_asked(
    fake: FakeStore, proxy: ProxyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy.address)
    proxy.answer = b""
    call = ensureDeferred(through(fake, "https://store.invalid").put_object("b", "k", [b"x"], PLAIN))
    while not proxy.heads:
        await deferLater(R, 0.005)
    call.cancel()
    with pytest.raises(CancelledError):
        await call
    while proxy.connections:
        await deferLater(R, 0.005)


@pytest_twisted.ensureDeferred
async def test_without_a_proxy(fake: FakeStore, proxy: ProxyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is not for the proxy, by NO_PROXY or because it is the service's own."""
    monkeypatch.setenv("HTTP_PROXY", proxy.address)
    fake.answers = [stored(), stored()]
    await fake.store(proxies=False).put_object("b", "k", [b"x"], PLAIN)
    monkeypatch.setenv("NO_PROXY", "other.example,127.0.0.1")
    await fake.store().put_object("b", "k", [b"x"], PLAIN)
    assert proxy.heads == []
    assert [request.head.split("\r\n")[0] for request in fake.requests] == ["PUT /b/k HTTP/1.1"] * 2


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ("http://proxy.example:3128", Proxy("http", "proxy.example", 3128)),
        ("proxy.example:3128", Proxy("http", "proxy.example", 3128)),
        ("//proxy.example", Proxy("http", "proxy.example", 80)),
        ("https://proxy.example", Proxy("https", "proxy.example", 443)),
        ("http://user:hunter2%40@proxy.example/", Proxy("http", "proxy.example", 80, BASIC)),
        ("http://[::1]:3128", Proxy("http", "::1", 3128)),
    ],
)
@pytest.mark.usefixtures("proxy")
def test_how_a_proxy_may_be_named(monkeypatch: pytest.MonkeyPatch, named: str, expected: Proxy) -> None:
    monkeypatch.setenv("https_proxy", named)
    monkeypatch.setenv("NO_PROXY", "near.example,.nearer.example")
    assert proxy_for("https://b.s3.eu-west-1.amazonaws.com") == expected
    assert proxy_for("http://b.s3.eu-west-1.amazonaws.com") is None
    assert proxy_for("https://store.near.example:9000") is None
    assert proxy_for("https://a.nearer.example") is None


@pytest.mark.parametrize("named", ["http://", "http://user:hunter2@:x", "http://a:hunter2", "socks5://hunter2:1080x"])
@pytest_twisted.ensureDeferred
async def test_what_is_no_proxy(
    fake: FakeStore, proxy: ProxyServer, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    """It is the operator's to mend, told at once and without the password."""
    monkeypatch.setenv("HTTP_PROXY", named)
    with pytest.raises(BadProxy):
        proxy_for("http://store.invalid")
    with pytest.raises(StoreError, match="BadProxy: HTTP_PROXY or HTTPS_PROXY") as caught:
        await through(fake, "http://store.invalid").put_object("b", "k", [b"x"], PLAIN)
    assert "hunter2" not in str(caught.value)
    assert not isinstance(caught.value, StoreUnavailable)


@pytest_twisted.ensureDeferred
async def test_the_environment_is_read_once(proxy: ProxyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://one.example")
    addressing = Addressing(Clock(), "us-east-1", "http://store.invalid")
    first = await addressing.base("b")
    monkeypatch.setenv("HTTP_PROXY", "http://two.example")
    assert await addressing.base("b") is first
    assert first.proxy == Proxy("http", "one.example", 80)
    assert (await addressing.base("c")).proxy == Proxy("http", "two.example", 80)
