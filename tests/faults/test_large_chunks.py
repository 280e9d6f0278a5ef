"""Chunks that are larger than memory, on a real S3: stored cell by cell, and joined by the store."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.faults.conftest import nothing_left, settled, stored
from tests.faults.loop import Uploader
from tests.faults.proxy import FaultyS3
from tests.harness import Service, eventually
from tests.service.conftest import configuration

pytestmark = pytest.mark.soak

MIB = 1 << 20
#: The least that a part may have.
CELL = 5 * MIB
#: With two parts at most, and memory for joining 4 MiB, it is one chunk.
DATA = random.Random(12).randbytes(4 * CELL + 123_457)
#: Keys of what the service stores for itself.
OWN = "/.resumable/"


@pytest.fixture(scope="module")
def service(shared_store: FaultyS3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    config = configuration(
        shared_store,
        store={"patience": "3s", "chunk_size": CELL, "max_parts": 2},
        limits={"memory": 16 * MIB},
    )
    with Service(tmp_path_factory.mktemp("large"), config) as started:
        yield started
        assert "Traceback" not in started.log
        assert "Unhandled" not in started.log


def check(store: FaultyS3, name: str, data: bytes = DATA) -> None:
    assert stored(store, name) == data
    nothing_left(store)


def test_cell_by_cell(service: Service, store: FaultyS3, name: str) -> None:
    """Five fragments, an object that the store makes of them, and one part of that: no byte is read back."""
    Uploader(service, name, DATA).run()
    check(store, name)
    settled(service)
    assert store.counts["PutFragment"] == 5
    assert store.counts["GetFragment"] == 0
    # Of each fragment a part of the object of the service's own, and that one as a part of the client's.
    assert store.counts["UploadPart"] == 6
    assert store.counts["Create"] == store.counts["Complete"] == 2


def test_gone_on_with_at_odd_bytes(service: Service, store: FaultyS3, name: str) -> None:
    """Fragments that are too short for a part of their own are read back, and no others."""
    breaks = [1, 777_777, CELL - 1, CELL, CELL + 1, 2 * CELL + 2_000_001, 4 * CELL + 5]
    Uploader(service, name, DATA, breaks=breaks).run()
    check(store, name)


@pytest.mark.parametrize(
    ("kind", "nth", "where", "when"),
    [
        pytest.param("PutFragment", 3, OWN, "break after", id="fragment"),
        pytest.param("Create", 1, OWN, "break after", id="staged-begun"),
        pytest.param("UploadPart", 3, OWN, "break after", id="staged-part"),
        pytest.param("Complete", 1, OWN, "break after", id="staged"),
        pytest.param("UploadPart", 1, "{name}", "break before", id="before-the-part"),
        pytest.param("UploadPart", 1, "{name}", "break after", id="part"),
    ],
)
def test_killed_in_a_join(
    service: Service, store: FaultyS3, name: str, kind: str, nth: int, where: str, when: str
) -> None:
    """At each step, with the ledger not yet knowing what the store has done: nothing acknowledged is lost, and nothing stays."""
    rule = store.fail(kind, when, nth, where=where.format(name=name), then=service.kill)
    uploader = Uploader(service, name, DATA, breaks=[CELL + 1_234_567])

    def goes_on() -> bool:
        if not service.running:
            service.start()
        return uploader.step()

    eventually(goes_on, seconds=60)
    assert rule.hit
    if not service.running:  # killed while it tidied up behind a finished upload
        service.start()
    check(store, name)


@pytest.mark.parametrize("fault", ["503", "cut short"])
@pytest.mark.parametrize("nth", [2, 6])
def test_a_copy_goes_wrong(service: Service, store: FaultyS3, name: str, nth: int, fault: str) -> None:
    """The store does not copy at once, or its answer is lost."""
    rule = store.fail("UploadPart", fault, nth)
    Uploader(service, name, DATA).run()
    assert rule.hit
    check(store, name)


def test_unknown_length(service: Service, store: FaultyS3, name: str) -> None:
    """The first chunk fits into memory, and the second does not. It breaks off in the middle of that one's cells."""
    cut = 2 * CELL + 654_321

    answer = service.request("PUT", f"/upload/{name}", {"Content-Range": f"bytes 0-{cut - 1}/*"}, DATA[:cut])
    assert answer.status == 308
    uploader = Uploader(service, name, DATA)
    assert uploader.offset() == cut
    uploader.run()
    check(store, name)
    assert store.counts["Complete"] == 2, "one chunk was joined by the store"
