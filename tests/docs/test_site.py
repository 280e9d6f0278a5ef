"""The documentation as a site: built once with warnings as errors, and what is then in it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import ROOT

pytestmark = pytest.mark.soak  # some seconds, and packages that only .ci/run needs


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site. No warning: no dead link inside, no page without a place, no unknown name."""
    pytest.importorskip("sphinx", reason="pip install -e '.[docs]'")
    out = tmp_path_factory.mktemp("site")
    command = ["-m", "sphinx", "-q", "-W", "--keep-going", "-n", "-d", str(out / "doctrees"), "docs", str(out / "html")]
    built = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=180, check=False
    )
    assert (built.returncode, built.stderr) == (0, "")
    return out / "html"


def text_of(page: Path) -> str:
    return re.sub(r"<[^>]+>", "", page.read_text("utf-8"))


def test_the_search_finds_a_page_by_its_words(site: Path) -> None:
    """The index is what the search of the site reads in the browser. Its words are stems."""
    written = (site / "searchindex.js").read_text("utf-8")
    index = json.loads(written.removeprefix("Search.setIndex(").removesuffix(")"))

    def pages(stem: str) -> set[str]:
        found = index["terms"][stem]
        return {index["docnames"][number] for number in ([found] if isinstance(found, int) else found)}

    assert "swarm" in pages("swarm")
    assert "settings" in pages("somaxconn")  # a word of config/app.yaml alone
    assert "python-api" in pages("retry_for")


def test_the_sidebar_has_the_four_kinds_in_order(site: Path) -> None:
    captions = re.findall(
        r'<p class="caption"[^>]*><span class="caption-text">([^<]+)<', (site / "index.html").read_text()
    )
    assert captions == ["Tutorial", "How-to guides", "Reference", "Explanation"]


def test_every_setting_is_there(site: Path) -> None:
    """With its default as config/app.yaml writes it, and what explains it."""
    text = text_of(site / "settings.html")
    assert re.search(
        r"store\.chunk_size.{0,20}\s+Default: 6MiB\s+An object goes to the store in parts of at least this size", text
    )
    assert re.search(
        r"auth\.url.{0,20}\s+Required\. In the file: https://app\.example\.com/allow_upload\s+The application", text
    )
    assert "Example: {team: video}" in text


def test_every_command_is_there(site: Path) -> None:
    text = text_of(site / "commands.html")
    for usage in (
        "twistd [options of twistd] resumable",
        "resumable put [OPTIONS]",
        "resumable events replay [OPTIONS]",
    ):
        assert f"Usage: {usage}" in text


def test_the_apis_are_there(site: Path) -> None:
    python = text_of(site / "python-api.html")
    assert "retry_for" in python
    assert "seconds without progress after which it gives up" in python
    assert "exception resumable.client.GaveUp" in python
    assert "readonly retryAfter: number" in text_of(site / "javascript-api.html")


def test_files_beside_the_documentation_are_links_to_the_source(site: Path) -> None:
    deploying = (site / "deploying.html").read_text()
    assert 'href="https://github.com/twisted-resumable/resumable/blob/main/deploy/nginx.conf"' in deploying
    assert 'href="../' not in deploying
