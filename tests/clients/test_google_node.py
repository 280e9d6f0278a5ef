"""@google-cloud/storage in Node, unchanged, against the service as it runs, through a network that may break."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import file_of, shown, stored
from tests.clients.driver import Driver, Failed
from tests.clients.network import Fault, Network, wait_for
from tests.clients.node import PATIENCE, run_snippet
from tests.faults.proxy import FaultyS3
from tests.harness import Service, eventually

pytestmark = [pytest.mark.process, pytest.mark.soak]

MIB = 1 << 20
DATA = random.Random(14).randbytes(13 * MIB + 345_678)
#: Four requests bring it in pieces of this size.
CHUNK = 4 * MIB
CHUNKS = {"chunkSize": CHUNK}


@pytest.fixture(scope="module")
def task(_network: Network, store: FaultyS3, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = file_of(tmp_path_factory.mktemp("google") / "film.mp4", DATA)
    return {"endpoint": _network.url, "bucket": store.bucket, "file": path}


@pytest.fixture(scope="module")
def running(task: dict[str, Any]) -> Iterator[Driver]:
    with Driver("google.mjs", task) as client:
        yield client


@pytest.fixture
def client(running: Driver, network: Network, store: FaultyS3) -> Driver:
    store.mend()
    return running


def bringing(network: Network) -> list[str | None]:
    """What the requests that brought bytes said of them."""
    return [request.header("Content-Range") for request in network.of("PUT") if request.passed]


# As it should be


def test_in_one_request(client: Driver, network: Network, store: FaultyS3, tmp_path: Path) -> None:
    """``resumable: false``, which people have for small files: multipart, from a file and from a stream."""
    small = file_of(tmp_path / "small.txt", DATA[:100_003])
    said = client.do("upload", "node/small.txt", {"resumable": False, "metadata": {"metadata": {"a": "b"}}}, small)
    assert said["metadata"]["size"] == "100003"
    assert (said["metadata"]["contentType"], said["metadata"]["metadata"]) == ("text/plain", {"a": "b"})
    client.do("write", "node/stream", 0, 100_003, {"resumable": False})
    client.do("save", "node/text", "Füße", {"resumable": False})
    assert stored(store, "node/small.txt") == stored(store, "node/stream") == DATA[:100_003]
    assert stored(store, "node/text") == "Füße".encode()
    assert "uploadType=multipart" in network.of("POST")[0].path


@pytest.mark.parametrize("validation", ["crc32c", False])
@pytest.mark.parametrize("options", [{}, CHUNKS])
def test_a_file(
    client: Driver, network: Network, store: FaultyS3, options: dict[str, Any], validation: str | bool
) -> None:
    """In one request, and in chunks. With ``crc32c`` the client compares the checksum that the service says of the object."""
    name = f"node/{len(options)}, {validation} Füße & 漢字 100 %.mp4"
    said = client.do("upload", name, {"resumable": True, "validation": validation, **options})
    assert (said["metadata"]["size"], said["progress"]) == (len(DATA), len(DATA))
    assert (said["metadata"]["name"], said["metadata"]["contentType"]) == (name, "video/mp4")
    assert stored(store, name) == DATA
    assert len(bringing(network)) == (4 if options else 1)


@pytest.mark.parametrize("size", [0, 2 * CHUNK, 2 * CHUNK + 1])
@pytest.mark.parametrize("options", [{}, CHUNKS])
def test_a_length_that_nobody_knows(client: Driver, store: FaultyS3, options: dict[str, Any], size: int) -> None:
    """A stream: an empty one, one that ends at a chunk's edge, and another."""
    name = f"node/unknown {len(options)} {size}"
    said = client.do("write", name, 0, size, {"validation": "crc32c", **options})
    assert said["metadata"]["size"] == size
    assert stored(store, name) == DATA[:size]


def test_what_it_asks(client: Driver, store: FaultyS3) -> None:
    name = "node/asked & known"
    assert client.do("exists", name) is False
    with pytest.raises(Failed) as unknown:
        client.do("metadata", name)
    assert unknown.value.code == 404
    client.do("upload", name, {"preconditionOpts": {"ifGenerationMatch": 0}, **CHUNKS})
    assert client.do("exists", name) is True
    assert client.do("metadata", name)["size"] == str(len(DATA))
    with pytest.raises(Failed) as taken:
        client.do("upload", name, {"preconditionOpts": {"ifGenerationMatch": 0}, **CHUNKS})
    assert taken.value.code == 412
    client.do("remove", name)
    assert client.do("exists", name) is False
    # The object is the application's.
    assert stored(store, name) == DATA


# Another stream, and another process


def test_a_stream_that_breaks(client: Driver, network: Network, service: Service, store: FaultyS3) -> None:
    """The URI was kept: the file is written once more from its beginning, and only what is missing is sent."""
    uri = client.do("begin", "node/broken", {"metadata": {"contentType": "video/mp4"}})
    client.do("leave", "node/broken", 7_000_000, {"uri": uri, "validation": False})
    client.do("destroy", "node/broken")
    eventually(lambda: shown_of(service, uri)["offset"] > 0)
    client.do("write", "node/broken", 0, len(DATA), {"uri": uri, "validation": "crc32c"})
    assert stored(store, "node/broken") == DATA
    first, second = bringing(network)
    assert first == "bytes 0-*/*"
    assert second is not None
    assert 0 < int(second.removeprefix("bytes ").partition("-")[0]) <= 7_000_000
    assert shown_of(service, uri)["state"] == "finished"


def test_a_process_that_is_killed(
    client: Driver, task: dict[str, Any], network: Network, service: Service, store: FaultyS3
) -> None:
    """In the middle of a chunk; the next one has the URI."""
    uri = client.do("begin", "node/killed", {})
    # The first request asks how far the upload is, the second brings the first chunk.
    fault = network.cut_off("PUT", 1_000_000, nth=2)
    with Driver("google.mjs", task) as other:
        ordered = other.order("write", "node/killed", 0, len(DATA), {"uri": uri, **CHUNKS})
        wait_for(fault)
    assert isinstance(ordered.exception(0), RuntimeError)
    network.mend()
    eventually(lambda: shown_of(service, uri)["offset"] == 1_000_000)
    client.do("write", "node/killed", 0, len(DATA), {"uri": uri, **CHUNKS})
    assert stored(store, "node/killed") == DATA
    assert (bringing(network)[1] or "").startswith("bytes 1000000-")


def shown_of(service: Service, uri: str) -> Any:
    """The upload of a session's URI, as the service shows it to people."""
    return shown(service, uri.replace("upload_id=", "/"))


# A network that breaks

#: What goes wrong at an upload in four chunks.
FAULTS: dict[str, Callable[[Network], Fault]] = {
    "reset in the first chunk": lambda network: network.break_off("PUT", 1_000_000),
    "reset in a later chunk": lambda network: network.break_off("PUT", 1_000_000, nth=3),
    "503 to a chunk": lambda network: network.refuse("PUT", nth=2),
    "503 to the last chunk": lambda network: network.refuse("PUT", nth=4),
    "503 to the start": lambda network: network.refuse("POST"),
    "an answer is lost": lambda network: network.lose_answer("PUT", nth=2),
}


@pytest.mark.parametrize("what", FAULTS)
def test_faults(client: Driver, network: Network, store: FaultyS3, what: str) -> None:
    """The client asks how far the upload is, and goes on by itself; what arrived is not sent again."""
    fault = FAULTS[what](network)
    name = f"node/fault, {what}"
    client.do("upload", name, CHUNKS)
    assert fault.hit.is_set()
    assert stored(store, name) == DATA
    assert client.do("metadata", name)["size"] == str(len(DATA))


def test_the_store_says_503(client: Driver, network: Network, store: FaultyS3) -> None:
    """For longer than the service itself is patient: the client hears of it, and tries until it passes."""
    store.fail("UploadPart", "503", 0)
    ordered = client.order("upload", "node/store", CHUNKS)
    eventually(lambda: 503 in [request.status for request in network.of("PUT")])
    store.mend()
    ordered.result(PATIENCE)
    assert stored(store, "node/store") == DATA


def test_without_chunks(client: Driver, network: Network, store: FaultyS3) -> None:
    """The client has kept nothing of what it has sent, and gives up; whoever has the URI writes the file once more."""
    uri = client.do("begin", "node/whole", {})
    store.fail("UploadPart", "503", 0)
    with pytest.raises(Failed) as failed:
        client.do("write", "node/whole", 0, len(DATA), {"uri": uri})
    assert failed.value.name == "RangeError"
    store.mend()
    client.do("write", "node/whole", 0, len(DATA), {"uri": uri})
    assert stored(store, "node/whole") == DATA


def test_the_last_answer_is_lost(client: Driver, network: Network, store: FaultyS3) -> None:
    """Of several chunks: the client asks, hears that all is done, and takes that for nothing: its own fault, with Google too.

    The object is there, and the client can ask for it. Of one chunk: it sends that again, and hears that it is the same.
    """
    network.lose_answer("PUT", nth=4)
    with pytest.raises(Failed) as failed:
        client.do("upload", "node/lost", CHUNKS)
    assert failed.value.name == "RangeError"
    assert stored(store, "node/lost") == DATA
    assert client.do("metadata", "node/lost")["size"] == str(len(DATA))
    network.reset()
    network.lose_answer("PUT")
    said = client.do("upload", "node/lost one", {"chunkSize": 16 * MIB})
    assert said["metadata"]["size"] == len(DATA)
    assert stored(store, "node/lost one") == DATA


def test_the_snippet(client: Driver, service: Service, store: FaultyS3, tmp_path: Path) -> None:
    """Of docs/clients.md."""
    file_of(tmp_path / "film.mp4", DATA)
    replaced = {"http://localhost:8080": service.url, '"uploads"': f'"{store.bucket}"'}
    assert run_snippet(tmp_path, "@google-cloud/storage", replaced) == f"{len(DATA)}\n"
    assert stored(store, "node.mp4") == DATA
