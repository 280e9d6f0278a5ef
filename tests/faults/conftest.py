"""A running service on a store that misbehaves on demand."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

from tests.databases import Postgres, on_each_ledger
from tests.faults.proxy import FaultyS3
from tests.harness import Service, eventually
from tests.s3servers import MotoServer
from tests.scraping import Scrape
from tests.service.conftest import configuration


@pytest.fixture(scope="package")
def moto() -> Iterator[MotoServer]:
    with MotoServer() as server:
        yield server


@pytest.fixture(scope="package")
def shared_store(moto: MotoServer) -> Iterator[FaultyS3]:
    with FaultyS3(moto) as proxy:
        yield proxy


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    on_each_ledger(
        metafunc,
        plain={"test_the_calls_of_an_upload", "test_part_numbers_do_not_collide", "test_a_small_upload"},
        never={"test_a_ledger_that_is_locked", "test_a_ledger_that_stays_locked"},
    )


@pytest.fixture(scope="package")
def ledger_url(request: pytest.FixtureRequest) -> str:
    """Relative to the service's directory, or a database of its own."""
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        return server.new()
    return "sqlite:///ledger.sqlite3"


@pytest.fixture(scope="package")
def service(shared_store: FaultyS3, ledger_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    config = configuration(shared_store, store={"patience": "3s"}, ledger=ledger_url)
    with Service(tmp_path_factory.mktemp("faults"), config) as started:
        yield started
        assert "Traceback" not in started.log
        assert "Unhandled" not in started.log


@pytest.fixture
def store(shared_store: FaultyS3) -> Iterator[FaultyS3]:
    shared_store.reset()
    yield shared_store
    shared_store.reset()


@pytest.fixture(autouse=True)
def nothing_under_way(request: pytest.FixtureRequest) -> Iterator[None]:
    """What the service still frees when its clients have their answers is not counted in the next test."""
    yield
    if "service" in request.fixturenames:
        settled(request.getfixturevalue("service"))


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return f"faults/{request.node.originalname}-{os.urandom(4).hex()}"


def stored(store: FaultyS3, name: str) -> bytes:
    """The object."""
    return bytes(store.boto3().get_object(Bucket=store.bucket, Key=name)["Body"].read())


def left(store: FaultyS3) -> list[str]:
    """Fragments, and multipart uploads that hold parts."""
    s3 = store.boto3()
    found = s3.list_objects_v2(Bucket=store.bucket, Prefix=".resumable/").get("Contents", [])
    names = [entry["Key"] for entry in found]
    for upload in s3.list_multipart_uploads(Bucket=store.bucket).get("Uploads", []):
        where = {"Bucket": store.bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
        with contextlib.suppress(s3.exceptions.NoSuchUpload):  # the service has freed it just now
            if s3.list_parts(**where).get("Parts"):
                names.append(f"parts of {upload['Key']}")
            else:
                s3.abort_multipart_upload(**where)  # nobody could know of it: its id was in the answer that was lost
    return names


def settled(service: Service) -> None:
    """The service has done what nobody waits for."""
    eventually(lambda: Scrape.of(service)["resumable_background_tasks"] == 0)


def nothing_left(store: FaultyS3) -> None:
    """The service has freed everything, or does so soon."""
    eventually(lambda: not left(store), seconds=45)
