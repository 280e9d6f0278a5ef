"""A slow client is read when it is worth while, and nothing that it has sent stays unread."""

from __future__ import annotations

import socket
import struct
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock, deferLater
from twisted.internet.tcp import Connection
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread

from resumable.listening import listen
from resumable.model import Interrupted
from resumable.protocols.response import Response
from resumable.web import low_water
from resumable.web.low_water import LEAST, MOST, RECORD, SLOW, WHILE, LowWater, LowWaters
from resumable.web.request import StreamingRequest
from resumable.web.site import StreamingSite
from tests.web.test_sockets import certificate
from tests.web.test_tls import client_context
from tests.web.wire import Basin, Leaf, Wire, head

ENOUGH = 100 * MOST


class Socket:
    """Remembers the marks that it is given."""

    def __init__(self) -> None:
        self.marks: list[int] = []
        self.gone = False

    @property
    def socket(self) -> Socket:
        return self

    def setsockopt(self, level: int, option: int, value: int) -> None:
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_RCVLOWAT)
        if self.gone:
            raise OSError("bad file descriptor")
        self.marks.append(value)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def transport() -> Socket:
    return Socket()


@pytest.fixture
def water(clock: Clock, transport: Socket) -> LowWater:
    return LowWater(LowWaters(clock, 60.0), transport)


def bring(water: LowWater, clock: Clock, rate: int, *, seconds: float = WHILE, left: int = ENOUGH) -> None:
    """Bytes come at this rate, in ten pieces a second."""
    for _ in range(int(seconds * 10)):
        clock.advance(0.1)
        water.hear(rate // 10)
        water.read_on(left)


@pytest.mark.parametrize(
    ("rate", "mark"),
    [
        (0, 1),
        (LEAST, 1),
        (LEAST * 4 // 3 + 20, LEAST),
        (30_000, 16384),
        (100_000, MOST),
        (SLOW - 10, MOST),
        (2 * SLOW, 1),
    ],
)
def test_a_mark_is_what_comes_in_three_quarters_of_a_second(
    water: LowWater, clock: Clock, transport: Socket, rate: int, mark: int
) -> None:
    bring(water, clock, rate, seconds=1.1)
    assert water.mark == mark
    assert transport.marks == ([mark] if mark > 1 else [])
    bring(water, clock, rate, seconds=3)
    assert len(transport.marks) <= 1  # it is not set anew each time


def test_at_the_end_of_a_body_all_is_read(water: LowWater, clock: Clock, transport: Socket) -> None:
    bring(water, clock, 100_000, seconds=1.1)
    water.read_on(MOST + RECORD)
    assert water.mark == MOST
    water.read_on(MOST + RECORD - 1)
    assert transport.marks == [MOST, 1]


def test_no_mark_is_above_what_a_read_takes(water: LowWater, clock: Clock, transport: Socket) -> None:
    """What such a read leaves behind would wait for more to come, or for a silence."""
    bring(water, clock, 100_000, seconds=1.1)
    for most in (MOST // 2, LEAST, LEAST - 1, MOST):
        water.read_on(ENOUGH, most)
    assert transport.marks == [MOST, MOST // 2, LEAST, 1, MOST]


def test_a_read_up_to_an_edge_has_a_mark_of_its_own(water: LowWater, clock: Clock, transport: Socket) -> None:
    bring(water, clock, 100_000, seconds=1.1)
    basin = Basin()
    basin.room = 3 * LEAST  # type: ignore[attr-defined]

    async def serve(request: StreamingRequest) -> Response:
        await request.pour_into(basin)
        return Response(200)

    wire = Wire(serve)
    wire.channel._low_water = water
    wire.send(head("PUT", "/", f"Content-Length: {ENOUGH}"), bytes(100))
    assert transport.marks == [MOST, 3 * LEAST]


def test_of_an_unknown_length_all_is_read(water: LowWater, clock: Clock) -> None:
    bring(water, clock, 100_000, left=0, seconds=2)
    assert water.mark == 1


def test_what_a_client_that_stops_has_sent_is_read(water: LowWater, clock: Clock, transport: Socket) -> None:
    bring(water, clock, 100_000, seconds=1.1)
    assert transport.marks == [MOST]
    clock.pump([0.1] * 21)
    assert transport.marks == [MOST, 1]
    assert not clock.getDelayedCalls()  # nobody is looked at any more


def test_a_client_that_goes_on_is_left_alone(water: LowWater, clock: Clock, transport: Socket) -> None:
    bring(water, clock, 100_000, seconds=10)
    assert transport.marks == [MOST]


def test_a_lost_connection(water: LowWater, clock: Clock, transport: Socket) -> None:
    bring(water, clock, 100_000, seconds=1.1)
    transport.gone = True
    clock.pump([0.1] * 21)
    assert not clock.getDelayedCalls()


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not say at once what a lower mark lets through")
@pytest.mark.parametrize(("patience", "has"), [(4 * WHILE, True), (4 * WHILE - 0.1, False)])
def test_where_silence_is_judged_soon_there_is_no_mark(clock: Clock, patience: float, has: bool) -> None:
    with socket.socket() as bare:
        transport = Connection(bare, Protocol(), reactor)
        assert (LowWaters(clock, patience).of(transport) is not None) is has


def test_of_sockets_that_know_no_mark_there_is_none(clock: Clock) -> None:
    with socket.socket(socket.AF_UNIX) as bare:
        assert LowWaters(clock, 60.0).of(Connection(bare, Protocol(), reactor)) is None
    assert LowWaters(clock, 60.0).of(StringTransport()) is None


class Service:
    """Pours what comes, and notes the reads."""

    def __init__(self) -> None:
        self.reads: list[int] = []
        self.poured: Deferred[Interrupted] = Deferred()

    async def __call__(self, request: StreamingRequest) -> Response:
        try:
            await request.pour_into(Basin(lambda basin, data: self.reads.append(len(data))))
        except Interrupted as interruption:
            self.poured.callback(interruption)
            raise
        return Response(200, b"%d" % sum(self.reads))


@pytest_twisted.async_yield_fixture(params=["plain", "tls"])
async def service(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncIterator[Any]:
    """A service on a port of loopback that knows slow clients after a tenth of a second."""
    monkeypatch.setattr(low_water, "WHILE", 0.1)
    made: Any = Service()
    made.tls = request.param == "tls"
    site = StreamingSite(Leaf(made), idle_timeout=20.0, reactor=reactor)  # type: ignore[arg-type]
    pem = tmp_path / "both.pem"
    pem.write_bytes(certificate())
    kind = f"ssl:0:privateKey={pem}:certKey={pem}" if made.tls else "tcp:0"
    port: Any = await listen(reactor, f"{kind}:interface=127.0.0.1", site)
    made.port = port.getHost().port
    yield made
    await port.stopListening()
    site.drain()
    while site.channels:
        await deferLater(reactor, 0.01)


#: Bytes of what a slow client brings at a time, how many of these it brings, and the seconds in between: some 100 kB/s.
PIECE, COUNT, PAUSE = 1000, 130, 0.01


def drip(service: Any, then: Callable[[socket.socket], None], *, length: int = PIECE * COUNT) -> bytes:
    """All that the server says to a client that is slow, and then does something else."""
    said = b""
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as bare:
        bare.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = client_context().wrap_socket(bare) if service.tls else bare
        client.sendall(head("PUT", "/", f"Content-Length: {length}", "Connection: close"))
        for _ in range(COUNT):
            client.sendall(bytes(PIECE))
            time.sleep(PAUSE)
        then(client)
        while client.fileno() >= 0 and (piece := client.recv(65536)):
            said += piece
    return said


@pytest_twisted.ensureDeferred
async def test_a_slow_client_is_read_seldom(service: Any) -> None:
    said = await deferToThread(drip, service, lambda client: None)
    assert said.endswith(b"\r\n\r\n%d" % (PIECE * COUNT))
    assert sum(service.reads) == PIECE * COUNT
    if sys.platform == "linux":
        # Of 130 pieces some 60 come before the client is known to be slow, or at the end. (A busy machine sees fewer.)
        assert max(service.reads) > 5 * PIECE
        assert len(service.reads) < 0.8 * COUNT


@pytest_twisted.ensureDeferred
async def test_a_client_that_pauses_has_all_of_it_read_meanwhile(service: Any) -> None:
    read: list[int] = []

    def pause(client: socket.socket) -> None:
        deadline = time.monotonic() + 10
        while sum(service.reads) < PIECE * COUNT and time.monotonic() < deadline:
            time.sleep(0.01)
        read.append(sum(service.reads))
        client.sendall(bytes(100_000))

    said = await deferToThread(drip, service, pause, length=PIECE * COUNT + 100_000)
    assert read == [PIECE * COUNT]
    assert said.endswith(b"\r\n\r\n%d" % (PIECE * COUNT + 100_000))


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("how", ["end", "reset"])
async def test_a_client_that_breaks_off_has_all_of_it_read(service: Any, how: str) -> None:
    """What it has sent is there, however it went."""

    def go(client: socket.socket) -> None:
        if how == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()

    said = deferToThread(drip, service, go, length=1_000_000)
    assert not (await service.poured).idle
    assert await said == b""
    assert sum(service.reads) == PIECE * COUNT
