"""A service that asks an application, its store, and a network in front of it that may break."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.network import Network
from tests.harness import Application, Service, eventually
from tests.s3servers import MotoServer
from tests.service.conftest import configuration


@pytest.fixture(scope="package")
def s3() -> Iterator[MotoServer]:
    with MotoServer() as server:
        yield server


@pytest.fixture(scope="package")
def _application() -> Iterator[Application]:
    started = Application()
    yield started
    started.close()


@pytest.fixture
def application(_application: Application) -> Application:
    """An application that says yes."""
    _application.asked.clear()
    _application.grant()
    return _application


@pytest.fixture(scope="package")
def _service(s3: MotoServer, _application: Application, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    config = configuration(
        s3, auth={"url": _application.url, "cache": 0}, limits={"max_size": "40MiB"}, cors={"origins": []}
    )
    with Service(tmp_path_factory.mktemp("page"), config) as started:
        yield started
        assert "Traceback" not in started.log


@pytest.fixture
def service(_service: Service, application: Application) -> Service:
    return _service


@pytest.fixture
def network(service: Service) -> Iterator[Network]:
    with Network(service.port) as between:
        yield between


def upload_of(network: Network, service: Service) -> Any:
    """The upload that the last PUT was for, as the service shows it."""
    return service.request("GET", network.of("PUT")[-1].path).json


def stored(s3: MotoServer, name: str) -> bytes:
    """The object's bytes."""
    return bytes(s3.boto3().get_object(Bucket=s3.bucket, Key=name)["Body"].read())


def nothing_is_left(s3: MotoServer, key: str, upload_id: str) -> None:
    """Wait until the store holds nothing of this unfinished upload. (Other tests leave theirs.)"""
    client = s3.boto3()

    def left() -> list[dict[str, Any]]:
        uploads = client.list_multipart_uploads(Bucket=s3.bucket, Prefix=key).get("Uploads", [])
        return uploads + client.list_objects_v2(Bucket=s3.bucket, Prefix=f".resumable/{upload_id}/").get("Contents", [])

    with contextlib.suppress(AssertionError):
        eventually(lambda: not left())
    assert left() == []


def remembered(path: Path) -> list[dict[str, Any]]:
    """What a client's store holds."""
    return [json.loads(value) for value in json.loads(path.read_text()).values()]
