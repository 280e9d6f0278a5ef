"""A listening port when there is no descriptor for a connection: what is said of it, and how it goes on."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.logger import Logger, formatEvent, globalLogPublisher

from resumable.listening import ACCEPT_PAUSE, complain_seldom, listen


class FakePort:
    """A port whose accepting fails in the way that is said."""

    def __init__(self) -> None:
        self.connected, self.disconnecting = True, False
        self.reading = True
        self._logger: Any = Logger(namespace="port")

    def stopReading(self) -> None:
        self.reading = False

    def startReading(self) -> None:
        self.reading = True

    def fail(self, reason: str) -> None:
        """As `twisted.internet.tcp` says it."""
        if reason == "EMFILE with a reserve":
            self._logger.info("EMFILE encountered; releasing reserved file descriptor.")
            self._logger.info("EMFILE recovery: Closed socket from {address}", address="x")
            self._logger.info("Re-reserving EMFILE recovery file descriptor.")
        else:
            self._logger.info("Could not accept new connection ({acceptError})", acceptError=reason)


@pytest.fixture
def heard() -> Iterator[list[Any]]:
    """All that is logged."""
    events: list[Any] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


@pytest.mark.parametrize("reason", ["EMFILE with a reserve", "EMFILE", "ENFILE", "ENOMEM"])
def test_that_nobody_can_be_let_in_is_said_once_a_minute(reason: str, heard: list[Any]) -> None:
    clock, port = Clock(), FakePort()
    complain_seldom(port, clock)
    for _ in range(50):
        port.fail(reason)
        clock.advance(1)
    assert [event["log_level"].name for event in heard] == ["warn"]
    assert reason.split()[0] in formatEvent(heard[0])
    clock.advance(15)
    port.fail(reason)
    assert len(heard) == 2


def test_a_port_without_descriptors_is_not_looked_at_without_end(heard: list[Any]) -> None:
    """The newcomers stay at it: it would be ready for ever. It goes on after a while, unless it was closed meanwhile."""
    clock, port = Clock(), FakePort()
    complain_seldom(port, clock)
    port.fail("ECONNABORTED")
    assert port.reading
    port.fail("EMFILE")
    assert not port.reading
    clock.advance(ACCEPT_PAUSE)
    assert port.reading
    port.fail("EMFILE")
    port.connected = False
    clock.advance(ACCEPT_PAUSE)
    assert not port.reading


def test_what_else_a_port_says_is_not_lost(heard: list[Any]) -> None:
    port = FakePort()
    complain_seldom(port, Clock())
    port._logger.info("something else")
    assert [event["log_format"] for event in heard] == ["something else"]


@ensureDeferred
async def test_descriptors_that_come_back(heard: list[Any]) -> None:
    """While there are none newcomers are closed, with one line; afterwards they are served."""
    from twisted.internet import reactor

    served = Factory.forProtocol(Protocol)
    port: Any = await listen(reactor, "tcp:0:interface=127.0.0.1", served)
    address = ("127.0.0.1", port.getHost().port)
    clients = [socket.socket() for _ in range(20)]
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    heard.clear()
    for client in clients:
        client.connect(address)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        for _ in range(20):
            port.doRead()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert [formatEvent(event) for event in heard if event["log_level"].name == "warn"] == [
        "new connections cannot be accepted (EMFILE): no file descriptor is left (ulimit -n)"
    ]
    for client in clients:
        client.close()
    accepted: Deferred[None] = Deferred()
    served.buildProtocol = lambda _: (accepted.called or accepted.callback(None)) and None  # type: ignore[method-assign]
    with socket.socket() as late:
        late.connect(address)
        await accepted
    await port.stopListening()
