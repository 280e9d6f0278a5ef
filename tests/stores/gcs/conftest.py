"""Cloud Storage in this process, and its client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_twisted

from resumable.stores.gcs.client import GcsStore
from tests.stores.gcs.server import GcsServer


@pytest.fixture(scope="session")
def running_gcs() -> Iterator[GcsServer]:
    with GcsServer() as server:
        yield server


@pytest.fixture
def gcs(running_gcs: GcsServer) -> GcsServer:
    """The server, with nothing stored."""
    running_gcs.reset()
    return running_gcs


@pytest_twisted.async_yield_fixture
async def store(gcs: GcsServer) -> AsyncIterator[GcsStore]:
    client = gcs.client()
    await client.start()
    gcs.asked.clear()
    yield client
    await client.close()
