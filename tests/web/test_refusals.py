"""Requests that are malformed."""

from __future__ import annotations

import pytest

from resumable.model import Interrupted
from resumable.protocols.response import reason_phrase
from resumable.web import lingering
from tests.web.wire import (
    Service,
    Wire,
    body_of,
    head,
    refuse,
    statuses,
)


@pytest.mark.parametrize(
    ("bad", "status", "word"),
    [
        (head("PUT", "/", "Content-Length: -5"), 400, "Content-Length"),
        (head("PUT", "/", "Content-Length: five"), 400, "Content-Length"),
        (head("PUT", "/", "Content-Length: " + "9" * 5000), 400, "Content-Length"),
        (head("PUT", "/", "Content-Length: 5", "Content-Length: 6"), 400, "Content-Length"),
        (head("PUT", "/", "Content-Length: 5", "Transfer-Encoding: chunked"), 400, "Content-Length"),
        (head("PUT", "/", "Transfer-Encoding: gzip"), 400, "Transfer-Encoding"),
        (head("PUT", "/", "Transfer-Encoding: identity", "Content-Length: 0"), 400, "Transfer-Encoding"),
        (head("PUT", "/", "Content-Length: 0", "Transfer-Encoding: Identity"), 400, "Transfer-Encoding"),
        (head("PUT", "/", "Transfer-Encoding: chunked", "Transfer-Encoding: identity"), 400, "Transfer-Encoding"),
        (head("PUT", "/", "Transfer-Encoding: identity", "Transfer-Encoding: chunked"), 400, "Transfer-Encoding"),
        (head("PUT", "/", "Transfer-Encoding: identity"), 400, "Transfer-Encoding"),
        (head("PUT", "/", "no colon"), 400, "header field"),
        (head("PUT", "/", "b@d name: x"), 400, "header field"),
        (head("PUT", "/", "X: a\0b"), 400, "header field"),
        (b"nonsense\r\n\r\n", 400, "request line"),
        (b"GET / HTTP/3.0\r\n\r\n", 400, "request line"),
        (head("PUT", "/", *(f"X-{n}: {'a' * 100}" for n in range(200))), 431, "16384"),
        (head("PUT", "/", "X: " + "a" * 20000), 431, "16384"),
        (head("PUT", "/", *["X: a"] * 600), 431, "500"),
        (head("PUT", "/" + "a" * 20000), 414, "16384"),
    ],
)
def test_malformed_heads(bad: bytes, status: int, word: str) -> None:
    """A readable problem and a clean close; not served, and neither is what follows."""
    service = Service()
    wire = Wire(service)
    wire.send(bad + head("GET"), head("GET"))
    assert statuses(wire.said) == [status]
    assert wire.said.startswith(b"HTTP/1.1 %d %s\r\n" % (status, reason_phrase(status)))
    assert b"Connection: close\r\n" in wire.said
    assert b"Content-Type: application/problem+json\r\n" in wire.said
    said = body_of(wire.said)
    assert said["status"] == status
    assert word in said["detail"]
    assert service.requests == []
    wire.clock.advance(lingering.LINGER_SECONDS)
    assert wire.closing
    wire.lose()
    assert wire.clock.getDelayedCalls() == []


def test_malformed_head_after_a_good_request() -> None:
    """The state of the request before does not colour the answer."""
    wire = Wire(refuse)
    wire.send(head("GET") + b"x\r\n\r\n")
    assert statuses(wire.said) == [401, 400]
    assert "request line" in body_of(wire.said)["detail"]


@pytest.mark.parametrize("together", [False, True])
def test_malformed_chunk(together: bool) -> None:
    """The consumer gets what was sound and an interruption, the client a 400 and nothing else."""
    service = Service()
    wire = Wire(service)
    wire.send(head("PUT", "/", "Transfer-Encoding: chunked"))
    wire.send(*[b"3\r\nabc\r\nzz\r\n"] if together else [b"3\r\nabc\r\n", b"zz\r\n"])
    assert service.basin.data == b"abc"
    assert service.basin.events == ["register", "unregister"]
    assert isinstance(service.outcome, Interrupted)
    assert not service.outcome.idle
    assert statuses(wire.said) == [400]
    assert "chunked" in body_of(wire.said)["detail"]
    wire.send(b"3\r\nabc\r\n")
    wire.clock.advance(lingering.LINGER_SECONDS)
    assert wire.closing


def test_malformed_chunk_before_pouring() -> None:
    """The client is told at once, the handler when it asks."""
    service = Service(before=True)
    wire = Wire(service)
    wire.send(head("PUT", "/", "Transfer-Encoding: chunked") + b"3\r\nabc\r\nzz\r\n")
    assert statuses(wire.said) == [400]
    assert service.before is not None
    service.before.callback(None)
    assert service.basin.data == b"abc"
    assert isinstance(service.outcome, Interrupted)
    assert statuses(wire.said) == [400]
