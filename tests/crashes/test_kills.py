"""The process is killed (SIGKILL): what was acknowledged is there when it is started again, and every object is right."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest

from tests.faults import tls
from tests.faults.conftest import nothing_left, stored
from tests.faults.loop import CHUNK, DATA, Uploader
from tests.faults.proxy import FaultyS3
from tests.faults.test_matrix import BREAKS, CALLS, WITH_BODY, begin_elsewhere
from tests.harness import Service
from tests.s3servers import MotoServer
from tests.service.conftest import configuration

MOMENTS = [
    (kind, nth, when)
    for kind, count in CALLS.items()
    for nth in sorted({1, count})
    for when in ("break before", "break after")
    if when == "break after" or (nth == 1 and kind in WITH_BODY)
]


@pytest.mark.soak
@pytest.mark.parametrize(("kind", "nth", "when"), MOMENTS)
def test_killed_at_a_call(store: FaultyS3, tmp_path: Path, ledger_url: str, kind: str, nth: int, when: str) -> None:
    """At each step there is, just before the store does its work and just after, with the ledger not yet knowing."""
    with Service(tmp_path, configuration(store, ledger=ledger_url)) as service:
        name = f"kills/{kind}-{nth}-{when.split()[1]}"
        killed = threading.Event()

        def kill() -> None:
            service.kill()
            killed.set()

        uploader = Uploader(service, name, breaks=BREAKS)
        if kind == "ListObjects":
            begin_elsewhere(service, uploader)
        store.fail(kind, when, nth, then=kill)
        until = time.monotonic() + 60
        while True:
            if not service.running:
                service.start()
            if uploader.step():
                break
            assert time.monotonic() < until
        assert killed.wait(20)
        if not service.running:  # killed while it tidied up behind a finished upload
            service.start()
        assert stored(store, name) == DATA
        nothing_left(store)
        assert "Traceback" not in service.log


@pytest.mark.soak
def test_killed_while_cancelling(store: FaultyS3, tmp_path: Path, ledger_url: str) -> None:
    """The cancelled upload is freed after the start."""
    with Service(tmp_path, configuration(store, ledger=ledger_url)) as service:
        uploader = Uploader(service, "kills/cancelled")
        uploader.send(0, CHUNK + 1_000_000)
        uploader._settle(CHUNK + 1_000_000)
        store.fail("Abort", "break before", then=service.kill)
        with pytest.raises((OSError, AssertionError)):
            service.request("DELETE", "/upload/kills/cancelled")
        service.start()
        answer = uploader.query()
        assert answer is not None
        assert answer.status == 404
        nothing_left(store)


@pytest.mark.parametrize("kills", [4])
def test_killed_at_random(store: FaultyS3, tmp_path: Path, ledger_url: str, kills: int) -> None:
    """Eight clients upload, break off and go on, while the process is killed again and again."""
    kill_at_random(store, Service(tmp_path, configuration(store, ledger=ledger_url)), kills)


@pytest.mark.soak
def test_killed_at_random_over_tls(moto: MotoServer, tmp_path: Path) -> None:
    """The same with TLS from the clients and to the store."""
    own, trusted = tls.pem_files(tmp_path)
    with FaultyS3(moto, tls.server_context(own)) as store:
        kill_at_random(store, Service(tmp_path, configuration(store), tls=own, SSL_CERT_FILE=str(trusted)), 3)


def kill_at_random(store: FaultyS3, stopped: Service, kills: int) -> None:
    chance = random.Random(kills)
    done: list[str] = []
    errors: list[BaseException] = []
    over = threading.Event()

    def client(number: int) -> None:
        own = random.Random(number)
        try:
            for turn in range(1000):
                if over.is_set():
                    return
                size = own.choice([300_000, CHUNK, len(DATA)])
                name = f"random/{number}-{turn}"
                breaks = sorted(own.randrange(1, size) for _ in range(own.randrange(3)))
                Uploader(stopped, name, DATA[:size], breaks=breaks).run(seconds=120)
                assert stored(store, name) == DATA[:size], name
                store.boto3().delete_object(Bucket=store.bucket, Key=name)
                done.append(name)
        except BaseException as error:
            errors.append(error)

    with stopped as service:
        clients = [threading.Thread(target=client, args=(number,)) for number in range(8)]
        for thread in clients:
            thread.start()
        for _ in range(kills):
            time.sleep(chance.uniform(0.1, 1.5))
            service.kill()
            service.start()
            if errors:
                break
        over.set()
        for thread in clients:
            thread.join()
        assert errors == []
        nothing_left(store)
        assert "Traceback" not in service.log
    print(f"\n{kills} kills, {len(done)} uploads")
    assert len(done) >= kills // 2
