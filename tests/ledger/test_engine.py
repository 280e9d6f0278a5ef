"""Opening the ledger's database: what an operator is told where it cannot be."""

from __future__ import annotations

import sys

import pytest

from resumable.ledger.engine import LedgerError, open_engine


def test_a_driver_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(LedgerError) as caught:
        open_engine("postgresql://u:hunter2@127.0.0.1/db")
    assert str(caught.value) == (
        "PostgreSQL needs a driver that is not installed: pip install 'twisted-resumable[postgresql]'"
    )


def test_a_driver_that_is_not_known() -> None:
    with pytest.raises(LedgerError, match="cannot be opened: "):
        open_engine("postgresql+madeup://u@127.0.0.1/db")
