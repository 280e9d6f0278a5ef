"""The trial of a ledger, which leaves nothing behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sqlalchemy import inspect

from resumable.ledger import listing
from resumable.ledger.engine import LedgerError, open_engine, prepare
from resumable.ledger.listing import owner_of, try_out


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    assert try_out(f"sqlite:///{tmp_path}/ledger.sqlite3").isdigit()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="cannot be opened"):
        try_out(f"sqlite:///{tmp_path}/nowhere/ledger.sqlite3")
    assert list(tmp_path.iterdir()) == []


def test_old_tables_stay_as_they_are(tmp_path: Path) -> None:
    """A service of the older version may be running on them."""
    url = f"sqlite:///{tmp_path}/ledger.sqlite3"
    engine = open_engine(url)
    prepare(engine, "0001")
    before = set(inspect(engine).get_table_names())
    newest = try_out(url)
    assert newest > "0001"
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == "0001"
    assert set(inspect(engine).get_table_names()) == before
    engine.dispose()


def test_whose_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial by root proves nothing for the service's user."""
    url = f"sqlite:///{tmp_path}/ledger.sqlite3"
    assert owner_of(url) is None
    assert owner_of("sqlite://") is None
    mine = os.geteuid()
    monkeypatch.setattr(listing.os, "geteuid", lambda: mine + 1)
    owner = owner_of(url)
    assert owner is not None
    assert owner == listing.pwd.getpwuid(mine).pw_name
