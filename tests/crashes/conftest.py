"""The store for services that are killed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.databases import Postgres, on_each_ledger
from tests.faults.proxy import FaultyS3
from tests.s3servers import MotoServer


@pytest.fixture(scope="package")
def moto() -> Iterator[MotoServer]:
    with MotoServer() as server:
        yield server


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    on_each_ledger(metafunc, plain=())


@pytest.fixture
def ledger_url(request: pytest.FixtureRequest) -> str:
    """Relative to the service's directory, or a database of its own."""
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        return server.new()
    return "sqlite:///ledger.sqlite3"


@pytest.fixture
def store(moto: MotoServer) -> Iterator[FaultyS3]:
    with FaultyS3(moto) as proxy:
        yield proxy
