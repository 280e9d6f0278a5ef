"""The service as it runs, its store, and the network that clients reach it through."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.network import Network
from tests.faults.proxy import FaultyS3
from tests.harness import Service, eventually
from tests.s3servers import MotoServer
from tests.service.conftest import configuration


@pytest.fixture(scope="module")
def store() -> Iterator[FaultyS3]:
    with MotoServer() as server, FaultyS3(server) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def service(store: FaultyS3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    config = configuration(store, store={"patience": "1s"}, download="redirect")
    with Service(tmp_path_factory.mktemp("clients"), config) as started:
        yield started
        assert "Traceback" not in started.log


@pytest.fixture(scope="module")
def _network(service: Service) -> Iterator[Network]:
    with Network(service.port) as between:
        yield between


@pytest.fixture
def network(_network: Network) -> Network:
    """The network between client and service; each test finds it whole."""
    _network.reset()
    return _network


def stored(store: FaultyS3, name: str) -> bytes:
    """The object's bytes."""
    store.mend()
    return bytes(store.boto3().get_object(Bucket=store.bucket, Key=name)["Body"].read())


def shown(service: Service, url: str) -> Any:
    """The upload that a tus client knows by this URL, as the service shows it to people."""
    answer = service.request("GET", f"/uploads/{url.rpartition('/')[2]}")
    assert answer.status == 200, answer
    return answer.json


def finished(service: Service, store: FaultyS3, url: str, name: str, data: bytes) -> None:
    """Check that the object is what was sent, and that the service knows it as finished."""
    assert stored(store, name) == data
    upload = shown(service, url)
    assert (upload["state"], upload["protocol"], upload["name"]) == ("finished", "tus", name)
    assert upload["size"] == len(data)


def arrived(service: Service, network: Network, offset: int) -> None:
    """Wait until the service has stored so many bytes, in all, of the upload that the last PATCH was for."""
    url = network.of("PATCH")[-1].path
    eventually(lambda: shown(service, url)["offset"] == offset)


def file_of(path: Path, data: bytes) -> str:
    """A file with these bytes."""
    path.write_bytes(data)
    return str(path)
