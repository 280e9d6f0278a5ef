"""An application whose answers have no end."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions, PrivateCertificate
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.client import Agent
from twisted.web.http_headers import Headers
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from resumable.callbacks import caller
from resumable.callbacks.caller import MAX_ANSWER, Caller, CallFailure, Said
from tests.web.test_sockets import certificate

R: Any = reactor
OK = b"HTTP/1.1 200 OK\r\n"
#: Bytes that the kernel's buffers and a read may have taken.
ON_THE_WAY = 16 * 2**20
#: Bytes after which a server of the tests has enough of it.
MOST = 64 * 2**20


class Endless(Protocol):
    """Says how it begins, and then the same again for as long as it is taken."""

    factory: Server

    def connectionMade(self) -> None:
        self.left = MOST
        self.factory.connections.append(self)

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(self.factory.begin)  # type: ignore[union-attr]
        if self.factory.again:
            self.transport.registerProducer(self, False)  # type: ignore[union-attr]

    def resumeProducing(self) -> None:
        block = self.factory.again * (2**16 // len(self.factory.again) + 1)
        self.left -= len(block)
        if self.left < 0:
            self.transport.unregisterProducer()  # type: ignore[union-attr]
            self.transport.loseConnection()  # type: ignore[union-attr]
        else:
            self.factory.sent += len(block)
            self.transport.write(block)  # type: ignore[union-attr]

    def stopProducing(self) -> None:
        self.left = 0

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        self.factory.connections.remove(self)


class Server(Factory):
    protocol = Endless
    noisy = False

    def __init__(self) -> None:
        self.begin = self.again = b""
        self.sent = 0
        self.connections: list[Endless] = []
        self.port = R.listenTCP(0, self, interface="127.0.0.1")
        self.caller = Caller(f"http://127.0.0.1:{self.port.getHost().port}/", timeout=20, reactor=R)

    async def ask(self, begin: bytes, again: bytes = b"") -> Said:
        self.begin, self.again = begin, again
        return await self.caller.call("GET", Headers())

    async def left_alone(self) -> None:
        """Wait until the connection is closed; the server would go on for as long as it is taken."""
        while self.connections:
            await deferLater(R, 0.005)
        assert self.sent < ON_THE_WAY

    async def close(self) -> None:
        await self.caller.close()
        for connection in list(self.connections):
            connection.transport.abortConnection()  # type: ignore[union-attr]
        await maybeDeferred(self.port.stopListening)


@pytest_twisted.async_yield_fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    yield made
    await made.close()


@pytest.mark.parametrize(
    ("begin", "again"),
    [
        (OK, b"a: b\r\n"),
        (OK + b"a: ", b"x"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"", b"HTTP/1.1 103 Hints\r\nLink: </a>\r\n\r\n"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_head_without_end(server: Server, begin: bytes, again: bytes) -> None:
    with pytest.raises(CallFailure, match="cannot be reached") as caught:
        await server.ask(begin, again)
    assert "HeadTooLong" in caught.value.detail
    await server.left_alone()


@pytest_twisted.ensureDeferred
async def test_a_body_without_end(server: Server) -> None:
    said = await server.ask(OK + b"\r\n", b"x" * 1000)
    assert len(said.body) == MAX_ANSWER + 1
    await server.left_alone()


@implementer(IPolicyForHTTPS)
class Trusting:
    """A policy that takes any certificate: the tests are about bytes."""

    def creatorForNetloc(self, hostname: bytes, port: int) -> Any:
        return CertificateOptions(verify=False)


@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
@pytest_twisted.ensureDeferred
async def test_a_body_without_end_over_tls(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """There a connection that is merely closed goes on for as long as the other side sends."""

    def agent(*args: Any, **options: Any) -> Agent:
        return Agent(*args, contextFactory=Trusting(), **options)

    monkeypatch.setattr(caller, "Agent", agent)
    port = R.listenSSL(0, server, PrivateCertificate.loadPEM(certificate()).options(), interface="127.0.0.1")
    calling = Caller(f"https://127.0.0.1:{port.getHost().port}/", timeout=20, reactor=R)
    server.begin, server.again = OK + b"\r\n", b"x" * 1000
    try:
        said = await calling.call("GET", Headers())
        assert len(said.body) == MAX_ANSWER + 1
        await server.left_alone()
    finally:
        await calling.close()
        await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_a_small_answer_that_unpacks_to_a_large_one(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more of it is unpacked than is wanted, and what a piece of 1 KiB holds."""
    packed = gzip.compress(bytes(64 * 2**20))
    assert len(packed) < 2**17
    unpacked: list[int] = []
    received: Callable[[Any, bytes], None] = caller._Body.dataReceived

    def count(self: Any, data: bytes) -> None:
        unpacked.append(len(data))
        received(self, data)

    monkeypatch.setattr(caller._Body, "dataReceived", count)
    head = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    said = await server.ask(head + packed)
    assert len(said.body) == MAX_ANSWER + 1
    assert max(unpacked) < 2 * 2**20
