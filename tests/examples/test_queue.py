"""examples/queue/worker.py: every event is worked on, by one worker at a time, and again if that one dies or fails."""

from __future__ import annotations

import importlib.util
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.examples.conftest import EXAMPLES

WORKER = EXAMPLES / "queue" / "worker.py"


@pytest.fixture
def worker() -> Any:
    """The module."""
    spec = importlib.util.spec_from_file_location("queue_worker", WORKER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def db(worker: Any, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(worker.connect(str(tmp_path / "uploads.sqlite3"))) as connection:
        yield connection


def told(db: sqlite3.Connection, webhook_id: str, upload: str = "u", **changes: Any) -> None:
    """Store an event, as the applications do."""
    data = {"id": upload, "owner": "alice", "key": f"films/{upload}", "size": 6}
    event = {"type": "upload.finished", "data": data, **changes}
    db.execute("INSERT INTO events VALUES (?, ?) ON CONFLICT DO NOTHING", (webhook_id, json.dumps(event)))


def films(db: sqlite3.Connection) -> list[Any]:
    return db.execute("SELECT * FROM films ORDER BY upload_id").fetchall()


def test_each_is_done_once(worker: Any, db: sqlite3.Connection) -> None:
    told(db, "1", "a")
    told(db, "2", "b")
    told(db, "1", "a")
    assert [worker.work(db, now) for now in (1.0, 2.0, 3.0)] == [True, True, False]
    assert films(db) == [("a", "alice", "films/a", 6), ("b", "alice", "films/b", 6)]


def test_two_workers_have_two_jobs(worker: Any, db: sqlite3.Connection, tmp_path: Path) -> None:
    told(db, "1", "a")
    told(db, "2", "b")
    with closing(worker.connect(str(tmp_path / "uploads.sqlite3"))) as other:
        assert {worker.claim(db, 1.0), worker.claim(other, 1.0)} == {("1", 1), ("2", 1)}
        assert worker.claim(other, 1.0) is None


def test_a_worker_that_dies(worker: Any, db: sqlite3.Connection) -> None:
    """Another one does its job, when it is sure to be dead; that it had been done already does no harm."""
    told(db, "1")
    assert worker.claim(db, 1.0) == ("1", 1)
    worker.handle(db, json.loads(db.execute("SELECT body FROM events").fetchone()[0]))
    assert not worker.work(db, 1.0 + worker.LEASE - 0.5)
    assert worker.work(db, 1.0 + worker.LEASE)
    assert not worker.work(db, 1.0 + 3 * worker.LEASE)
    assert len(films(db)) == 1


def test_a_job_that_fails(worker: Any, db: sqlite3.Connection, capsys: pytest.CaptureFixture[str]) -> None:
    """It is tried again after pauses, does not keep others waiting, and is left alone in the end."""
    told(db, "1", "bad", data={})
    now, tries = 1.0, 0
    assert worker.work(db, now)
    told(db, "2", "good")
    assert worker.work(db, now)
    assert [film[0] for film in films(db)] == ["good"]
    for pause in worker.PAUSES:
        assert not worker.work(db, now + pause - 0.5)
        now, tries = now + pause, tries + 1
        assert worker.work(db, now)
    assert not worker.work(db, now + 1e9)
    assert db.execute("SELECT tries, due, done FROM jobs WHERE webhook_id = '1'").fetchall() == [
        (tries + 1, None, None)
    ]
    assert "KeyError" in capsys.readouterr().err


@pytest.mark.process
def test_as_a_process(db: sqlite3.Connection, tmp_path: Path) -> None:
    told(db, "1")
    told(db, "2", "x", type="upload.cancelled")
    subprocess.run([sys.executable, str(WORKER), "uploads.sqlite3", "--once"], cwd=tmp_path, check=True, timeout=60)
    assert [film[0] for film in films(db)] == ["u"]
    assert db.execute("SELECT count(*) FROM jobs WHERE done IS NOT NULL").fetchone() == (2,)
