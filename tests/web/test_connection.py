"""One connection, many requests, however the network cuts them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from resumable.protocols.response import Response
from resumable.web.request import StreamingRequest
from tests.web.wire import (
    Basin,
    Service,
    Wire,
    head,
    refuse,
    statuses,
)


def test_three_pipelined_requests() -> None:
    """Served one after the other, in order, with an answer that takes its time in between."""
    gates: list[Deferred[None]] = []

    async def slow(request: StreamingRequest) -> Response:
        gate: Deferred[None] = Deferred()
        gates.append(gate)
        basin = Basin()
        await request.pour_into(basin)
        await gate
        return Response(200, request.path + basin.data)

    wire = Wire(slow)
    wire.send(
        head("PUT", "/1", "Content-Length: 2")
        + b"ab"
        + head("GET", "/2")
        + head("PUT", "/3", "Transfer-Encoding: chunked")
        + b"2\r\ncd\r\n0\r\n\r\n"
    )
    for expected in (1, 2, 3):
        assert len(gates) == expected
        gates[-1].callback(None)
    assert [wire.said.count(b"\r\n\r\n" + body) for body in (b"/1ab", b"/2", b"/3cd")] == [1, 1, 1]
    assert wire.said.endswith(b"/3cd")
    assert not wire.closing


def test_many_pipelined_requests_do_not_recurse() -> None:
    """Thousands fit in one read; they are served in many turns."""
    wire = Wire(refuse)
    wire.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" * 3000)
    wire.clock.pump([0] * 3000)
    assert statuses(wire.said) == [401] * 3000


def test_connection_close_is_honoured() -> None:
    """By the client's wish, by the handler's, by HTTP/1.0, by draining."""

    async def answer(request: StreamingRequest) -> Response:
        return Response(200, headers={"Connection": "close"} if request.path == b"/close" else {})

    for segment, draining in [
        (head("GET", "/", "Connection: close"), False),
        (head("GET", "/close"), False),
        (head("GET", version="1.0"), False),
        (head("GET"), True),
    ]:
        wire = Wire(answer)
        wire.site.draining = draining
        wire.send(segment)
        assert wire.said.count(b"Connection: close\r\n") == 1
        assert wire.closing


def test_http_1_0_body() -> None:
    """An old client uploads as well."""
    service = Service()
    wire = Wire(service)
    wire.send(head("PUT", "/", "Content-Length: 3", version="1.0"), b"abc")
    assert service.basin.data == b"abc"
    assert wire.said.startswith(b"HTTP/1.0 200 OK")
    assert wire.closing


BODIES = [b"", b"a", bytes(range(256)) * 3]
STREAM = (
    head("PUT", "/0", "Transfer-Encoding: chunked")
    + b"3\r\nabc\r\n10;x=y\r\n0123456789abcdef\r\n0\r\nT: v\r\n\r\n"
    + b"".join(head("PUT", f"/{n}", f"Content-Length: {len(body)}") + body for n, body in enumerate(BODIES, 1))
    + head("PUT", "/4", "Transfer-Encoding: chunked", "Expect: 100-continue")
    + b"0\r\n\r\n"
)


@given(st.lists(st.integers(0, len(STREAM)), max_size=12).map(sorted))
def test_any_segmentation_gives_the_same_bytes(cuts: list[int]) -> None:
    """However a connection's bytes are cut, every consumer gets its own."""
    got: dict[bytes, bytes] = {}

    async def serve(request: StreamingRequest) -> Response:
        basin = Basin()
        await request.pour_into(basin)
        got[request.path] = basin.data
        return Response(200)

    wire = Wire(serve)
    for begin, end in zip([0, *cuts], [*cuts, len(STREAM)], strict=True):
        wire.send(STREAM[begin:end])
    bodies = [b"abc0123456789abcdef", *BODIES, b""]
    assert got == {b"/%d" % n: body for n, body in enumerate(bodies)}
    assert [status for status in statuses(wire.said) if status != 100] == [200] * 5
    assert not wire.closing


def test_byte_by_byte() -> None:
    """The extreme of it."""
    service = Service()
    wire = Wire(service)
    for number in range(len(STREAM)):
        wire.send(STREAM[number : number + 1])
    assert service.basin.data == b"abc0123456789abcdef" + b"".join(BODIES)
