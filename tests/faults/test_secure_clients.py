"""Clients over TLS that end, or are damaged on their way, at any record: the service, and TLS on both sides, in memory."""

from __future__ import annotations

import random
import ssl
from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.error import ConnectionLost
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from resumable.web.site import StreamingSite
from tests.faults import tls
from tests.protocols.harness import Answer, Memory, memory_service, parse_answers, until
from tests.web.test_tls import OWN, Line

pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")

#: Six chunks of 16 bytes and the rest, in records that meet no edge of theirs.
DATA = random.Random(13).randbytes(101)
RECORD = 7
OPTIONS: Any = PrivateCertificate.loadPEM(OWN).options()


class SecureClient:
    """A client's connection to the service."""

    def __init__(self, memory: Memory, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> None:
        self.clock = Clock()
        self.site = StreamingSite(memory.router, idle_timeout=30.0, reactor=self.clock)  # type: ignore[arg-type]
        factory = TLSMemoryBIOFactory(OPTIONS, False, self.site, self.clock)  # type: ignore[arg-type]
        factory.protocol = self.site.tls_protocol
        self.server: Any = factory.buildProtocol(None)
        self.transport = Line()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = tls.client_context()
        context.maximum_version = newest
        self.tls = context.wrap_bio(self._incoming, self._outgoing)
        self.heard = b""
        self.server.makeConnection(self.transport)

    def handshake(self) -> None:
        while True:
            try:
                return self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.bring(self.sealed())
                self.listen()

    def sealed(self, data: bytes = b"") -> bytes:
        """What the client sends, with this in a record of its own."""
        if data:
            self.tls.write(data)
        return self._outgoing.read()

    def bring(self, encrypted: bytes) -> None:
        """Give it to the service."""
        if encrypted:
            self.server.dataReceived(encrypted)

    def listen(self) -> None:
        """Let the client have what the service has said."""
        for _ in range(5):
            self.clock.advance(0)
        self._incoming.write(self.transport.value())
        self.transport.clear()

    def answers(self) -> list[Answer]:
        self.listen()
        try:
            while data := self.tls.read(65536):
                self.heard += data
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass
        self.bring(self.sealed())  # what TLS itself has to say
        return parse_answers(self.heard)

    def begin(self, name: str, first: int = 0) -> None:
        lines = [f"PUT /upload/{name} HTTP/1.1", "Host: h", f"Content-Length: {len(DATA) - first}"]
        lines.append(f"Content-Range: bytes {first}-{len(DATA) - 1}/{len(DATA)}")
        self.handshake()
        self.bring(self.sealed("\r\n".join([*lines, "", ""]).encode()))

    def lose(self) -> None:
        self.server.connectionLost(Failure(ConnectionLost()))


async def send(client: SecureClient, first: int, end: int) -> None:
    """Send bytes ``[first, end)`` in records, as the service takes them."""
    for at in range(first, end, RECORD):
        await until(lambda: _taken(client))
        client.bring(client.sealed(DATA[at : min(at + RECORD, end)]))


def _taken(client: SecureClient) -> bool:
    client.listen()
    return client.transport.producerState == "producing"


async def offset(memory: Memory, name: str) -> int:
    answer = await memory.ask("PUT", f"/upload/{name}", ["Content-Range: bytes */*"], b"")
    if answer.status == 404:
        return 0
    assert answer.status == 308
    return int((answer.header("range") or "bytes=0--1").removeprefix("bytes=0-")) + 1


async def finish(memory: Memory, name: str, first: int, **how: Any) -> None:
    """Go on from there: the object is what was sent, and no memory stays taken."""
    client = SecureClient(memory, **how)
    client.begin(name, first)
    await send(client, first, len(DATA))
    await until(client.answers)
    assert client.answers()[-1].status == 200
    client.lose()
    await check(memory, name)


async def check(memory: Memory, name: str) -> None:
    assert memory.parts.bucket.objects[name][0] == DATA
    deps = memory.parts.uploads._deps
    await until(lambda: deps.budget.held == 0)
    await deps.joins.settle()
    await deps.background.settle()
    assert list(memory.parts.bucket.objects) == [name]
    assert memory.parts.bucket.multiparts == {}


def half_a_record(client: SecureClient, record: bytes) -> bytes:
    return client.sealed(record)[:-1]


def half_a_header(client: SecureClient, record: bytes) -> bytes:
    return client.sealed(record)[:3]


def a_flipped_bit(client: SecureClient, record: bytes) -> bytes:
    return tls.flipped(client.sealed(record))


def goodbye(client: SecureClient, record: bytes) -> bytes:
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.unwrap()
    return client.sealed()


def nothing(client: SecureClient, record: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("end", [half_a_record, half_a_header, a_flipped_bit, goodbye, nothing])
@pytest_twisted.ensureDeferred
async def test_the_end_at_a_record(end: Callable[[SecureClient, bytes], bytes]) -> None:
    """All that came in whole records is acknowledged, and nothing else; a new connection goes on there."""
    for sent in (0, RECORD, 5 * RECORD, 12 * RECORD):
        async with memory_service() as memory:
            client = SecureClient(memory)
            client.begin("name")
            await send(client, 0, sent)
            await until(lambda client=client: _taken(client))
            # With the last good record, at once.
            good, sent = client.sealed(DATA[sent : sent + RECORD]), sent + RECORD
            client.bring(good + end(client, DATA[sent : sent + RECORD]))
            client.listen()
            assert client.transport.disconnecting == (end in (a_flipped_bit, goodbye))
            client.lose()
            await until(lambda memory=memory: not memory.parts.uploads.writing.streams)
            assert await offset(memory, "name") == sent
            await finish(memory, "name", sent)


@tls.needs_messages
@pytest_twisted.ensureDeferred
async def test_new_keys_in_the_middle() -> None:
    """A KeyUpdate may come at any time, and wants one in return: every byte arrives, and the answer can be read."""
    async with memory_service() as memory:
        client = SecureClient(memory)
        client.begin("name")
        for at in range(0, len(DATA), RECORD):
            tls.change_keys(client.tls, both=at % 2 == 0)
            await send(client, at, min(at + RECORD, len(DATA)))
        await until(client.answers)
        assert client.answers()[-1].status == 200
        client.lose()
        await check(memory, "name")


@tls.needs_messages
@pytest_twisted.ensureDeferred
async def test_a_renegotiation_is_refused() -> None:
    """With TLS 1.2 a client may ask for one: it does not get it, and loses nothing but the connection."""
    async with memory_service() as memory:
        client = SecureClient(memory, ssl.TLSVersion.TLSv1_2)
        client.begin("name")
        await send(client, 0, 5 * RECORD)
        await until(lambda: _taken(client))
        tls.ask_for_renegotiation(client.tls)
        client.bring(client.sealed())
        client.listen()
        with pytest.raises(ssl.SSLError, match=r"(?i)renegotiation"):
            client.tls.read(1)
        client.lose()
        await until(lambda: not memory.parts.uploads.writing.streams)
        assert await offset(memory, "name") == 5 * RECORD
        await finish(memory, "name", 5 * RECORD, newest=ssl.TLSVersion.TLSv1_2)


@pytest_twisted.ensureDeferred
async def test_the_end_in_the_handshake() -> None:
    """At any byte of what the client says first: nobody was there."""
    async with memory_service() as memory:
        whole = SecureClient(memory)
        with pytest.raises(ssl.SSLWantReadError):
            whole.tls.do_handshake()
        hello = whole.sealed()
        for length in range(0, len(hello) + 1, 7):
            client = SecureClient(memory)
            client.bring(hello[:length])
            client.lose()
            assert not client.site.channels
