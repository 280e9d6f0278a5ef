"""Looking changes nothing: what changes an upload needs the right to change it, and the last question is always asked."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.harness import Answer, Application, Service
from tests.s3servers import MotoServer
from tests.service.conftest import configuration

CHUNK = 5 << 20
DATA = random.Random(4).randbytes(CHUNK + 1000)


@pytest.fixture(scope="module")
def service(s3: MotoServer, application: Application, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    config = configuration(s3, store={"chunk_size": "5MiB"}, auth={"url": application.url, "cache": 0})
    with Service(tmp_path_factory.mktemp("rights"), config) as started:
        yield started
        assert "Traceback" not in started.log


@pytest.fixture
def name(service: Service, application: Application) -> Iterator[str]:
    yield f"{random.randbytes(8).hex()}.bin"
    application.grant()


def only(application: Application, *allowed: str) -> None:
    """From now on let only these actions be done."""

    def answer(asked: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        return (200 if asked["x-upload-action"] in allowed else 403), {}, b""

    application.answer = answer


def put(service: Service, path: str, first: int, end: int, total: int | str) -> Answer:
    headers = {"Content-Range": f"bytes {first}-{end - 1}/{total}"}
    return service.request("PUT", path, headers, DATA[first:end])


def query(service: Service, path: str, total: int | str = "*") -> Answer:
    return service.request("PUT", path, {"Content-Range": f"bytes */{total}"})


def state(service: Service, application: Application, path: str) -> Any:
    only(application, "status")
    return service.request("GET", path).json


@pytest.mark.parametrize("total", ["*", 2000])
def test_looking_sets_no_length_and_makes_no_object(
    service: Service, application: Application, s3: MotoServer, name: str, total: int | str
) -> None:
    """All is there, and nobody has said that this was all."""
    path = f"/upload/{name}"
    assert put(service, path, 0, 2000, "*").status == 308
    only(application, "status")
    answer = query(service, path, total)
    assert (answer.status, answer.headers["range"]) == (308, "bytes=0-1999")
    found = state(service, application, path)
    assert (found["state"], found["length"]) == ("open", None)
    only(application, "status", "append")
    assert query(service, path, 2000).status == 200


def refused_at_last(service: Service, application: Application, path: str, begin: Callable[[], Answer]) -> None:
    """Bring all of an upload whose last question is answered with a no."""
    asked = 0

    def answer(_: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        nonlocal asked
        asked += 1
        return (200 if asked == 1 else 403), {}, b""

    assert begin().status == 308
    application.answer = answer
    assert put(service, path, 1000, len(DATA), len(DATA)).status == 403


def test_a_refused_last_question_stays_refused(
    service: Service, application: Application, s3: MotoServer, name: str
) -> None:
    """Asking how far it is makes no object, for one who may not; one who may is served."""
    path = f"/upload/{name}"
    refused_at_last(service, application, path, lambda: put(service, path, 0, 1000, len(DATA)))
    only(application, "status")
    for _ in range(2):
        assert query(service, path).status == 308
    assert state(service, application, path)["state"] == "open"
    application.grant()
    assert put(service, path, 1000, len(DATA), len(DATA)).status == 200
    assert s3.boto3().get_object(Bucket=s3.bucket, Key=name)["Body"].read() == DATA


def test_the_same_for_a_session(service: Service, application: Application, s3: MotoServer, name: str) -> None:
    application.grant()
    body = f'{{"name": "{name}", "length": {len(DATA)}}}'.encode()
    path = service.request("POST", "/uploads", {"Content-Type": "application/json"}, body).headers["location"]
    path = path[path.index("/uploads/") :]
    refused_at_last(service, application, path, lambda: put(service, path, 0, 1000, len(DATA)))
    only(application, "status")
    assert query(service, path).status == 308
    assert query(service, path, len(DATA)).status == 308
    assert state(service, application, path)["state"] == "open"
    only(application, "status", "append")
    assert put(service, path, 1000, len(DATA), len(DATA)).status == 200


def test_an_application_that_is_away(service: Service, application: Application, name: str) -> None:
    """Neither yes nor no: the client comes again, and nothing is made meanwhile."""
    path = f"/upload/{name}"
    assert put(service, path, 0, 2000, "*").status == 308

    def answer(asked: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        return (200 if asked["x-upload-action"] == "status" else 500), {}, b""

    application.answer = answer
    assert query(service, path, 2000).status == 503
    assert state(service, application, path)["length"] is None
    application.grant()
    assert query(service, path, 2000).status == 200
