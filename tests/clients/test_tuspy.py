"""tuspy, unchanged, against the service as it runs: chunks, checksums, an empty file, a network that breaks, a stored URL."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError
from tusclient.uploader.uploader import Uploader

from tests.clients.conftest import arrived, finished, stored
from tests.clients.network import Network
from tests.faults.proxy import FaultyS3
from tests.harness import Client, Service

pytestmark = pytest.mark.process

CHUNK = 6 << 20
DATA = random.Random(11).randbytes(2 * CHUNK + 345_678)


@pytest.fixture
def client(service: Service) -> TusClient:
    return TusClient(f"http://127.0.0.1:{service.port}/files/")


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


# A network that breaks


@pytest.fixture
def far(network: Network) -> TusClient:
    """A client on the other side of the network."""
    return TusClient(f"{network.url}/files/")


def uploader_of(client: TusClient, name: str, chunk: int, **options: Any) -> Uploader:
    """An uploader that asks how far it is after a failure, and goes on."""
    return client.uploader(
        file_stream=io.BytesIO(DATA),
        chunk_size=chunk,
        metadata={"filename": name},
        retries=3,
        retry_delay=0.1,
        **options,
    )


@pytest.mark.parametrize("checksum", [False, True])
@pytest.mark.parametrize("chunk", [3_000_017, len(DATA) + 1])
def test_a_reset_in_the_middle(
    far: TusClient, network: Network, service: Service, store: FaultyS3, chunk: int, checksum: bool
) -> None:
    """What arrived of the request may be gone on from, unless it has a checksum: that is of the whole request."""
    name = f"tuspy/reset-{chunk}-{checksum}"
    fault = network.break_off("PATCH", 2_000_000, nth=2 if chunk < len(DATA) else 1)
    before = chunk if chunk < len(DATA) else 0
    uploader = uploader_of(far, name, chunk, upload_checksum=checksum)
    uploader.upload()
    assert fault.hit.is_set()
    finished(service, store, uploader.url, name, DATA)
    # While the service still reads what came on the connection that broke, it may say 409 to who comes with an older offset.
    taken = [request for request in network.of("PATCH") if request.status == 204][fault.nth - 1]
    assert before <= int(taken.header("Upload-Offset") or 0) <= (before if checksum else before + 2_000_000)
    assert len(network.of("POST")) == 1


@pytest.mark.parametrize("checksum", [False, True])
@pytest.mark.parametrize("nth", [1, 2])
def test_a_503_on_the_way(
    far: TusClient, network: Network, service: Service, store: FaultyS3, nth: int, checksum: bool
) -> None:
    """The client asks how far it is, and sends the same again."""
    name = f"tuspy/503-{nth}-{checksum}"
    fault = network.refuse("PATCH", nth)
    uploader = uploader_of(far, name, 7_000_000, upload_checksum=checksum)
    uploader.upload()
    assert fault.hit.is_set()
    finished(service, store, uploader.url, name, DATA)
    assert [request.status for request in network.of("PATCH")] == ([503, 204, 204] if nth == 1 else [204, 503, 204])


@pytest.mark.parametrize("checksum", [False, True])
@pytest.mark.parametrize("nth", [1, 2])
def test_an_answer_that_is_lost(
    far: TusClient, network: Network, service: Service, store: FaultyS3, nth: int, checksum: bool
) -> None:
    """After the first of two requests, and after the last. Nothing is sent twice; the client hears that all is there."""
    name = f"tuspy/lost-{nth}-{checksum}"
    fault = network.lose_answer("PATCH", nth)
    uploader = uploader_of(far, name, 7_000_000, upload_checksum=checksum)
    uploader.upload()
    assert fault.hit.is_set()
    finished(service, store, uploader.url, name, DATA)
    assert sum(request.passed for request in network.of("PATCH")) == len(DATA)


def test_the_network_is_gone_for_a_while(
    far: TusClient, network: Network, service: Service, store: FaultyS3, tmp_path: Path
) -> None:
    """The client gives up. Later another one goes on from the stored URL, at the byte where the first was cut off."""
    network.cut_off("PATCH", 5_000_000)
    first = far.uploader(file_stream=io.BytesIO(DATA), metadata={"filename": "tuspy/gone"})
    with pytest.raises(TusCommunicationError):
        first.upload()
    with pytest.raises(TusCommunicationError):
        first.get_offset()
    arrived(service, network, 5_000_000)
    network.mend()
    second = far.uploader(file_stream=io.BytesIO(DATA), url=first.url)
    assert second.offset == 5_000_000
    second.upload()
    finished(service, store, first.url, "tuspy/gone", DATA)


@pytest.mark.xfail(strict=True, reason="HEAD tells what is stored, and not what an older request has brought meanwhile")
def test_the_old_connection_hangs(client: TusClient, service: Service, store: FaultyS3) -> None:
    """The client has moved to another network, and the service still waits on the old connection. It is told an offset at which
    it then can go on."""
    first = client.uploader(file_stream=io.BytesIO(DATA), metadata={"filename": "tuspy/hanging"})
    first.set_url(first.create_url())
    with Client(service.port) as hanging:
        headers = {
            "Tus-Resumable": "1.0.0",
            "Content-Type": "application/offset+octet-stream",
            "Upload-Offset": "0",
            "Content-Length": str(len(DATA)),
        }
        hanging.head("PATCH", urlsplit(first.url).path, headers)
        hanging.send(DATA[:5_000_000])
        second = client.uploader(file_stream=io.BytesIO(DATA), url=first.url)
        second.upload()
    finished(service, store, first.url, "tuspy/hanging", DATA)
