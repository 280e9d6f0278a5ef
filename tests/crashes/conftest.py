"""The store for services that are killed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.proxy import FaultyS3
from tests.s3servers import MotoServer


@pytest.fixture(scope="package")
def moto() -> Iterator[MotoServer]:
    with MotoServer() as server:
        yield server


@pytest.fixture
def store(moto: MotoServer) -> Iterator[FaultyS3]:
    with FaultyS3(moto) as proxy:
        yield proxy
