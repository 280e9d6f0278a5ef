"""What tests of several rooms share."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.databases import Postgres

# A run finds what the last one has found, on a slow machine too. (To look for more: --hypothesis-profile default.)
settings.register_profile("same", derandomize=True, database=None, deadline=None)
settings.load_profile("same")

#: Fixtures that start a process: a store, a database, the service, or a command of the operator's.
STARTING_PROCESSES = frozenset({"s3", "moto", "postgres", "strict", "operator", "child", "bench"})


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that start processes, so that ``-m 'not soak and not process'`` is the fast set.

    A test that starts a process without a fixture carries the mark `process` itself.
    """
    for item in items:
        used = set(getattr(item, "fixturenames", ()))
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if used & STARTING_PROCESSES or any(value == "postgresql" for value in parameters):
            item.add_marker(pytest.mark.process)


def pytest_collection_finish() -> None:
    """Have the garbage collector leave alone what was imported: some tests collect, and that need not take long."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Start a PostgreSQL server when a test first asks for it."""
    with Postgres() as server:
        yield server
