"""Google's own clients, unchanged, against the service as it runs: chunks, unknown lengths, empty files, recovery, checksums."""

from __future__ import annotations

import io
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from google.api_core.exceptions import PreconditionFailed
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.resumable_media.requests import MultipartUpload, ResumableUpload, SimpleUpload
from googleapiclient.discovery import build_from_document
from googleapiclient.errors import HttpError
from googleapiclient.http import MediaIoBaseUpload, build_http

from tests.clients.conftest import stored
from tests.faults.proxy import FaultyS3
from tests.harness import Service
from tests.s3servers import find_rclone

pytestmark = pytest.mark.process

MIB = 1 << 20
DATA = random.Random(12).randbytes(13 * MIB + 345_678)
SMALL = DATA[:100_003]


@pytest.fixture(autouse=True)
def _mended(store: FaultyS3) -> None:
    store.mend()


# google-resumable-media


def start_of(service: Service, store: FaultyS3, kind: str = "resumable") -> str:
    return f"{service.url}/upload/storage/v1/b/{store.bucket}/o?uploadType={kind}"


@pytest.mark.parametrize("chunk", [256 << 10, 6 * MIB, 16 * MIB])
@pytest.mark.parametrize("known", [True, False])
def test_resumable_media(service: Service, store: FaultyS3, chunk: int, known: bool) -> None:
    name = f"media/{chunk}-{known}"
    data = DATA if chunk > MIB else DATA[: 3 * chunk + 5]
    with requests.Session() as session:
        upload = ResumableUpload(start_of(service, store), chunk, checksum="crc32c")
        total = len(data) if known else None
        upload.initiate(session, io.BytesIO(data), {"name": name}, "video/mp4", total_bytes=total, stream_final=False)
        while not upload.finished:
            answer = upload.transmit_next_chunk(session)
    assert answer.json()["size"] == str(len(data))
    assert stored(store, name) == data


@pytest.mark.parametrize("data", [b"", DATA[: 512 << 10]])
@pytest.mark.parametrize("known", [True, False])
def test_resumable_media_at_its_edges(service: Service, store: FaultyS3, data: bytes, known: bool) -> None:
    """An empty file, and one of which no byte is left for the last request where its length is not known."""
    name = f"media/edge-{len(data)}-{known}"
    with requests.Session() as session:
        upload = ResumableUpload(start_of(service, store), 256 << 10, checksum="crc32c")
        total = len(data) if known else None
        upload.initiate(session, io.BytesIO(data), {"name": name}, "a/b", total_bytes=total, stream_final=False)
        while not upload.finished:
            upload.transmit_next_chunk(session)
    assert stored(store, name) == data


def test_resumable_media_recovers(service: Service, store: FaultyS3) -> None:
    """The client has lost count: it asks, and goes on from there."""
    with requests.Session() as session:
        upload = ResumableUpload(start_of(service, store), 6 * MIB)
        stream = io.BytesIO(DATA)
        upload.initiate(session, stream, {"name": "media/recovered"}, "a/b")
        upload.transmit_next_chunk(session)
        stream.seek(1000)
        upload._make_invalid()
        upload.recover(session)
        assert (upload.bytes_uploaded, stream.tell()) == (6 * MIB, 6 * MIB)
        while not upload.finished:
            upload.transmit_next_chunk(session)
    assert stored(store, "media/recovered") == DATA


def test_resumable_media_when_the_store_is_busy(service: Service, store: FaultyS3) -> None:
    """It gets 503, and sends the same chunk again without asking."""
    with requests.Session() as session:
        upload = ResumableUpload(start_of(service, store), 6 * MIB)
        upload.initiate(session, io.BytesIO(DATA), {"name": "media/busy"}, "a/b")
        store.fail("UploadPart", "503", 2)
        while not upload.finished:
            upload.transmit_next_chunk(session)
    assert stored(store, "media/busy") == DATA


def test_uploads_of_one_request(service: Service, store: FaultyS3) -> None:
    with requests.Session() as session:
        media = SimpleUpload(f"{start_of(service, store, 'media')}&name=one/media")
        assert media.transmit(session, SMALL, "a/b").json()["contentType"] == "a/b"
        multipart = MultipartUpload(start_of(service, store, "multipart"), checksum="crc32c")
        multipart.transmit(session, DATA, {"name": "one/multipart"}, "a/b")
        wrong = MultipartUpload(start_of(service, store, "multipart"))
        with pytest.raises(Exception, match="400"):
            wrong.transmit(session, SMALL, {"name": "one/wrong", "crc32c": "AAAAAA=="}, "a/b")
    assert (stored(store, "one/media"), stored(store, "one/multipart")) == (SMALL, DATA)
    with pytest.raises(store.boto3().exceptions.NoSuchKey):
        stored(store, "one/wrong")


# google-cloud-storage


@pytest.fixture
def bucket(service: Service, store: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> Iterator[storage.Bucket]:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", service.url)
    client = storage.Client(project="p", credentials=AnonymousCredentials())
    yield client.get_bucket(store.bucket)
    client.close()


def test_cloud_storage(bucket: storage.Bucket, store: FaultyS3, tmp_path: Path) -> None:
    """Checksums are "auto": the client sends its own, and compares that of the answer."""
    path = tmp_path / "file"
    path.write_bytes(DATA)
    large = bucket.blob("cloud/large file.bin", chunk_size=5 * MIB)
    large.metadata = {"color": "blue"}
    large.upload_from_filename(str(path))
    assert (large.size, large.metadata) == (len(DATA), {"color": "blue"})
    assert stored(store, "cloud/large file.bin") == DATA
    small = bucket.blob("cloud/small")
    small.upload_from_string(SMALL, content_type="text/x", checksum="md5")
    small.reload()
    assert (small.size, small.content_type) == (len(SMALL), "text/x")
    stream = bucket.blob("cloud/stream", chunk_size=256 << 10)
    with stream.open("wb") as file:
        file.write(DATA[: 600 << 10])
    assert stored(store, "cloud/stream") == DATA[: 600 << 10]


def test_cloud_storage_asks(bucket: storage.Bucket, store: FaultyS3) -> None:
    blob = bucket.blob("cloud/asked")
    assert not blob.exists()
    assert bucket.get_blob("cloud/asked") is None
    blob.upload_from_string(SMALL, if_generation_match=0)
    assert blob.exists()
    with pytest.raises(PreconditionFailed):
        bucket.blob("cloud/asked").upload_from_string(b"other", if_generation_match=0)
    blob.delete()
    assert not blob.exists()
    # The object is the application's.
    assert stored(store, "cloud/asked") == SMALL


# rclone, which is Go's client


def test_rclone(service: Service, store: FaultyS3, tmp_path: Path) -> None:
    """Chunks of which it wants no 308, and small ones in one request; what is there already it does not bring again."""
    (tmp_path / "large.bin").write_bytes(DATA + DATA)
    (tmp_path / "small.bin").write_bytes(SMALL)
    options = ["--gcs-endpoint", f"{service.url}/storage/v1/", "--gcs-anonymous", "--gcs-no-check-bucket"]

    def copy(name: str) -> str:
        command = [find_rclone(), "--config", os.devnull, *options, "-v", "--retries", "1", "copyto"]
        to = f":gcs:{store.bucket}/rclone/{name}"
        said = subprocess.run([*command, str(tmp_path / name), to], capture_output=True, text=True, timeout=60)
        assert said.returncode == 0, said.stderr
        return said.stderr

    # The first chunk is answered 503, and sent again.
    store.fail("UploadPart", "503", 1)
    for name in ("large.bin", "small.bin"):
        assert "Copied" in copy(name)
        assert "Copied" not in copy(name)
        assert stored(store, f"rclone/{name}") == (tmp_path / name).read_bytes()


# google-api-python-client


@pytest.fixture
def api(service: Service) -> Iterator[Any]:
    """What a discovery document makes of YouTube's ``videos.insert``, pointed at the service."""
    document = {
        "kind": "discovery#restDescription",
        "name": "youtube",
        "version": "v3",
        "rootUrl": f"{service.url}/",
        "servicePath": "youtube/v3/",
        "baseUrl": f"{service.url}/youtube/v3/",
        "schemas": {"Video": {"id": "Video", "type": "object", "properties": {}}},
        "resources": {
            "videos": {
                "methods": {
                    "insert": {
                        "id": "youtube.videos.insert",
                        "path": "videos",
                        "httpMethod": "POST",
                        "parameters": {"part": {"type": "string", "required": True, "location": "query"}},
                        "parameterOrder": ["part"],
                        "request": {"$ref": "Video"},
                        "response": {"$ref": "Video"},
                        "supportsMediaUpload": True,
                        "mediaUpload": {
                            "accept": ["video/*", "application/octet-stream"],
                            "protocols": {
                                "simple": {"multipart": True, "path": "/upload/youtube/v3/videos"},
                                "resumable": {"multipart": True, "path": "/resumable/upload/youtube/v3/videos"},
                            },
                        },
                    }
                }
            }
        },
    }
    http = build_http()
    yield build_from_document(document, http=http)
    http.close()


def insert(api: Any, title: str | None, media: MediaIoBaseUpload) -> Any:
    body = {"snippet": {"title": title}}
    return api.videos().insert(part="snippet", body=body, media_body=media)


@pytest.mark.parametrize("chunk", [1_000_003, 6 * MIB, -1])
def test_api_client(api: Any, store: FaultyS3, chunk: int) -> None:
    media = MediaIoBaseUpload(io.BytesIO(DATA), "video/mp4", chunksize=chunk, resumable=True)
    request = insert(api, f"api {chunk}", media)
    answer = None
    while answer is None:
        _, answer = request.next_chunk()
    assert answer["snippet"]["title"] == f"api {chunk}"
    assert stored(store, f"api {chunk}") == DATA


def test_api_client_when_the_store_is_busy(api: Any, store: FaultyS3) -> None:
    """It hears of it, asks how far it is, and goes on."""
    media = MediaIoBaseUpload(io.BytesIO(DATA), "video/mp4", chunksize=6 * MIB, resumable=True)
    request = insert(api, "api busy", media)
    request.next_chunk()
    store.fail("UploadPart", "503", 0)
    with pytest.raises(HttpError, match="503"):
        request.next_chunk()
    store.mend()
    answer = None
    while answer is None:
        _, answer = request.next_chunk()
    assert stored(store, "api busy") == DATA


def test_api_client_in_one_request(api: Any, store: FaultyS3) -> None:
    """multipart/related, with bare LF."""
    media = MediaIoBaseUpload(io.BytesIO(SMALL + b"\r"), "video/mp4", resumable=False)
    assert insert(api, "api small", media).execute()["kind"] == "youtube#video"
    assert stored(store, "api small") == SMALL + b"\r"
    empty = MediaIoBaseUpload(io.BytesIO(b""), "video/mp4", chunksize=6 * MIB, resumable=True)
    assert insert(api, "api empty", empty).execute()["kind"] == "youtube#video"
    assert stored(store, "api empty") == b""
