"""Bodies that are read before anybody has been asked: bounded one by one, and all together."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import async_yield_fixture, ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone

from resumable.callbacks.authorizer import AuthorizationRequest, Grant
from resumable.model import Interrupted, TooLarge, Unavailable, UploadError
from resumable.protocols.access import Gate
from resumable.protocols.response import Response
from resumable.protocols.results import Results
from resumable.protocols.session import MOST, SessionProtocol
from resumable.protocols.small_body import ALL, READ_SIZE, SECONDS, SmallBodies
from resumable.web.reading import HEAD_READ_SIZE
from resumable.web.request import StreamingRequest
from resumable.web.router import Router
from tests.uploads.wiring import House, ledger_in
from tests.web.wire import Wire, head, statuses


class Reads:
    """A handler that reads a small body, and keeps it until the test says so."""

    def __init__(self, limit: int = MOST, most: int = ALL) -> None:
        self.bodies = SmallBodies(most)
        self.limit = limit
        self.seen: list[bytes] = []
        self.gate: Deferred[None] | None = None
        self.errors: list[type[UploadError]] = []

    async def __call__(self, request: StreamingRequest) -> Response:
        try:
            async with self.bodies.of(request, self.limit) as body:
                self.seen.append(body)
                if self.gate is not None:
                    await self.gate
        except UploadError as error:
            self.errors.append(type(error))
            raise
        return Response(200)


def another(wire: Wire) -> tuple[Any, Any]:
    """One more connection to the same site."""
    channel: Any = wire.site.buildProtocol(None)
    transport = type(wire.transport)()
    channel.makeConnection(transport)
    return channel, transport


def asked(transport: Any) -> int:
    """Bytes that a read asks for."""
    return int(transport.bufferSize)


def test_no_more_is_read_at_a_time_than_a_small_body_takes() -> None:
    """A read is allocated whole, whatever comes: a large one for each connection is memory that nobody counts."""
    wire = Wire(Reads())
    wire.send(head("POST", "/", "Content-Length: 10000000"))
    assert asked(wire.transport) <= READ_SIZE == HEAD_READ_SIZE
    wire.send(bytes(MOST - 5))
    assert asked(wire.transport) == 6


@pytest.mark.parametrize("framing", [f"Content-Length: {MOST + 1}", "Transfer-Encoding: chunked"])
def test_one_byte_too_many(framing: str) -> None:
    """413, and no more than the limit was ever held."""
    reads = Reads()
    wire = Wire(reads)
    body = bytes(MOST + 1)
    wire.send(head("POST", "/", framing), *([b"%x\r\n" % len(body)] if "chunked" in framing else []), body)
    assert reads.errors == [TooLarge]
    assert statuses(wire.said) == [413]
    assert reads.bodies.held == 0


def test_small_segments_are_put_together() -> None:
    reads = Reads()
    wire = Wire(reads)
    wire.send(head("POST", "/", "Content-Length: 5000"))
    for index in range(5000):
        wire.send(b"%d" % (index % 10))
    assert reads.seen == [b"0123456789" * 500]


def test_all_together_are_bounded() -> None:
    """Who comes when too much is held is told to come again; when it has been let go there is room."""
    reads = Reads(most=3 * 1000)
    reads.gate = Deferred()
    wire = Wire(reads)
    connections = [another(wire) for _ in range(4)]
    for channel, _ in connections:
        channel.dataReceived(head("POST", "/", "Content-Length: 1000") + bytes(1000))
    assert reads.bodies.held == 3000
    assert reads.errors == [Unavailable]
    said = connections[3][1].value()
    assert statuses(said) == [503]
    assert b"Retry-After: " in said
    reads.gate.callback(None)
    assert reads.bodies.held == 0
    wire.send(head("POST", "/", "Content-Length: 1000"), bytes(1000))
    assert statuses(wire.said) == [200]


@pytest.mark.parametrize("framing", [f"Content-Length: {MOST}", "Transfer-Encoding: chunked"])
def test_a_body_that_drips_is_cut(framing: str) -> None:
    """However steadily it comes, it has to be complete in time, as a head has to."""
    reads = Reads()
    wire = Wire(reads)
    wire.send(head("POST", "/", framing))
    for _ in range(int(SECONDS)):
        assert wire.said == b""
        wire.send(b"1\r\nx\r\n" if "chunked" in framing else b"x")
        wire.clock.advance(1)
    assert statuses(wire.said) == [408]
    assert reads.errors == [Interrupted]
    assert reads.bodies.held == 0


def test_a_body_that_stops_is_cut() -> None:
    """Silence is no better than dripping, and has no longer."""
    reads = Reads()
    wire = Wire(reads)
    wire.send(head("POST", "/", "Content-Length: 100"), b"abc")
    wire.clock.advance(SECONDS)
    assert statuses(wire.said) == [408]
    assert reads.bodies.held == 0


def test_a_body_that_is_whole_has_all_the_time() -> None:
    """Only the sender is hurried, and no timer stays behind."""
    reads = Reads()
    reads.gate = Deferred()
    wire = Wire(reads)
    wire.send(head("POST", "/", "Content-Length: 3"), b"ab", b"c")
    wire.clock.advance(10 * SECONDS)
    assert wire.said == b""
    reads.gate.callback(None)
    assert statuses(wire.said) == [200]
    assert reads.bodies.held == 0


@pytest.mark.parametrize("size", [10, 500, 999])
def test_silent_strangers_shut_nobody_out(size: int) -> None:
    """Where all room is held by bodies that are not complete, those that began first give way: 503."""
    reads = Reads(most=3000)
    wire = Wire(reads)
    strangers = [another(wire) for _ in range(3000 // size)]
    for channel, _ in strangers:
        channel.dataReceived(head("POST", "/", "Content-Length: 1000") + bytes(size))
    wire.send(head("POST", "/", "Content-Length: 100"), bytes(100))
    assert statuses(wire.said) == [200]
    gone = [statuses(transport.value()) for _, transport in strangers]
    let_go = -(-(100 - 3000 % size) // size) if 3000 % size < 100 else 0
    assert gone == [[503]] * let_go + [[]] * (len(strangers) - let_go)
    assert reads.bodies.held == size * (len(strangers) - let_go)


def test_who_began_first_is_who_gives_way() -> None:
    """One that grows where nothing is left, and has been at it for longest, is the one that goes; the others stay."""
    reads = Reads(most=3000)
    wire = Wire(reads)
    (old, old_said), (young, young_said) = another(wire), another(wire)
    old.dataReceived(head("POST", "/", "Content-Length: 2000") + bytes(1500))
    young.dataReceived(head("POST", "/", "Content-Length: 2000") + bytes(1500))
    old.dataReceived(b"x")
    assert statuses(old_said.value()) == [503]
    assert b"Retry-After: " in old_said.value()
    young.dataReceived(bytes(500))
    assert statuses(young_said.value()) == [200]
    assert reads.errors == [Unavailable]
    assert reads.bodies.held == 0


@pytest.mark.parametrize("sent", [b"", b"abc"])
def test_a_body_that_breaks_off_is_let_go(sent: bytes) -> None:
    reads = Reads()
    wire = Wire(reads)
    wire.send(head("POST", "/", "Content-Length: 1000"), sent)
    assert reads.bodies.held == len(sent)
    wire.lose(ConnectionDone())
    assert reads.bodies.held == 0


# POST /uploads


class Door:
    """Lets everybody in when the test says so."""

    def __init__(self) -> None:
        self.asked: list[AuthorizationRequest] = []
        self.confirmed = 0

    async def authorize(self, ask: AuthorizationRequest) -> Grant:
        self.asked.append(ask)
        return Grant(owner="alice")

    async def confirm(self, ask: AuthorizationRequest, grant: Grant) -> None:
        self.confirmed += 1


@async_yield_fixture
async def wiring(tmp_path: Path) -> AsyncIterator[House]:
    async with ledger_in(tmp_path) as ledger:
        yield House(ledger)


def sessions(wiring: House) -> tuple[SessionProtocol, Door]:
    authorizer: Any = Door()
    return SessionProtocol(Gate(wiring.uploads, authorizer, "session"), Results()), authorizer


async def post(session: SessionProtocol, body: bytes) -> Wire:
    """What comes of a request, once it is answered."""
    wire = Wire(root=Router([session], {}))
    wire.send(head("POST", "/uploads", f"Content-Length: {len(body)}"), body)
    await until(lambda: bool(wire.said))
    return wire


async def until(true: Callable[[], bool]) -> None:
    """The ledger works in threads."""
    from twisted.internet import reactor
    from twisted.internet.task import deferLater

    for _ in range(1000):
        if true():
            return
        await deferLater(reactor, 0.01)  # type: ignore[arg-type]
    pytest.fail("nothing came of it")


@ensureDeferred
async def test_an_upload_of_no_bytes_is_an_empty_object(wiring: House) -> None:
    """Finished at once, as PUT does it; nothing has to be brought."""
    creates, authorizer = sessions(wiring)
    wire = await post(creates, b'{"name": "empty", "length": 0}')
    assert statuses(wire.said) == [201]
    said = json.loads(wire.said.partition(b"\r\n\r\n")[2])
    assert (said["state"], said["size"], said["key"]) == ("finished", 0, "alice/empty")
    upload = await wiring.uploads.get(said["id"], "alice")
    assert upload.state.value == "finished"
    assert [ask.length for ask in authorizer.asked[:1]] == [0]


@ensureDeferred
async def test_a_description_is_short(wiring: House) -> None:
    """16 KiB, and the application is not asked about more."""
    creates, authorizer = sessions(wiring)
    wire = await post(creates, b'{"name": "a", "length": 1, "metadata": {"a": "%s"}}' % (b"x" * MOST))
    assert statuses(wire.said) == [413]
    assert authorizer.asked == []
    with suppress(Exception):
        wire.lose()
