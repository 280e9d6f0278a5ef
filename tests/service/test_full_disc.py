"""The disc of a SQLite ledger takes no more: the service says so, once, and goes on by itself when there is room."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from tests.harness import Service, eventually
from tests.s3servers import MotoServer
from tests.service.conftest import configuration


@pytest.mark.soak
def test_a_full_disc(tmp_path: Path, s3: MotoServer) -> None:
    """/readyz writes really: to read, and to delete nothing, would go on without complaint."""
    service = Service(tmp_path, configuration(s3))
    service.advance(0)
    with service:

        def ready() -> int:
            service.advance(6)  # what was found is told for some seconds
            return service.request("GET", "/readyz").status

        assert ready() == 200
        assert service.request("PUT", "/upload/before", body=b"x" * 100).status == 200
        # No file may grow beyond this, as on a disc that is full. The log still may.
        soft, hard = resource.prlimit(service.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(service.pid, resource.RLIMIT_FSIZE, (len(service.log) + 8192, hard))
        assert (tmp_path / "ledger.sqlite3").stat().st_size > len(service.log) + 8192
        eventually(lambda: ready() == 503)
        answers = [service.request("PUT", f"/upload/full{number}", body=b"x" * 100) for number in range(3)]
        assert [answer.status for answer in answers] == [503, 503, 503]
        assert all("retry-after" in answer.headers for answer in answers)
        assert sum("ledger is out since" in line for line in service.log.splitlines()) == 1
        assert "disk I/O error" in service.log
        resource.prlimit(service.pid, resource.RLIMIT_FSIZE, (soft, hard))
        eventually(lambda: ready() == 200)
        assert service.request("PUT", "/upload/full0", body=b"x" * 100).status == 200
        eventually(lambda: "ledger works again" in service.log)
        assert "Traceback" not in service.log
