"""A queue and a worker for finished uploads, in SQLite: for what takes longer than an answer to the service may take.

The applications beside this store each event in the table `events`. The worker takes them from there:

python examples/queue/worker.py uploads.sqlite3            # until Ctrl-C; as many of them as wanted
python examples/queue/worker.py uploads.sqlite3 --once     # what is due now

Each event is worked on at least once. A worker that dies has held it for LEASE; then another takes it. So the work has to be the
same when it is done twice.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
import traceback
from contextlib import closing
from typing import Any

#: Seconds that one job may take; after that another worker takes it for dead.
LEASE = 600.0
#: Seconds to the next try of what has failed, by the number of tries; after the last it is left alone, with done and due NULL.
PAUSES = (10.0, 60.0, 600.0, 3600.0)

TABLES = """
CREATE TABLE IF NOT EXISTS events (webhook_id TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS jobs (webhook_id TEXT PRIMARY KEY, tries INTEGER NOT NULL DEFAULT 0, due REAL, done REAL);
CREATE TABLE IF NOT EXISTS films (upload_id TEXT PRIMARY KEY, owner TEXT NOT NULL, key TEXT NOT NULL, size INTEGER NOT NULL);
"""
NEW = """
INSERT INTO jobs (webhook_id, due)
SELECT webhook_id, ? FROM events WHERE webhook_id NOT IN (SELECT webhook_id FROM jobs)
"""
CLAIM = """
UPDATE jobs SET tries = tries + 1, due = ? WHERE webhook_id = (
    SELECT webhook_id FROM jobs WHERE done IS NULL AND due <= ? ORDER BY due LIMIT 1
) RETURNING webhook_id, tries
"""


def connect(path: str) -> sqlite3.Connection:
    """Return the database, with its tables."""
    db = sqlite3.connect(path, isolation_level=None, timeout=30)
    db.executescript(TABLES)
    return db


def claim(db: sqlite3.Connection, now: float) -> tuple[str, int] | None:
    """Return the id of the job that is due, and its number of tries, this one included; None if there is nothing to do."""
    db.execute(NEW, (now,))
    # One statement: two workers never get the same job.
    rows = db.execute(CLAIM, (now + LEASE, now)).fetchall()
    return rows[0] if rows else None


def handle(db: sqlite3.Connection, event: dict[str, Any]) -> None:
    """Do the work; yours stands here. What it makes is named by the upload's id, so that twice is the same as once."""
    if event["type"] == "upload.finished":
        upload = event["data"]
        film = (upload["id"], upload["owner"], upload["key"], upload["size"])
        db.execute("INSERT INTO films VALUES (?, ?, ?, ?) ON CONFLICT (upload_id) DO NOTHING", film)


def work(db: sqlite3.Connection, now: float) -> bool:
    """Do one job that is due; return whether there was one."""
    job = claim(db, now)
    if job is None:
        return False
    webhook_id, tries = job
    try:
        (body,) = db.execute("SELECT body FROM events WHERE webhook_id = ?", (webhook_id,)).fetchone()
        handle(db, json.loads(body))
    except Exception:
        traceback.print_exc()
        due = now + PAUSES[tries - 1] if tries <= len(PAUSES) else None
        db.execute("UPDATE jobs SET due = ? WHERE webhook_id = ?", (due, webhook_id))
    else:
        db.execute("UPDATE jobs SET done = ?, due = NULL WHERE webhook_id = ?", (now, webhook_id))
    return True


if __name__ == "__main__":
    with closing(connect(sys.argv[1])) as database:
        while True:
            if work(database, time.time()):
                continue
            if "--once" in sys.argv:
                break
            time.sleep(1)
