"""@firebase/storage, unchanged, in Chromium on a page of another origin and in Node, through a network that may break."""

from __future__ import annotations

import random
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import file_of, shown, stored
from tests.clients.driver import Driver, Failed
from tests.clients.network import Fault, Network, wait_for
from tests.clients.node import PATIENCE, SCRIPTS, run_snippet
from tests.faults.proxy import FaultyS3
from tests.harness import Service, eventually
from tests.service.conftest import configuration

pytestmark = [pytest.mark.process, pytest.mark.soak]

KIB = 1 << 10
DATA = random.Random(15).randbytes((6 << 20) + 345_678)
#: The client doubles its pieces: the first POST begins the upload, and these bring it.
PIECES = [256 * KIB, 512 * KIB, 1024 * KIB, 2048 * KIB, len(DATA) - 3840 * KIB]
LAST = 1 + len(PIECES)


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The origin of the page, which serves what is uploaded too."""
    film = file_of(tmp_path_factory.mktemp("film") / "film.mp4", DATA)

    class Page(SimpleHTTPRequestHandler):
        def translate_path(self, path: str) -> str:
            return film if path == "/film.mp4" else super().translate_path(path)

        def log_message(self, *_: object) -> None:
            pass

    def serve(*given: Any) -> Page:
        return Page(*given, directory=str(SCRIPTS))

    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(scope="module")
def service(store: FaultyS3, origin: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that lets the page in."""
    config = configuration(store, store={"patience": "1s"}, cors={"origins": [origin]})
    with Service(tmp_path_factory.mktemp("firebase"), config) as started:
        yield started
        assert "Traceback" not in started.log


@pytest.fixture(scope="module")
def given(_network: Network, origin: str) -> dict[str, Any]:
    """What the client is given."""
    return {"host": "127.0.0.1", "port": _network.port, "bucket": "films", "film": f"{origin}/film.mp4"}


@pytest.fixture(scope="module")
def _page(given: dict[str, Any], origin: str) -> Iterator[Driver]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
    # What the browser leaves in the home of whoever runs the tests, or in /tmp; the path has to be short (see test_uppy.py).
    with tempfile.TemporaryDirectory(prefix="firebase-") as home:
        task = {"chromium": chromium, "profile": f"{home}/profile", "page": f"{origin}/firebase.html", "client": given}
        elsewhere = {"HOME": home, "TMPDIR": home, "XDG_CONFIG_HOME": home, "XDG_CACHE_HOME": home}
        with Driver("firebase.mjs", task, **elsewhere) as started:
            yield started


@pytest.fixture
def client(_page: Driver, network: Network, store: FaultyS3) -> Driver:
    """The client in a page."""
    store.mend()
    return _page


@pytest.fixture(scope="module")
def node(given: dict[str, Any]) -> Iterator[Driver]:
    """The client in Node, which has its own way to send requests there."""
    with Driver("firebase.mjs", {"chromium": None, "client": given}) as started:
        yield started


def brought(network: Network) -> list[tuple[str | None, int]]:
    """Offset and size of the pieces that were taken."""
    taken = [one for one in network.of("POST") if one.status == 200 and one.header("X-Goog-Upload-Offset")]
    return [(one.header("X-Goog-Upload-Offset"), one.passed) for one in taken]


def begun(network: Network) -> str:
    """The URL of the upload that was begun last."""
    return [answer for one in network.of("POST") if (answer := one.answered("X-Goog-Upload-URL"))][-1]


def shown_of(service: Service, url: str) -> Any:
    return shown(service, url.replace("upload_id=", "/").partition("&")[0])


# As it should be


@pytest.mark.parametrize("size", [0, 100_003, len(DATA)])
def test_upload_bytes(client: Driver, store: FaultyS3, size: int) -> None:
    """multipart, whatever the size."""
    name = f"firebase/bytes/{size} Füße & 漢字 100 %.mp4"
    said = client.do("bytes", name, size, {"contentType": "video/mp4", "customMetadata": {"a": "b"}})
    assert (said["fullPath"], said["size"], said["contentType"]) == (name, size, "video/mp4")
    assert said["customMetadata"] == {"a": "b"}
    assert stored(store, name) == DATA[:size]


def test_upload_string(client: Driver, store: FaultyS3) -> None:
    client.do("string", "firebase/raw", "Füße", "raw")
    client.do("string", "firebase/base64", "RsO8w59l", "base64")
    url = client.do("string", "firebase/url", "data:text/plain;base64,RsO8w59l", "data_url")
    assert url["contentType"] == "text/plain"
    for name in ("raw", "base64", "url"):
        assert stored(store, f"firebase/{name}") == "Füße".encode()


@pytest.mark.parametrize("size", [0, 256 * KIB, 256 * KIB + 1, 768 * KIB, len(DATA)])
def test_upload_resumable(client: Driver, network: Network, store: FaultyS3, size: int) -> None:
    """Up to 256 KiB in one request; else in pieces, with progress, also where the last piece ends at an edge."""
    name = f"firebase/resumable/{size}"
    said = client.do("task", name, size, {"contentType": "video/mp4"})
    assert (said["size"], said["contentType"]) == (size, "video/mp4")
    assert said["progress"] == sorted(said["progress"])
    assert said["progress"][-1] == size
    assert stored(store, name) == DATA[:size]
    if size == len(DATA):
        assert [piece for _, piece in brought(network)] == PIECES


def test_metadata(client: Driver, store: FaultyS3) -> None:
    name = "firebase/asked & known"
    with pytest.raises(Failed) as failed:
        client.do("metadata", name)
    assert failed.value.code == "storage/object-not-found"
    client.do("bytes", name, 5, {"customMetadata": {"a": "b"}})
    said = client.do("metadata", name)
    assert (said["fullPath"], said["size"], said["customMetadata"]) == (name, 5, {"a": "b"})


# Pauses


def test_pause_and_resume(client: Driver, network: Network, service: Service, store: FaultyS3) -> None:
    """In the middle of a piece: the request is broken off, and what came of it is not sent again."""
    fault = network.stall("POST", 300_000, nth=3)
    ordered = client.order("task", "firebase/paused", len(DATA))
    wait_for(fault)
    client.do("pause", "firebase/paused")
    network.mend()
    eventually(lambda: shown_of(service, begun(network))["offset"] >= 256 * KIB + 300_000)
    before = shown_of(service, begun(network))["offset"]
    client.do("resume", "firebase/paused")
    assert ordered.result(PATIENCE)["states"] == ["running", "paused", "running"]
    assert stored(store, "firebase/paused") == DATA
    assert str(before) in [offset for offset, _ in brought(network)]


def test_cancel(client: Driver, network: Network, service: Service, store: FaultyS3) -> None:
    """The client tells nobody: what came stays until it is cleaned away, and there is no object."""
    fault = network.stall("POST", 300_000, nth=3)
    ordered = client.order("task", "firebase/cancelled", len(DATA))
    wait_for(fault)
    assert client.do("cancel", "firebase/cancelled") is True
    network.mend()
    with pytest.raises(Failed) as failed:
        ordered.result(PATIENCE)
    assert failed.value.code == "storage/canceled"
    assert shown_of(service, begun(network))["state"] == "open"
    with pytest.raises(store.boto3().exceptions.NoSuchKey):
        stored(store, "firebase/cancelled")


def test_a_half_open_connection(client: Driver, network: Network, service: Service, store: FaultyS3) -> None:
    """The network falls silent. Paused and resumed the upload goes on, while the service still has the old connection."""
    fault = network.stall("POST", 300_000, nth=4)
    ordered = client.order("task", "firebase/silent", len(DATA))
    wait_for(fault)
    client.do("pause", "firebase/silent")
    client.do("resume", "firebase/silent")
    ordered.result(PATIENCE)
    assert stored(store, "firebase/silent") == DATA
    network.mend()
    assert stored(store, "firebase/silent") == DATA


# A network that breaks

#: What goes wrong.
FAULTS: dict[str, Callable[[Network], Fault]] = {
    "503 to the start": lambda network: network.refuse("POST"),
    "the start's answer is lost": lambda network: network.lose_answer("POST"),
    "503 to a piece": lambda network: network.refuse("POST", nth=3),
    "503 to the last piece": lambda network: network.refuse("POST", nth=LAST),
    "reset in the middle": lambda network: network.break_off("POST", 300_000, nth=3),
    "reset in the last piece": lambda network: network.break_off("POST", 300_000, nth=LAST),
    "an answer is lost": lambda network: network.lose_answer("POST", nth=3),
    "the last answer is lost": lambda network: network.lose_answer("POST", nth=LAST),
}


@pytest.mark.parametrize("what", FAULTS)
def test_faults(client: Driver, network: Network, store: FaultyS3, what: str) -> None:
    """It goes on by itself: after a 503 it asks how far it is, after a break it sends the same piece again."""
    fault = FAULTS[what](network)
    name = f"firebase/fault, {what}"
    said = client.do("task", name, len(DATA))
    assert fault.hit.is_set()
    assert said["size"] == len(DATA)
    assert stored(store, name) == DATA


@pytest.mark.parametrize("what", ["503", "reset", "lost"])
def test_faults_of_one_request(client: Driver, network: Network, store: FaultyS3, what: str) -> None:
    fault = {
        "503": lambda: network.refuse("POST"),
        "reset": lambda: network.break_off("POST", 300_000),
        "lost": lambda: network.lose_answer("POST"),
    }[what]()
    client.do("bytes", f"firebase/one, {what}", len(DATA))
    assert fault.hit.is_set()
    assert stored(store, f"firebase/one, {what}") == DATA


def test_the_store_says_503(client: Driver, network: Network, store: FaultyS3) -> None:
    """To the making of the object. The client asks how far it is, hears that it is done, and asks for the object's metadata."""
    store.fail("Complete", "503", 0)
    ordered = client.order("task", "firebase/store", len(DATA), {"customMetadata": {"a": "b"}})
    eventually(lambda: 503 in [one.status for one in network.of("POST")])
    store.mend()
    said = ordered.result(PATIENCE)
    assert (said["size"], said["customMetadata"]) == (len(DATA), {"a": "b"})
    assert [one.status for one in network.of("GET")] == [200]
    assert stored(store, "firebase/store") == DATA


# In Node


def test_in_node(node: Driver, network: Network, service: Service, store: FaultyS3) -> None:
    """No request is broken off there: a pause begins when the one of the moment has been answered."""
    node.do("bytes", "node/bytes", 100_003)
    assert stored(store, "node/bytes") == DATA[:100_003]
    node.do("string", "node/string", "RsO8w59l", "base64")
    assert stored(store, "node/string") == "Füße".encode()
    network.reset()
    fault = network.stall("POST", 300_000, nth=3)
    ordered = node.order("task", "node/paused", len(DATA))
    wait_for(fault)
    paused = node.order("pause", "node/paused")
    network.mend()
    paused.result(PATIENCE)
    assert shown_of(service, begun(network))["offset"] == 768 * KIB
    node.do("resume", "node/paused")
    assert ordered.result(PATIENCE)["states"] == ["running", "paused", "running"]
    assert stored(store, "node/paused") == DATA


@pytest.mark.parametrize("what", ["503 to a piece", "reset in the middle", "the last answer is lost"])
def test_faults_in_node(node: Driver, network: Network, store: FaultyS3, what: str) -> None:
    fault = FAULTS[what](network)
    assert node.do("task", f"node/fault, {what}", len(DATA))["size"] == len(DATA)
    assert fault.hit.is_set()
    assert stored(store, f"node/fault, {what}") == DATA


def test_the_snippet(node: Driver, service: Service, store: FaultyS3, tmp_path: Path) -> None:
    """Of docs/clients.md."""
    file_of(tmp_path / "film.mp4", DATA)
    said = run_snippet(tmp_path, "firebase", {'"localhost", 8080': f'"127.0.0.1", {service.port}'})
    assert said.splitlines()[-1] == f"{len(DATA)} of {len(DATA)}"
    assert stored(store, "firebase.mp4") == DATA
