"""`resumable events` and `resumable clean` beside a service that runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands.conftest import Operator
from tests.harness import Client, Service, eventually
from tests.receiver import SECRET, Receiver
from tests.s3servers import MotoServer
from tests.service.conftest import configuration

MIB = 2**20


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture(scope="module")
def moto() -> Iterator[MotoServer]:
    with MotoServer() as server:
        yield server


@pytest.mark.soak
def test_dead_letters_are_shown_and_told_again(tmp_path: Path, moto: MotoServer, receiver: Receiver) -> None:
    """What the application wants no more of is kept; replayed it arrives, with the id it had."""
    operator = Operator(tmp_path)
    events = {"url": receiver.url, "secret": SECRET, "types": ["upload.created", "upload.finished"]}
    with receiver, Service(tmp_path, configuration(moto, events=events)) as service:
        receiver.answer = lambda heard: (410, {}, b"")
        result = service.request("PUT", "/upload/a.bin", None, b"hello").json
        eventually(lambda: len(operator.json("events", "list", "--state", "dead")["events"]) == 2)
        newest, oldest = operator.json("events", "list")["events"]
        assert (newest["type"], oldest["type"]) == ("upload.finished", "upload.created")
        assert (newest["state"], newest["problem"], newest["data"]) == ("dead", "answered 410", result)
        shown = operator.run("events", "list", "--upload", result["id"]).stdout.splitlines()
        assert shown[0].split() == ["ID", "Type", "Upload", "State", "Tries", "Age", "Problem"]
        assert shown[1].split()[:5] == [newest["id"], "upload.finished", result["id"], "dead", "1"]
        page = operator.json("events", "list", "--limit", "1")
        assert [event["id"] for event in page["events"]] == [newest["id"]]
        assert operator.json("events", "list", "--limit", "1", "--after", page["next"])["events"] == [oldest]
        receiver.answer = lambda heard: (204, {}, b"")
        told = len(receiver.heard)
        assert operator.run("events", "replay", newest["id"]).stdout == (
            f"{newest['id']} (upload.finished of {result['id']}) will be told again\n"
        )
        eventually(lambda: len(receiver.heard) == told + 1)
        assert receiver.heard[-1].id == newest["id"]
        assert operator.json("events", "replay", "--dead") == {"replayed": [oldest["id"]]}
        eventually(lambda: operator.json("events", "list", "--state", "delivered")["events"][1:])
        assert operator.run("events", "replay", "--dead").stdout == "nothing was given up\n"
        assert operator.failures("events", "replay", "msg_?") == ["no event has the ID 'msg_?'"]
        assert operator.run("events", "replay").returncode == 2
        assert receiver.wrong == []


@pytest.mark.soak
def test_cleaning(tmp_path: Path, moto: MotoServer) -> None:
    """A dry run tells, and changes nothing; then what is stale is gone from ledger and store."""
    operator = Operator(tmp_path)
    config = configuration(moto, cleanup={"after": "1m"})
    service = Service(tmp_path, config)
    with service:
        with Client(service.port) as client:
            client.head("PUT", "/upload/stale.bin", {"Content-Length": str(20 * MIB)})
            client.send(bytes(7 * MIB))
        eventually(lambda: service.request("GET", "/upload/stale.bin").json["offset"] == 7 * MIB)
        upload = service.request("GET", "/upload/stale.bin").json["id"]
    assert operator.run("clean").stdout == "There is nothing to clean up.\n"
    operator.configure({**config, "cleanup": {"after": "1m", "keep": "1m"}})
    import sqlite3

    with sqlite3.connect(tmp_path / "ledger.sqlite3") as ledger:
        ledger.execute("UPDATE uploads SET updated = ?", [time.time() - 3600])
    would = operator.json("clean", "--dry-run")
    assert would["dry_run"] is True
    assert [(one["kind"], one["what"]) for one in would["removed"]] == [("upload", upload)]
    assert operator.json("uploads", "show", "--", upload)["state"] == "open"
    assert operator.run("clean", "--dry-run").stdout.splitlines()[1].split()[:3] == ["expired", "upload", upload]
    operator.configure({**config, "store": {**config["store"], "bucket": "no-bucket"}})
    said = operator.failures("clean", "--dry-run")
    assert said[0] == "bucket no-bucket is not cleaned: NoSuchBucket: The specified bucket does not exist"
    assert said[-1] == "could not clean all: no-bucket"
    operator.configure({**config, "cleanup": {"after": "1m", "keep": "1m"}})
    assert operator.run("clean").returncode == 0
    assert operator.json("uploads", "show", "--", upload)["state"] == "expired"
    s3 = moto.boto3()
    assert s3.list_multipart_uploads(Bucket=moto.bucket).get("Uploads", []) == []
    assert s3.list_objects_v2(Bucket=moto.bucket, Prefix=".resumable/").get("Contents", []) == []
