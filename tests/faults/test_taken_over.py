"""A name is put again while its former object is still being made: what the last client was told of stays."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import pytest

from tests.faults.conftest import stored
from tests.faults.proxy import LANDS_LATE, LATE, FaultyS3, Rule
from tests.harness import Answer, Client, Service, eventually
from tests.service.conftest import configuration

CHUNK = 5 << 20
DATA = random.Random(3).randbytes(CHUNK + 300_000)
OTHER = random.Random(4).randbytes(CHUNK + 300_000)

SIZES = pytest.mark.parametrize(("call", "size"), [("PutObject", 100_000), ("Complete", len(DATA))])


@pytest.fixture(scope="module", params=[1, pytest.param(2, marks=pytest.mark.soak)])
def patient(
    request: pytest.FixtureRequest, shared_store: FaultyS3, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A service that asks the store for longer than its clients wait; two workers cannot tell each other."""
    store = {"patience": "20s", "chunk_size": "5MiB"}
    config = configuration(shared_store, store=store, workers=request.param)
    with Service(tmp_path_factory.mktemp("patient"), config) as started:
        yield started
        assert "Traceback" not in started.log
        assert "Unhandled" not in started.log


def put_and_give_up(service: Service, name: str, data: bytes, rule: Rule) -> None:
    with Client(service.port) as client:
        client.head("PUT", f"/upload/{name}", {"Content-Length": str(len(data))})
        client.send(data)
        eventually(lambda: rule.hit)


@pytest.mark.soak
@SIZES
@pytest.mark.parametrize("delete", [False, True])
def test_a_try_that_waits(patient: Service, store: FaultyS3, name: str, call: str, size: int, delete: bool) -> None:
    """The store is busy and asks for two seconds; meanwhile the client has given up, and puts the name again."""
    rule = store.fail(call, "503 for 2")
    put_and_give_up(patient, name, DATA[:size], rule)
    if delete:
        assert patient.request("DELETE", f"/upload/{name}").status == 204
    answer = patient.request("PUT", f"/upload/{name}", None, OTHER[:size])
    assert answer.status == 200
    time.sleep(2.5)
    assert stored(store, name) == OTHER[:size]
    assert patient.request("GET", f"/upload/{name}").json["id"] == answer.json["id"]


@pytest.mark.soak
@SIZES
def test_a_try_that_lands_late(patient: Service, store: FaultyS3, name: str, call: str, size: int) -> None:
    """The connection to the store broke, and what was asked is done a second later: before the next object, not after it."""
    rule = store.fail(call, LANDS_LATE)
    put_and_give_up(patient, name, DATA[:size], rule)
    answer = patient.request("PUT", f"/upload/{name}", None, OTHER[:size])
    assert answer.status == 200
    time.sleep(1.5 * LATE)
    assert stored(store, name) == OTHER[:size]


@pytest.mark.soak
@pytest.mark.parametrize(("call", "size"), [("PutObject", 100_000), ("Complete", len(DATA))])
def test_a_process_that_dies(
    shared_store: FaultyS3, store: FaultyS3, tmp_path_factory: pytest.TempPathFactory, name: str, call: str, size: int
) -> None:
    """What it had asked is done when it is gone and started again."""
    config = configuration(shared_store, store={"chunk_size": "5MiB"})
    with Service(tmp_path_factory.mktemp("dying"), config) as service:
        rule = store.fail(call, LANDS_LATE, then=service.kill)
        with Client(service.port) as client:
            client.head("PUT", f"/upload/{name}", {"Content-Length": str(size)})
            client.send(DATA[:size])
            eventually(lambda: rule.hit)
            eventually(lambda: not service.running)
        service.start()
        answer = service.request("PUT", f"/upload/{name}", None, OTHER[:size])
        assert answer.status == 200
        time.sleep(1.5 * LATE)
        assert stored(store, name) == OTHER[:size]
        assert service.request("GET", f"/upload/{name}").json["state"] == "finished"


@pytest.mark.soak
@pytest.mark.parametrize(
    "refusal", ["404 page", "400 page", "400 KMS.DisabledException", "404 NoSuchBucket", "405 page"]
)
def test_what_is_no_last_word(service: Service, store: FaultyS3, name: str, refusal: str) -> None:
    """An ingress that has lost its way, a key that is disabled for a minute: the parts stay, and the next try finishes."""
    store.fail("Complete", refusal, 0)
    assert service.request("PUT", f"/upload/{name}", None, DATA + DATA[:CHUNK]).status == 503
    assert service.request("GET", f"/upload/{name}").json["state"] == "finishing"
    assert store.counts["Abort"] == 0
    store.mend()
    answer = service.request("PUT", f"/upload/{name}", {"Content-Range": "bytes */*"})
    assert (answer.status, answer.json["state"]) == (200, "finished")
    assert stored(store, name) == DATA + DATA[:CHUNK]


def test_what_is_a_last_word(service: Service, store: FaultyS3, name: str) -> None:
    """The store says in so many words, and once more when it is asked for the parts, that it has dropped the upload."""
    store.fail("Complete", "404 NoSuchUpload", 0)
    store.fail("ListParts", "404 NoSuchUpload", 0)
    assert service.request("PUT", f"/upload/{name}", None, DATA + DATA[:CHUNK]).status == 410
    assert service.request("GET", f"/upload/{name}").json["state"] == "failed"
    store.mend()
    assert service.request("PUT", f"/upload/{name}", None, b"once more").status == 200


def test_parts_that_are_there(service: Service, store: FaultyS3, name: str) -> None:
    """It says so, and lists the parts all the same: that is no last word."""
    store.fail("Complete", "404 NoSuchUpload", 0)
    assert service.request("PUT", f"/upload/{name}", None, DATA + DATA[:CHUNK]).status == 503
    store.mend()
    assert service.request("PUT", f"/upload/{name}", {"Content-Range": "bytes */*"}).status == 200
    assert stored(store, name) == DATA + DATA[:CHUNK]


@pytest.mark.soak
def test_a_fragment_that_is_looked_for_in_the_wrong_place(service: Service, store: FaultyS3, name: str) -> None:
    """A page in the place of an acknowledged fragment says nothing of it."""
    assert _range(service, name, DATA, 0, 700_000).status == 308
    assert _range(service, name, DATA, 700_000, 2_000_000).status == 308
    service.kill()
    service.start()
    store.fail("GetFragment", "404 page", 0)
    assert _range(service, name, DATA, 2_000_000, len(DATA)).status == 503
    assert service.request("GET", f"/upload/{name}").json["state"] == "open"
    store.mend()
    assert _range(service, name, DATA, 2_000_000, len(DATA)).status == 200
    assert stored(store, name) == DATA


def _range(service: Service, name: str, data: bytes, first: int, end: int) -> Answer:
    headers = {"Content-Range": f"bytes {first}-{end - 1}/{len(data)}"}
    return service.request("PUT", f"/upload/{name}", headers, data[first:end])
