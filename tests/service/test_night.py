"""The night: what the service needs is taken away and brought back, one after the other, while uploads run and nobody watches."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.databases import Postgres
from tests.faults.proxy import FaultyS3
from tests.harness import Application, Client, Service, eventually
from tests.receiver import SECRET, Receiver
from tests.s3servers import MotoServer
from tests.service.conftest import configuration

pytestmark = pytest.mark.soak

#: A line of the log: namespace, level, message.
LINE = re.compile(r"\S+ \[(\S+?)#(\w+)\] (.*)")


class Clients:
    """Clients that upload one small file after the other, whatever they are told."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(number,)) for number in range(2)]
        self.statuses: Counter[int] = Counter()

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _work(self, number: int) -> None:
        turn = 0
        while not self._ended.wait(0.2):
            turn += 1
            with Client(self._service.port, seconds=120) as client:
                client.head(
                    "PUT", f"/upload/{number}-{turn}", {"Content-Length": "5", "X-Request-Id": f"{number}-{turn}"}
                )
                client.send(b"hello")
                self.statuses[client.answer().status] += 1

    def get(self, status: int) -> None:
        """Wait until somebody has got this status from now on."""
        before = self.statuses[status]
        eventually(lambda: self.statuses[status] > before, seconds=120)


def lines_of(log: str) -> list[tuple[str, str, str]]:
    return [found.groups() for found in map(LINE.fullmatch, log.splitlines()) if found is not None]  # type: ignore[misc]


@contextmanager
def away(service: Service, name: str, take: Callable[[], object], give_back: Callable[[], object]) -> Iterator[None]:
    """Take a part away, wait for the line that says so, do what the caller does, and wait for the line of the end."""
    take()
    eventually(lambda: f"{name} is out since " in service.log, seconds=120)
    yield
    give_back()
    eventually(lambda: f"{name} works again after " in service.log, seconds=120)


@pytest.mark.process
def test_a_night(
    tmp_path: Path, s3: MotoServer, application: Application, postgres: Postgres, receiver: Receiver
) -> None:
    with FaultyS3(s3) as store, receiver:
        config = configuration(
            store,
            ledger=postgres.new(),
            auth={"url": application.url, "timeout": "1s", "cache": 0},
            events={"url": receiver.url, "secret": SECRET},
            operations={"listen": "tcp:0:interface=127.0.0.1"},
        )
        config["store"]["patience"] = "2s"
        with Service(tmp_path, config) as service:
            try:
                night(service, store, application, postgres, receiver)
            finally:
                (tmp_path / "night.log").write_text(service.log)
        check(service.log)


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


def night(service: Service, store: FaultyS3, application: Application, postgres: Postgres, receiver: Receiver) -> None:
    """Take each part away, and bring it back; in the end the store goes for good, and the service is stopped."""
    watched = re.search(r"operations at http://127\.0\.0\.1:(\d+)/metrics", service.log)
    assert watched is not None
    with Client(int(watched[1])) as watcher:
        watcher.head("GET", "/metrics", {})
        assert watcher.answer().status == 200
    for page in ("/metrics", "/readyz", "/healthz"):
        assert service.request("GET", page).status == 404, "it is at an endpoint of its own"
    with Clients(service) as clients:
        clients.get(200)
        with away(service, "store", lambda: store.fail("*", "break before", 0), store.mend):
            clients.get(503)
        clients.get(200)
        with away(service, "ledger", postgres.stop, postgres.start):
            clients.get(503)
        clients.get(200)
        with away(service, "auth application", lambda: application.refuse(0), application.grant):
            clients.get(503)
        clients.get(200)
        with away(service, "events application", lambda: gone(receiver), lambda: back(receiver)):
            clients.get(200)
        clients.get(200)
    store.fail("*", "break before", 0)
    with Client(service.port) as client:
        client.head("PUT", "/upload/last", {"Content-Length": "100"})
        client.send(b"x" * 50)
        eventually(lambda: service.log.count("store is out since ") == 2, seconds=60)
        begun = time.monotonic()
        service.terminate()
        assert time.monotonic() - begun < 15, "limits.drain is 30 s"


def gone(receiver: Receiver) -> None:
    """Have nobody there: not on new connections, nor on those that are kept."""
    receiver.answer = lambda heard: None
    receiver.down()


def back(receiver: Receiver) -> None:
    receiver.answer = lambda heard: (204, {}, b"")
    receiver.up()


def check(log: str) -> None:
    """Each outage is one line at its beginning and one at its end, and each refused client one line."""
    lines = lines_of(log)
    outages = [(level, said) for name, level, said in lines if name == "resumable.outages"]
    begun = [(level, said.partition(" is out")[0]) for level, said in outages if " is out since" in said]
    ended = [(level, said.partition(" works")[0]) for level, said in outages if " works again" in said]
    parts = ["store", "ledger", "auth application", "events application"]
    assert begun == [("warn", part) for part in [*parts, "store"]]
    assert ended == [("info", part) for part in parts]
    refused = [said for name, level, said in lines if name == "resumable.web"]
    assert all(
        re.search(r" status=\d+ upload=\S+ owner='' request=\S+ client=127\.0\.0\.1: .", said) for said in refused
    )
    told = sum(int(count) for _, said in outages for count in re.findall(r"(\d+) requests were refused", said))
    assert 0 < told <= len(refused)
    loud = [said for name, level, said in lines if level not in ("info", "debug") and name != "resumable.outages"]
    assert [said for said in loud if "cut off" not in said] == [], "nothing else calls anybody at night"
    assert "factory" not in log
    assert "Traceback" not in log
