"""Uppy in headless Chromium, on a page of another origin, against the service as it runs, through a network that may break."""

from __future__ import annotations

import random
import shutil
import tempfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
import requests

from tests.clients.conftest import arrived, file_of, finished
from tests.clients.network import Network, wait_for
from tests.clients.node import PATIENCE, SCRIPTS, end, order, result_of, start
from tests.faults.proxy import FaultyS3
from tests.harness import Application, Service, eventually
from tests.service.conftest import configuration

pytestmark = [pytest.mark.process, pytest.mark.soak]

DATA = random.Random(13).randbytes((12 << 20) + 345_678)
COOKIE = "session=alice"


class Page(SimpleHTTPRequestHandler):
    """The page's own server; whoever opens the page is signed in."""

    def translate_path(self, path: str) -> str:
        name = path.partition("?")[0].lstrip("/")
        folder = SCRIPTS / "node_modules" / "uppy" / "dist" if name == "uppy.min.mjs" else SCRIPTS
        return str(folder / Path(name).name)

    def end_headers(self) -> None:
        self.send_header("Set-Cookie", f"{COOKIE}; Path=/; HttpOnly; SameSite=Lax")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    """The origin of the page: another port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(scope="module")
def service(store: FaultyS3, origin: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that lets the page in, and anybody upload."""
    config = configuration(store, cors={"origins": [origin]})
    with Service(tmp_path_factory.mktemp("uppy"), config) as started:
        yield started
        assert "Traceback" not in started.log


@pytest.fixture(scope="module")
def application() -> Iterator[Application]:
    """An application that wants its cookie."""

    def answer(headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        if COOKIE in headers.get("cookie", ""):
            return 200, {"Content-Type": "application/json"}, b'{"owner": "alice"}'
        return 401, {}, b"sign in first"

    started = Application()
    started.answer = answer
    yield started
    started.close()


@pytest.fixture(scope="module")
def careful(
    store: FaultyS3, origin: str, application: Application, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A service that asks the application, and lets the page in with the cookie."""
    config = configuration(
        store,
        cors={"origins": [origin], "credentials": True},
        auth={"url": application.url, "forward": ["cookie"], "cache": 0},
    )
    with Service(tmp_path_factory.mktemp("careful"), config) as started:
        yield started
        assert "Traceback" not in started.log


class Browser:
    """Uppy's page in a browser, which the test's end closes whatever happens."""

    def __init__(self, origin: str, directory: Path) -> None:
        self._origin = origin
        self._profile = directory / "profile"
        self._path = file_of(directory / "film.mp4", DATA)
        # What the browser would leave in the home of whoever runs the tests, or in /tmp. The path has to be short: it is that of
        # a socket too (107 bytes, unix(7)), and pytest's is long.
        self._home = tempfile.TemporaryDirectory(prefix="uppy-")
        self._opened: list[Popen[str]] = []

    def open(self, network: Network, name: str, **options: Any) -> Popen[str]:
        """Open the page and choose the file, which is uploaded under the name from then on."""
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        if chromium is None:
            pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
        # Uppy says what the file is called; the name of the object has to be the test's.
        path = Path(self._path).rename(Path(self._path).with_name(name))
        self._path = str(path)
        said = {"endpoint": f"{network.url}/files/", "retryDelays": [100] * 100, **options}
        task = {
            "chromium": chromium,
            "profile": str(self._profile),
            "page": f"{self._origin}/uppy.html",
            "options": said,
            "file": self._path,
            "seconds": PATIENCE / 2,
        }
        home = self._home.name
        elsewhere = {"HOME": home, "TMPDIR": home, "XDG_CONFIG_HOME": home, "XDG_CACHE_HOME": home}
        process = start("uppy.mjs", task, **elsewhere)
        self._opened.append(process)
        return process

    def close(self) -> None:
        """End every browser that still runs."""
        for process in self._opened:
            end(process)
        self._home.cleanup()


@pytest.fixture
def browser(origin: str, tmp_path: Path) -> Iterator[Browser]:
    browser = Browser(origin, tmp_path)
    yield browser
    browser.close()


@pytest.mark.parametrize("options", [{}, {"chunkSize": 5_000_000}, {"uploadDataDuringCreation": True}])
def test_a_file(browser: Browser, network: Network, service: Service, store: FaultyS3, options: dict[str, Any]) -> None:
    """With the preflights that a browser sends before."""
    name = f"Füße & 漢字 {'-'.join(options)}.mp4"
    said = result_of(browser.open(network, name, **options))
    assert said["outcome"] == "success", said
    finished(service, store, said["url"], name, DATA)
    assert {request.status for request in network.of("OPTIONS")} == {204}
    assert sum(request.passed for request in network.passed) == len(DATA)


def test_the_network_is_gone_for_a_while(browser: Browser, network: Network, service: Service, store: FaultyS3) -> None:
    """The page tries again by itself, and goes on at the byte that was the last to arrive."""
    fault = network.cut_off("PATCH", 5_000_000)
    page = browser.open(network, "uppy-cut.mp4")
    wait_for(fault)
    arrived(service, network, 5_000_000)
    network.mend()
    said = result_of(page)
    assert said["outcome"] == "success", said
    finished(service, store, said["url"], "uppy-cut.mp4", DATA)
    assert network.of("PATCH")[-1].header("Upload-Offset") == "5000000"
    assert len(network.of("POST")) == 1


def test_the_browser_is_offline(browser: Browser, network: Network, service: Service, store: FaultyS3) -> None:
    """And says so to the page, which waits, and goes on when it is online again."""
    fault = network.stall("PATCH", 5_000_000)
    page = browser.open(network, "uppy-offline.mp4")
    wait_for(fault)
    order(page, "offline")
    passed = len(network.passed)
    network.cut()
    order(page, "the request failed")
    arrived(service, network, 5_000_000)
    network.mend()
    assert len(network.passed) == passed
    order(page, "online")
    said = result_of(page)
    assert said["outcome"] == "success", said
    finished(service, store, said["url"], "uppy-offline.mp4", DATA)
    assert len(network.of("POST")) == 1
    assert int(network.of("PATCH")[-1].header("Upload-Offset") or 0) >= 5_000_000


def test_another_browser_process_goes_on(browser: Browser, network: Network, service: Service, store: FaultyS3) -> None:
    """The browser is closed in the middle; later the same file is chosen again, and what was stored is not sent again."""
    fault = network.cut_off("PATCH", 5_000_000)
    first = browser.open(network, "uppy-again.mp4")
    wait_for(fault)
    said, complained = first.communicate("stop\n", timeout=PATIENCE)
    assert '"stopped"' in said, complained
    arrived(service, network, 5_000_000)
    network.reset()
    said = result_of(browser.open(network, "uppy-again.mp4"))
    assert said["outcome"] == "success", said
    finished(service, store, said["url"], "uppy-again.mp4", DATA)
    assert network.of("POST") == []
    assert network.of("PATCH")[-1].header("Upload-Offset") == "5000000"


def test_cancel(browser: Browser, network: Network, service: Service, store: FaultyS3) -> None:
    """In the middle. The page has the service forget the upload, and nothing is left of it."""
    fault = network.stall("PATCH", 5_000_000)
    page = browser.open(network, "uppy-cancelled.mp4")
    wait_for(fault)
    order(page, "cancel")
    assert [request.status for request in network.of("DELETE")] == [204]
    path = network.of("DELETE")[0].path
    assert requests.head(service.url + path, timeout=10).status_code in (404, 410)
    eventually(lambda: not store.boto3().list_multipart_uploads(Bucket=store.bucket).get("Uploads"))
    eventually(lambda: not store.boto3().list_objects_v2(Bucket=store.bucket, Prefix=".resumable/").get("Contents"))


@pytest.fixture
def between(careful: Service) -> Iterator[Network]:
    """The network in front of the service that wants the cookie."""
    with Network(careful.port) as between:
        yield between


def test_with_a_cookie(
    browser: Browser, between: Network, careful: Service, store: FaultyS3, application: Application
) -> None:
    """The application is shown the cookie at each request, and at those after a cut too."""
    fault = between.cut_off("PATCH", 5_000_000)
    page = browser.open(between, "uppy-cookie.mp4", withCredentials=True)
    wait_for(fault)
    # Chromium sends a request once more by itself, which would go through if the network were there again at once.
    path = between.of("PATCH")[-1].path.replace("/files/", "/uploads/")
    eventually(lambda: careful.request("GET", path, {"Cookie": COOKIE}).json["offset"] == 5_000_000)
    between.mend()
    said = result_of(page)
    assert said["outcome"] == "success", said
    asking = [headers for headers in application.asked if headers["x-upload-protocol"] == "tus"]
    assert {headers.get("cookie") for headers in asking} == {COOKIE}
    assert {"create", "append", "status"} <= {headers["x-upload-action"] for headers in asking}
    # Preflights are without it, and nobody is asked for them.
    assert {request.header("Cookie") for request in between.of("OPTIONS")} == {None}
    upload = careful.request("GET", f"/uploads/{said['url'].rpartition('/')[2]}", {"Cookie": COOKIE}).json
    assert (upload["state"], upload["owner"], upload["size"]) == ("finished", "alice", len(DATA))
    assert bytes(store.boto3().get_object(Bucket=store.bucket, Key=upload["key"])["Body"].read()) == DATA


def test_without_the_cookie(browser: Browser, between: Network) -> None:
    """Refused before a byte of the file was sent; Uppy says why."""
    said = result_of(browser.open(between, "uppy-stranger.mp4", withCredentials=False))
    assert said["outcome"] == "error"
    assert "401" in said["error"]
    assert "sign in first" in said["error"]
    assert between.of("PATCH") == []
