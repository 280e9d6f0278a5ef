"""A file over one connection, to a server that does one thing wrong."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import PrivateCertificate

from resumable.client import Busy, Changed, Failed, GaveUp, Refused
from resumable.client.http import Http
from resumable.client.sources import Identity
from resumable.client.state import Claim
from tests.client.conftest import DATA, MIB, Bench
from tests.client.server import Kept
from tests.web.test_sockets import certificate

R: Any = reactor
SIZE = len(DATA)
FROM_0 = f"bytes 0-{SIZE - 1}/{SIZE}"


def sent(bench: Bench) -> list[tuple[str, int]]:
    """The ranges that were brought, and how many bytes came of each."""
    return [(one.range, len(one.body)) for one in bench.server.bodies()]


@pytest_twisted.ensureDeferred
async def test_all_in_one_request(bench: Bench) -> None:
    """Nothing is asked; nothing is left in the folder of states; the result is the server's."""
    result = await bench.upload(headers={"Authorization": "Bearer secret", "Content-Type": "video/mp4"})
    assert bench.stored == DATA
    assert (result.status, result.url, dict(result.result or {})["size"]) == (200, bench.url, SIZE)
    [request] = bench.server.requests
    assert (request.range, request.headers["authorization"]) == (FROM_0, "Bearer secret")
    assert request.headers["content-type"] == "video/mp4"
    assert list(bench.state.iterdir()) == []
    assert (bench.seen[-1].stored, bench.seen[-1].total) == (SIZE, SIZE)
    assert max(one.sent for one in bench.seen) == SIZE


@pytest_twisted.ensureDeferred
async def test_an_empty_file(bench: Bench) -> None:
    bench.path.write_bytes(b"")
    await bench.upload()
    assert bench.stored == b""


@pytest.mark.parametrize("after", [0, 1, 5 * MIB, SIZE])
@pytest_twisted.ensureDeferred
async def test_reset_in_the_body(bench: Bench, after: int) -> None:
    """It asks, and goes on where the server is: no byte that is stored is sent again."""
    bench.server.fail(FROM_0, after=after)
    await bench.upload()
    assert bench.stored == DATA
    bodies = bench.server.bodies()
    if after == 0:
        assert [one.range for one in bodies] == [FROM_0, FROM_0]
    elif after == SIZE:
        assert len(bodies) == 1
    else:
        assert bodies[1].range == f"bytes {after}-{SIZE - 1}/{SIZE}"
    assert sum(len(one.body) for one in bodies) == SIZE


@pytest_twisted.ensureDeferred
async def test_the_last_answer_is_lost(bench: Bench) -> None:
    """All was stored: it asks, gets the result, and sends nothing again."""
    bench.server.fail(FROM_0, lost=True)
    await bench.upload()
    assert bench.stored == DATA
    assert [one.range for one in bench.server.requests] == [FROM_0, "bytes */*"]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
@pytest_twisted.ensureDeferred
async def test_what_may_pass_is_tried_again(bench: Bench, status: int) -> None:
    bench.server.fail(FROM_0, status=status, after=3 * MIB)
    bench.server.fail("bytes */*", status=status)
    await bench.upload()
    assert bench.stored == DATA
    assert sent(bench)[1][0] == f"bytes {3 * MIB}-{SIZE - 1}/{SIZE}"


@pytest_twisted.ensureDeferred
async def test_retry_after(bench: Bench) -> None:
    """The server is left alone for as long as it asks."""
    moments: list[float] = []
    bench.server.fail(FROM_0, status=503, headers={"Retry-After": "1"}, then=lambda: moments.append(R.seconds()))
    bench.server.fail("bytes */*", status=503, then=lambda: moments.append(R.seconds()))
    await bench.upload()
    assert moments[1] - moments[0] >= 0.99
    assert max(one.seconds for one in bench.seen if one.waiting) >= 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 412, 413])
@pytest.mark.parametrize("split", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_no_ends_it_while_the_body_is_sent(bench: Bench, status: int, split: bool) -> None:
    """The rest of the body is not sent, whether the answer comes whole or its body later than its head."""
    body = json.dumps({"detail": "no, " + "because " * 3}).encode()
    said = body
    if split:
        # The head, and the body when the client has had time to read it.
        connection: list[Any] = []

        def later() -> None:
            [one] = bench.server.connections
            connection.append(one)
            R.callLater(0.2, lambda: one.transport.write(body))

        bench.server.fail(FROM_0, status=-1, after=1 * MIB, then=lambda: (later(), _head(bench, status, len(body))))
    else:
        bench.server.fail(FROM_0, status=status, after=1 * MIB, body=said)
    with pytest.raises(Refused, match=f"{status}: no, because because") as caught:
        await bench.upload(limit_rate=20.0 * MIB)
    assert caught.value.status == status
    assert len(bench.server.requests) == 1
    # It was in the middle of the body, by far.
    assert max(one.sent for one in bench.seen) < SIZE // 2 + MIB


def _head(bench: Bench, status: int, length: int) -> None:
    [one] = bench.server.connections
    one.transport.write(f"HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n".encode())  # type: ignore[union-attr]


@pytest_twisted.ensureDeferred
async def test_silence_while_the_body_is_sent(bench: Bench) -> None:
    """A server that takes nothing more: the connection is given up, and the upload goes on."""
    [stuck] = [bench.server.fail(FROM_0, status=-1, after=2 * MIB)]

    def pause() -> None:
        [one] = bench.server.connections
        one.transport.pauseProducing()  # type: ignore[union-attr]

    stuck.then = pause
    await bench.upload(http=Http(R, silence=0.5))
    assert bench.stored == DATA
    assert any("no byte of the body was taken" in one.waiting for one in bench.seen)


@pytest_twisted.ensureDeferred
async def test_no_answer(bench: Bench) -> None:
    bench.server.fail(FROM_0, status=-1, after=SIZE)
    await bench.upload(http=Http(R, answer=0.5))
    assert bench.stored == DATA
    assert any("no answer for 0.5 s" in one.waiting for one in bench.seen)


@pytest_twisted.ensureDeferred
async def test_gives_up(bench: Bench) -> None:
    """After so long without progress; and at once if the server wants to be left alone for longer than that."""
    for _ in range(500):
        bench.server.fail(lambda _: True, status=503)
    began = R.seconds()
    with pytest.raises(GaveUp, match=r"no progress for 0\.5 s; last: 503") as caught:
        await bench.upload(retry_for=0.5)
    assert caught.value.status == 503
    assert 0.3 < R.seconds() - began < 3
    bench.server.faults.clear()
    bench.server.fail(lambda _: True, status=503, headers={"Retry-After": "3600"})
    with pytest.raises(GaveUp):
        await bench.upload()


@pytest_twisted.ensureDeferred
async def test_progress_makes_it_patient_again(bench: Bench) -> None:
    """It waits longer in all than `retry_for`, and each time a little more is stored."""
    step = SIZE // 4
    for number in range(3):
        how: dict[str, Any] = {"status": 503, "after": step, "headers": {"Retry-After": "1"}}
        bench.server.fail(f"bytes {number * step}-", **how)
    began = R.seconds()
    await bench.upload(retry_for=1.8)
    assert bench.stored == DATA
    assert R.seconds() - began > 2.5


@pytest_twisted.ensureDeferred
async def test_a_server_that_keeps_nothing(bench: Bench) -> None:
    """It takes all bytes, says that all is well, and has stored nothing: that is no progress."""
    for _ in range(500):
        bench.server.fail(lambda one: not one.query, status=308, after=SIZE, stored=False)
    with pytest.raises(GaveUp, match="nothing of what was sent"):
        await bench.upload(retry_for=0.3)


@pytest_twisted.ensureDeferred
async def test_goes_on_in_another_process(bench: Bench) -> None:
    """Cancelled, as by Ctrl-C; begun again it asks first, and sends the rest."""
    begun: Deferred[None] = Deferred()
    bench.server.fail(FROM_0, status=-1, after=9 * MIB, then=lambda: begun.callback(None))
    going = Deferred.fromCoroutine(bench.upload(headers={"Authorization": "Bearer secret"}))
    await begun
    going.cancel()
    with pytest.raises(CancelledError):
        await going
    [record] = bench.records()
    assert "secret" not in record
    bench.server.requests.clear()
    await bench.upload()
    assert bench.stored == DATA
    assert [one.range for one in bench.server.requests] == ["bytes */*", f"bytes {9 * MIB}-{SIZE - 1}/{SIZE}"]
    assert bench.records() == []


async def broken_off(bench: Bench, at: int) -> None:
    """Begin, and be refused when `at` bytes are stored."""
    bench.server.fail(FROM_0, status=403, after=at)
    with pytest.raises(Refused):
        await bench.upload()
    bench.server.requests.clear()


@pytest_twisted.ensureDeferred
async def test_a_changed_file_begins_anew(bench: Bench) -> None:
    """Of the same size, but modified since: the server is not asked, and the object is the new file."""
    await broken_off(bench, 9 * MIB)
    other = DATA[:100] + b"x" + DATA[101:]
    bench.path.write_bytes(other)
    os.utime(bench.path, ns=(0, 1))
    await bench.upload()
    assert bench.stored == other
    assert bench.server.requests[0].range == FROM_0


@pytest.mark.parametrize("status", [404, 410])
@pytest_twisted.ensureDeferred
async def test_what_was_begun_is_gone(bench: Bench, status: int) -> None:
    """The server has cleaned up: to the query, or between the query and the rest."""
    await broken_off(bench, 9 * MIB)
    rest = f"bytes {9 * MIB}-{SIZE - 1}/{SIZE}"
    bench.server.fail(rest, status=status, then=bench.server.uploads.clear)
    await bench.upload()
    assert bench.stored == DATA
    assert [one.range for one in bench.server.requests] == ["bytes */*", rest, FROM_0]


@pytest_twisted.ensureDeferred
async def test_another_length_is_there(bench: Bench) -> None:
    """Somebody has begun another file under the name since: 400 to the rest, and this one begins anew."""
    await broken_off(bench, 9 * MIB)
    bench.server.uploads["/upload/film.bin"] = Kept(bytearray(b"x" * 5), [(0, 5)], 100)
    await bench.upload()
    assert bench.stored == DATA


@pytest_twisted.ensureDeferred
async def test_conflict(bench: Bench) -> None:
    """409, and the file is what it was: it begins anew at byte 0."""
    await broken_off(bench, 9 * MIB)
    bench.server.fail(f"bytes {9 * MIB}-", status=409)
    await bench.upload()
    assert bench.stored == DATA
    assert bench.server.requests[-1].range == FROM_0


@pytest_twisted.ensureDeferred
async def test_conflict_and_the_file_has_changed(bench: Bench) -> None:
    """409, and the file was written to since: it says so, and begins nothing."""
    await broken_off(bench, 9 * MIB)

    def write() -> None:
        with bench.path.open("ab") as file:
            file.write(b"more")

    bench.server.fail(f"bytes {9 * MIB}-", status=409, then=write)
    with pytest.raises(Changed, match="has changed"):
        await bench.upload()
    assert FROM_0 not in [one.range for one in bench.server.requests]


@pytest_twisted.ensureDeferred
async def test_conflict_for_ever(bench: Bench) -> None:
    """It is not begun anew without end."""
    for _ in range(20):
        bench.server.fail(FROM_0, status=409)
    with pytest.raises(Refused) as caught:
        await bench.upload()
    assert caught.value.status == 409
    assert len(bench.server.bodies()) == 3


@pytest.mark.parametrize("checksums", [True, False])
@pytest_twisted.ensureDeferred
async def test_another_object_under_the_name(bench: Bench, checksums: bool) -> None:
    """The first try fails before anything arrived, and the query finds a finished object of the same length: not this."""
    other = Kept(bytearray(DATA[::-1]), [(0, SIZE)], SIZE, finished=True)
    bench.server.uploads["/upload/film.bin"] = other
    bench.server.checksums = checksums
    bench.server.fail(FROM_0, status=503, after=0, stored=False)
    await bench.upload()
    assert bench.stored == DATA


@pytest_twisted.ensureDeferred
async def test_the_file_changes_meanwhile(bench: Bench) -> None:
    """It gets shorter, or is written to: no success is told."""
    bench.server.fail(FROM_0, after=10 * MIB, then=lambda: os.truncate(bench.path, 11 * MIB))
    with pytest.raises(Changed):
        await bench.upload()
    bench.path.write_bytes(DATA)
    bench.server.fail(lambda one: one.range == FROM_0, lost=True, then=lambda: os.utime(bench.path, ns=(0, 7)))
    with pytest.raises(Changed):
        await bench.upload()


@pytest_twisted.ensureDeferred
async def test_one_process_at_a_time(bench: Bench) -> None:
    """The second says so; the lock is over with the first."""
    identity = Identity(SIZE, bench.path.stat().st_mtime_ns)
    claim = Claim(bench.state, bench.url, str(bench.path), identity)
    with pytest.raises(Busy):
        await bench.upload()
    assert bench.server.requests == []
    claim.release()
    await bench.upload()
    assert bench.stored == DATA


def test_the_lock_ends_with_its_process(bench: Bench) -> None:
    """Also if that is killed."""
    identity = Identity(1, 1)
    ready, child = os.pipe(), os.fork()
    if child == 0:
        Claim(bench.state, bench.url, "/file", identity).save(5)
        os.write(ready[1], b"x")
        signal.pause()
    os.read(ready[0], 1)
    with pytest.raises(Busy):
        Claim(bench.state, bench.url, "/file", identity)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    again = Claim(bench.state, bench.url, "/file", identity)
    assert again.record is not None
    assert again.record.stored == 5
    again.release()


@pytest_twisted.ensureDeferred
async def test_a_record_that_cannot_be_read(bench: Bench) -> None:
    """It costs nothing but the bytes that it could have saved."""
    await broken_off(bench, 9 * MIB)
    [record] = bench.state.glob("*.json")
    record.write_bytes(b"\xff{")
    await bench.upload()
    assert bench.stored == DATA


@pytest_twisted.ensureDeferred
async def test_no_folder_for_states(bench: Bench) -> None:
    """The upload itself is not worse for it."""
    bench.state.write_text("a file")
    await bench.upload()
    assert bench.stored == DATA


@pytest_twisted.ensureDeferred
async def test_a_redirection_is_not_followed(bench: Bench) -> None:
    bench.server.fail(FROM_0, status=301, headers={"Location": "http://127.0.0.1:1/"})
    with pytest.raises(Refused, match="301: the URL has moved"):
        await bench.upload()


@pytest_twisted.ensureDeferred
async def test_files_that_cannot_be_uploaded(bench: Bench) -> None:
    for name in ("missing", "."):
        with pytest.raises(Failed, match="cannot be read"):
            await bench.upload(source=str(bench.path.parent / name))
    os.mkfifo(bench.path.parent / "fifo")
    with pytest.raises(Failed, match="no regular file"):
        await bench.upload(source=str(bench.path.parent / "fifo"))


@pytest_twisted.ensureDeferred
async def test_the_rate_is_kept(bench: Bench) -> None:
    bench.path.write_bytes(DATA[: 2 * MIB])
    began = R.seconds()
    await bench.upload(limit_rate=2.0 * MIB)
    assert 0.75 < R.seconds() - began < 5


@pytest_twisted.ensureDeferred
async def test_a_certificate_that_nobody_trusts(bench: Bench) -> None:
    """It is said at once: it would be no other at the next try."""
    port = R.listenSSL(0, bench.server, PrivateCertificate.loadPEM(certificate()).options(), interface="127.0.0.1")
    bench.url = f"https://localhost:{port.getHost().port}/upload/film.bin"
    try:
        with pytest.raises(Failed, match="certificate"):
            await bench.upload()
        assert bench.server.requests == []
    finally:
        await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_tls_where_none_is_spoken(bench: Bench) -> None:
    """It is not tried again: a server that answers so speaks no TLS a minute later either."""

    class Plain(Protocol):
        def dataReceived(self, data: bytes) -> None:
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")  # type: ignore[union-attr]

    port = R.listenTCP(0, Factory.forProtocol(Plain), interface="127.0.0.1")
    bench.url = f"https://127.0.0.1:{port.getHost().port}/"
    try:
        with pytest.raises(Failed, match="does not speak TLS at this port"):
            await bench.upload()
    finally:
        await port.stopListening()
