"""The system's clock is set while the service runs: what waits comes neither later nor earlier for it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from tests.faults.loop import CHUNK, DATA, Uploader
from tests.faults.proxy import FaultyS3
from tests.harness import Service, eventually
from tests.receiver import SECRET, Heard, Receiver, Reply
from tests.s3servers import MotoServer
from tests.service.conftest import configuration
from tests.workers.conftest import all_ready

HOUR = 3600.0


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Takes everything but the first event of an upload called ``waits``: that is refused once."""
    with Receiver() as started:
        yield started
        assert started.wrong == []


def refuse_first(receiver: Receiver, **headers: str) -> None:
    def answer(heard: Heard) -> Reply:
        first = heard.body["data"]["name"] == "waits" and len(told(receiver, "waits")) == 1
        return (503, headers, b"") if first else (204, {}, b"")

    receiver.answer = answer


def told(receiver: Receiver, name: str) -> list[Heard]:
    return [heard for heard in receiver.heard if heard.body["data"]["name"] == name]


def telling(s3: MotoServer, receiver: Receiver, workers: int) -> dict[str, Any]:
    events = {"url": receiver.url, "secret": SECRET, "types": ["upload.finished"], "timeout": "3s"}
    return configuration(s3, events=events, workers=workers)


class Passing:
    """Time that passes by seconds while something is waited for, and how much of it has."""

    def __init__(self, service: Service) -> None:
        self.seconds = 0.0
        self._service = service

    def until(self, ask: Any) -> Any:
        def asked() -> Any:
            answer = ask()
            if not answer:
                self._service.advance(1)
                self.seconds += 1
                time.sleep(0.1)
            return answer

        return eventually(asked, seconds=40)


@contextmanager
def started(service: Service, workers: int) -> Iterator[Service]:
    service.advance(0)
    with service:
        if workers > 1:
            all_ready(service, workers)
        yield service


@pytest.mark.soak
@pytest.mark.parametrize("workers", [1, 2])
def test_set_back_nothing_waits_longer(tmp_path: Path, s3: MotoServer, receiver: Receiver, workers: int) -> None:
    """The application was away for a moment: it is told again in five seconds, not in an hour and five seconds."""
    refuse_first(receiver)
    with started(Service(tmp_path, telling(s3, receiver, workers)), workers) as service:
        assert service.request("PUT", "/upload/waits", body=b"x" * 100).status == 200
        eventually(lambda: "not delivered yet" in service.log)
        service.set_system_clock(-HOUR)
        passing = Passing(service)
        passing.until(lambda: len(told(receiver, "waits")) == 2)
        assert passing.seconds < 60
        assert abs(told(receiver, "waits")[1].at - (time.time() + passing.seconds - HOUR)) < 30
        # All else goes on as well.
        assert service.request("PUT", "/upload/next", body=b"x" * 100).status == 200
        passing.until(lambda: told(receiver, "next"))


@pytest.mark.soak
@pytest.mark.parametrize("dated", [False, True])
@pytest.mark.parametrize("workers", [1, 2])
def test_set_forward_nothing_comes_early(
    tmp_path: Path, s3: MotoServer, receiver: Receiver, workers: int, dated: bool
) -> None:
    """The application wants to be left alone for ten minutes: it is, though an hour seems to pass at once."""
    refuse_first(receiver, **{"Retry-After": formatdate(time.time() + 600, usegmt=True) if dated else "600"})
    with started(Service(tmp_path, telling(s3, receiver, workers)), workers) as service:
        assert service.request("PUT", "/upload/waits", body=b"x" * 100).status == 200
        eventually(lambda: "not delivered yet" in service.log)
        service.set_system_clock(HOUR)
        passing = Passing(service)
        for number in range(3):
            # What is due is told, in the same look at the queue in which the other would be.
            name = f"meanwhile{number}"
            assert service.request("PUT", f"/upload/{name}", body=b"x" * 100).status == 200
            passing.until(lambda name=name: told(receiver, name))
        assert passing.seconds < 300
        assert len(told(receiver, "waits")) == 1
        service.advance(600 - passing.seconds)
        passing.until(lambda: len(told(receiver, "waits")) == 2)


@pytest.mark.soak
def test_an_upload_that_waits_for_its_finish(tmp_path: Path, s3: MotoServer) -> None:
    """The store was away at the end: the object is made soon after it is back, whichever way the clock was set meanwhile."""
    with FaultyS3(s3) as store:
        service = Service(tmp_path, configuration(store, store={"patience": "0s", "chunk_size": CHUNK}))
        with started(service, 1):
            store.fail("Complete", "503", 0)
            answer = Uploader(service, "waits").send(0)
            assert answer is not None
            assert answer.status == 503
            service.set_system_clock(-HOUR)
            passing = Passing(service)
            tries = store.counts["Complete"]
            # Once more in vain, which puts it off; and the clock is set again.
            passing.until(lambda: store.counts["Complete"] > tries)
            eventually(lambda: "is not finished yet" in service.log)
            service.set_system_clock(-HOUR)
            store.mend()
            passing.until(lambda: "finished id=" in service.log)
            assert passing.seconds < 120
            found = s3.boto3().get_object(Bucket=s3.bucket, Key="waits")
            assert found["Body"].read() == DATA
