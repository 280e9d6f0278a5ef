"""Every kind of call, at each of its occurrences, goes wrong in every way: the object is right, and nothing is left."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import pytest
from pytest_twisted import ensureDeferred

from resumable.stores.gcs.client import GcsStore
from tests.protocols.harness import Door, Memory, memory_service, until
from tests.stores.gcs.server import Fault, GcsServer
from tests.stores.gcs.test_service import concatenated, partial

DATA = random.Random(6).randbytes(60)
#: Where the client breaks off: in the middle of chunks of 16 bytes.
BREAKS = (21, 27, 48)
WAYS = {
    "503": (503, False, "ServiceUnavailable"),
    "page": (502, False, ""),
    "break before": (0, False, ""),
    "break after": (0, True, ""),
    "503 after": (503, True, "ServiceUnavailable"),
    "SlowDown": (429, False, "SlowDown"),
}


async def in_pieces(service: Memory, size: int = len(DATA)) -> None:
    """Send the file: ask, go on from there, break off; and so on, until it is finished."""
    edges = [*BREAKS, size]
    for _ in range(40):
        told = await service.ask("PUT", "/upload/k", ["Content-Range: bytes */*"])
        if told.status in (200, 201):
            return
        if told.status == 503:
            continue
        offset = int((told.header("Range") or "bytes=0--1").removeprefix("bytes=0-")) + 1 if told.status == 308 else 0
        end = next(edge for edge in edges if edge > offset) if offset < size else size
        range_ = f"bytes {offset}-{end - 1}/{size}" if offset < size else f"bytes */{size}"
        await service.ask("PUT", "/upload/k", [f"Content-Range: {range_}"], DATA[offset:end])
    raise AssertionError("it does not end")


async def one(service: Memory) -> None:
    await service.ask("PUT", "/upload/k", [], DATA[:10])


async def joined(service: Memory) -> None:
    paths = [await partial(service, DATA[:40]), await partial(service, DATA[40:])]
    for _ in range(10):
        if (await concatenated(service, paths, "k")).status == 201:
            return
    raise AssertionError("it does not end")


SENT = {"pieces": in_pieces, "one request": one, "concatenation": joined}
#: What an upload asks of the store: how it is sent, whether it may replace -> operation, how often.
ASKED: dict[tuple[str, bool], dict[str, int]] = {
    ("pieces", True): {
        **{"CreateMultipartUpload": 1, "PutObject": 2, "UploadPart": 4, "CompleteMultipartUpload": 1},
        **{"HeadObject": 1, "DeleteObject": 2},
    },
    ("pieces", False): {
        **{"CreateMultipartUpload": 1, "PutObject": 2, "UploadPart": 4, "CompleteMultipartUpload": 1},
        **{"GetObjectResource": 1, "RewriteObject": 1, "HeadObject": 1, "DeleteObject": 3},
    },
    ("one request", False): {"PutObject": 1},
    ("concatenation", False): {
        **{"PutObject": 3, "GetObject": 3, "HeadObject": 3, "RewriteObject": 2, "ComposeObject": 1},
        **{"ListObjectResources": 1, "DeleteObject": 5},
    },
}


def parts_left(gcs: GcsServer) -> bool:
    """Whether there are parts. An empty multipart upload may be left: nobody can know of one whose answer was lost."""
    return any(one.parts for one in gcs.multiparts.values())


async def run(
    gcs: GcsServer, store: GcsStore, how: str, overwrite: bool, done: Callable[[], bool] = lambda: True
) -> None:
    """Send it, and see that the object is right and nothing is left.

    :param done: becomes true when all has happened that is to happen, in the background too.
    """
    gcs.smallest_part = 1
    async with memory_service(Door("alice"), store=store, overwrite=overwrite, limits=store.limits) as service:
        await SENT[how](service)
        await until(lambda: done() and list(gcs.buckets["bucket"]) == ["alice/k"] and not parts_left(gcs))
        assert gcs.read("alice/k") == (DATA[:10] if how == "one request" else DATA)


@pytest.mark.parametrize(("how", "overwrite"), ASKED)
@ensureDeferred
async def test_the_calls_of_an_upload(gcs: GcsServer, store: GcsStore, how: str, overwrite: bool) -> None:
    """The matrix is about calls that are really made, and about all of them."""
    wanted = Counter(ASKED[how, overwrite])
    with suppress(AssertionError):
        await run(gcs, store, how, overwrite, lambda: Counter(gcs.names()) >= wanted)
    assert Counter(gcs.names()) == wanted


@pytest.mark.parametrize(
    ("how", "overwrite", "way"),
    [
        pytest.param(
            how, overwrite, way, marks=() if (how, way) == ("concatenation", "break after") else pytest.mark.soak
        )
        for how, overwrite in ASKED
        for way in WAYS
    ],
)
@ensureDeferred
async def test_any_call_goes_wrong(gcs: GcsServer, store: GcsStore, how: str, overwrite: bool, way: str) -> None:
    status, done, code = WAYS[way]
    for name, count in ASKED[how, overwrite].items():
        for nth in sorted({1, count}):
            gcs.reset()
            gcs.faults.append(Fault(name, status, done=done, code=code))
            gcs.passing[name] = nth - 1
            await run(gcs, store, how, overwrite, lambda: not gcs.faults)
