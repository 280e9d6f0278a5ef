"""moto in a thread of this process, and the client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import boto3
import pytest
import pytest_twisted
from moto.server import ThreadedMotoServer

from resumable.s3 import AWSCredentials, AWSServiceEndpoint, S3Client

#: Errors in the log fail the test here, too.
from tests.stores.conftest import logged as logged
from tests.stores.fakes import FakeStore

BUCKET = "bucket"


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def boto(endpoint: str) -> Any:
    """Somebody else's client of the same server, which has a bucket."""
    keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=endpoint, **keys)
    client.create_bucket(Bucket=BUCKET)
    return client


@pytest_twisted.async_yield_fixture
async def client(endpoint: str, boto: Any) -> AsyncIterator[S3Client]:
    made = S3Client(AWSCredentials("key", "secret"), AWSServiceEndpoint(endpoint), patience=2.0)
    yield made
    await made.close()


@pytest_twisted.async_yield_fixture
async def fake() -> AsyncIterator[FakeStore]:
    server = FakeStore()
    yield server
    await server.close()
