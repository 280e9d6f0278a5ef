"""Two nodes on one PostgreSQL and one S3."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.databases import Postgres
from tests.faults.proxy import FaultyS3
from tests.harness import Service
from tests.s3servers import MotoServer
from tests.service.conftest import configuration


@pytest.fixture(scope="package")
def moto() -> Iterator[MotoServer]:
    with MotoServer() as server:
        yield server


@pytest.fixture(scope="package")
def shared_store(moto: MotoServer) -> Iterator[FaultyS3]:
    with FaultyS3(moto) as proxy:
        yield proxy


@pytest.fixture
def store(shared_store: FaultyS3) -> FaultyS3:
    shared_store.reset()
    return shared_store


@pytest.fixture(scope="package")
def nodes(
    shared_store: FaultyS3, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Service, Service]]:
    """Nothing in their logs may be an error."""
    config = configuration(shared_store, ledger=postgres.new(), limits={"idle_timeout": "60s"})
    a, b = (Service(tmp_path_factory.mktemp(name), config) for name in "ab")
    with a, b:
        yield a, b
        for node in (a, b):
            assert "Traceback" not in node.log
            assert "Unhandled" not in node.log


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return f"nodes/{request.node.originalname}-{os.urandom(4).hex()}"
