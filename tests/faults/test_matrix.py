"""Every kind of call, at several of its occurrences, goes wrong in every way: the object is right, and nothing is left."""

from __future__ import annotations

import pytest

from tests.faults.conftest import nothing_left, settled, stored
from tests.faults.loop import CHUNK, DATA, Uploader
from tests.faults.proxy import ERROR_IN_200, FAULTS, FaultyS3
from tests.harness import Service, eventually

#: Breaks in the middle of the second chunk, and of the third: two fragments, and one, and the parts that are made of them and of
#: what follows.
BREAKS = (CHUNK + 1_500_000, CHUNK + 3_000_000, 2 * CHUNK + 300_000)
#: Kinds of calls, and how many of them an upload with these breaks makes.
ALONE = {
    **{"Create": 1, "UploadPart": 3, "PutFragment": 3, "DeleteObjects": 1, "DeleteFragment": 1, "Complete": 1},
    # moto does not name the checksum of the object, as S3 does.
    "HeadObject": 1,
}
#: The same where other processes may have stored fragments.
CALLS = {**ALONE, "ListObjects": 1}
WITH_BODY = {"UploadPart", "PutFragment", "DeleteObjects", "Complete"}
#: What is dealt with as another fault is. `test_a_small_upload` has them all.
ALIKE = {"500", "SlowDown", "late"}
#: Those whose answer of success may say an error.
WITH_ANSWER = {"Create", "DeleteObjects", "Complete", "ListObjects"}


def cases() -> list[object]:
    found: list[object] = []
    for kind, count in CALLS.items():
        for nth in sorted({1, count}):
            for fault in (*FAULTS, ERROR_IN_200):
                if fault == "break in the body" and kind not in WITH_BODY:
                    continue
                if fault == ERROR_IN_200 and kind not in WITH_ANSWER:
                    continue
                if fault in ALIKE:
                    continue
                found.append(pytest.param(kind, nth, fault, id=f"{kind} {nth} {fault}"))
    return found


def begin_elsewhere(service: Service, uploader: Uploader) -> None:
    """Have another process begin the upload. The one that goes on does not know which fragments there are."""
    uploader.step()
    service.kill()
    service.start()


@pytest.mark.soak
def test_the_calls_of_an_upload(service: Service, store: FaultyS3, name: str, ledger_url: str) -> None:
    """The matrix is about calls that are really made, and about all of them."""
    Uploader(service, name, breaks=BREAKS).run()
    assert stored(store, name) == DATA
    nothing_left(store)
    settled(service)
    # (The bucket is looked at when the service starts.)
    calls = ALONE if ledger_url.startswith("sqlite") else CALLS
    assert {kind: count for kind, count in store.counts.items() if kind != "HEAD bucket"} == calls


@pytest.mark.soak
@pytest.mark.parametrize(("kind", "nth", "fault"), cases())
def test_any_call_goes_wrong(service: Service, store: FaultyS3, name: str, kind: str, nth: int, fault: str) -> None:
    uploader = Uploader(service, name, breaks=BREAKS)
    if kind == "ListObjects":
        begin_elsewhere(service, uploader)
    rule = store.fail(kind, fault, nth)
    uploader.run()
    assert stored(store, name) == DATA
    nothing_left(store)
    eventually(lambda: rule.hit)


@pytest.mark.parametrize("fault", [*FAULTS])
def test_a_small_upload(service: Service, store: FaultyS3, name: str, fault: str) -> None:
    """One request for the whole object."""
    rule = store.fail("PutObject", fault)
    Uploader(service, name, DATA[:70_000]).run()
    assert rule.hit
    assert stored(store, name) == DATA[:70_000]


@pytest.mark.parametrize("fault", [f for f in FAULTS if f != "break in the body"])
def test_the_head_that_decides(service: Service, store: FaultyS3, name: str, fault: str) -> None:
    """Complete's answer is lost, and then the question whether the object is there goes wrong as well."""
    store.fail("Complete", "break after")
    rule = store.fail("HeadObject", fault)
    Uploader(service, name).run()
    assert rule.hit
    assert stored(store, name) == DATA
    nothing_left(store)


@pytest.mark.parametrize("fault", [*(f for f in FAULTS if f != "break in the body"), ERROR_IN_200])
def test_the_list_of_parts(service: Service, store: FaultyS3, name: str, fault: str) -> None:
    """The store says that a part is not what it has: its own list is asked for, which goes wrong as well."""
    store.fail("Complete", "400 InvalidPart")
    rule = store.fail("ListParts", fault)
    Uploader(service, name).run()
    assert rule.hit
    assert stored(store, name) == DATA
    nothing_left(store)


@pytest.mark.parametrize("fault", [f for f in FAULTS if f != "break in the body"])
def test_cancelling(service: Service, store: FaultyS3, name: str, fault: str) -> None:
    rule = store.fail("Abort", fault)
    uploader = Uploader(service, name)
    uploader.send(0, CHUNK + 1_000_000)
    uploader._settle(CHUNK + 1_000_000)
    assert service.request("DELETE", f"/upload/{name}").status == 204
    assert rule.hit
    nothing_left(store)


@pytest.mark.parametrize(
    "fault", [pytest.param(f, marks=() if f == "cut short" else pytest.mark.soak) for f in FAULTS if "body" not in f]
)
def test_reading_back(service: Service, store: FaultyS3, name: str, fault: str) -> None:
    """The process was killed: the fragment is in the store alone, and reading it goes wrong."""
    uploader = Uploader(service, name)
    uploader.send(0, CHUNK + 1_000_000)
    uploader._settle(CHUNK + 1_000_000)
    read_back(service, store, uploader, fault)


def read_back(service: Service, store: FaultyS3, uploader: Uploader, fault: str) -> None:
    """Kill the process, and go on: the fragment is read from the store, and that goes wrong."""
    service.kill()
    service.start()
    rule = store.fail("GetFragment", fault)
    uploader.run()
    assert rule.hit
    assert stored(store, uploader.name) == DATA
    nothing_left(store)
