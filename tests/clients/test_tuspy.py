"""tuspy, unchanged, against the service as it runs: chunks, checksums, an empty file, and going on from a stored URL."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError

from tests.faults.proxy import FaultyS3
from tests.harness import Service
from tests.s3servers import MotoServer
from tests.service.conftest import configuration

pytestmark = pytest.mark.process

CHUNK = 6 << 20
DATA = random.Random(11).randbytes(2 * CHUNK + 345_678)


@pytest.fixture(scope="module")
def store() -> Iterator[FaultyS3]:
    with MotoServer() as server, FaultyS3(server) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def service(store: FaultyS3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(
        tmp_path_factory.mktemp("tus"), configuration(store, store={"patience": "1s"}, download="redirect")
    ) as started:
        yield started
        assert "Traceback" not in started.log


@pytest.fixture
def client(service: Service) -> TusClient:
    return TusClient(f"http://127.0.0.1:{service.port}/files/")


def stored(store: FaultyS3, name: str) -> bytes:
    store.mend()
    return bytes(store.boto3().get_object(Bucket=store.bucket, Key=name)["Body"].read())


@pytest.mark.parametrize("chunk", [1_000_003, CHUNK, len(DATA) + 1])
@pytest.mark.parametrize("checksum", [False, True])
def test_chunks(client: TusClient, store: FaultyS3, chunk: int, checksum: bool) -> None:
    name = f"tuspy/{chunk}-{checksum}"
    uploader = client.uploader(
        file_stream=io.BytesIO(DATA), chunk_size=chunk, metadata={"filename": name}, upload_checksum=checksum
    )
    uploader.upload()
    assert stored(store, name) == DATA


def test_an_empty_file(client: TusClient, store: FaultyS3) -> None:
    client.uploader(file_stream=io.BytesIO(b""), metadata={"filename": "tuspy/empty"}).upload()
    assert stored(store, "tuspy/empty") == b""


def test_a_file_without_metadata(client: TusClient, store: FaultyS3) -> None:
    """It is called by its id."""
    uploader = client.uploader(file_stream=io.BytesIO(b"hello"))
    uploader.upload()
    assert stored(store, uploader.url.rpartition("/")[2]) == b"hello"


def test_going_on_from_a_stored_url(client: TusClient, store: FaultyS3, tmp_path: Path) -> None:
    """Another process goes on where the first one stopped."""
    path = tmp_path / "file"
    path.write_bytes(DATA)
    first = client.uploader(str(path), chunk_size=1_000_000, metadata={"filename": "tuspy/resumed"})
    first.upload(stop_at=5_000_000)
    second = client.uploader(str(path), chunk_size=3_000_000, url=first.url)
    assert second.get_offset() == 5_000_000
    second.upload()
    assert stored(store, "tuspy/resumed") == DATA


def test_an_upload_that_the_application_has_made(client: TusClient, service: Service, store: FaultyS3) -> None:
    """The client is given a URL, and creates nothing."""
    said = {"protocol": "tus", "name": "tuspy/made", "length": len(DATA), "content_type": "video/x-own"}
    made = service.request("POST", "/uploads", {"Content-Type": "application/json"}, json.dumps(said).encode()).json
    # The service was asked as the host "test".
    url = made["url"].replace("http://test/", f"{service.url}/")
    client.uploader(file_stream=io.BytesIO(DATA), chunk_size=4_000_000, url=url).upload()
    assert stored(store, "tuspy/made") == DATA


def test_what_was_uploaded_is_read_back(client: TusClient) -> None:
    """By its URL, with what everybody has: the redirect is followed to the store."""
    uploader = client.uploader(
        file_stream=io.BytesIO(DATA), metadata={"filename": "tuspy/read +%ü", "filetype": "video/x-own"}
    )
    uploader.upload()
    with urlopen(uploader.url, timeout=30) as answer:
        assert (answer.status, answer.read(), answer.headers["Content-Type"]) == (200, DATA, "video/x-own")


def test_a_store_that_is_busy(client: TusClient, store: FaultyS3) -> None:
    """The client is told 503, asks how far it is, and goes on."""
    uploader = client.uploader(
        file_stream=io.BytesIO(DATA), chunk_size=CHUNK, metadata={"filename": "tuspy/busy"}, retries=5, retry_delay=1
    )
    store.fail("UploadPart", "503", 0)
    with pytest.raises(TusCommunicationError):
        client.uploader(file_stream=io.BytesIO(DATA), chunk_size=CHUNK, metadata={"filename": "tuspy/none"}).upload()
    store.mend()
    store.fail("UploadPart", "503", 1)
    uploader.upload()
    assert stored(store, "tuspy/busy") == DATA


def test_nothing_is_found(client: TusClient) -> None:
    with pytest.raises(TusCommunicationError) as caught:
        client.uploader(file_stream=io.BytesIO(DATA), url=f"{client.url}none")
    assert caught.value.status_code == 404
