"""The application hears of what happened: signed, in order, at least once, whoever is down or killed meanwhile."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import pytest
import requests
from standardwebhooks import Webhook

from tests.databases import Postgres
from tests.faults.loop import CHUNK, DATA, Uploader
from tests.faults.proxy import FaultyS3
from tests.harness import Service, eventually
from tests.receiver import SECRET, Heard, Receiver, Reply
from tests.s3servers import MotoServer
from tests.service.conftest import configuration

TYPES = ["upload.created", "upload.finished", "upload.cancelled", "upload.expired", "upload.failed"]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as started:
        yield started
        assert started.wrong == []


def telling(s3: Any, receiver: Receiver, **sections: Any) -> dict[str, Any]:
    events = {"url": receiver.url, "secret": SECRET, "types": TYPES, "timeout": "3s", **sections.pop("events", {})}
    return configuration(s3, events=events, **sections)


def in_order(receiver: Receiver, upload: str) -> None:
    """What was heard of an upload came in order, each event with one id, a repeat only of the last."""
    heard = receiver.of(upload)
    types = [one.type for one in heard]
    assert types == sorted(types, key=TYPES.index)
    for before, after in pairwise(heard):
        assert (before.type == after.type) == (before.id == after.id)


def test_what_is_told(tmp_path: Path, s3: MotoServer, receiver: Receiver) -> None:
    """Each change of an upload, as Standard Webhooks have it; the library they give receivers verifies it."""
    verified: list[Any] = []

    class Verifying(Receiver):
        def _take(self, headers: dict[str, str], body: bytes) -> Reply | None:
            verified.append(Webhook(SECRET).verify(body, headers))
            return super()._take(headers, body)

    with Verifying() as verifying, Service(tmp_path, telling(s3, verifying)) as service:
        result = service.request("PUT", "/upload/told.bin", {"Content-Type": "video/mp4"}, DATA[:1000]).json
        eventually(lambda: len(verified) == 2)
        created, finished = verified
        assert (created["type"], finished["type"]) == ("upload.created", "upload.finished")
        assert finished["data"] == result
        assert finished["timestamp"].startswith(result["finished"][:-1])
        assert created["data"]["offset"] == 0
        assert created["data"]["content_type"] == "video/mp4"
        uploader = Uploader(service, "cancelled.bin")
        uploader.send(0, CHUNK + 1000)
        eventually(lambda: uploader.offset() == CHUNK + 1000)
        assert service.request("DELETE", "/upload/cancelled.bin").status == 204
        eventually(lambda: len(verified) == 4)
        assert (verified[3]["type"], verified[3]["data"]["offset"]) == ("upload.cancelled", CHUNK + 1000)
        assert "Traceback" not in service.log
        assert SECRET not in service.log


@pytest.mark.soak
@pytest.mark.parametrize("kills", [6])
def test_an_hour_without_the_application(tmp_path: Path, s3: MotoServer, kills: int) -> None:
    """It is down for an hour, and the service is killed at every step meanwhile: every event arrives, in order."""
    receiver = Receiver()
    service = Service(tmp_path, telling(s3, receiver, limits={"idle_timeout": "10m"}))
    service.advance(0)
    names = [f"hour-{kills}/{number}" for number in range(kills)]
    chance = random.Random(1)
    with service:
        for number, name in enumerate(names):
            Uploader(service, name, DATA[: 1000 + number]).run()
            if number % 3 == 0:
                service.kill()  # with whatever of its events on the way
                service.start()
        for _ in range(kills):
            service.advance(3600 / kills)
            time.sleep(chance.uniform(0.0, 0.4))
            service.kill()
            service.start()
        assert receiver.heard == []
        ids = {name: service.request("GET", f"/upload/{name}").json["id"] for name in names}

        # From here on it is up, and the service is killed as soon as an event has come, or has been answered.
        killing = {1: "before", 2: "before", 3: "after", 5: "before", 7: "after", 9: "before"}
        kills_due: SimpleQueue[threading.Event] = SimpleQueue()

        def answer(heard: Heard) -> Reply | None:
            when = killing.get(heard.number)
            if when is not None:
                dead = threading.Event()
                kills_due.put(dead)
                if when == "before":
                    dead.wait()
                    return None
            return 200, {}, b""

        receiver.answer = answer
        killed = 0
        with receiver:
            until = time.monotonic() + 60
            while not all("upload.finished" in [h.type for h in receiver.of(upload)] for upload in ids.values()):
                assert time.monotonic() < until
                try:
                    due = kills_due.get(timeout=0.2)
                except Empty:
                    service.advance(1800)  # what is being told has been answered by now
                    continue
                # Here, and so never while it is being started: nobody else may kill what is waited for.
                service.kill()
                due.set()
                service.start()
                killed += 1
        assert killed
        assert receiver.wrong == []
        for upload in ids.values():
            in_order(receiver, upload)
        assert len({heard.id for heard in receiver.heard}) == 2 * len(names)


@pytest.mark.soak
def test_every_third_call_is_refused(tmp_path: Path, s3: MotoServer, receiver: Receiver) -> None:
    """200 uploads, and an application that answers 500 to every third call: 200 ids arrive, none lost."""
    accepted: set[str] = set()

    def answer(heard: Heard) -> Reply:
        if heard.number % 3 == 0:
            return 500, {}, b"not now"
        accepted.add(heard.id)
        return 204, {}, b""

    receiver.answer = answer
    service = Service(tmp_path, telling(s3, receiver, events={"types": ["upload.finished"]}))
    service.advance(0)
    with service:
        session = requests.Session()
        for number in range(200):
            session.put(f"{service.url}/upload/many/{number}", data=b"x" * 100).raise_for_status()

        # What was refused comes again after growing pauses, until nothing is refused any more.
        until = time.monotonic() + 60
        pauses = iter([6, 35, 140, 700, 4000, *[12000] * 10])
        while len(accepted) < 200:
            assert time.monotonic() < until
            heard = len(receiver.heard)
            time.sleep(0.3)
            if len(receiver.heard) == heard:
                service.advance(next(pauses))
        assert len({heard.id for heard in receiver.heard}) == 200
        assert len(receiver.heard) >= 299


@pytest.mark.parametrize("ledger", ["sqlite", "postgresql"])
def test_two_nodes(
    request: pytest.FixtureRequest, tmp_path: Path, s3: MotoServer, receiver: Receiver, ledger: str
) -> None:
    """Two nodes on one ledger: while one tells of an event the other does not, and each is told once."""
    busy: set[str] = set()
    twice: list[str] = []

    def answer(heard: Heard) -> Reply:
        if heard.id in busy:
            twice.append(heard.id)
        busy.add(heard.id)
        time.sleep(0.05)
        busy.discard(heard.id)
        return 204, {}, b""

    receiver.answer = answer
    if ledger == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        url = server.new()
    else:
        url = f"sqlite:///{tmp_path}/shared.sqlite3"
    nodes = []
    for number in range(2):
        directory = tmp_path / str(number)
        directory.mkdir()
        nodes.append(Service(directory, telling(s3, receiver, ledger=url)))
    with nodes[0], nodes[1]:
        for number in range(40):
            nodes[number % 2].request("PUT", f"/upload/two/{number}", body=b"x" * 100)
        eventually(lambda: len({heard.id for heard in receiver.heard}) == 80)
        time.sleep(0.5)
        assert twice == []
        assert len(receiver.heard) == 80


@pytest.mark.soak
def test_uploads_that_fail_are_told(tmp_path: Path, s3: MotoServer, receiver: Receiver) -> None:
    """The store refuses to complete, at once for good or for longer than it is tried."""
    with FaultyS3(s3) as store:
        service = Service(tmp_path, telling(store, receiver, store={"patience": "0s", "give_up_after": "1h"}))
        service.advance(0)
        with service:
            store.fail("Complete", "400 EntityTooSmall", 1)
            Uploader(service, "fails/at-once").send(0)
            failed = eventually(lambda: [h for h in receiver.heard if h.type == "upload.failed"])[0]
            assert "EntityTooSmall" in failed.body["data"]["reason"]
            store.fail("Complete", "503", 0)
            answer = Uploader(service, "fails/later").send(0)
            assert answer is not None
            assert answer.status == 503
            service.advance(600)
            eventually(lambda: store.counts["Complete"] > 2)  # it is tried again, before it is given up

            def told() -> list[Heard]:
                service.advance(600)
                return [
                    h for h in receiver.heard if h.type == "upload.failed" and h.body["data"]["name"] == "fails/later"
                ]

            assert "too long" in eventually(told)[0].body["data"]["reason"]
            eventually(lambda: s3.boto3().list_multipart_uploads(Bucket=s3.bucket).get("Uploads", []) == [])
            assert Uploader(service, "fails/later").query().status == 410  # type: ignore[union-attr]
