"""Listening: what is said about it."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.logger import formatEvent, globalLogPublisher

from resumable.listening import (
    ACCEPTED,
    BACKLOG,
    CannotListen,
    announce,
    listen,
    open_port,
    reachable_host,
    tell_manager,
    waiting_room,
)


class Port:
    def __init__(self, address: Any) -> None:
        self._address = address

    def getHost(self) -> Any:
        return self._address


class Arrivals(Factory):
    """Counts connections."""

    noisy = False

    def __init__(self) -> None:
        self.count = 0

    def buildProtocol(self, addr: Any) -> Protocol:
        self.count += 1
        return Protocol()


@pytest_twisted.ensureDeferred
async def test_a_burst_of_connections_waits_at_the_socket() -> None:
    """Nobody is sent away, to come back after a second; and they are let in a few at a time."""
    arrivals = Arrivals()
    port: Any = await listen(reactor, "tcp:0:interface=127.0.0.1", arrivals)
    address = ("127.0.0.1", port.getHost().port)
    burst = [socket.create_connection(address, timeout=0.5) for _ in range(100)]
    accepted = []
    for _ in range(4):
        port.doRead()
        accepted.append(arrivals.count)
    assert accepted == [ACCEPTED, 2 * ACCEPTED, 3 * ACCEPTED, 4 * ACCEPTED]
    while arrivals.count < len(burst):
        await deferLater(reactor, 0.01)
    for client in burst:
        client.close()
    await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_a_port_that_another_program_has() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        endpoint = f"tcp:{other.getsockname()[1]}:interface=127.0.0.1"
        with pytest.raises(CannotListen) as caught:
            await listen(reactor, endpoint, Arrivals())
    assert str(caught.value).startswith(f"listen: {endpoint}: ")
    assert "Another program listens there: end it, or choose another port (--listen tcp:8081" in str(caught.value)


@pytest_twisted.ensureDeferred
async def test_other_trouble_is_told_without_that_advice() -> None:
    with pytest.raises(CannotListen) as caught:
        await listen(reactor, "tcp:0:interface=192.0.2.1", Arrivals())
    assert "Another program" not in str(caught.value)


def test_how_many_wait_may_be_said() -> None:
    assert waiting_room("tcp:80", 50) == BACKLOG
    assert waiting_room("tcp:80:backlog=7", 7) == 7


@pytest.fixture
def said() -> Any:
    events: list[str] = []

    def observe(event: Any) -> None:
        events.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield events
    globalLogPublisher.removeObserver(observe)


@pytest.mark.parametrize(
    ("description", "address", "where"),
    [
        ("tcp:0", IPv4Address("TCP", "0.0.0.0", 8080), f"http://{reachable_host('0.0.0.0')}:8080/"),
        ("ssl:0:interface=\\:\\:1", IPv6Address("TCP", "::1", 443), "https://[::1]:443/"),
        ("unix:/run/up.sock", UNIXAddress(b"/run/up.sock"), "UNIXAddress('/run/up.sock')"),
    ],
)
def test_where_it_listens(said: list[str], description: str, address: Any, where: str) -> None:
    announce(description, Port(address))  # type: ignore[arg-type]
    assert said[0] == f"resumable listening on {where}"


@pytest.mark.parametrize("socket", ["", "vsock:2:1", "{tmp}/nobody"])
def test_a_service_manager_that_is_not_there_harms_nobody(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: list[str], socket: str
) -> None:
    """One that cannot be told is worth a line."""
    monkeypatch.setenv("NOTIFY_SOCKET", socket.format(tmp=tmp_path))
    tell_manager("READY=1")
    assert [line.startswith("the service manager cannot be told READY=1") for line in said] == [True] * (
        "tmp" in socket
    )


@pytest_twisted.ensureDeferred
async def test_a_port_that_only_root_may_have() -> None:
    """What to do stands in the line: twistd's --uid comes too early for it."""

    class Forbidden:
        def listenTCP(self, *_: Any, **__: Any) -> Any:
            raise CannotListenError("", 80, PermissionError(13, "Permission denied"))

    with pytest.raises(CannotListen, match="CAP_NET_BIND_SERVICE"):
        await open_port(Forbidden(), "tcp:80", Arrivals())
