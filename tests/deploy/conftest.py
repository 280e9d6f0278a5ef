"""The store of services that stand behind something."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.s3servers import MotoServer


@pytest.fixture(scope="package")
def s3() -> Iterator[MotoServer]:
    with MotoServer() as server:
        yield server
