"""The page in headless Chromium, against the service as it runs, through a network that breaks.

Its accessibility is checked by axe-core. With ``PAGE_SHOTS`` in the environment, a folder, pictures of the page are left there.
"""

from __future__ import annotations

import os
import random
import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from tests.clients.network import Network, wait_for
from tests.clients.node import SCRIPTS
from tests.harness import ROOT, Application, Service, eventually
from tests.page.browser import Browser
from tests.page.conftest import nothing_is_left, stored, upload_of
from tests.s3servers import MotoServer
from tests.service.conftest import configuration

pytestmark = [pytest.mark.process, pytest.mark.soak]

DATA = {
    name: random.Random(name).randbytes(size)
    for name, size in (("one.bin", 9_000_000), ("two ü.bin", 3_000_000), ("three.bin", 100))
}
AXE = str(SCRIPTS / "node_modules" / "axe-core" / "axe.min.js")
FILM = random.Random(3).randbytes(20_000_000)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files to choose."""
    folder = tmp_path_factory.mktemp("files")
    for name, data in {**DATA, "film.mp4": FILM, "other/film.mp4": FILM[:-1]}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    with (folder / "huge.bin").open("wb") as huge:
        huge.truncate((40 << 20) + 1)
    return folder


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("browser")).start()
    yield browser
    browser.clean()


@pytest.fixture
def browser(chromium: Browser, network: Network) -> Iterator[Browser]:
    """The page, just opened. A network of its own is an origin of its own: nothing is remembered there."""
    chromium.do("open", network.url)
    yield chromium
    assert chromium.do("wrong") == []


def shoot(browser: Browser, name: str) -> None:
    """Nothing is wider than the window, and axe-core finds nothing serious."""
    folder = os.environ.get("PAGE_SHOTS")
    for width in (360, 1280):
        for scheme in ("light", "dark"):
            path = None if folder is None else f"{folder}/{name}-{width}-{scheme}.png"
            assert browser.do("shot", path, width, scheme), f"{name} is wider than {width} pixels"
            found = browser.do("axe", AXE)
            assert [one for one in found if one[1] in ("serious", "critical")] == [], (name, width, scheme)


def half_way(browser: Browser, network: Network, files: Path, service: Service) -> str:
    """Choose the film; the network falls silent in the middle of it. Return the upload's id."""
    fault = network.stall("PUT", 5_000_000)
    browser.do("choose", [str(files / "film.mp4")])
    wait_for(fault)
    eventually(lambda: upload_of(network, service)["offset"] == 5_000_000)
    return str(upload_of(network, service)["id"])


def test_three_files(browser: Browser, network: Network, s3: MotoServer, files: Path) -> None:
    """They begin when they are chosen, two at a time; each has a link to its result."""
    shoot(browser, "empty")
    browser.do("choose", [str(files / name) for name in DATA])
    for name, data in DATA.items():
        browser.do("state", name, "finished")
        assert stored(s3, name) == data
    assert "3 of 3 uploaded" in browser.do("text", "#overall")
    shoot(browser, "three")
    link = browser.do("href", "#uploads a")
    browser.do("open", link)
    assert '"state": "finished"' in browser.do("text", "body")


def test_the_network_is_cut(browser: Browser, network: Network, s3: MotoServer, files: Path) -> None:
    fault = network.cut_off("PUT", 5_000_000)
    browser.do("choose", [str(files / "film.mp4")])
    wait_for(fault)
    browser.do("state", "film.mp4", "waiting")
    shoot(browser, "waiting")
    network.mend()
    browser.do("state", "film.mp4", "finished")
    assert stored(s3, "film.mp4") == FILM
    assert len(network.of("POST")) == 1


def test_offline(browser: Browser, network: Network, service: Service, s3: MotoServer, files: Path) -> None:
    """It is told, and nothing is tried until the network is back."""
    half_way(browser, network, files, service)
    browser.do("offline", True)
    browser.do("see", "#offline")
    network.cut()
    browser.do("state", "film.mp4", "waiting")
    network.mend()
    passed = len(network.passed)
    assert "waits for the network" in browser.do("row", "film.mp4")
    assert len(network.passed) == passed
    browser.do("offline", False)
    browser.do("state", "film.mp4", "finished")
    assert stored(s3, "film.mp4") == FILM


def test_pause_and_go_on_by_keyboard(
    browser: Browser, network: Network, service: Service, s3: MotoServer, files: Path
) -> None:
    """The button keeps the focus."""
    half_way(browser, network, files, service)
    # Also what came just before it fell silent is shown.
    eventually(lambda: "MB of 20" in browser.do("row", "film.mp4"))
    shoot(browser, "under-way")
    browser.do("press", "Pause: film.mp4")
    browser.do("state", "film.mp4", "paused")
    shoot(browser, "paused")
    network.mend()
    assert browser.do("focused") == "Go on: film.mp4"
    browser.do("key", "Enter")
    browser.do("state", "film.mp4", "finished")
    assert stored(s3, "film.mp4") == FILM


def test_reload(browser: Browser, network: Network, service: Service, s3: MotoServer, files: Path) -> None:
    """The unfinished one is listed with what is stored of it; another file is not taken for it, the same goes on."""
    half_way(browser, network, files, service)
    browser.do("reload")
    network.mend()
    browser.do("see", "#unfinished li")
    # What the old connection still had may have come meanwhile.
    assert re.search(r"(25|31)% is stored", browser.do("text", "#unfinished"))
    shoot(browser, "unfinished")
    browser.do("answer", "Choose the file: film.mp4", str(files / "other" / "film.mp4"))
    assert "another file" in browser.do("text", "#unfinished")
    browser.do("answer", "Choose the file: film.mp4", str(files / "film.mp4"))
    browser.do("state", "film.mp4", "finished")
    assert stored(s3, "film.mp4") == FILM
    assert len(network.of("POST")) == 1
    assert browser.do("count", "#unfinished li") == 0


def test_another_file_of_the_same_name(
    browser: Browser, network: Network, service: Service, s3: MotoServer, files: Path
) -> None:
    """It does not take the place of the one that is under way, and that is said."""
    half_way(browser, network, files, service)
    browser.do("choose", [str(files / "other" / "film.mp4")])
    browser.do("see", "#others")
    assert "Not uploaded: film.mp4." in browser.do("text", "#others")
    browser.do("choose", [str(files / "film.mp4")])
    assert browser.do("text", "#others") == ""
    assert browser.do("count", "#uploads li") == 1
    network.mend()
    browser.do("state", "film.mp4", "finished")
    assert stored(s3, "film.mp4") == FILM


def test_discard(browser: Browser, network: Network, service: Service, s3: MotoServer, files: Path) -> None:
    upload_id = half_way(browser, network, files, service)
    browser.do("reload")
    network.mend()
    browser.do("press", "Discard: film.mp4")
    nothing_is_left(s3, "film.mp4", upload_id)
    browser.do("reload")
    assert browser.do("count", "#unfinished li") == 0


def test_cancel(browser: Browser, network: Network, service: Service, s3: MotoServer, files: Path) -> None:
    upload_id = half_way(browser, network, files, service)
    browser.do("press", "Cancel: film.mp4")
    browser.do("gone", "film.mp4")
    assert [request.status for request in network.of("DELETE")] == [204]
    nothing_is_left(s3, "film.mp4", upload_id)
    assert browser.do("focused") == "Choose files"


@pytest.mark.parametrize("status", [401, 403])
def test_refused(
    browser: Browser, network: Network, application: Application, s3: MotoServer, files: Path, status: int
) -> None:
    """The application's page is shown as text, whatever is in it; trying again works when it says yes."""
    page = (
        b"<html><head><title>x</title></head><body><script>document.title = 'bad'</script><p>Ask &lt;Bob&gt;</p></body>"
    )
    application.refuse(status, page, **{"Content-Type": "text/html"})
    browser.do("choose", [str(files / "three.bin")])
    browser.do("state", "three.bin", "failed")
    said = browser.do("row", "three.bin")
    assert "The application says: Ask <Bob>" in said
    assert str(status) in said
    assert "document.title" not in said
    assert network.of("PUT") == []
    shoot(browser, f"refused-{status}")
    application.grant()
    browser.do("press", "Try again: three.bin")
    browser.do("state", "three.bin", "finished")
    assert stored(s3, "three.bin") == DATA["three.bin"]


def test_too_large(browser: Browser, network: Network, files: Path) -> None:
    browser.do("choose", [str(files / "huge.bin")])
    browser.do("state", "huge.bin", "failed")
    assert "too large" in browser.do("row", "huge.bin")
    assert network.of("PUT") == []


def test_a_drop(browser: Browser, s3: MotoServer) -> None:
    browser.do("drop", [{"name": "dropped.txt", "text": "dropped", "lastModified": 1}])
    browser.do("state", "dropped.txt", "finished")
    assert stored(s3, "dropped.txt") == b"dropped"


def test_a_folder(browser: Browser, s3: MotoServer, files: Path) -> None:
    browser.do("choose", [str(files / "other")], "#folder")
    browser.do("state", "other/film.mp4", "finished")
    assert stored(s3, "other/film.mp4") == FILM[:-1]


def test_a_dropped_folder(browser: Browser, s3: MotoServer, tmp_path: Path) -> None:
    """As a file manager drops it, with a file beside it: what is in it is called by its path, and an empty folder is nothing."""
    for name in ("tour/a.txt", "tour/2026/Ü #1.txt", "beside.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "tour" / "empty").mkdir()
    browser.do("drop paths", [str(tmp_path / "tour"), str(tmp_path / "beside.txt")])
    for name in ("tour/a.txt", "tour/2026/Ü #1.txt", "beside.txt"):
        browser.do("state", name, "finished")
        assert stored(s3, name).decode() == name
    assert browser.do("count", "#uploads .rows > li") == 3
    assert browser.do("count", ".dragging") == 0


def test_two_tabs_with_the_same_file(
    browser: Browser, network: Network, service: Service, s3: MotoServer, files: Path
) -> None:
    """The second goes on with the first one's upload, and both are told that it is stored."""
    half_way(browser, network, files, service)
    browser.do("tab", network.url)
    browser.do("see", "#unfinished li")
    browser.do("choose", [str(files / "film.mp4")])
    browser.do("state", "film.mp4", "finished")
    assert browser.do("count", "#unfinished li") == 0
    browser.do("close tab")
    network.mend()
    browser.do("state", "film.mp4", "finished")
    assert stored(s3, "film.mp4") == FILM
    assert len(network.of("POST")) == 1


def test_the_browser_crashes(tmp_path: Path, network: Network, service: Service, s3: MotoServer, files: Path) -> None:
    """After SIGKILL it is listed, and goes on when the file is chosen as any other is."""
    browser = Browser(tmp_path).start()
    try:
        browser.do("open", network.url)
        half_way(browser, network, files, service)
        browser.remembers(upload_of(network, service)["id"])
        browser.crash()
        network.mend()
        browser.start()
        browser.do("open", network.url)
        browser.do("see", "#unfinished li")
        browser.do("choose", [str(files / "film.mp4")])
        browser.do("state", "film.mp4", "finished")
        assert stored(s3, "film.mp4") == FILM
        assert len(network.of("POST")) == 1
    finally:
        browser.clean()


def test_the_service_is_killed_and_started_again(
    tmp_path: Path, chromium: Browser, s3: MotoServer, files: Path
) -> None:
    with Service(tmp_path, configuration(s3)) as service, Network(service.port) as network:
        chromium.do("open", network.url)
        half_way(chromium, network, files, service)
        port = service.port
        service.kill()
        network.cut()
        chromium.do("state", "film.mp4", "waiting")
        network.mend()
        service._arguments = ["--listen", f"tcp:{port}:interface=127.0.0.1", *service._arguments[2:]]
        service.start()
        chromium.do("state", "film.mp4", "finished")
        assert stored(s3, "film.mp4") == FILM
        assert len(network.of("POST")) == 1


def test_the_embedded_default_lists_what_is_stored(tmp_path: Path, chromium: Browser, files: Path) -> None:
    with Service(tmp_path, None) as service:
        chromium.do("open", service.url)
        chromium.do("choose", [str(files / "three.bin")])
        chromium.do("see", "#stored li")
        shoot(chromium, "stored")
        link = chromium.do("href", "#stored a")
        assert requests.get(link, timeout=10).content == DATA["three.bin"]
        assert chromium.do("wrong") == []


def test_a_page_of_ones_own_on_another_origin(tmp_path: Path, chromium: Browser, files: Path) -> None:
    """The example, as it stands but for the port; the service of the embedded default lets it in."""
    example = ROOT / "examples" / "own-page" / "index.html"
    with Service(tmp_path, None) as service:
        page = tmp_path / "index.html"
        page.write_text(example.read_text().replace("127.0.0.1:8080", f"127.0.0.1:{service.port}"))
        handler = partial(Quiet, directory=str(tmp_path))
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            chromium.do("open", f"http://127.0.0.1:{server.server_address[1]}/index.html")
            chromium.do("choose", [str(files / "one.bin")], "#film")
            eventually(lambda: "Thank you for one.bin (9000000 bytes)" in chromium.do("text", "#said"))
            server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass
