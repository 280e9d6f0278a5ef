"""A file over several connections."""

from __future__ import annotations

import random

import pytest
import pytest_twisted

from resumable.client import GaveUp, Refused
from resumable.client.ranges import missing
from tests.client.conftest import MIB, Bench
from tests.client.server import CHUNK, Kept

BIG = random.Random(9).randbytes(50 * MIB + 4321)
SIZE = len(BIG)


@pytest.fixture(autouse=True)
def _big(bench: Bench) -> None:
    bench.path.write_bytes(BIG)


def brought(bench: Bench) -> int:
    """Bytes of bodies that came."""
    return sum(len(one.body) for one in bench.server.bodies())


@pytest_twisted.ensureDeferred
async def test_over_four_connections(bench: Bench) -> None:
    """Ranges begin and end at the chunk size's multiples; each byte is sent once, over four connections."""
    await bench.upload(connections=4)
    assert bench.stored == BIG
    assert brought(bench) == SIZE
    assert bench.server.most_connections == 4
    firsts = [int(one.range.removeprefix("bytes ").partition("-")[0]) for one in bench.server.bodies()]
    assert all(first % CHUNK == 0 for first in firsts)
    assert [one.headers.get("upload-swarm") for one in bench.server.bodies()][1:] == ["?1"] * (len(firsts) - 1)
    assert bench.seen[-1].stored == SIZE
    assert bench.records() == []


@pytest_twisted.ensureDeferred
async def test_a_small_file_goes_over_one(bench: Bench) -> None:
    bench.path.write_bytes(BIG[: 2 * CHUNK])
    await bench.upload(connections=4)
    assert bench.stored == BIG[: 2 * CHUNK]
    assert len(bench.server.requests) == 1


@pytest.mark.parametrize("status", [0, 503])
@pytest_twisted.ensureDeferred
async def test_what_broke_off_is_asked_for(bench: Bench, status: int) -> None:
    """Several connections break in their middle; each byte that was stored is sent once."""
    for number in range(1, 8):
        bench.server.fail(f"bytes {number * CHUNK}-", status=status, after=number * MIB // 2)
    await bench.upload(connections=4)
    assert bench.stored == BIG
    # What is sent before an early answer is read is lost with it; it never counts as brought.
    assert brought(bench) == SIZE


@pytest_twisted.ensureDeferred
async def test_the_last_answer_is_lost(bench: Bench) -> None:
    def last(request: object) -> bool:
        kept = bench.server.uploads.get("/upload/film.bin")
        return kept is not None and len(missing(kept.ranges, 0, SIZE)) == 1 and not getattr(request, "query", True)

    bench.server.fail(last, lost=True)
    await bench.upload(connections=2)
    assert bench.stored == BIG


@pytest_twisted.ensureDeferred
async def test_goes_on_with_what_is_missing(bench: Bench) -> None:
    """Broken off for good with holes; begun again, only these are brought."""
    bench.server.fail(f"bytes {3 * CHUNK}-", status=403, after=MIB)
    with pytest.raises(Refused):
        await bench.upload(connections=4)
    before = brought(bench)
    stored = sum(end - first for first, end in bench.server.uploads["/upload/film.bin"].ranges)
    bench.server.requests.clear()
    await bench.upload(connections=4)
    assert bench.stored == BIG
    assert bench.server.requests[0].query
    assert brought(bench) <= SIZE - stored
    assert before < SIZE


@pytest_twisted.ensureDeferred
async def test_other_bytes_are_there(bench: Bench) -> None:
    """An upload of many connections of another file: it is cancelled, and this one is begun."""
    kept = Kept(bytearray(SIZE), [(0, CHUNK), (2 * CHUNK, 3 * CHUNK)], SIZE)
    bench.server.uploads["/upload/film.bin"] = kept
    await bench.upload(connections=3)
    assert bench.stored == BIG
    assert "DELETE" in [one.method for one in bench.server.requests]


@pytest_twisted.ensureDeferred
async def test_the_upload_goes_away(bench: Bench) -> None:
    """Cleaned up by the server in its middle: it is begun anew."""
    bench.server.fail(f"bytes {4 * CHUNK}-", status=404, then=bench.server.uploads.clear)
    await bench.upload(connections=4)
    assert bench.stored == BIG


@pytest_twisted.ensureDeferred
async def test_a_server_without_swarms(bench: Bench) -> None:
    """It names no chunk size: the rest goes over one connection."""
    bench.server.chunk_size = 0
    await bench.upload(connections=4)
    assert bench.stored == BIG
    assert all("upload-swarm" not in one.headers for one in bench.server.requests)
    assert brought(bench) == SIZE


@pytest_twisted.ensureDeferred
async def test_gives_up(bench: Bench) -> None:
    for _ in range(500):
        bench.server.fail(lambda one: "upload-swarm" in one.headers, status=503, stored=False)
    with pytest.raises(GaveUp):
        await bench.upload(connections=4, retry_for=0.3)
