"""examples/tls/run.sh: an upload over TLS, through the proxies of deploy/, to the service and the application."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
import requests

from tests.deploy.test_files import program
from tests.examples.conftest import EXAMPLES, answers, environment, free_port
from tests.harness import eventually

pytestmark = [pytest.mark.process, pytest.mark.soak]


def events(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as db:
        return [body for (body,) in db.execute("SELECT body FROM events")]


@pytest.mark.parametrize("proxy", ["nginx", "haproxy"])
def test_an_upload(proxy: str, tmp_path: Path) -> None:
    """The URLs handed out are those of the proxy; when the script is told to end, nothing of it is left."""
    pytest.importorskip("flask")
    program(proxy)
    tls, service, application = free_port(), free_port(), free_port()
    ports = {"HTTPS_PORT": str(tls), "SERVICE_PORT": str(service), "APP_PORT": str(application)}
    database = tmp_path / "events.sqlite3"
    log = tmp_path / "log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            [str(EXAMPLES / "tls" / "run.sh"), proxy],
            env=environment(DATABASE=str(database), TMPDIR=str(tmp_path), **ports),
            stdout=said,
            stderr=subprocess.STDOUT,
        )

    def listening() -> bool:
        assert process.poll() is None, log.read_text()
        return "resumable listening on" in log.read_text() and answers(f"http://127.0.0.1:{application}/")

    try:
        eventually(listening, seconds=60)
        certificate = re.search(r"--cacert (\S+)", log.read_text())
        assert certificate
        with requests.Session() as client:
            client.verify, client.trust_env = certificate[1], False
            client.headers["Authorization"] = "Bearer alice-token"
            root = f"https://localhost:{tls}"
            # HAProxy sends nothing to a service that it has not yet found ready.
            eventually(lambda: client.get(f"{root}/upload/nothing", timeout=20).status_code == 404)
            made = client.post(f"{root}/files/", headers={"Tus-Resumable": "1.0.0", "Upload-Length": "6"}, timeout=20)
            assert made.status_code == 201, made.text
            assert made.headers["Location"].startswith(f"{root}/files/")
            put = client.put(f"{root}/upload/film.mp4", data=b"a film", timeout=20)
            assert (put.status_code, put.json()["key"]) == (200, "films/alice/film.mp4")
            refused = client.put(f"{root}/upload/x", data=b"x", headers={"Authorization": "no"}, timeout=20)
            assert refused.status_code == 401
        (event,) = eventually(lambda: events(database))
        assert json.loads(event)["data"]["id"] == put.json()["id"]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    assert not any(answers(f"http://127.0.0.1:{port}/") for port in (service, application))
    assert not Path(certificate[1]).parent.exists()
