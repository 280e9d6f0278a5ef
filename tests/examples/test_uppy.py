"""examples/uppy: what can be seen without a browser. With one, tests/clients/test_uppy.py runs the same Uppy."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.clients.node import SCRIPTS
from tests.examples.conftest import EXAMPLES
from tests.harness import Service

UPPY = EXAMPLES / "uppy"
PAGE = (UPPY / "index.html").read_text()


def test_it_is_the_uppy_that_is_tested() -> None:
    tested = json.loads((SCRIPTS / "package.json").read_text())["dependencies"]["uppy"]
    assert json.loads((UPPY / "package.json").read_text())["dependencies"] == {"uppy": tested}


def test_what_it_takes_from_uppy_is_there() -> None:
    """The files, and the names that the script imports."""
    modules = SCRIPTS / "node_modules"
    if not modules.is_dir():
        pytest.skip("its packages are not installed (npm ci --prefix tests/clients/javascript)")
    files = re.findall(r'"(?:\./)?node_modules/([^"]+)"', PAGE)
    assert len(files) == 2
    assert all((modules / file).is_file() for file in files)
    names = re.search(r"import \{ ([^}]+) \}", PAGE)
    assert names
    exported = (modules / "uppy/dist/uppy.min.mjs").read_text().rpartition("export")[2]
    for name in names[1].split(", "):
        assert re.search(rf"\b{name}\b", exported), name


@pytest.mark.process
@pytest.mark.soak
def test_the_service_lets_the_page_in(tmp_path: Path) -> None:
    """The preflight that a browser sends for Uppy, to the service without a configuration, as the page says to start it."""
    endpoint = re.search(r'endpoint: "http://127\.0\.0\.1:8080(/[^"]+)"', PAGE)
    assert endpoint
    asking = {
        "Origin": "http://127.0.0.1:8000",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,tus-resumable,upload-length,upload-metadata",
    }
    with Service(tmp_path, None) as service:
        answer = service.request("OPTIONS", endpoint[1], asking)
    assert answer.status == 204
    assert answer.headers["access-control-allow-origin"] in ("*", asking["Origin"])
    allowed = answer.headers["access-control-allow-headers"].lower()
    assert allowed == "*" or {"tus-resumable", "upload-length", "upload-metadata", "authorization"} <= set(
        re.split(r",\s*", allowed)
    )
