"""A running service on a real S3, for tests that talk to it as clients do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Application, Service
from tests.s3servers import MotoServer


@pytest.fixture(scope="session")
def s3() -> Iterator[MotoServer]:
    with MotoServer() as server:
        yield server


@pytest.fixture(scope="module")
def application() -> Iterator[Application]:
    started = Application()
    yield started
    started.close()


@pytest.fixture(autouse=True)
def _says_yes(application: Application) -> None:
    application.asked.clear()
    application.grant()


def configuration(s3: Any, **sections: Any) -> dict[str, Any]:
    """A configuration on the S3 server, with `sections` merged in."""
    base: dict[str, Any] = {
        "store": {
            "kind": "s3",
            "bucket": s3.bucket,
            "endpoint": s3.endpoint,
            "access_key": s3.access_key,
            "secret_key": s3.secret_key,
            "patience": "5s",
        },
        "ledger": "sqlite:///ledger.sqlite3",
        "auth": "open",
    }
    for name, section in sections.items():
        former = base.get(name)
        base[name] = {**former, **section} if isinstance(former, dict) else section
    return base


@pytest.fixture(scope="module")
def service(s3: MotoServer, application: Application, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that asks the application each time; nothing in its log may be an error or a traceback."""
    directory: Path = tmp_path_factory.mktemp("service")
    config = configuration(
        s3,
        auth={"url": application.url, "timeout": "1s", "cache": 0},
        limits={"max_size": "1GiB", "idle_timeout": "2s"},
    )
    with Service(directory, config) as started:
        yield started
        assert "Traceback" not in started.log
        assert "Unhandled" not in started.log


@pytest.fixture(autouse=True)
def nothing_left(s3: MotoServer) -> Iterator[None]:
    """No test leaves a multipart upload behind in the store."""
    yield
    assert s3.boto3().list_multipart_uploads(Bucket=s3.bucket).get("Uploads", []) == []
