"""resumable.js in Node against the service as it runs, through a network that breaks."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

import resumable
from tests.clients.network import Network
from tests.clients.node import run
from tests.harness import Application, Service
from tests.page.conftest import nothing_is_left, remembered, stored
from tests.s3servers import MotoServer

pytestmark = [pytest.mark.process, pytest.mark.soak]

MODULE = Path(resumable.__file__).parent / "page" / "js" / "resumable.js"
DATA = random.Random(7).randbytes((20 << 20) + 12_345)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "film"
    path.write_bytes(DATA)
    return path


def upload(network: Network, file: Path, name: str, *, options: Any = None, **task: Any) -> Any:
    said = {"endpoint": network.url, "name": name, **(options or {})}
    return run("module.mjs", {"module": str(MODULE), "file": str(file), "options": said, **task})


@pytest.mark.parametrize("connections", [1, 3])
def test_a_file(network: Network, s3: MotoServer, file: Path, connections: int) -> None:
    name = f"whole {connections} ü"
    said = upload(network, file, name, options={"connections": connections})
    assert (said["outcome"], said["result"]["name"], said["result"]["size"]) == ("finished", name, len(DATA)), said
    assert said["states"] == ["starting", "uploading", "finished"]
    assert stored(s3, name) == DATA
    # Nothing is brought twice, and each range begins at a part's edge.
    assert sum(request.passed for request in network.of("PUT")) == len(DATA)
    firsts = [int((request.header("Content-Range") or "").split()[1].split("-")[0]) for request in network.of("PUT")]
    assert all(first % (6 << 20) == 0 for first in firsts)


def test_an_empty_file(network: Network, s3: MotoServer, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    said = upload(network, tmp_path / "empty", "empty")
    assert (said["outcome"], said["result"]["size"], network.of("PUT")) == ("finished", 0, [])
    assert stored(s3, "empty") == b""


@pytest.mark.parametrize("connections", [1, 3])
def test_the_network_breaks_again_and_again(network: Network, s3: MotoServer, file: Path, connections: int) -> None:
    """A connection is reset in the middle, a request refused, an answer lost, the upload's own POST refused."""
    network.refuse("POST")
    network.break_off("PUT", 2_000_000, nth=1)
    network.refuse("PUT", nth=3)
    network.lose_answer("PUT", nth=5)
    name = f"broken {connections}"
    said = upload(network, file, name, options={"connections": connections})
    assert said["outcome"] == "finished", said
    assert "waiting" in said["states"]
    assert stored(s3, name) == DATA


def test_the_last_answer_is_lost(network: Network, s3: MotoServer, tmp_path: Path) -> None:
    """The upload is found finished, and nothing is brought again."""
    (tmp_path / "small").write_bytes(b"small")
    network.lose_answer("PUT")
    said = upload(network, tmp_path / "small", "last answer")
    assert (said["outcome"], said["result"]["size"]) == ("finished", 5), said
    assert [request.header("Content-Range") for request in network.of("PUT")] == ["bytes 0-4/5", "bytes */5"]


def test_delays_are_used_up(network: Network, file: Path) -> None:
    """Without progress it fails at last, and says that nobody answers."""
    network.cut()
    said = upload(network, file, "away", options={"retryDelays": [1, 1]})
    assert (said["outcome"], said["status"], said["problem"]) == ("UploadError", 0, None)
    assert said["states"] == ["starting", "waiting", "starting", "waiting", "starting", "failed"]


def test_another_process_goes_on(network: Network, s3: MotoServer, file: Path, tmp_path: Path) -> None:
    memory = tmp_path / "memory"
    network.cut_off("PUT", 7_000_000, nth=2)
    first = upload(network, file, "go on", remember=str(memory), options={"retryDelays": []})
    assert first["outcome"] == "UploadError"
    assert [entry["url"] for entry in remembered(memory)] == [first["url"]]
    network.reset()
    said = upload(network, file, "go on", remember=str(memory))
    assert said["outcome"] == "finished", said
    assert network.of("POST") == []
    assert sum(request.passed for request in network.of("PUT")) <= len(DATA) - (6 << 20)
    assert stored(s3, "go on") == DATA
    assert remembered(memory) == []


def test_an_upload_that_is_gone_begins_anew(
    network: Network, s3: MotoServer, service: Service, file: Path, tmp_path: Path
) -> None:
    memory = tmp_path / "memory"
    network.cut_off("PUT", 7_000_000, nth=2)
    first = upload(network, file, "gone", remember=str(memory), options={"retryDelays": []})
    assert service.request("DELETE", "/uploads/" + first["url"].rpartition("/")[2]).status == 204
    network.reset()
    said = upload(network, file, "gone", remember=str(memory))
    assert (said["outcome"], len(network.of("POST"))) == ("finished", 1), said
    assert stored(s3, "gone") == DATA


def test_pause_and_resume(network: Network, s3: MotoServer, file: Path) -> None:
    said = upload(network, file, "paused", pauseAt=6 << 20)
    assert said["outcome"] == "finished", said
    assert said["states"] == ["starting", "uploading", "paused", "starting", "uploading", "finished"]
    assert stored(s3, "paused") == DATA


def test_cancel(network: Network, s3: MotoServer, file: Path, tmp_path: Path) -> None:
    memory = tmp_path / "memory"
    said = upload(network, file, "cancelled", cancelAt=6 << 20, remember=str(memory))
    assert (said["outcome"], said["states"][-1]) == ("AbortError", "cancelled"), said
    assert [request.status for request in network.of("DELETE")] == [204]
    assert remembered(memory) == []
    nothing_is_left(s3)


def test_a_refusal_is_told_before_the_bytes(network: Network, application: Application, file: Path) -> None:
    application.refuse(403, b"not you", **{"Content-Type": "text/plain"})
    said = upload(network, file, "refused")
    assert (said["outcome"], said["status"], said["message"]) == ("UploadError", 403, "not you")
    assert network.of("PUT") == []


def test_new_headers_after_a_401(network: Network, application: Application, file: Path) -> None:
    """Once for each request: who is refused with the new ones too is refused."""

    def answer(headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        return (200, {}, b"") if headers.get("authorization") == "new" else (401, {}, b"old")

    application.answer = answer
    assert upload(network, file, "tokens", tokens=["old", "new"])["outcome"] == "finished"
    said = upload(network, file, "tokens", tokens=["old"])
    assert (said["status"], said["message"], len(network.of("POST"))) == (401, "old", 4)
