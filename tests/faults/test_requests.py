"""What an upload costs: the calls of the store are counted, for each of them is paid."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.faults.conftest import stored
from tests.faults.loop import Uploader
from tests.faults.proxy import FaultyS3
from tests.harness import Service, eventually
from tests.service.conftest import configuration

CHUNK = 50 << 20
#: moto does not name the checksum of what it was sent, as S3 does: whether it has all of it is looked up.
LOOK = {"HeadObject": 1}


def calls(store: FaultyS3) -> dict[str, int]:
    """What was asked for uploads: not the look at the bucket when the service starts."""
    return {kind: count for kind, count in store.counts.items() if kind != "HEAD bucket"}


DATA = random.Random(5).randbytes(100_000_000)


@pytest.fixture(scope="module")
def large(shared_store: FaultyS3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with large chunks."""
    config = configuration(shared_store, store={"chunk_size": "50MiB"}, limits={"memory": "256MiB"})
    with Service(tmp_path_factory.mktemp("large"), config) as started:
        yield started


def test_one_for_a_small_object(large: Service, store: FaultyS3, name: str) -> None:
    Uploader(large, name, DATA[:1_000_000]).run()
    assert calls(store) == {"PutObject": 1, **LOOK}
    assert stored(store, name) == DATA[:1_000_000]


def test_four_for_two_parts(large: Service, store: FaultyS3, name: str) -> None:
    Uploader(large, name, DATA).run()
    assert calls(store) == {"Create": 1, "UploadPart": 2, "Complete": 1, **LOOK}
    assert stored(store, name) == DATA


def test_resuming_at_an_edge_costs_nothing(large: Service, store: FaultyS3, name: str) -> None:
    Uploader(large, name, DATA, breaks=[CHUNK]).run()
    assert calls(store) == {"Create": 1, "UploadPart": 2, "Complete": 1, **LOOK}
    assert stored(store, name) == DATA


def test_asking_costs_nothing(large: Service, store: FaultyS3, name: str) -> None:
    uploader = Uploader(large, name, DATA, breaks=[CHUNK])
    uploader.step()
    eventually(lambda: uploader.offset() == CHUNK)
    store.reset()
    for _ in range(10):
        assert uploader.offset() == CHUNK
    assert dict(store.counts) == {}
    uploader.run()
