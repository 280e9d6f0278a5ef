"""What those who watch the running service see: /healthz, /readyz, /metrics."""

from __future__ import annotations

import http.client
import os
import re
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resumable.assembly import GAUGES
from tests.faults.proxy import FaultyS3
from tests.harness import Application, Client, Service, eventually
from tests.s3servers import MotoServer
from tests.scraping import Scrape
from tests.service.conftest import configuration

CHUNK = 6 << 20
#: Seconds: how long a verdict is told again, and how long a refusal of the store's (with some more, to be over it).
FRESH, HALF_A_MINUTE = 5.1, 31.0
PAGES = ("/healthz", "/readyz", "/metrics")
DOCUMENTED = Path(__file__).parent.parent.parent / "docs/metrics.md"


@pytest.fixture(scope="module")
def proxy(s3: MotoServer) -> Iterator[FaultyS3]:
    with FaultyS3(s3) as started:
        yield started


@pytest.fixture
def store(proxy: FaultyS3) -> Iterator[FaultyS3]:
    proxy.reset()
    yield proxy
    proxy.reset()


@pytest.fixture(scope="module")
def watched(proxy: FaultyS3, application: Application, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    config = configuration(
        proxy, auth={"url": application.url, "timeout": "1s", "cache": "0s"}, limits={"idle_timeout": "20s"}
    )
    service = Service(tmp_path_factory.mktemp("watched"), config)
    service.advance(0)
    with service as started:
        yield started
        assert "Traceback" not in started.log
        assert "Unhandled" not in started.log


def ready(service: Service) -> tuple[int, dict[str, Any]]:
    answer = service.request("GET", "/readyz")
    assert answer.json["ready"] is (answer.status == 200)
    assert answer.headers["content-type"] == "application/json"
    return answer.status, answer.json["parts"]


def put(service: Service, name: str, body: bytes, total: int | None = None) -> Any:
    headers = {"Authorization": "Bearer hidden"}
    if total is not None:
        headers["Content-Range"] = f"bytes 0-{len(body) - 1}/{total}"
    return service.request("PUT", f"/upload/{name}", headers, body)


def test_nobody_is_asked(watched: Service, application: Application) -> None:
    """Whoever watches has no account with the application, and needs none."""
    application.refuse(401)
    assert [watched.request("GET", page).status for page in PAGES] == [200, 200, 200]
    assert application.asked == []


@pytest.mark.parametrize("page", PAGES)
def test_head_and_other_methods(watched: Service, page: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", watched.port, timeout=10)
    for method, status in (("GET", 200), ("HEAD", 200), ("POST", 405)):
        connection.request(method, page)
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == status
        assert bool(body) is (method != "HEAD")
    assert answer.getheader("allow") == "GET, HEAD"
    connection.close()


def test_what_is_documented_is_what_there_is(watched: Service, store: FaultyS3) -> None:
    """The table in the documentation names each metric with its type and labels, and no other."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \|", DOCUMENTED.read_text(), re.MULTILINE)
    documented = {name: (kind, tuple(sorted(re.findall(r"`(\w+)`", labels)))) for name, kind, labels in rows}
    store.fail("UploadPart", "503")
    assert put(watched, "table", bytes(2 * CHUNK)).status == 200
    assert ready(watched)[0] == 200
    found = {}
    for family in Scrape.of(watched).families:
        (labels,) = {tuple(sorted(sample.labels.keys() - {"le"})) for sample in family.samples}
        name = family.name + ("_total" if family.type == "counter" else "")
        found[name] = (family.type, labels)
    assert found == documented


@pytest.mark.soak
def test_an_upload_as_it_is_counted(watched: Service, store: FaultyS3) -> None:
    """One that breaks off, goes on and meets a store in trouble: each number is what has really happened."""
    before = Scrape.of(watched)

    def more(sample: str, **labels: str) -> float:
        return Scrape.of(watched).get(sample, **labels) - before.get(sample, **labels)

    store.fail("UploadPart", "SlowDown")
    size = CHUNK + 1000
    with Client(watched.port) as client:
        client.head("PUT", "/upload/counted", {"Content-Length": str(size)})
        client.send(bytes(CHUNK + 10))
        eventually(lambda: more("resumable_durable_bytes_total") == CHUNK + 10)
        assert Scrape.of(watched)["resumable_active_streams"] == 1
        assert Scrape.of(watched)["resumable_open_connections"] == 2
    eventually(lambda: Scrape.of(watched)["resumable_active_streams"] == 0)
    headers = {"Content-Range": f"bytes {CHUNK}-{size - 1}/{size}"}
    assert watched.request("PUT", "/upload/counted", headers, bytes(1000)).status == 200
    assert more("resumable_received_bytes_total") == size + 10
    assert more("resumable_durable_bytes_total") == size
    for state in ("open", "finishing", "finished"):
        assert more("resumable_upload_transitions_total", state=state, protocol="put") == 1
    assert more("resumable_complete_duration_seconds_count", outcome="finished") == 1
    assert more("resumable_complete_duration_seconds_count") == 1
    assert more("resumable_part_duration_seconds_count") == 3
    # For each of two requests, and before the upload was finished: here no word is remembered.
    assert more("resumable_auth_duration_seconds_count", outcome="granted") == 3
    assert more("resumable_store_requests_total", operation="UploadPart", outcome="SlowDown") == 1
    assert more("resumable_store_requests_total", operation="UploadPart", outcome="ok") == 2
    assert more("resumable_store_retries_total", operation="UploadPart") == 1
    assert more("resumable_store_retries_total") == 1
    assert more("resumable_http_requests_total", method="PUT", status="2xx") == 1
    assert Scrape.of(watched)["resumable_memory_held_bytes"] == 0
    assert Scrape.of(watched)["resumable_memory_limit_bytes"] == 192 << 20


def test_those_who_are_not_let_in(watched: Service, application: Application) -> None:
    before = Scrape.of(watched)
    application.refuse(403)
    assert put(watched, "no", b"x").status == 403
    application.answer = lambda _: (500, {}, b"")
    assert put(watched, "no", b"x").status == 503
    with Client(watched.port) as client:
        client.socket.sendall(b"no HTTP\r\n\r\n")
        assert client.answer().status == 400
    after = Scrape.of(watched)
    for sample, labels in (
        ("resumable_auth_duration_seconds_count", {"outcome": "refused"}),
        ("resumable_auth_duration_seconds_count", {"outcome": "unavailable"}),
        ("resumable_http_requests_total", {"method": "PUT", "status": "4xx"}),
        ("resumable_http_requests_total", {"method": "PUT", "status": "5xx"}),
        ("resumable_http_requests_total", {"method": "other", "status": "4xx"}),
    ):
        assert after.get(sample, **labels) - before.get(sample, **labels) == 1, (sample, labels)


def test_no_names_and_no_secrets(watched: Service, application: Application, store: FaultyS3) -> None:
    """Nothing a client, an owner or an operator calls their own is in what is scraped."""
    application.grant(owner="owner-of-mine", key="key-of-mine", metadata={"m": "metadata-of-mine"})
    assert put(watched, "name-of-mine", b"x").status == 200
    store.fail("PutObject", "403 AccessDenied")
    assert put(watched, "name-of-mine-2", b"x").status == 503
    said = b"".join(watched.request("GET", page).body for page in PAGES).decode()
    assert "AccessDenied" in said
    for secret in ("of-mine", "hidden", store.secret_key, store.bucket + "/", application.url):
        assert secret not in said


def test_a_store_that_is_down_and_up_again(watched: Service, store: FaultyS3) -> None:
    """503 with the reason of now and since when, as long as it is down; one cheap request, and not at every look."""
    # What the store has refused before is told for half a minute.
    watched.advance(HALF_A_MINUTE)
    eventually(lambda: ready(watched)[0] == 200)
    store.fail("*", "break before", 0)
    watched.advance(FRESH)
    _, parts = eventually(lambda: (found := ready(watched))[0] == 503 and found)
    assert parts["ledger"]["ok"]
    assert parts["store"]["reason"].startswith("Connection")
    since = parts["store"]["since"]
    ahead = watched.ahead
    assert abs(time.time() + ahead - time.mktime(time.strptime(since, "%Y-%m-%dT%H:%M:%SZ")) + time.timezone) < 10
    asked = store.counts["HEAD bucket"]
    for _ in range(20):
        assert ready(watched)[1]["store"]["since"] == since
    assert store.counts["HEAD bucket"] - asked <= 1
    assert set(store.counts) == {"HEAD bucket"}
    assert Scrape.of(watched).get("resumable_ready", part="store") == 0
    assert watched.request("GET", "/healthz").status == 200
    store.mend()
    store.fail("HEAD bucket", "403 AccessDenied", 0)
    watched.advance(FRESH)
    eventually(lambda: ready(watched)[1]["store"] == {"ok": False, "since": since, "reason": "AccessDenied"})
    store.mend()
    watched.advance(HALF_A_MINUTE)
    eventually(lambda: ready(watched)[0] == 200)
    assert Scrape.of(watched).get("resumable_ready", part="store") == 1
    assert "not ready: store: AccessDenied" in watched.log
    assert "ready again: store" in watched.log


def test_a_ledger_that_is_locked(watched: Service) -> None:
    """Somebody holds it exclusively: an answer comes in time, the process lives, and when it is free all is well."""
    eventually(lambda: ready(watched)[0] == 200)
    watched.advance(FRESH)
    other = sqlite3.connect(watched.directory / "ledger.sqlite3", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    began = time.monotonic()
    status, parts = ready(watched)
    assert time.monotonic() - began < 6
    assert status == 503
    assert parts["ledger"] == {"ok": False, "since": parts["ledger"]["since"], "reason": "no answer within 3 s"}
    assert parts["store"]["ok"]
    began = time.monotonic()
    for _ in range(10):
        assert ready(watched)[0] == 503
        assert watched.request("GET", "/healthz").status == 200
        assert Scrape.of(watched).get("resumable_ready", part="ledger") == 0
    assert time.monotonic() - began < 3
    other.execute("ROLLBACK")
    other.close()
    eventually(lambda: ready(watched)[0] == 200)


def test_draining(tmp_path: Path, store: FaultyS3) -> None:
    """Whoever has asked when the process is told to stop hears that it stops."""
    service = Service(tmp_path, configuration(store))
    service.advance(0)
    with service:
        assert ready(service)[0] == 200
        service.advance(FRESH)
        eventually(lambda: "bucket answers" in service.log or "bucket bucket" in service.log)
        store.fail("HEAD bucket", "late", 0)
        asked = store.counts["HEAD bucket"]
        with Client(service.port) as client:
            client.head("GET", "/readyz", {})
            eventually(lambda: store.counts["HEAD bucket"] > asked)
            os.kill(service.pid, signal.SIGTERM)
            answer = client.answer()
        assert answer.status == 503
        assert answer.json["parts"]["store"]["ok"]
        assert answer.json["parts"]["service"]["reason"] == "draining"
        assert answer.headers["connection"] == "close"
        eventually(lambda: not service.running)
        assert "Traceback" not in service.log


@pytest.mark.soak
def test_uploads_in_the_ledger_are_counted_by_the_clock(tmp_path: Path, s3: MotoServer) -> None:
    """What another process has left is there from the first scrape on; what changes is there a quarter of a minute later."""
    service = Service(tmp_path, configuration(s3))
    service.advance(0)
    with service:
        assert put(service, "half", bytes(1000), 2000).status == 308
        assert put(service, "whole", bytes(1000)).status == 200
        assert service.terminate() in (0, -signal.SIGTERM)
    with service:
        eventually(lambda: Scrape.of(service).get("resumable_uploads", state="open", protocol="put") == 1)
        assert Scrape.of(service).get("resumable_uploads", state="finishing") == 0
        assert service.request("DELETE", "/upload/half").status == 204
        service.advance(GAUGES)
        eventually(lambda: Scrape.of(service).get("resumable_uploads", state="open") == 0)
