"""Several workers: who serves, what a dead one costs, and how they end."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import Client, Service, eventually
from tests.s3servers import MotoServer
from tests.service.conftest import configuration
from tests.workers.conftest import alive, all_ready, events, pids

DATA = random.Random(7).randbytes(1_000_000)
CHUNK = 6 << 20


@pytest.fixture(scope="module")
def service(s3: MotoServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    config = configuration(s3, workers=2, log={"format": "json"}, limits={"idle_timeout": "60s"})
    with Service(tmp_path_factory.mktemp("pool"), config) as started:
        all_ready(started, 2)
        yield started
        assert "Traceback" not in started.log
        assert "Unhandled" not in started.log


@pytest.fixture(autouse=True)
def _settled() -> None:
    """What workers have to do is looked at ten times a second."""
    time.sleep(0.3)


def finished(service: Service, prefix: str) -> Counter[int]:
    """How many uploads of such names each worker has finished."""
    return said_of(service, "upload finished", prefix)


def said_of(service: Service, what: str, prefix: str) -> Counter[int]:
    """Of how many uploads of such names each worker has said that."""
    said = (e for e in events(service) if e["message"].startswith(what))
    return Counter(e["worker"] for e in said if e["name"].startswith(prefix))


def begin(service: Service, name: str, size: int, sent: bytes) -> Client:
    client = Client(service.port)
    client.head("PUT", f"/upload/{name}", {"Content-Length": str(size)})
    client.send(sent)
    return client


def offset_of(service: Service, name: str) -> int:
    answer = service.request("PUT", f"/upload/{name}", {"Content-Range": "bytes */*"})
    return int(answer.headers.get("range", "bytes=0--1").removeprefix("bytes=0-")) + 1


@pytest.mark.soak
def test_heavy_uploads_that_come_at_once_are_spread_evenly(service: Service) -> None:
    """Eight in one burst: four for each worker, and the log says which had which."""
    clients = [begin(service, f"spread/{n}", len(DATA), DATA[:1000]) for n in range(8)]
    for client in clients:
        client.send(DATA[1000:])
        assert client.answer().status == 200
        client.socket.close()
    assert eventually(lambda: (served := finished(service, "spread/")).total() == 8 and served) == {1: 4, 2: 4}


def test_a_burst_of_connections_waits_in_line(service: Service) -> None:
    """One that finds no place there would knock again only after a second."""
    begun = time.monotonic()
    clients = [Client(service.port) for _ in range(300)]
    assert time.monotonic() - begun < 1
    for client in clients:
        client.socket.close()


@pytest.mark.soak
def test_uploads_go_to_the_worker_with_the_least_to_do(service: Service) -> None:
    """Those that come later fill up where some have ended. (Where a worker has no processor for a while another is first.)"""
    assert [goes_where_one_has_ended(service, f"least/{number}/") for number in range(8)].count(True) >= 6


def goes_where_one_has_ended(service: Service, names: str) -> bool:
    first = []
    for number in range(4):
        first.append(begin(service, f"{names}{number}", len(DATA), DATA[:1000]))
        eventually(lambda: said_of(service, "upload started", names).total() == len(first))
    first[0].send(DATA[1000:])
    assert first[0].answer().status == 200
    (where,) = eventually(lambda: finished(service, names))
    time.sleep(0.5)
    # 1 and 2 now: the next is for the one, and then both have as much to do
    first.append(begin(service, f"{names}next", len(DATA), DATA[:1000]))
    first[4].send(DATA[1000:])
    assert first[4].answer().status == 200
    served = eventually(lambda: (served := finished(service, names)).total() == 2 and served)
    for client in first:
        client.socket.close()
    eventually(lambda: said_of(service, "upload interrupted", names).total() == 3)
    return bool(served == {where: 2})


def test_a_dead_worker_is_started_again(service: Service) -> None:
    """The others go on meanwhile; what waits to be accepted is not lost with it."""
    before = pids(service.log)
    one = begin(service, "dead/other", len(DATA), DATA[:1000])
    two = begin(service, "dead/this", len(DATA), DATA[:1000])
    time.sleep(0.3)
    os.kill(before[1], signal.SIGKILL)
    for number in range(10):
        assert service.request("PUT", f"/upload/dead/{number}", None, b"hello").status == 200
    again = eventually(lambda: (p := pids(service.log))[1] != before[1] and p)
    assert again[2] == before[2]
    assert "worker 1 has ended: signal 9" in service.log
    answers = []
    for client in (one, two):
        client.send(DATA[1000:])
        try:
            answers.append(client.answer().status)
        except (AssertionError, ConnectionError):
            answers.append(0)
    assert sorted(answers) == [0, 200]


@pytest.mark.soak
def test_one_worker_is_told_to_end(service: Service) -> None:
    """It stores what it has, and the next one takes its place."""
    before = pids(service.log)
    clients = [begin(service, f"told/{n}", len(DATA), DATA[:500_000]) for n in range(2)]
    time.sleep(0.3)
    os.kill(before[2], signal.SIGTERM)
    answer = None
    for client in clients:
        client.socket.settimeout(2)
        try:
            answer = client.answer()
        except TimeoutError:
            client.send(DATA[500_000:])
            assert client.answer().status == 200
    assert answer is not None
    assert (answer.status, answer.headers["connection"].lower()) == (503, "close")
    assert sorted(offset_of(service, f"told/{n}") for n in range(2)) in ([0, 500_000], [500_000, 1_000_000])
    eventually(lambda: pids(service.log)[2] != before[2])
    for client in clients:
        client.socket.close()


def figures(service: Service) -> dict[str, float]:
    """What /metrics says."""
    answer = service.request("GET", "/metrics")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    lines = (line.rpartition(" ") for line in answer.body.decode().splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


@pytest.mark.soak
def test_metrics_are_of_all_workers(service: Service) -> None:
    """Whoever is asked: eight uploads on two workers; and they stay counted when their worker is killed."""
    before = figures(service)
    clients = [begin(service, f"metrics/{n}", len(DATA), DATA[:1000]) for n in range(8)]
    time.sleep(0.3)
    during = figures(service)
    for client in clients:
        client.send(DATA[1000:])
        assert client.answer().status == 200
        client.socket.close()
    # The parent writes what its workers log: that may be after the answer.
    served = eventually(lambda: (served := finished(service, "metrics/")).total() == 8 and served)
    assert served.keys() == {1, 2}
    after = [figures(service) for _ in range(4)]
    for told in after:
        assert told["resumable_durable_bytes_total"] - before["resumable_durable_bytes_total"] == 8 * len(DATA)
        assert told["resumable_workers"] == 2
    assert (before["resumable_active_streams"], during["resumable_active_streams"]) == (0, 8)
    killed = pids(service.log)[1]
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: pids(service.log)[1] != killed)
    told = figures(service)
    assert told["resumable_durable_bytes_total"] >= after[-1]["resumable_durable_bytes_total"]
    assert told["resumable_worker_deaths_total"] == before["resumable_worker_deaths_total"] + 1


def test_all_are_drained_and_none_is_left(s3: MotoServer, tmp_path: Path) -> None:
    """SIGTERM, and again: every upload under way is stored and answered, and afterwards there is no process."""
    with Service(tmp_path, configuration(s3, workers=2)) as service:
        children = all_ready(service, 2)
        clients = [begin(service, f"drain/{n}", CHUNK * 2, DATA) for n in range(6)]
        time.sleep(0.3)
        for _ in range(3):
            os.kill(service.pid, signal.SIGTERM)
            for pid in children.values():
                os.kill(pid, signal.SIGTERM)
            time.sleep(0.02)
        answers = [client.answer() for client in clients]
        assert [a.status for a in answers] == [503] * 6
        assert all(a.headers["connection"].lower() == "close" and "retry-after" in a.headers for a in answers)
        assert service.terminate() in (0, -signal.SIGTERM)
        assert not any(map(alive, children.values()))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", service.port), 1)
        service.start()
        assert [offset_of(service, f"drain/{n}") for n in range(6)] == [len(DATA)] * 6
        for n in range(6):
            assert service.request("DELETE", f"/upload/drain/{n}").status == 204
        # twistd itself complains of a second signal, in the parent; no worker does
        assert not re.search(r"\[worker \d, [^\]]*#(error|critical)\]", service.log)


@pytest.mark.soak
def test_no_worker_outlives_its_parent(s3: MotoServer, tmp_path: Path) -> None:
    """The parent is killed: its children store what they have, and are gone soon."""
    with Service(tmp_path, configuration(s3, workers=2, limits={"drain_delay": "5m"})) as service:
        children = all_ready(service, 2)
        client = begin(service, "orphans/a", len(DATA), DATA[:500_000])
        time.sleep(0.3)
        service.kill()
        assert client.answer().status == 503
        eventually(lambda: not any(map(alive, children.values())), seconds=10)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", service.port), 1)
    config = configuration(s3, workers=2)
    with Service(tmp_path, config) as service:
        assert offset_of(service, "orphans/a") == 500_000
        assert service.request("DELETE", "/upload/orphans/a").status == 204


@pytest.mark.soak
def test_a_worker_that_hangs_is_killed(s3: MotoServer, tmp_path: Path) -> None:
    """One that cannot even end does not keep the others' parent."""
    with Service(tmp_path, configuration(s3, workers=2, limits={"drain": "1s"})) as service:
        children = all_ready(service, 2)
        os.kill(children[2], signal.SIGSTOP)
        service.terminate()
        assert not any(map(alive, children.values()))
        assert "worker 2 has not ended after 11 s: killed" in service.log
