"""The service as it runs, on Cloud Storage: Google's own clients on its other side; and it is killed at any moment."""

from __future__ import annotations

import base64
import io
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from crc32c import crc32c
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.resumable_media.requests import ResumableUpload

from resumable.stores.gcs.marks import LEDGER
from tests.faults.loop import CHUNK, DATA, Uploader
from tests.harness import Service, eventually
from tests.stores.gcs.server import Fault, GcsServer

pytestmark = [pytest.mark.soak, pytest.mark.process]

MIB = 1 << 20
FILE = random.Random(12).randbytes(13 * MIB + 345_678)


def configuration(gcs: GcsServer, **store: Any) -> dict[str, Any]:
    settings = {"kind": "gcs", "bucket": gcs.bucket, "endpoint": gcs.endpoint, "credentials": str(gcs.key)}
    return {"store": {**settings, "patience": "3s", **store}, "ledger": "sqlite:///ledger.sqlite3", "auth": "open"}


@pytest.fixture(scope="module")
def service(running_gcs: GcsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("gcs"), configuration(running_gcs)) as started:
        yield started
        assert "Traceback" not in started.log


def left(gcs: GcsServer) -> list[str]:
    """What is the service's own in the bucket."""
    parts = [one.key for one in gcs.multiparts.values() if one.parts]
    return parts + [key for key in gcs.buckets[gcs.bucket] if key.startswith(".resumable/")]


def test_google_cloud_storage(
    gcs: GcsServer, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client compares the checksum by itself. What it is told of the object is what Google would tell."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", service.url)
    path = tmp_path / "file"
    path.write_bytes(FILE)
    client = storage.Client(project="p", credentials=AnonymousCredentials())
    for name, size, options in (("large", len(FILE), {"chunk_size": 5 * MIB}), ("small", 100_003, {})):
        path.write_bytes(FILE[:size])
        blob = client.bucket(gcs.bucket).blob(f"cloud/{name} ü", **options)
        blob.metadata = {"color": "blue"}
        blob.upload_from_filename(str(path), content_type="video/x-own", checksum="crc32c")
        made = gcs.buckets[gcs.bucket][f"cloud/{name} ü"]
        assert made.data == FILE[:size]
        assert (blob.crc32c, blob.generation, blob.size) == (made.crc32c, made.generation, size)
        assert (made.headers["content-type"], made.metadata["color"]) == ("video/x-own", "blue")
    client.close()
    eventually(lambda: not left(gcs))


def test_google_resumable_media(gcs: GcsServer, service: Service) -> None:
    """In chunks whose number nobody knows beforehand; the checksum is sent with the last."""
    start = f"{service.url}/upload/storage/v1/b/{gcs.bucket}/o?uploadType=resumable"
    with requests.Session() as session:
        upload = ResumableUpload(start, 2 * MIB, checksum="crc32c")
        upload.initiate(session, io.BytesIO(FILE), {"name": "media"}, "video/mp4", stream_final=False)
        while not upload.finished:
            answer = upload.transmit_next_chunk(session)
    made = gcs.buckets[gcs.bucket]["media"]
    assert made.data == FILE
    said = answer.json()
    told = base64.b64encode(crc32c(FILE).to_bytes(4, "big")).decode()
    assert (said["crc32c"], made.crc32c, said["generation"]) == (told, told, str(made.generation))
    eventually(lambda: not left(gcs))


#: What is asked of the store, whether it is done before the process dies, and whether objects may be replaced.
MOMENTS = [
    *(("UploadPart", True, True), ("PutObject", True, True), ("CompleteMultipartUpload", True, True)),
    *(("CompleteMultipartUpload", True, False), ("RewriteObject", True, False), ("DeleteObject", True, False)),
]


@pytest.mark.parametrize(("name", "done", "overwrite"), MOMENTS)
def test_killed_at_a_call(gcs: GcsServer, tmp_path: Path, name: str, done: bool, overwrite: bool) -> None:
    """What was acknowledged is there after the next start, the object is right, and nothing else is left."""
    with Service(tmp_path, configuration(gcs, overwrite=overwrite)) as service:
        killed = threading.Event()

        def kill() -> None:
            service.kill()
            killed.set()

        gcs.faults.append(Fault(name, done=done, then=kill))
        uploader = Uploader(service, "killed", breaks=[CHUNK + 1_500_000])
        go_on(service, uploader.step)
        assert killed.wait(20)
        if not service.running:
            service.start()
        assert gcs.read("killed") == DATA
        eventually(lambda: not left(gcs), seconds=45)
        assert "Traceback" not in service.log


@pytest.mark.parametrize("name", ["PutObject", "RewriteObject", "ComposeObject", "DeleteObject"])
def test_killed_while_it_joins(gcs: GcsServer, tmp_path: Path, name: str) -> None:
    """The client asks once more for the same concatenation, and gets it."""
    tus = {"Tus-Resumable": "1.0.0"}
    with Service(tmp_path, configuration(gcs, overwrite=False)) as service, requests.Session() as session:
        paths = []
        for data in (DATA[:CHUNK], DATA[CHUNK:]):
            headers = {**tus, "Upload-Concat": "partial", "Upload-Length": str(len(data))}
            headers["Content-Type"] = "application/offset+octet-stream"
            made = session.post(f"{service.url}/files/", data=data, headers=headers)
            assert made.status_code == 201
            paths.append("/files/" + made.headers["Location"].rpartition("/")[2])
        killed = threading.Event()

        def kill() -> None:
            service.kill()
            killed.set()

        gcs.faults.append(Fault(name, done=True, then=kill))
        called = base64.b64encode(b"film").decode()
        headers = {**tus, "Upload-Concat": f"final;{' '.join(paths)}", "Upload-Metadata": f"filename {called}"}

        def joined() -> bool:
            try:
                return session.post(f"{service.url}/files/", headers=headers).status_code == 201
            except requests.RequestException:
                return False

        go_on(service, joined)
        assert killed.wait(20)
        if not service.running:
            service.start()
        eventually(lambda: "film" in gcs.buckets[gcs.bucket])
        assert gcs.read("film") == DATA
        # Nobody can know of a multipart upload whose id was in the answer that was lost. It is empty, and ends as an orphan.
        orphans = 1 if name == "PutObject" else 0
        eventually(lambda: len(left(gcs)) == orphans, seconds=45)
        assert all("/composed/notes/" in key for key in left(gcs))
        # It says whose it is.
        assert all(LEDGER in gcs.buckets[gcs.bucket][key].metadata for key in left(gcs))
        assert "Traceback" not in service.log


def go_on(service: Service, step: Any) -> None:
    """Take steps until one says that it was the last; start the service again whenever it is dead."""
    until = time.monotonic() + 60
    while True:
        if not service.running:
            service.start()
        if step():
            return
        assert time.monotonic() < until
