"""What is imported to start: only what is used. Counted in modules, because times differ from machine to machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from resumable.ledger.engine import open_engine, prepare

pytestmark = pytest.mark.process

#: Imports what `twistd resumable` imports for one process that stores in S3 and keeps its ledger in SQLite: with the
#: credentials in the settings, and a ledger whose tables are up to date.
PROGRAM = """
import json, sys
import resumable.tap
settings = resumable.tap.read_settings(sys.argv[1])
early = sorted(sys.modules)
resumable.tap.make_service(settings)
print(json.dumps([early, sorted(sys.modules)]))
"""
CONFIGURATION = """
listen: tcp:0:interface=127.0.0.1
store: {bucket: uploads, endpoint: "http://127.0.0.1:9", access_key: key, secret_key: hidden}
ledger: "sqlite:///%s"
auth: open
"""
#: Each takes megabytes or tens of milliseconds, and is for something else: other databases, migrations, tests, the
#: embedded store, the operator's commands, clients of AWS that are not used.
NOT_USED = (
    "alembic",
    "asyncpg",
    "botocore.client",
    "botocore.docs",
    "botocore.session",
    "doctest",
    "flask",
    "jinja2",
    "mako",
    "moto",
    "psycopg",
    "pygments",
    "resumable.client",
    "resumable.commands",
    "resumable.ledger.migrate",
    "resumable.workers",
    "rich",
    "sqlalchemy.orm",
    "twisted.internet.testing",
    "twisted.trial",
    "unittest",
)


def imported(path: Path) -> tuple[set[str], set[str]]:
    """Return what is imported when the settings are read, and when the service is made."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(path)], capture_output=True, text=True, check=True)
    early, late = json.loads(done.stdout)
    return set(early), set(late)


def test_only_what_is_used_is_imported(tmp_path: Path) -> None:
    """And a faulty configuration is told before the service is imported at all."""
    path = tmp_path / "app.yaml"
    path.write_text(CONFIGURATION % (tmp_path / "ledger.sqlite3"))
    ledger = open_engine(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    prepare(ledger)
    ledger.dispose()
    early, later = imported(path)
    assert {"resumable.service", "resumable.stores.s3.client", "sqlite3"} <= later
    assert [module for module in NOT_USED if module in later] == []
    assert "resumable.service" not in early
