"""The load drivers, where servers do not do as they should."""

from __future__ import annotations

import socket
import threading

import pytest

from bench.clients.job import Job
from bench.clients.protocols import Google, Plain, Protocol, Put, Refused, Tus, location, stored
from bench.clients.slow import SlowUploads
from bench.clients.uploads import Uploads, break_points
from bench.clients.wire import Address, Answer


def serve(answer: bytes) -> int:
    """A server on a free port that reads a little of each connection and says always the same."""
    listening = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        # A connection that nobody holds is closed.
        held = []
        while True:
            connection, _ = listening.accept()
            held.append(connection)
            connection.recv(65536)
            connection.sendall(answer)

    threading.Thread(target=run, daemon=True).start()
    port: int = listening.getsockname()[1]
    return port


def job(port: int, **changes: int) -> Job:
    """Three small uploads."""
    return Job(protocol="plain", port=port, path="/", prefix="x", count=3, size=1000, **changes)


def test_a_server_that_answers_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """One upload that hangs must not hold up the whole comparison."""
    monkeypatch.setattr("bench.clients.slow.SILENCE", 0.5)
    report = SlowUploads(job(serve(b""), rate=1000)).run()
    assert (report.size, len(report.failures)) == (0, 3)
    assert "nothing moved" in report.failures[0]


def test_a_refusal_is_a_failure_and_the_next_upload_is_tried() -> None:
    """With what the server said."""
    report = Uploads(job(serve(b"HTTP/1.1 507 Full\r\nContent-Length: 2\r\n\r\nno"))).run()
    assert (report.size, len(report.failures)) == (0, 3)
    assert "507 after byte 1000 of 1000: b'no'" in report.failures[0]


def test_interim_answers_and_chunked_bodies_are_read() -> None:
    """Node answers in chunks; 100 Continue comes unasked."""
    wire = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    with Address(serve(wire)).connect() as connection:
        assert connection.request("GET", "/", {}) == Answer(200, {"transfer-encoding": "chunked"}, b"abc")


def test_connections_are_dropped_evenly_and_at_odd_bytes() -> None:
    """Not where a server's parts happen to end."""
    points = list(break_points(100 << 20, 4))
    assert len(points) == 4
    assert all(point % 2 for point in points)
    assert max(points) < 100 << 20


@pytest.mark.parametrize(
    ("protocol", "line"),
    [
        (Put("/upload/"), b"Content-Range: bytes 10-19/30"),
        (Google("/files"), b"Content-Range: bytes 10-19/30"),
        (Tus("/files"), b"Upload-Offset: 10"),
        (Plain("/b/"), b"PUT /b/k.10 HTTP/1.1"),
    ],
)
def test_each_protocol_says_where_bytes_belong(protocol: Protocol, line: bytes) -> None:
    """A request in the middle of an upload."""
    head = protocol.head("/b/k", 10, 20, 30)
    assert line in head.split(b"\r\n")
    assert b"Content-Length: 10" in head


def test_a_range_says_how_much_is_stored() -> None:
    """uploadx says 0--1 for nothing."""
    assert stored(Answer(308, {"range": "bytes=0-99"}, b""), 200) == 100
    assert stored(Answer(308, {"range": "bytes=0--1"}, b""), 200) == 0
    assert stored(Answer(308, {}, b""), 200) == 0
    assert stored(Answer(200, {}, b"{}"), 200) == 200
    with pytest.raises(Refused, match="503"):
        stored(Answer(503, {}, b""), 200)


def test_a_location_may_be_a_whole_url() -> None:
    """Path and query are what the next request needs."""
    assert location(Answer(201, {"location": "http://127.0.0.1:1/files/?upload_id=a"}, b"")) == "/files/?upload_id=a"
    with pytest.raises(Refused, match="201 to the creation"):
        location(Answer(201, {}, b""))
