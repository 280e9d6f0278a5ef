"""The same over real sockets, where pausing, closing and resetting are the kernel's affair."""

from __future__ import annotations

import datetime
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from resumable.model import Interrupted
from resumable.protocols.origin import Proxies
from resumable.protocols.response import Response, problem
from resumable.web.read_size import FIRST, LARGEST
from resumable.web.reading import HEAD_READ_SIZE, TLS_READ_SIZE
from resumable.web.request import StreamingRequest
from resumable.web.site import StreamingSite
from tests.web.wire import Basin, Leaf, head

SIZE = 40_000_000


class Uploads:
    """``/refuse`` answers at once; everything else pours, after ``gate``, and tells the size."""

    def __init__(self) -> None:
        self.gate: Deferred[None] | None = None
        self.poured: Deferred[Any] = Deferred()
        self.arrived = 0
        self.head_read_size = self.read_size = self.largest_read = 0
        self.basin: Basin | None = None

    async def __call__(self, request: StreamingRequest) -> Response:
        if request.path == b"/refuse":
            return problem(413, "no")
        if self.gate is not None:
            await self.gate
        socket_transport = request.transport
        while hasattr(socket_transport, "wrappedProtocol"):
            socket_transport = socket_transport.transport
        self.head_read_size = socket_transport.bufferSize

        def count(basin: Basin, data: bytes) -> None:
            self.read_size = max(self.read_size, socket_transport.bufferSize)
            self.largest_read = max(self.largest_read, len(data))
            self.arrived += len(data)
            basin.chunks.clear()

        try:
            await request.pour_into(self.basin or Basin(count))
        except Interrupted as interruption:
            self.poured.callback(interruption)
            raise
        return Response(200, b"%d" % self.arrived)


@pytest_twisted.async_yield_fixture()
async def uploads() -> AsyncIterator[Uploads]:
    """A service on a port of loopback."""
    service = Uploads()
    site = StreamingSite(Leaf(service), idle_timeout=1.0, reactor=reactor)  # type: ignore[arg-type]
    port = reactor.listenTCP(0, site, interface="127.0.0.1")  # type: ignore[attr-defined]
    service.port = port.getHost().port  # type: ignore[attr-defined]
    service.site = site  # type: ignore[attr-defined]
    yield service
    await port.stopListening()
    site.drain()
    while site.channels:
        await deferLater(reactor, 0.01)


def exchange(port: int, send: Callable[[socket.socket], None]) -> bytes:
    """All that the server says to a client that sends as ``send`` does and then reads to the end."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        send(client)
        said = b""
        while piece := client.recv(65536):
            said += piece
        return said


@pytest_twisted.ensureDeferred
async def test_upload(uploads: Any) -> None:
    """40 MB arrive; what comes with the head is little, for nobody has asked for it yet, and the rest in ever larger reads."""
    request = head("PUT", "/", f"Content-Length: {SIZE}", "Connection: close")
    said = await deferToThread(exchange, uploads.port, lambda client: client.sendall(request + bytes(SIZE)))
    assert said.startswith(b"HTTP/1.1 200 OK\r\n")
    assert said.endswith(b"\r\n\r\n%d" % SIZE)
    assert uploads.head_read_size == HEAD_READ_SIZE
    assert FIRST < uploads.largest_read <= LARGEST


class Edged(Basin):
    """A consumer with an edge every 100,000 bytes."""

    EDGE = 100_000

    def __init__(self) -> None:
        super().__init__()
        self.position = 0
        self.crossed = 0

    @property
    def room(self) -> int:
        return self.EDGE - self.position % self.EDGE

    def write(self, data: bytes) -> None:
        self.crossed += len(data) > self.room
        self.position += len(data)


@pytest_twisted.ensureDeferred
async def test_reads_end_at_the_edges_of_who_wants_them_to(uploads: Any) -> None:
    """No segment has to be cut but the one that came with the head."""
    uploads.basin = basin = Edged()
    request = head("PUT", "/", f"Content-Length: {SIZE}", "Connection: close")
    said = await deferToThread(exchange, uploads.port, lambda client: client.sendall(request + bytes(SIZE)))
    assert said.startswith(b"HTTP/1.1 200 ")
    assert basin.position == SIZE
    assert basin.crossed == 0


@pytest_twisted.ensureDeferred
async def test_an_early_answer_reaches_a_client_that_does_not_listen(uploads: Any) -> None:
    """The client sends 10 MB with its eyes shut, and can still read the 413 afterwards."""
    request = head("PUT", "/refuse", "Content-Length: 10000000")
    said = await deferToThread(exchange, uploads.port, lambda client: client.sendall(request + bytes(10_000_000)))
    assert said.startswith(b"HTTP/1.1 413 ")
    assert said.endswith(b"}\n")


@pytest_twisted.ensureDeferred
async def test_the_paused_client_is_not_read(uploads: Any) -> None:
    """Until pouring, what the client sends stays in the kernel; then all of it comes."""
    uploads.gate = Deferred()
    request = head("PUT", "/", f"Content-Length: {SIZE}", "Connection: close")
    said = deferToThread(exchange, uploads.port, lambda client: client.sendall(request + bytes(SIZE)))
    await deferLater(reactor, 1.5)  # longer than the idle timeout
    (channel,) = uploads.site.channels
    held = channel.requests[0]._inbox.size
    assert held <= HEAD_READ_SIZE
    uploads.gate.callback(None)
    assert (await said).endswith(b"\r\n\r\n%d" % SIZE)


@pytest_twisted.ensureDeferred
async def test_a_reset_interrupts(uploads: Any) -> None:
    """What had arrived was written before."""

    def reset(client: socket.socket) -> None:
        client.sendall(head("PUT", "/", "Content-Length: 9") + b"abc")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def vanish() -> None:
        with socket.create_connection(("127.0.0.1", uploads.port), timeout=10) as client:
            reset(client)

    await deferToThread(vanish)
    interruption = await uploads.poured
    assert not interruption.idle


@pytest_twisted.ensureDeferred
async def test_silence_is_answered(uploads: Any) -> None:
    """A client that stops sending hears 408, then the connection closes."""
    request = head("PUT", "/", "Content-Length: 9") + b"abc"
    said = await deferToThread(exchange, uploads.port, lambda client: client.sendall(request))
    assert said.startswith(b"HTTP/1.1 408 ")
    assert uploads.arrived == 3


@pytest_twisted.ensureDeferred
async def test_expect(uploads: Any) -> None:
    """As curl does it: head, wait; a body only after 100, none after a refusal."""

    def upload(client: socket.socket, path: str) -> bytes:
        client.sendall(head("PUT", path, "Content-Length: 3", "Expect: 100-continue", "Connection: close"))
        first = client.recv(65536)
        if first == b"HTTP/1.1 100 Continue\r\n\r\n":
            client.sendall(b"abc")
        return first

    said = await deferToThread(exchange, uploads.port, lambda client: upload(client, "/") and None)
    assert said.endswith(b"\r\n\r\n3")
    said = await deferToThread(exchange, uploads.port, lambda client: upload(client, "/refuse") and None)
    assert said == b""  # the refusal came first, and nothing after it


def certificate() -> bytes:
    """A key and a certificate of its own, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    own = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(1))
        .not_valid_after(now + datetime.timedelta(1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    return own.public_bytes(pem) + key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def exchange_tls(port: int, path: str) -> tuple[str | None, bytes]:
    """5 MB over TLS: the protocol that was agreed on, and all that the server said."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as bare, context.wrap_socket(bare) as client:
        client.sendall(head("PUT", path, "Content-Length: 5000000", "Connection: close") + bytes(5_000_000))
        said = b""
        while piece := client.recv(65536):
            said += piece
        return client.selected_alpn_protocol(), said


@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
@pytest.mark.parametrize(
    ("path", "start", "end"), [("/", b"HTTP/1.1 200 ", b"\r\n\r\n5000000"), ("/refuse", b"HTTP/1.1 413 ", b"}\n")]
)
@pytest_twisted.ensureDeferred
async def test_tls(uploads: Any, path: str, start: bytes, end: bytes) -> None:
    """The read size goes to the socket under TLS, h2 is not negotiated, and an early answer arrives."""
    options = PrivateCertificate.loadPEM(certificate()).options()
    port = reactor.listenSSL(0, uploads.site, options, interface="127.0.0.1")  # type: ignore[attr-defined]
    try:
        protocol, said = await deferToThread(exchange_tls, port.getHost().port, path)
    finally:
        await port.stopListening()
    assert protocol == "http/1.1"
    assert said.startswith(start)
    assert said.endswith(end)
    assert uploads.read_size == (TLS_READ_SIZE if path == "/" else 0)


@pytest_twisted.ensureDeferred
async def test_a_proxy_on_a_unix_socket(tmp_path: Path) -> None:
    """It has no address; what it says of its clients is believed where Unix sockets are trusted, and bodies come as ever."""

    async def who(request: StreamingRequest) -> Response:
        basin = Basin()
        await request.pour_into(basin)
        return Response(200, f"{request.origin.client} {request.origin.base} {len(basin.data)}".encode())

    site = StreamingSite(Leaf(who), idle_timeout=1.0, proxies=Proxies(["unix"]), reactor=reactor)  # type: ignore[arg-type]
    port = reactor.listenUNIX(str(tmp_path / "up.sock"), site)  # type: ignore[attr-defined]

    def put(*fields: str) -> bytes:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(tmp_path / "up.sock"))
            client.sendall(head("PUT", "/", "Content-Length: 500000", "Connection: close", *fields) + bytes(500_000))
            with client.makefile("rb") as stream:
                return stream.read().rpartition(b"\r\n\r\n")[2]

    assert await deferToThread(put) == b" http://h 500000"
    forwarded = 'Forwarded: for="[2001:db8::1]:4711";proto=https;host=up.example.com'
    assert await deferToThread(put, forwarded) == b"2001:db8::1 https://up.example.com 500000"
    await port.stopListening()


@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("speaks", [True, False])
@pytest_twisted.ensureDeferred
async def test_one_who_is_turned_away_can_read_why(secure: bool, speaks: bool) -> None:
    """The 503 arrives and the connection ends, whether the client says something or waits; over TLS too."""
    site = StreamingSite(Leaf(Uploads()), idle_timeout=30.0, connections=0, reactor=reactor)  # type: ignore[arg-type]
    options = PrivateCertificate.loadPEM(certificate()).options()
    listen = (
        (lambda: reactor.listenSSL(0, site, options, interface="127.0.0.1"))
        if secure
        else (lambda: reactor.listenTCP(0, site, interface="127.0.0.1"))
    )  # type: ignore[attr-defined]
    port = listen()

    def get() -> bytes:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        client = socket.create_connection(("127.0.0.1", port.getHost().port), timeout=10)
        with context.wrap_socket(client) if secure else client as client:
            if speaks:
                client.sendall(head("GET", "/"))
            said = b""
            try:
                while piece := client.recv(65536):
                    said += piece
            except (ConnectionResetError, ssl.SSLError):
                assert not speaks, "a client that says nothing is cut by force"
            return said

    said = await deferToThread(get)
    assert said.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert said.endswith(b"}\n")
    await port.stopListening()
