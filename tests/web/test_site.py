"""The site: it knows its connections, writes the access lines, and drains."""

from __future__ import annotations

import pytest

from resumable.model import Interrupted
from resumable.web import lingering
from resumable.web import site as sites
from tests.web.wire import (
    Service,
    Wire,
    head,
    refuse,
    statuses,
)


def test_channels_are_known() -> None:
    """For draining."""
    wire = Wire(refuse)
    assert wire.site.channels == {wire.channel}
    wire.lose()
    assert wire.site.channels == set()


def test_http_1_1_only() -> None:
    """No h2 is offered."""
    assert Wire(refuse).site.acceptableProtocols() == [b"http/1.1"]


def test_the_site_starts_no_clock() -> None:
    """A site without a log file needs no timer for its time stamps."""
    wire = Wire(refuse)
    before = wire.clock.getDelayedCalls()
    wire.site.doStart()
    assert wire.clock.getDelayedCalls() == before
    wire.site.doStop()


def test_access_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each answer leaves one, early or not, without header values and query."""
    lines: list[str] = []
    monkeypatch.setattr(sites.log, "debug", lambda form, **said: lines.append(form.format(**said)))
    wire = Wire(refuse)
    wire.send(head("GET", "/a?secret", "Authorization: secret"), head("PUT", "/c", "Content-Length: 9"))
    assert [line.split(" to ")[0] for line in lines] == ["GET /a 401 83 bytes", "PUT /c 401 83 bytes"]
    assert "secret" not in "".join(lines)


def test_drain_closes_idle_connections() -> None:
    """At once; and what was begun is answered first."""
    service = Service(after=True)
    wire = Wire(service)
    wire.site.drain()
    assert wire.closing
    busy = Wire(service)
    busy.send(head("PUT", "/", "Content-Length: 3"), b"abc")
    busy.site.drain()
    assert not busy.closing
    assert service.after is not None
    service.after.callback(None)
    assert statuses(busy.said) == [200]
    assert b"Connection: close" in busy.said
    assert busy.closing


def test_drain_ends_bodies() -> None:
    """What arrived is written, the handler hears of an interruption, the client is told to come again."""
    service = Service()
    wire = Wire(service)
    wire.send(head("PUT", "/", "Content-Length: 9"), b"abc")
    wire.site.drain()
    assert service.basin.data == b"abc"
    assert isinstance(service.outcome, Interrupted)
    assert statuses(wire.said) == [503]
    assert b"Retry-After: 1\r\n" in wire.said
    assert b"Connection: close\r\n" in wire.said
    wire.clock.advance(lingering.LINGER_SECONDS)
    assert wire.closing


def test_drain_before_the_body() -> None:
    """A body that has not begun is not asked for, another answer stands."""
    for service, status in ((Service(before=True), 503), (refuse, 401)):
        wire = Wire(service)
        wire.site.draining = True
        wire.send(head("PUT", "/", "Content-Length: 9", "Expect: 100-continue"))
        if isinstance(service, Service) and service.before is not None:
            service.before.callback(None)
        assert statuses(wire.said) == [status]


def test_force_leaves_no_timer() -> None:
    """Aborting what was closing already."""
    wire = Wire(refuse)
    wire.site.drain()
    wire.channel.forceAbortClient()
    assert wire.transport.disconnected
    wire.lose()
    assert wire.clock.getDelayedCalls() == []
