"""Listening: what is said about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.logger import formatEvent, globalLogPublisher

from resumable.listening import announce, tell_manager


class Port:
    def __init__(self, address: Any) -> None:
        self._address = address

    def getHost(self) -> Any:
        return self._address


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
        ("tcp:0", IPv4Address("TCP", "0.0.0.0", 8080), "http://0.0.0.0:8080/"),
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
