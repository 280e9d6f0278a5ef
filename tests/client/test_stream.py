"""A stream whose length nobody knows before its end."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred

from resumable.client import Refused
from tests.client.conftest import DATA, MIB, Bench
from tests.client.server import CHUNK, Kept

R: Any = reactor


async def stream(bench: Bench, pieces: Iterable[bytes], **options: Any) -> None:
    """Upload what a thread writes into a pipe."""
    out, into = os.pipe()

    def write() -> None:
        with suppress(BrokenPipeError), os.fdopen(into, "wb") as pipe:
            for piece in pieces:
                pipe.write(piece)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    try:
        await bench.upload(source=out, **options)
    finally:
        os.close(out)
    writer.join()


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, len(DATA)])
@pytest_twisted.ensureDeferred
async def test_any_length(bench: Bench, size: int) -> None:
    """Chunk by chunk; the length is said at the end."""
    await stream(bench, [DATA[:size]])
    assert bench.stored == DATA[:size]
    assert sum(len(one.body) for one in bench.server.bodies()) == size
    if size > CHUNK:
        assert bench.server.bodies()[0].range == f"bytes 0-{CHUNK - 1}/*"
        assert bench.server.requests[-1].range.endswith(f"/{size}")


@pytest.mark.parametrize("lost", [True, False])
@pytest_twisted.ensureDeferred
async def test_what_is_not_acknowledged_is_sent_again(bench: Bench, lost: bool) -> None:
    """Each request breaks off, or its answer is lost."""
    for first in range(0, len(DATA), CHUNK):
        how: dict[str, Any] = {"lost": True} if lost else {"after": 1 * MIB}
        bench.server.fail(f"bytes {first}-", **how)
    await stream(bench, [DATA])
    assert bench.stored == DATA
    assert sum(len(one.body) for one in bench.server.bodies()) == len(DATA)


@pytest_twisted.ensureDeferred
async def test_an_unfinished_upload_of_the_name_is_cancelled(bench: Bench) -> None:
    """Its beginning may be the same, and the rest not: nobody knows where the streams part."""
    bench.server.uploads["/upload/film.bin"] = Kept(bytearray(DATA[:CHUNK] + b"x" * CHUNK), [(0, 2 * CHUNK)])
    await stream(bench, [DATA])
    assert bench.stored == DATA


@pytest_twisted.ensureDeferred
async def test_the_upload_goes_away(bench: Bench) -> None:
    """What was acknowledged cannot be read again."""
    bench.server.fail(f"bytes {CHUNK}-", status=404, then=bench.server.uploads.clear)
    with pytest.raises(Refused):
        await stream(bench, [DATA])


@pytest_twisted.ensureDeferred
async def test_it_is_read_no_faster_than_it_is_stored(bench: Bench) -> None:
    """While a request is not answered, no more than one more block is read."""
    written = 0

    def pieces() -> Iterable[bytes]:
        nonlocal written
        for at in range(0, len(DATA), 65_536):
            yield DATA[at : at + 65_536]
            written = at + 65_536

    begun: Deferred[None] = Deferred()
    bench.server.fail("bytes 0-", status=-1, after=CHUNK, then=lambda: R.callLater(0.5, begun.callback, None))
    going = Deferred.fromCoroutine(stream(bench, pieces()))
    await begun
    assert written <= 2 * CHUNK + MIB
    going.cancel()
    with pytest.raises(CancelledError):
        await going


@pytest_twisted.ensureDeferred
async def test_cancelled_while_nothing_comes(bench: Bench) -> None:
    """A writer that says nothing keeps nobody: the thread that reads is woken."""
    out, into = os.pipe()
    going = Deferred.fromCoroutine(bench.upload(source=out))
    while not bench.server.requests:
        waiting: Deferred[None] = Deferred()
        R.callLater(0.01, waiting.callback, None)
        await waiting
    going.cancel()
    with pytest.raises(CancelledError):
        await going
    pool = R.getThreadPool()
    for _ in range(500):
        if not pool.working:
            break
        waiting = Deferred()
        R.callLater(0.01, waiting.callback, None)
        await waiting
    assert not pool.working
    os.close(out)
    os.close(into)
