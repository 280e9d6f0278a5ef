"""TLS to the store: certificates, bodies of all shapes, and connections that end in all ways."""

from __future__ import annotations

import datetime
import ipaddress
import random
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import pytest
import pytest_twisted
from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.protocol import connectionDone
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    PrivateCertificate,
    TLSVersion,
    trustRootFromCertificates,
)
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.client import BrowserLikePolicyForHTTPS
from zope.interface import implementer

from resumable.stores.transport import openssl
from resumable.stores.transport import tls as module
from resumable.stores.transport.base import parse_base
from resumable.stores.transport.exchange import Answer, Broken, CutOff
from resumable.stores.transport.pool import Transport
from resumable.stores.transport.tls import StoreTls, TlsSending
from tests.stores.fakes import Connection, FakeStore, R, answer, cut, stored

pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")

PEM = serialization.Encoding.PEM


@frozen
class Authority:
    """A certificate authority of the test's own."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def policy(self) -> BrowserLikePolicyForHTTPS:
        """A policy that trusts nobody else."""
        root = trustRootFromCertificates([Certificate.loadPEM(self.certificate.public_bytes(PEM))])
        return BrowserLikePolicyForHTTPS(root)


def certify(
    name: str, issuer: Authority | None, *, hosts: Sequence[x509.GeneralName] = (), days: tuple[int, int] = (-1, 1)
) -> Authority:
    """Make a certificate, signed by the issuer or by itself, valid from and to so many days from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days[0]))
        .not_valid_after(now + datetime.timedelta(days[1]))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(hosts)), critical=False)
    return Authority(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)


HERE = (x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost"))
AUTHORITY = certify("authority", None)
GOOD = certify("store", AUTHORITY, hosts=HERE)


def options(own: Authority = GOOD, newest: TLSVersion | None = None) -> CertificateOptions:
    """What a store's end is made with."""
    private = own.key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    loaded = PrivateCertificate.loadPEM(own.certificate.public_bytes(PEM) + private)
    versions = (
        {} if newest is None else {"insecurelyLowerMinimumTo": TLSVersion.TLSv1_2, "lowerMaximumSecurityTo": newest}
    )
    sessions = {"enableSessions": True, "enableSessionTickets": True}
    return CertificateOptions(loaded.privateKey.original, loaded.original, **sessions, **versions)


class TlsStore(FakeStore):
    """A fake store that speaks TLS too."""

    def __init__(self) -> None:
        super().__init__()
        self.ports: list[Any] = []
        self.transports: list[Transport] = []

    def listen(self, context: Any = None) -> int:
        self.ports.append(R.listenSSL(0, self, context or options(), interface="127.0.0.1"))
        number: int = self.ports[-1].getHost().port
        return number

    def put(
        self,
        port: int,
        body: Sequence[bytes],
        *,
        host: str = "127.0.0.1",
        transport: Transport | None = None,
        **more: Any,
    ) -> Deferred[Answer | Broken]:
        if transport is None:
            transport = Transport(R, tls=AUTHORITY.policy)
        if transport not in self.transports:
            self.transports.append(transport)
        base = parse_base(f"https://{host}:{port}")
        return transport.request(base, "PUT", "/b/k", [("Host", base.authority)], body, **more)

    async def close(self) -> None:
        for transport in self.transports:
            await transport.close()
        await super().close()
        for port in self.ports:
            await port.stopListening()
        while self.connections:
            await deferLater(R, 0)


@pytest_twisted.async_yield_fixture
async def store() -> AsyncIterator[TlsStore]:
    made = TlsStore()
    yield made
    await made.close()


@pytest.fixture(autouse=True)
def bodies(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[TlsSending]]:
    """What sends, in order. After a test nothing is sending any more."""
    made: list[TlsSending] = []
    begin = TlsSending.__init__

    def watch(self: TlsSending, *arguments: Any) -> None:
        made.append(self)
        begin(self, *arguments)

    monkeypatch.setattr(TlsSending, "__init__", watch)
    yield made
    assert TlsSending.active == 0


def segments(count: int, most: int, least: int = 1) -> list[bytes]:
    chance = random.Random(count)
    return [chance.randbytes(chance.randint(least, most)) for _ in range(count)]


async def until(true: Callable[[], object]) -> None:
    """Wait until it is so."""
    while not true():
        await deferLater(R, 0)


@pytest.mark.parametrize("newest", [TLSVersion.TLSv1_2, TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("count", "most", "least"), [(1, 1, 1), (5000, 1, 1), (3000, 5000, 1), (300, 40_000, 1), (1, 9_000_001, 9_000_001)]
)
@pytest_twisted.ensureDeferred
async def test_every_byte_in_its_place(
    store: TlsStore, bodies: list[TlsSending], newest: TLSVersion, count: int, most: int, least: int
) -> None:
    """Whatever the sizes of the segments, on a new connection and on one that has been used."""
    port, body = store.listen(options(newest=newest)), segments(count, most, least)
    store.answers = [stored(), stored()]
    transport = Transport(R, tls=AUTHORITY.policy)
    for _ in range(2):
        outcome = await store.put(port, body, transport=transport)
        assert isinstance(outcome, Answer)
        assert outcome.sent
    assert [request.body == b"".join(body) for request in store.requests] == [True, True]
    assert len(store.connections) == 1
    assert store.connections[0].transport.getHandle().get_protocol_version_name() == newest.name.replace("_", ".")
    assert len(bodies) == 2


@pytest_twisted.ensureDeferred
async def test_without_private_names(
    store: TlsStore, bodies: list[TlsSending], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pyOpenSSL that has lost the names that it does not document is slower, and right."""
    monkeypatch.setattr(openssl, "_clear_mode", None)
    monkeypatch.setattr(openssl, "_bio_read", None)
    store.answers, body = [stored()], segments(40, 300_000)
    assert isinstance(await store.put(store.listen(), body), Answer)
    assert store.requests[0].body == b"".join(body)
    assert len(bodies) == 1


@pytest.mark.parametrize(
    ("own", "host"),
    [
        (certify("store", AUTHORITY, hosts=[x509.DNSName("elsewhere.example")]), "127.0.0.1"),
        (certify("store", AUTHORITY, hosts=[x509.DNSName("elsewhere.example")]), "localhost"),
        (certify("store", AUTHORITY, hosts=HERE, days=(-9, -1)), "127.0.0.1"),
        (certify("store", None, hosts=HERE), "127.0.0.1"),
        (certify("store", certify("authority", None), hosts=HERE), "127.0.0.1"),
    ],
    ids=["wrong-address", "wrong-name", "expired", "self-signed", "unknown-authority"],
)
@pytest_twisted.ensureDeferred
async def test_nothing_is_sent_to_who_is_not_verified(store: TlsStore, own: Authority, host: str) -> None:
    """Not a byte of the request."""
    port = store.listen(options(own))
    outcome = await store.put(port, segments(10, 300_000), host=host)
    assert isinstance(outcome, Broken)
    assert not outcome.sent
    await until(lambda: not store.connections)
    assert not store.requests


@pytest_twisted.ensureDeferred
async def test_a_verified_name(store: TlsStore) -> None:
    """The name is sent (SNI) and verified."""
    named: list[Any] = []
    context = options()
    context.getContext().set_tlsext_servername_callback(lambda connection: named.append(connection.get_servername()))
    store.answers = [stored()]
    assert isinstance(await store.put(store.listen(context), [b"x"], host="localhost"), Answer)
    assert named == [b"localhost"]


def goodbye(connection: Connection) -> None:
    connection.transport.loseConnection()


def reset(connection: Connection) -> None:
    connection.transport.transport.socket.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("ending", [cut, goodbye, reset])
@pytest_twisted.ensureDeferred
async def test_a_store_that_ends_in_the_middle_of_a_body(
    store: TlsStore, bodies: list[TlsSending], ending: Callable[[Connection], None]
) -> None:
    """With and without a close_notify, it is a broken connection at once, and the next request has a new one."""
    port, body = store.listen(), segments(60, 2**20)
    store.early = ending
    transport = Transport(R, tls=AUTHORITY.policy)
    outcome = await store.put(port, body, transport=transport)
    assert isinstance(outcome, Broken)
    assert outcome.code != "Silent"
    assert not outcome.sent
    await until(lambda: not store.connections)
    store.answers = [stored()]
    assert isinstance(await store.put(port, body, transport=transport), Answer)
    assert store.requests[-1].body == b"".join(body)
    assert len(bodies) == 2


@pytest.mark.parametrize("ending", [goodbye, reset])
@pytest_twisted.ensureDeferred
async def test_half_an_answer(store: TlsStore, ending: Callable[[Connection], None]) -> None:
    """It is no answer, and as everything was sent it may have taken effect."""

    def half(connection: Connection) -> None:
        connection.transport.write(b"HTTP/1.1 200 X\r\nContent-Length: 10\r\n\r\nhalf")
        ending(connection)

    store.answers = [half]
    outcome = await store.put(store.listen(), segments(3, 2**18))
    assert isinstance(outcome, Broken)
    assert outcome.sent


@pytest_twisted.ensureDeferred
async def test_an_early_answer(store: TlsStore) -> None:
    """It is taken while the body is being sent; the rest is not sent, and the connection is not used again."""

    def refuse(connection: Connection) -> None:
        connection.transport.pauseProducing()
        answer(403)(connection)

    store.early = refuse
    outcome = await store.put(store.listen(), segments(100, 2**20))
    assert isinstance(outcome, Answer)
    assert (outcome.status, outcome.sent) == (403, False)
    store.connections[0].transport.resumeProducing()
    await until(lambda: not store.connections)
    assert not store.requests


def pause(connection: Connection) -> None:
    connection.transport.pauseProducing()


@pytest_twisted.ensureDeferred
async def test_a_slow_reader(store: TlsStore, bodies: list[TlsSending]) -> None:
    """What is encrypted ahead is bounded: the rest of the body waits as it came, and is not read."""
    store.early = pause
    body = [bytes(2**18)] * 200
    outcome = store.put(store.listen(), body)
    await until(lambda: bodies and bodies[0]._rest)
    sending = bodies[0]
    for _ in range(20):
        await deferLater(R, 0)
    # What is held is at most what one call encrypts. All else is in the kernel, or still as it came.
    assert 0 < len(sending._rest) <= openssl.PIECE
    assert not openssl.read_encrypted(sending._tls.engine)
    assert sum(map(len, sending._left)) > 2**22
    assert not sending._producer.finished
    store.connections[0].transport.resumeProducing()
    await until(lambda: store.requests)
    stored()(store.connections[0])
    assert isinstance(await outcome, Answer)
    assert store.requests[0].body == bytes(200 * 2**18)


def test_many_connections_share_what_is_encrypted_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few have the most, many the least; all of them together have a bound as long as the least is enough."""
    for active, share in [(1, module.MOST_AHEAD), (64, module.ALL_AHEAD // 64), (100_000, module.LEAST_AHEAD)]:
        with monkeypatch.context() as patch:
            patch.setattr(TlsSending, "active", active)
            assert module.ahead() == share


@pytest_twisted.ensureDeferred
async def test_cancelled_in_the_middle(store: TlsStore, bodies: list[TlsSending]) -> None:
    """The connection ends and the body is let go."""
    store.early = pause
    outcome = store.put(store.listen(), [bytes(2**20)] * 50)
    await until(lambda: bodies and bodies[0]._rest)
    outcome.cancel()
    with pytest.raises(CutOff) as caught:
        await outcome
    assert not caught.value.sent
    assert not bodies[0]._left
    assert not bodies[0]._rest
    store.connections[0].transport.resumeProducing()
    await until(lambda: not store.connections)
    assert not store.requests


@pytest_twisted.ensureDeferred
async def test_cancelled_in_the_handshake(store: TlsStore, bodies: list[TlsSending]) -> None:
    """A server that accepts and says nothing."""
    silent = FakeStore()
    outcome = store.put(silent.port.getHost().port, [bytes(2**20)])
    await until(lambda: bodies)
    outcome.cancel()
    with pytest.raises(CutOff):
        await outcome
    await until(lambda: not silent.connections)
    assert not bodies[0]._left
    await silent.close()


@pytest_twisted.ensureDeferred
async def test_silence_in_the_middle(store: TlsStore, bodies: list[TlsSending]) -> None:
    """A store that takes nothing more is given up."""
    store.early = pause
    outcome = await store.put(
        store.listen(), [bytes(2**20)] * 50, transport=Transport(R, silence=0.2, tls=AUTHORITY.policy)
    )
    assert isinstance(outcome, Broken)
    assert outcome.code == "Silent"
    store.connections[0].transport.resumeProducing()
    await until(lambda: not store.connections)


@pytest.mark.parametrize("newest", [TLSVersion.TLSv1_2, TLSVersion.TLSv1_3])
@pytest_twisted.ensureDeferred
async def test_a_session_is_resumed(store: TlsStore, newest: TLSVersion) -> None:
    """The second connection needs no certificate; another host and port has a session of its own."""
    port, resumed = store.listen(options(newest=newest)), []

    def note(connection: Connection) -> None:
        handle = connection.transport.getHandle()
        resumed.append(bool(SSL._lib.SSL_session_reused(handle._ssl)))
        answer(200, headers={"Connection": "close"})(connection)

    store.answers = [note, note, note]
    transport = Transport(R, tls=AUTHORITY.policy)
    for one in (port, port, store.listen(options(newest=newest))):
        assert isinstance(await store.put(one, [bytes(2**18)], transport=transport), Answer)
        await until(lambda: not store.connections)
    assert resumed == [False, True, False]


@pytest_twisted.ensureDeferred
async def test_a_policy_with_a_context_for_each_connection(store: TlsStore) -> None:
    """A session belongs to a context: with another, the handshake is a whole one."""

    @implementer(IOpenSSLClientConnectionCreator)
    class Fresh(BrowserLikePolicyForHTTPS):
        def creatorForNetloc(self, hostname: bytes, port: int) -> Any:
            return self

        def clientConnectionForTLS(self, protocol: Any) -> Any:
            return AUTHORITY.policy.creatorForNetloc(b"127.0.0.1", 443).clientConnectionForTLS(protocol)

    store.answers = [answer(200, headers={"Connection": "close"})] * 2
    port, transport = store.listen(), Transport(R, tls=Fresh())
    for _ in range(2):
        assert isinstance(await store.put(port, [b"x"], transport=transport), Answer)


@pytest_twisted.ensureDeferred
async def test_a_renegotiation_in_the_middle(store: TlsStore, bodies: list[TlsSending]) -> None:
    """TLS 1.2 lets the store ask for a new handshake at any time: OpenSSL then encrypts nothing until it has read."""

    def renegotiate(connection: Connection) -> None:
        tls: Any = connection.transport
        handle = tls.getHandle()
        handle.renegotiate()
        handle.do_handshake()
        tls._flushSendBIO()

    store.early, body = renegotiate, segments(60, 2**20)
    port = store.listen(options(newest=TLSVersion.TLSv1_2))
    outcome = store.put(port, body)
    await until(lambda: store.requests)
    stored()(store.connections[0])
    assert isinstance(await outcome, Answer)
    assert store.requests[0].body == b"".join(body)
    assert len(bodies) == 1


@pytest_twisted.ensureDeferred
async def test_openssl_wants_to_read_first(
    store: TlsStore, bodies: list[TlsSending], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is given the same bytes again, when something has come; meanwhile the reactor is not kept busy."""
    refused: list[bytes] = []
    ready: list[bool] = []

    class Engine:
        def __init__(self, real: Any) -> None:
            self.real = real

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

        def send(self, piece: Any) -> Any:
            refused.append(bytes(piece))
            if not ready:
                raise SSL.WantReadError
            return self.real.send(piece)

    monkeypatch.setattr(StoreTls, "engine", property(lambda self: Engine(self._tlsConnection)))
    body = segments(30, 2**18)
    outcome = store.put(store.listen(), body)
    store.answers = [stored()]
    await until(lambda: refused and bodies[0]._socket not in R.getWriters())
    bodies[0].wake()
    tried = len(refused)
    await until(lambda: len(refused) > tried and bodies[0]._socket not in R.getWriters())
    assert len(set(refused)) == 1
    tried = len(refused)
    ready.append(True)
    bodies[0].wake()
    assert isinstance(await outcome, Answer)
    assert refused[tried] == refused[0]
    assert store.requests[0].body == b"".join(body)


@pytest_twisted.ensureDeferred
async def test_an_end_is_said_after_the_body(store: TlsStore, bodies: list[TlsSending]) -> None:
    """Whoever closes the connection meanwhile has it closed in order, behind the last byte."""
    lost: list[Failure] = []
    store.early = pause
    outcome = store.put(store.listen(), [bytes(2**20)] * 20)
    await until(lambda: bodies and bodies[0]._rest)
    bodies[0]._tls.loseConnection()
    connection = store.connections[0]
    connection.connectionLost = lost.append  # type: ignore[assignment]
    connection.transport.resumeProducing()
    await outcome
    await until(lambda: lost)
    store.connections.remove(connection)
    assert store.requests[0].body == bytes(20 * 2**20)
    assert lost[0].check(type(connectionDone.value))


@pytest_twisted.ensureDeferred
async def test_an_idle_connection_does_not_write(store: TlsStore, bodies: list[TlsSending]) -> None:
    """When a body is out, its connection asks for no more turns of the reactor, and writes as Twisted does."""
    store.answers = [stored()]
    await store.put(store.listen(), segments(20, 2**18))
    assert R.getWriters() == []
    assert "doWrite" not in bodies[0]._socket.__dict__
