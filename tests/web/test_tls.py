"""TLS from clients: records of all shapes, pauses, edges, and connections that end in all ways."""

from __future__ import annotations

import random
import shutil
import socket
import ssl
import struct
import subprocess
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.error import ConnectionLost
from twisted.internet.ssl import PrivateCertificate, TLSVersion
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import deferToThread
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from resumable.listening import listen
from resumable.model import Interrupted
from resumable.protocols.response import Response
from resumable.stores.transport import openssl
from resumable.stores.transport.openssl import Segment
from resumable.web.reading import HEAD_READ_SIZE
from resumable.web.request import StreamingRequest
from resumable.web.site import StreamingSite
from resumable.web.tls import PIECE, ClientTls
from tests.web.test_sockets import certificate
from tests.web.wire import Basin, Leaf, Service, Transport, head, statuses

pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")

OWN = certificate()
RECORD = openssl.RECORD


class Line(Transport):
    """A socket in memory, with what TLS asks of one."""

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    def abortConnection(self) -> None:
        self.loseConnection()


class SecureWire:
    """A connection to a site, and a client of it, both in memory."""

    def __init__(self, handler: Any, newest: TLSVersion = TLSVersion.TLSv1_3) -> None:
        self.clock = Clock()
        self.site = StreamingSite(Leaf(handler), idle_timeout=30.0, reactor=self.clock)  # type: ignore[arg-type]
        options = PrivateCertificate.loadPEM(OWN).options()
        factory = TLSMemoryBIOFactory(options, False, self.site, self.clock)  # type: ignore[arg-type]
        factory.protocol = self.site.tls_protocol
        self.server: Any = factory.buildProtocol(None)
        self.transport = Line()
        context = SSL.Context(SSL.TLS_METHOD)
        if newest is TLSVersion.TLSv1_2:
            context.set_max_proto_version(SSL.TLS1_2_VERSION)
        self.client = SSL.Connection(context, None)
        self.client.set_connect_state()
        self.heard = b""
        self.server.makeConnection(self.transport)
        while True:
            try:
                self.client.do_handshake()
                break
            except SSL.WantReadError:
                self.bring(self.encrypted())
        self.bring(self.encrypted())

    def encrypted(self) -> bytes:
        """What the client has to send."""
        sent = b""
        while True:
            try:
                sent += self.client.bio_read(2**20)
            except SSL.WantReadError:
                return sent

    def bring(self, encrypted: bytes) -> None:
        """Give the server encrypted bytes, and the client what the server says to them."""
        if encrypted:
            self.server.dataReceived(encrypted)
        self.hear()

    def hear(self) -> bytes:
        """Let the time pass that takes no time, and return all that the server has said."""
        for _ in range(200):
            self.clock.advance(0)
        if said := self.transport.value():
            self.transport.clear()
            self.client.bio_write(said)
            try:
                while True:
                    self.heard += self.client.recv(2**16)
            except (SSL.WantReadError, SSL.ZeroReturnError):
                pass
        return self.heard

    def record(self, *contents: bytes) -> bytes:
        """Each of the contents as records of its own."""
        for content in contents:
            while content:
                content = content[self.client.send(content[:RECORD]) :]
        return self.encrypted()

    def lose(self) -> None:
        self.server.connectionLost(Failure(ConnectionLost()))


@pytest.fixture(params=[True, False], ids=["direct", "public"])
def names(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With pyOpenSSL's private names, and without: slower, and right."""
    if not request.param:
        monkeypatch.setattr(openssl, "_ssl_read", None)


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize("newest", [TLSVersion.TLSv1_2, TLSVersion.TLSv1_3])
def test_every_byte_in_its_place(newest: TLSVersion) -> None:
    """Whatever the sizes of the records, and wherever they are cut on their way."""
    chance = random.Random(5)
    body = [chance.randbytes(chance.choice((1, 7, 300, 5000, RECORD))) for _ in range(300)]
    size = sum(map(len, body))
    service = Service()
    wire = SecureWire(service, newest)
    sent = wire.record(head("PUT", "/a", f"Content-Length: {size}"), *body)
    while sent:
        piece = chance.choice((1, 100, 5000, 100_000))
        wire.bring(sent[:piece])
        sent = sent[piece:]
    assert service.basin.data == b"".join(body)
    assert statuses(wire.hear()) == [200]


def test_records_are_collected() -> None:
    """What comes at once is handed on at once, as one object for many records."""
    service = Service()
    wire = SecureWire(service)
    wire.bring(wire.record(head("PUT", "/a", "Content-Length: 10000000")))
    wire.bring(wire.record(bytes(10 * RECORD)))
    assert [len(chunk) for chunk in service.basin.chunks] == [10 * RECORD]


class Pausing(Basin):
    """Pauses at each write."""

    def write(self, data: bytes) -> None:
        super().write(data)
        self.producer.pauseProducing()


@pytest.mark.usefixtures("names")
def test_a_pause_keeps_the_rest_with_openssl() -> None:
    """Nothing is decrypted for whoever has paused. All of it comes later, though the socket has nothing more to say."""
    basin = Pausing()
    wire = SecureWire(Service(basin))
    body = random.Random(1).randbytes(2_000_000)
    wire.bring(wire.record(head("PUT", "/a", f"Content-Length: {len(body)}")))
    wire.bring(wire.record(body))
    most = wire.server.bufferSize
    assert 0 < len(basin.data) <= most < len(body)
    wire.clock.advance(3600)
    wire.hear()
    assert len(basin.data) <= most
    writes = 1
    while len(basin.data) < len(body):
        basin.producer.resumeProducing()
        wire.hear()
        writes += 1
        assert len(basin.chunks) == writes, "one segment for each time that it goes on"
    assert basin.data == body
    assert statuses(wire.hear()) == [200]


class Edged(Basin):
    """A consumer with an edge every 100,000 bytes."""

    EDGE = 100_000

    @property
    def room(self) -> int:
        return self.EDGE - len(self.data) % self.EDGE


def test_no_segment_crosses_an_edge() -> None:
    """A consumer that would have to cut segments gets them as it wants them, as over a plain socket."""
    basin = Edged()
    wire = SecureWire(Service(basin))
    wire.bring(wire.record(head("PUT", "/a", "Content-Length: 1000000")))
    wire.bring(wire.record(bytes(1_000_000)))
    wire.hear()
    assert len(basin.data) == 1_000_000
    end = 0
    for chunk in basin.chunks:
        assert end // Edged.EDGE == (end + len(chunk) - 1) // Edged.EDGE
        end += len(chunk)


def test_a_body_that_nobody_has_asked_for_stays_outside() -> None:
    """No more than what a plain socket would have handed on with the head."""
    service = Service(before=True)
    wire = SecureWire(service)
    wire.bring(wire.record(head("PUT", "/a", "Content-Length: 1000000") + bytes(5 * RECORD)))
    assert service.requests[0]._inbox.size < HEAD_READ_SIZE
    assert service.before is not None
    service.before.callback(None)
    wire.bring(wire.record(bytes(1_000_000 - 5 * RECORD)))
    assert statuses(wire.hear()) == [200]


def test_what_comes_in_a_pause_is_not_forgotten() -> None:
    """A request that was read all the same is served when the server reads on, though nothing more comes."""
    service = Service()
    wire = SecureWire(service)
    wire.server.pauseProducing()
    wire.bring(wire.record(head("PUT", "/a", "Content-Length: 5"), b"bytes"))
    assert not service.requests
    wire.server.resumeProducing()
    wire.hear()
    assert statuses(wire.hear()) == [200]


def test_requests_in_one_record() -> None:
    """Each has its answer, in order."""
    wire = SecureWire(Service())
    wire.bring(wire.record(b"".join(head("PUT", f"/{n}", f"Content-Length: {n}") + bytes(n) for n in range(1, 20))))
    assert statuses(wire.hear()) == [200] * 19


def test_a_close_notify_in_the_middle_of_a_body() -> None:
    """It is an interruption. What came before it has been written."""
    service = Service()
    wire = SecureWire(service)
    wire.bring(wire.record(head("PUT", "/a", "Content-Length: 1000000"), bytes(3 * RECORD)))
    wire.client.shutdown()
    wire.bring(wire.encrypted())
    wire.hear()
    assert wire.transport.disconnecting
    wire.lose()
    assert isinstance(service.outcome, Interrupted)
    assert len(service.basin.data) == 3 * RECORD


def test_a_client_that_vanishes_in_the_middle_of_a_record() -> None:
    """What came in whole records is written; of half a record there is nothing."""
    service = Service()
    wire = SecureWire(service)
    wire.bring(wire.record(head("PUT", "/a", "Content-Length: 1000000")))
    wire.bring(wire.record(bytes(5 * RECORD))[:-1])
    wire.lose()
    assert isinstance(service.outcome, Interrupted)
    assert len(service.basin.data) == 4 * RECORD


def test_a_client_that_vanishes_while_it_is_not_read() -> None:
    """What was read of it counts, if only it is taken in the end."""
    basin = Pausing()
    service = Service(basin)
    wire = SecureWire(service)
    wire.bring(wire.record(head("PUT", "/a", "Content-Length: 1000000")))
    wire.bring(wire.record(bytes(500_000)))
    assert len(basin.data) < 500_000
    wire.lose()
    while service.outcome is None:
        basin.producer.resumeProducing()
    assert isinstance(service.outcome, Interrupted)
    assert len(basin.data) == 500_000
    assert not [call for call in wire.clock.getDelayedCalls() if call.getTime() <= wire.clock.seconds()]


def test_a_record_that_was_altered() -> None:
    """The connection ends with an alert, after what came before it."""
    service = Service()
    wire = SecureWire(service)
    wire.bring(wire.record(head("PUT", "/a", "Content-Length: 1000000"), bytes(2 * RECORD)))
    sent = bytearray(wire.record(bytes(2 * RECORD)))
    sent[-1] ^= 1
    wire.server.dataReceived(bytes(sent))
    wire.clock.advance(0)
    assert wire.transport.disconnecting
    wire.lose()
    assert isinstance(service.outcome, Interrupted)
    assert len(service.basin.data) == 3 * RECORD


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + bytes(70_000), b"\x00"])
def test_what_is_not_tls(sent: bytes) -> None:
    """The connection ends, and nobody else notices."""
    clock = Clock()
    site = StreamingSite(Leaf(Service()), idle_timeout=30.0, reactor=clock)  # type: ignore[arg-type]
    factory = TLSMemoryBIOFactory(PrivateCertificate.loadPEM(OWN).options(), False, site, clock)  # type: ignore[arg-type]
    factory.protocol = site.tls_protocol
    server: Any = factory.buildProtocol(None)
    transport = Line()
    server.makeConnection(transport)
    server.dataReceived(sent)
    server.connectionLost(Failure(ConnectionLost()))
    assert not site.channels


@pytest.mark.parametrize("newest", [TLSVersion.TLSv1_2, TLSVersion.TLSv1_3])
def test_openssl_reads_a_socket_and_writes_to_memory_again(newest: TLSVersion) -> None:
    """From record to record, and after the socket's end: who has said all may wait for an answer still."""
    wire = SecureWire(Service(), newest)
    connection = wire.server._tlsConnection
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        content = random.Random(3).randbytes(40_000)
        sent = wire.record(content)
        theirs.sendall(sent[:30_000])
        assert openssl.reads_sockets(connection)
        first, second, third = (Segment(connection, size) for size in (100_000, 5, 100_000))
        assert not first.fill_from(ours.fileno())
        theirs.sendall(sent[30_000:])
        assert second.fill_from(ours.fileno())
        assert not third.fill_from(ours.fileno())
        assert first.take() + second.take() + third.take() == content
        theirs.sendall(wire.record(b"last"))
        theirs.shutdown(socket.SHUT_WR)
        last = Segment(connection, 100)
        with pytest.raises(SSL.ZeroReturnError):
            last.fill_from(ours.fileno())
        assert last.take() == b"last"
        connection.send(b"answer")
        assert not openssl.reads_sockets(connection)  # what is in memory comes first
        wire.client.bio_write(connection.bio_read(2**16))
        assert wire.client.recv(100) == b"answer"


# Over real sockets, where the socket is read in place of Twisted


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "own.pem"
    path.write_bytes(OWN)
    return path


class Counted:
    """Pours, without keeping more than the last of what comes, and tells how it ended."""

    def __init__(self) -> None:
        self.outcomes: list[Any] = []
        self.largest = self.size = 0
        self.sum = 0
        self.transport: Any = None
        self.pause_at: int | None = None
        #: Whether OpenSSL has read a socket.
        self.directly = False
        self.basin: Basin | None = None

    async def __call__(self, request: StreamingRequest) -> Any:
        self.transport = request.transport

        def count(basin: Basin, data: bytes) -> None:
            self.largest, self.size = max(self.largest, len(data)), self.size + len(data)
            self.sum = zlib.crc32(data, self.sum)
            basin.chunks.clear()
            if self.pause_at is not None and self.size >= self.pause_at:
                self.pause_at = None
                basin.producer.pauseProducing()

        self.basin = Basin(count)
        try:
            await request.pour_into(self.basin)
        except Interrupted as interruption:
            self.outcomes.append(interruption)
            raise
        self.outcomes.append(self.size)
        return Response(200, b"%d" % self.size)


@pytest_twisted.async_yield_fixture(params=[True, False], ids=["direct", "memory"])
async def served(
    request: pytest.FixtureRequest, pem: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Counted, int]]:
    """A service on an ``ssl:`` endpoint, and its port. OpenSSL reads the socket itself, or is given what was read."""
    if not request.param:
        monkeypatch.setattr(openssl, "_SOCKET_NAMES", (None,))
    counted, fill_from = Counted(), Segment.fill_from

    def noting(segment: Segment, descriptor: int) -> bool:
        counted.directly = True
        return fill_from(segment, descriptor)

    monkeypatch.setattr(Segment, "fill_from", noting)
    site = StreamingSite(Leaf(counted), idle_timeout=5.0, reactor=reactor)  # type: ignore[arg-type]
    port: Any = await listen(reactor, f"ssl:0:interface=127.0.0.1:privateKey={pem}:certKey={pem}", site)
    yield counted, port.getHost().port
    await port.stopListening()
    site.drain()
    while site.channels:
        await deferLater(reactor, 0.01)


def client_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


def talk(port: int, speak: Callable[[ssl.SSLSocket], None]) -> bytes:
    """What the server says to a client that speaks so and then reads to the end."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as bare,
        client_context().wrap_socket(bare) as client,
    ):
        speak(client)
        said = b""
        while piece := client.recv(65536):
            said += piece
        return said


def odd_pieces(size: int) -> Iterator[bytes]:
    chance = random.Random(size)
    source = chance.randbytes(40_000)
    while size:
        piece = source[: min(size, chance.randint(1, 40_000))]
        size -= len(piece)
        yield piece


@pytest_twisted.ensureDeferred
async def test_a_long_body_in_odd_records(served: tuple[Counted, int], request: pytest.FixtureRequest) -> None:
    """50 MB, paused once on the way, in segments of many records."""
    counted, port = served
    size, expected = 50_000_000, 0
    for piece in odd_pieces(size):
        expected = zlib.crc32(piece, expected)
    counted.pause_at = 20_000_000

    def speak(client: ssl.SSLSocket) -> None:
        assert client.selected_alpn_protocol() == "http/1.1"
        client.sendall(head("PUT", "/", f"Content-Length: {size}", "Connection: close"))
        for piece in odd_pieces(size):
            client.sendall(piece)

    said = deferToThread(talk, port, speak)
    while counted.size < 20_000_000:
        await deferLater(reactor, 0)
    stopped = counted.size
    for _ in range(50):
        await deferLater(reactor, 0)
    assert counted.size == stopped
    assert counted.basin is not None
    counted.basin.producer.resumeProducing()
    assert (await said).endswith(b"\r\n\r\n%d" % size)
    assert counted.sum == expected
    assert counted.largest > PIECE
    assert counted.directly is request.node.callspec.params["served"]
    assert isinstance(counted.transport, ClientTls) or isinstance(counted.transport.transport, ClientTls)


def vanish(client: ssl.SSLSocket) -> None:
    """With a reset, in the middle of a record."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def end_abruptly(client: ssl.SSLSocket) -> None:
    """Without a close_notify. (A client that has not read all it was sent would reset the connection.)"""
    with socket.socket(fileno=client.detach()) as bare:
        bare.setblocking(True)
        bare.shutdown(socket.SHUT_WR)
        while bare.recv(65536):
            pass


def end_in_order(client: ssl.SSLSocket) -> None:
    """With one."""
    client.unwrap()


@pytest.mark.parametrize("end", [vanish, end_abruptly, end_in_order])
@pytest_twisted.ensureDeferred
async def test_the_end_in_the_middle_of_a_body(served: tuple[Counted, int], end: Callable[[Any], None]) -> None:
    """It interrupts, and what came has been written (all of it, if it was no reset)."""
    counted, port = served

    def speak() -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as bare:
            client = client_context().wrap_socket(bare)
            client.sendall(head("PUT", "/", "Content-Length: 5000000") + bytes(1_000_000))
            try:
                end(client)
            except OSError:
                assert end is end_in_order  # it has been closed from the other side as well

    await deferToThread(speak)
    while not counted.outcomes:
        await deferLater(reactor, 0.001)
    assert isinstance(counted.outcomes[0], Interrupted)
    assert counted.size == 1_000_000 or end is vanish


@pytest_twisted.ensureDeferred
async def test_the_end_while_it_is_paused(served: tuple[Counted, int]) -> None:
    """The end is noticed behind all that came before it, as over a plain socket, and nothing of that is lost."""
    counted, port = served
    counted.pause_at = 1

    def speak() -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as bare:
            client = client_context().wrap_socket(bare)
            client.sendall(head("PUT", "/", "Content-Length: 5000000") + bytes(900_000))
            end_abruptly(client)

    spoken = deferToThread(speak)
    while counted.basin is None or counted.pause_at is not None:
        await deferLater(reactor, 0)
    for _ in range(20):
        await deferLater(reactor, 0)
    assert not counted.outcomes
    counted.basin.producer.resumeProducing()
    while not counted.outcomes:
        await deferLater(reactor, 0.001)
    await spoken
    assert isinstance(counted.outcomes[0], Interrupted)
    assert counted.size == 900_000


@pytest_twisted.ensureDeferred
async def test_a_connection_is_used_again(served: tuple[Counted, int]) -> None:
    """Several requests on one connection, and a session of it that is resumed or not: every byte arrives."""
    counted, port = served

    def speak(client: ssl.SSLSocket) -> None:
        for n in range(5):
            more = ["Connection: close"] if n == 4 else []
            client.sendall(head("PUT", f"/{n}", "Content-Length: 300000", *more) + bytes(300_000))

    said = await deferToThread(talk, port, speak)
    assert statuses(said) == [200] * 5
    assert counted.size == 1_500_000


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl program")
@pytest_twisted.ensureDeferred
async def test_new_keys_in_the_middle_of_a_body(served: tuple[Counted, int], tmp_path: Path) -> None:
    """The client asks for new keys, again and again; OpenSSL answers that with the next thing that it writes."""
    counted, port = served
    block, rounds, told = b"x" * 999_999 + b"\n", 5, tmp_path / "told"
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_3", "-msg"]
    with (
        told.open("wb") as out,
        subprocess.Popen(command, bufsize=0, stdin=subprocess.PIPE, stdout=out, stderr=out) as client,
    ):
        stdin: Any = client.stdin
        await deferToThread(stdin.write, head("PUT", "/", f"Content-Length: {rounds * len(block)}"))
        for n in range(1, rounds + 1):
            await deferToThread(stdin.write, block)
            while counted.size < n * len(block):
                await deferLater(reactor, 0.001)
            if n < rounds:
                stdin.write(b"K\n")  # a command, for it is read by itself
                while told.read_bytes().count(b"KEYUPDATE") < n:
                    await deferLater(reactor, 0.01)
        while b"200 OK" not in told.read_bytes():
            await deferLater(reactor, 0.01)
        stdin.close()
        await deferToThread(client.wait)
    assert b"<<< TLS 1.3, Handshake [length 0005], KeyUpdate" in told.read_bytes()
    assert counted.sum == zlib.crc32(block * rounds)
