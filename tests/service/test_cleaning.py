"""What nobody goes on with, and what nobody knows of, is gone after its time; by a clock under the test's control."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.faults.loop import CHUNK, DATA, Uploader
from tests.faults.proxy import FaultyS3
from tests.harness import Service, eventually
from tests.receiver import SECRET, Receiver
from tests.s3servers import MotoServer
from tests.service.conftest import configuration

DAY = 86400


@pytest.fixture(scope="module")
def s3() -> Iterator[MotoServer]:
    """A store of its own: in one that is shared, whole days would pass for others' uploads."""
    with MotoServer() as server:
        yield server


def in_time(service: Service, true: Callable[[], Any]) -> None:
    """It comes to be so as hours pass: one round of cleaning may have begun too early, the next does not."""

    def hour_by_hour() -> Any:
        found = true()
        if not found:
            service.advance(3600)
            time.sleep(0.1)
        return found

    eventually(hour_by_hour, seconds=40)


def left_lying(service: Service, name: str) -> str:
    """An upload with a part and a fragment that its client has given up; returns its id."""
    uploader = Uploader(service, name)
    uploader.send(0, CHUNK + 1000)
    eventually(lambda: uploader.offset() == CHUNK + 1000)
    return str(service.request("GET", f"/upload/{name}").json["id"])


def multiparts(s3: MotoServer) -> list[str]:
    return [upload["Key"] for upload in s3.boto3().list_multipart_uploads(Bucket=s3.bucket).get("Uploads", [])]


def keys(s3: MotoServer, prefix: str = "") -> list[str]:
    found = s3.boto3().list_objects_v2(Bucket=s3.bucket, Prefix=prefix).get("Contents", [])
    return [entry["Key"] for entry in found]


def test_stale_uploads_vanish(tmp_path: Path, s3: MotoServer) -> None:
    """After `cleanup.after` without a byte: from the store, and for the client; the application hears of it."""
    with Receiver() as receiver:
        events = {"url": receiver.url, "secret": SECRET, "types": ["upload.expired"], "timeout": "10m"}
        service = Service(tmp_path, configuration(s3, cleanup={"after": "7d"}, events=events))
        service.advance(0)
        with service:
            stale = left_lying(service, "stale.bin")
            shown = service.request("PUT", "/upload/stale.bin", {"Content-Range": "bytes */*"})
            assert "upload-expires" in shown.headers
            service.advance(4 * DAY)
            alive = left_lying(service, "alive.bin")
            finished = service.request("PUT", "/upload/finished.bin", body=b"hello").json["id"]
            service.advance(4 * DAY)
            in_time(service, lambda: multiparts(s3) == ["alive.bin"])
            in_time(service, lambda: len(keys(s3, ".resumable/")) == 1)
            assert keys(s3, ".resumable/")[0].startswith(f".resumable/{alive}/")
            for method, path in (("GET", "/upload/stale.bin"), ("DELETE", "/upload/stale.bin")):
                assert service.request(method, path).status == 404
            assert service.request("GET", f"/uploads/{stale}").status == 410
            assert service.request("GET", f"/uploads/{stale}").json["state"] == "expired"
            rest = {"Content-Range": f"bytes {CHUNK + 1000}-{len(DATA) - 1}/{len(DATA)}"}
            assert service.request("PUT", "/upload/stale.bin", rest, DATA[CHUNK + 1000 :]).status == 404
            # An hour that passes while it is told makes it be told again.
            eventually(lambda: {heard.upload for heard in receiver.heard} == {stale})
            assert len({heard.id for heard in receiver.heard}) == 1
            assert receiver.heard[0].body["data"]["offset"] == CHUNK + 1000
            # The living one goes on, and the finished one is remembered.
            Uploader(service, "alive.bin").run()
            assert service.request("GET", f"/uploads/{finished}").json["state"] == "finished"
            service.advance(31 * DAY)
            in_time(service, lambda: service.request("GET", f"/uploads/{finished}").status == 404)
            assert "Traceback" not in service.log
    assert multiparts(s3) == []
    assert keys(s3, ".resumable/") == []


def test_orphans(tmp_path: Path, s3: MotoServer) -> None:
    """What an accident left in the store goes when it is old; what is not ours, or in use, or young, stays."""
    client = s3.boto3()

    def fragment(name: str, ledger: str | None) -> str:
        metadata = {} if ledger is None else {"resumable-ledger": ledger}
        client.put_object(Bucket=s3.bucket, Key=f".resumable/{name}/0-4", Body=b"12345", Metadata=metadata)
        return f".resumable/{name}/0-4"

    with FaultyS3(s3) as store:
        service = Service(tmp_path, configuration(store))
        service.advance(0)
        with service:
            alive = left_lying(service, "orphans/alive.bin")
            ours = fragment("gone", _identity(tmp_path))
            foreign = {fragment("foreign", "another"), fragment("unmarked", None)}
            for name in ("orphans/alive.bin", "orphans/somebody-else.bin"):  # as after an answer that was lost
                requests.post(f"{store.endpoint}/{s3.bucket}/{name}?uploads").raise_for_status()
            assert len(multiparts(s3)) == 3
            service.advance(6 * DAY)
            # The living upload is touched, and so is younger than the orphans.
            offset = CHUNK + 1000
            headers = {"Content-Range": f"bytes {offset}-{offset + 9}/{len(DATA)}"}
            body = DATA[offset : offset + 10]
            assert service.request("PUT", "/upload/orphans/alive.bin", headers, body).status == 308
            assert ours in keys(s3, ".resumable/")
            service.advance(2 * DAY)
            in_time(service, lambda: ours not in keys(s3, ".resumable/"))
            in_time(service, lambda: sorted(multiparts(s3)) == ["orphans/alive.bin", "orphans/somebody-else.bin"])
            assert foreign <= set(keys(s3, ".resumable/"))
            assert [key for key in keys(s3, ".resumable/") if alive in key]
            Uploader(service, "orphans/alive.bin").run()
            assert client.get_object(Bucket=s3.bucket, Key="orphans/alive.bin")["Body"].read() == DATA
            assert "Traceback" not in service.log
    for key in foreign:
        client.delete_object(Bucket=s3.bucket, Key=key)
    for upload in client.list_multipart_uploads(Bucket=s3.bucket).get("Uploads", []):
        client.abort_multipart_upload(Bucket=s3.bucket, Key=upload["Key"], UploadId=upload["UploadId"])


def _identity(directory: Path) -> str:
    with sqlite3.connect(directory / "ledger.sqlite3") as ledger:
        return str(ledger.execute("SELECT id FROM identity").fetchone()[0])


def test_what_the_store_refuses_is_tried_again(tmp_path: Path, s3: MotoServer) -> None:
    """The store will not abort: the upload has expired all the same, and its parts go when the store will."""
    with FaultyS3(s3) as store:
        service = Service(tmp_path, configuration(store, store={"patience": "0s"}))
        service.advance(0)
        with service:
            left_lying(service, "refused.bin")
            rule = store.fail("Abort", "503", 0)
            service.advance(8 * DAY)
            in_time(service, lambda: rule.hit)
            assert Uploader(service, "refused.bin").offset() == 0
            assert multiparts(s3) == ["refused.bin"]
            store.mend()
            in_time(service, lambda: not multiparts(s3))


@pytest.mark.soak
def test_two_nodes_clean_once(tmp_path: Path, s3: MotoServer) -> None:
    """Each upload is ended by one of them, each call of the store is made once."""
    chance = random.Random(4)
    with FaultyS3(s3) as store:
        nodes: list[Service] = []
        for number in range(2):
            (tmp_path / str(number)).mkdir()
            config: Any = configuration(store, ledger=f"sqlite:///{tmp_path}/shared.sqlite3")
            nodes.append(Service(tmp_path / str(number), config))
            nodes[-1].advance(0)
        with nodes[0], nodes[1]:
            stale = [left_lying(chance.choice(nodes), f"two/{number}.bin") for number in range(6)]
            store.reset()
            for node in nodes:
                node.advance(8 * DAY)
            eventually(lambda: not multiparts(s3) and not keys(s3, ".resumable/"))
            for node in nodes:
                node.advance(3600)
            logs = nodes[0].log + nodes[1].log
            for upload in stale:
                assert logs.count(f"upload expired id={upload}") == 1
            assert (store.counts["Abort"], store.counts["DeleteFragment"]) == (6, 6)
