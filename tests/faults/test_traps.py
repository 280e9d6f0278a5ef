"""What other upload servers were seen to get wrong, one test each; and troubles that last."""

from __future__ import annotations

import re
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from tests.faults.conftest import nothing_left, stored
from tests.faults.loop import CHUNK, DATA, Uploader
from tests.faults.proxy import FaultyS3
from tests.harness import Client, Service, eventually
from tests.service.conftest import configuration


def begin(client: Client, name: str, data: bytes = DATA) -> None:
    client.head("PUT", f"/upload/{name}", {"Content-Length": str(len(data))})


def test_a_hole_is_not_acknowledged(service: Service, store: FaultyS3, name: str) -> None:
    """(a) The first part cannot be stored, later ones can: the offset is where the hole begins, not the sum of sizes."""
    store.fail("UploadPart", "503", 0, where="partNumber=1&")
    with Client(service.port) as client:
        begin(client, name)
        client.send(DATA)
        answer = client.answer()
    assert answer.status == 503
    assert "retry-after" in answer.headers
    uploader = Uploader(service, name)
    assert uploader.offset() == 0
    assert store.counts["UploadPart"] > 2
    store.mend()
    uploader.run()
    assert stored(store, name) == DATA
    nothing_left(store)


@pytest.mark.soak
def test_part_numbers_do_not_collide(service: Service, store: FaultyS3, name: str) -> None:
    """(b) A part in the middle is missing for a while: every part keeps its own number, and Complete is accepted at once."""
    store.fail("UploadPart", "503", 0, where="partNumber=2&")
    uploader = Uploader(service, name, breaks=[CHUNK + 1000, CHUNK + 2000])
    with Client(service.port) as client:
        begin(client, name)
        client.send(DATA)
        assert client.answer().status == 503
    store.mend()
    store.counts.clear()
    assert uploader.offset() == CHUNK
    uploader.run()
    assert store.counts["Complete"] == 1
    assert stored(store, name) == DATA
    nothing_left(store)


@pytest.mark.soak
@pytest.mark.parametrize("fault", ["403 AccessDenied", "200 with an error", "500"])
def test_success_is_said_when_the_object_is_there(service: Service, store: FaultyS3, name: str, fault: str) -> None:
    """(c) Complete fails: nobody is told of success before there is the object."""
    store.fail("Complete", fault, 0)
    uploader = Uploader(service, name)
    answer = uploader.send(0)
    assert answer is not None
    assert answer.status == 503
    query = uploader.query()
    assert query is not None
    assert query.status in (308, 503)
    assert store.boto3().list_objects_v2(Bucket=store.bucket, Prefix=name)["KeyCount"] == 0
    store.mend()
    uploader.run()
    assert stored(store, name) == DATA
    nothing_left(store)


def test_a_refusal_for_good_is_told(service: Service, store: FaultyS3, name: str) -> None:
    """The store will never make the object: the upload has failed, the client is told, and its parts are freed."""
    store.fail("Complete", "400 EntityTooSmall", 0)
    uploader = Uploader(service, name)
    answer = uploader.send(0)
    assert answer is not None
    assert answer.status == 410
    assert b"EntityTooSmall" in answer.body
    query = uploader.query()
    assert query is not None
    assert query.status == 410
    nothing_left(store)


def test_a_tail_is_kept_until_its_bytes_are_elsewhere(service: Service, store: FaultyS3, name: str) -> None:
    """(d) The process is killed while the stored tail is made a part: what was acknowledged is still there."""
    uploader = Uploader(service, name)
    uploader.send(0, 2_000_000)
    eventually(lambda: uploader.offset() == 2_000_000)
    store.fail("UploadPart", "break before", then=service.kill)
    uploader.send(2_000_000)
    service.start()
    assert uploader.offset() == 2_000_000
    uploader.run()
    assert stored(store, name) == DATA
    nothing_left(store)


def test_asking_does_not_disturb(service: Service, store: FaultyS3, name: str) -> None:
    """(e) Many ask how far it is while the upload runs; it runs on, on its one connection."""
    uploader = Uploader(service, name)
    with Client(service.port) as client:
        begin(client, name)
        for at in range(0, len(DATA), 500_000):
            client.send(DATA[at : at + 500_000])
            assert uploader.offset() is not None
        assert client.answer().status == 200
    assert stored(store, name) == DATA


@pytest.mark.soak
def test_a_slow_store_loses_nothing(shared_store: FaultyS3, store: FaultyS3, tmp_path: Path, name: str) -> None:
    """(f) The store is slow for 15 seconds: the client is held, and its one request succeeds."""
    with (
        Service(tmp_path, configuration(shared_store, store={"patience": "2m"})) as service,
        Client(service.port) as client,
    ):
        begin(client, name)
        store.fail("UploadPart", "503", 0)
        threading.Timer(15, store.mend).start()
        began = time.monotonic()
        client.send(DATA)
        client.socket.settimeout(60)
        assert client.answer().status == 200
        assert time.monotonic() - began > 14
    assert stored(store, name) == DATA


def test_a_client_that_vanishes_ends_nothing_else(service: Service, store: FaultyS3, name: str) -> None:
    """(g) Clients reset their connections anywhere: the process is the same, and serves on."""
    process = service.pid
    for sent in (0, 1, 65_536, CHUNK, CHUNK + 1, len(DATA) - 1, len(DATA)):
        client = Client(service.port)
        begin(client, f"{name}-{sent}")
        client.send(DATA[:sent])
        client.vanish()
    for sent in (0, 1, 65_536, CHUNK, CHUNK + 1, len(DATA) - 1, len(DATA)):
        Uploader(service, f"{name}-{sent}").run()
        assert stored(store, f"{name}-{sent}") == DATA
    assert service.pid == process
    nothing_left(store)


def test_an_outage_of_the_store(service: Service, store: FaultyS3, name: str) -> None:
    """The store is away for longer than our patience: 503, all that was confirmed is kept, and then it goes on."""
    uploader = Uploader(service, name)
    uploader.send(0, CHUNK + 1_000_000)
    eventually(lambda: uploader.offset() == CHUNK + 1_000_000)
    store.fail("*", "break before", 0)
    answer = uploader.send(CHUNK + 1_000_000)
    assert answer is not None
    assert answer.status == 503
    assert "retry-after" in answer.headers
    assert uploader.offset() == CHUNK + 1_000_000
    store.mend()
    uploader.run()
    assert stored(store, name) == DATA
    nothing_left(store)


@pytest.mark.soak
def test_finished_without_the_client(service: Service, store: FaultyS3, name: str) -> None:
    """Complete is refused for longer than the client is there: the upload is finished in the background."""
    store.fail("Complete", "503", 0)
    uploader = Uploader(service, name)
    uploader.send(0)
    store.mend()
    eventually(lambda: re.search(rf"upload finished [^\n]*{name}", service.log), seconds=40)
    assert stored(store, name) == DATA


def test_a_ledger_that_is_locked(service: Service, store: FaultyS3, name: str) -> None:
    """Somebody holds the ledger's lock for three seconds: everybody waits, nothing is lost."""
    other = sqlite3.connect(service.directory / "ledger.sqlite3", isolation_level=None, check_same_thread=False)
    uploader = Uploader(service, name)
    with Client(service.port) as client:
        begin(client, name)
        client.send(DATA[: CHUNK + 5])
        eventually(lambda: (uploader.offset() or 0) >= CHUNK)
        other.execute("BEGIN EXCLUSIVE")
        threading.Timer(3, lambda: other.execute("ROLLBACK")).start()
        client.send(DATA[CHUNK + 5 :])
        assert client.answer().status == 200
    other.close()
    assert stored(store, name) == DATA
    nothing_left(store)


@pytest.mark.soak
def test_a_ledger_that_stays_locked(service: Service, store: FaultyS3, name: str) -> None:
    """Nobody waits for the ledger for ever: the client gets 503, and goes on where it was when the lock is gone."""
    other = sqlite3.connect(service.directory / "ledger.sqlite3", isolation_level=None)
    uploader = Uploader(service, name)
    uploader.send(0, CHUNK + 1_000_000)
    eventually(lambda: uploader.offset() == CHUNK + 1_000_000)
    other.execute("BEGIN EXCLUSIVE")
    answer = uploader.send(CHUNK + 1_000_000, seconds=100)
    assert answer is not None
    assert answer.status == 503
    assert "retry-after" in answer.headers
    other.execute("ROLLBACK")
    other.close()
    assert uploader.offset() == CHUNK + 1_000_000
    uploader.run()
    assert stored(store, name) == DATA
    nothing_left(store)


@pytest.mark.soak
@pytest.mark.parametrize("size", [70_000, len(DATA)])
@pytest.mark.parametrize("fault", ["break after", "cut short"])
def test_no_overwriting_and_a_lost_answer(
    shared_store: FaultyS3, store: FaultyS3, tmp_path: Path, name: str, size: int, fault: str
) -> None:
    """`overwrite: false`: our own object, whose answer was lost, is not taken for somebody else's."""
    with Service(tmp_path, configuration(shared_store, store={"overwrite": False})) as service:
        rule = store.fail("PutObject" if size < CHUNK else "Complete", fault)
        Uploader(service, name, DATA[:size]).run()
        assert rule.hit
        assert stored(store, name) == DATA[:size]
        store.boto3().put_object(Bucket=store.bucket, Key=f"{name}-taken", Body=b"somebody else's")
        answer = Uploader(service, f"{name}-taken", DATA[:size]).send(0)
        assert answer is not None
        assert answer.status == 412
        assert stored(store, f"{name}-taken") == b"somebody else's"
    nothing_left(store)
