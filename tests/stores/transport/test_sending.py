"""How a body gets into the socket: whole, in order, and never joined."""

from __future__ import annotations

import random
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.ssl import CertificateOptions, PrivateCertificate
from twisted.internet.task import deferLater
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from resumable.model import ObjectOptions
from resumable.stores.s3.client import S3Store
from resumable.stores.transport import sending
from resumable.stores.transport.pool import Transport
from tests.stores.fakes import FakeStore, R, cut, stored
from tests.web.test_sockets import certificate

PLAIN = ObjectOptions()


@pytest_twisted.async_yield_fixture
async def fake() -> AsyncIterator[FakeStore]:
    server = FakeStore()
    yield server
    await server.close()


def segments(count: int, most: int) -> list[bytes]:
    chance = random.Random(count)
    return [chance.randbytes(chance.randint(1, most)) for _ in range(count)]


@pytest.mark.parametrize(("count", "most"), [(1, 1), (3000, 100), (300, 40_000), (12, 2**20)])
@pytest_twisted.ensureDeferred
async def test_every_byte_in_its_place(fake: FakeStore, count: int, most: int) -> None:
    """Whatever the sizes of the segments, and however little the socket takes at a time; the next request is well, too."""
    fake.answers = [stored("a"), stored("b")]
    # What a connection that is accepted inherits: the store's end takes little at a time.
    fake.port.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    store, body = fake.store(), segments(count, most)
    await store.put_object("b", "k", body, PLAIN)
    await store.put_object("b", "k", body, PLAIN)
    assert [request.body == b"".join(body) for request in fake.requests] == [True, True]
    assert len(fake.connections) == 1


@pytest_twisted.ensureDeferred
async def test_segments_are_handed_over_as_they_are(fake: FakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel is given the very objects that came in, several at a time; only what it took in part is viewed anew."""
    handed: list[Any] = []
    drop = sending.Sending._drop

    def watch(self: Any, sent: int) -> None:
        handed.extend(self._left)
        drop(self, sent)

    monkeypatch.setattr(sending.Sending, "_drop", watch)
    fake.answers = [stored()]
    body = segments(30, 2**18)
    await fake.store().put_object("b", "k", body, PLAIN)
    whole = [piece for piece in handed if type(piece) is bytes][1:]
    assert {id(piece) for piece in whole} == {id(piece) for piece in body}


@pytest_twisted.ensureDeferred
async def test_a_connection_lost_in_the_middle_is_replaced(fake: FakeStore) -> None:
    """The body is sent again from its beginning."""
    fake.early = cut
    fake.answers = [stored()]
    body = segments(20, 2**20)
    assert (await fake.store().put_object("b", "k", body, PLAIN)).etag == "e"
    assert fake.requests[-1].body == b"".join(body)
    assert len(fake.tries) == 2


@pytest_twisted.ensureDeferred
async def test_an_idle_connection_does_not_write(fake: FakeStore) -> None:
    """When a body is out, its connection asks for no more turns of the reactor."""
    fake.answers = [stored()]
    await fake.store().put_object("b", "k", segments(20, 2**18), PLAIN)
    await deferLater(R, 0.05)
    assert R.getWriters() == []


@implementer(IPolicyForHTTPS)
class Trusting:
    """A policy that takes any certificate: the tests are about bytes."""

    def creatorForNetloc(self, hostname: bytes, port: int) -> Any:
        return CertificateOptions(verify=False)


@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
@pytest_twisted.ensureDeferred
async def test_over_tls(fake: FakeStore) -> None:
    """Under TLS the segments go through OpenSSL, and arrive."""
    context = PrivateCertificate.loadPEM(certificate()).options()
    port = R.listenSSL(0, fake, context, interface="127.0.0.1")
    fake.answers = [stored()]
    transport = Transport(R, tls=Trusting())
    store = S3Store(
        R, endpoint=f"https://127.0.0.1:{port.getHost().port}", access_key="k", secret_key="s", transport=transport
    )
    body = segments(30, 2**18)
    try:
        await store.put_object("b", "k", body, PLAIN)
    finally:
        await store.close()
        await port.stopListening()
    assert fake.requests[0].body == b"".join(body)
