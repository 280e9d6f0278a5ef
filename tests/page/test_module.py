"""resumable.js in Node against the service as it runs, through a network that breaks."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import resumable
from tests.clients.network import Network, wait_for
from tests.clients.node import end, result_of, start
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


@contextmanager
def started(
    network: Network, file: Path, name: str, *, options: Any = None, **task: Any
) -> Iterator[subprocess.Popen[str]]:
    """A process that uploads."""
    said = {"endpoint": network.url, "name": name, **(options or {})}
    process = start("module.mjs", {"module": str(MODULE), "file": str(file), "options": said, **task})
    try:
        yield process
    finally:
        end(process)


def upload(network: Network, file: Path, name: str, **task: Any) -> Any:
    """Upload a file in a process of its own; what came of it."""
    with started(network, file, name, **task) as process:
        return result_of(process)


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
    nothing_is_left(s3, "cancelled", network.of("DELETE")[0].path.rpartition("/")[2])


@pytest.mark.parametrize(
    ("status", "kind", "body", "problem"),
    [
        (403, "text/plain", b"not you", {"status": 403, "detail": "not you"}),
        (
            401,
            "application/problem+json",
            b'{"detail": "not you", "login": "/in"}',
            {"detail": "not you", "login": "/in"},
        ),
    ],
)
def test_a_refusal_is_told_before_the_bytes(
    network: Network, application: Application, file: Path, status: int, kind: str, body: bytes, problem: Any
) -> None:
    """With what the application says, whatever its form is."""
    application.refuse(status, body, **{"Content-Type": kind})
    said = upload(network, file, "refused")
    assert (said["outcome"], said["status"], said["message"]) == ("UploadError", status, "not you")
    assert said["problem"] == problem
    assert network.of("PUT") == []


def test_new_headers_after_a_401(network: Network, application: Application, file: Path) -> None:
    """Once for each request: who is refused with the new ones too is refused."""

    def answer(headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        return (200, {}, b"") if headers.get("authorization") == "new" else (401, {}, b"old")

    application.answer = answer
    assert upload(network, file, "tokens", tokens=["old", "new"])["outcome"] == "finished"
    said = upload(network, file, "tokens", tokens=["old"])
    assert (said["status"], said["message"], len(network.of("POST"))) == (401, "old", 4)


def test_what_was_lost_is_not_counted_as_sent(network: Network, file: Path) -> None:
    """While it waits, nothing is under way."""
    network.refuse("PUT", nth=2)
    said = upload(network, file, "counted")
    assert (said["outcome"], said["waited"]) == ("finished", [[6 << 20, 6 << 20]]), said


def test_one_of_several_connections_breaks(network: Network, s3: MotoServer, file: Path) -> None:
    """What the others have brought until then is stored, and not brought again."""
    fault = network.break_off("PUT", 2_000_000, nth=3)
    said = upload(network, file, "one breaks", options={"connections": 3})
    assert (said["outcome"], fault.hit.is_set()) == ("finished", True), said
    assert stored(s3, "one breaks") == DATA
    assert len(network.of("POST")) == 1
    # One range at most for each connection: what was on the way when the one broke.
    assert sum(request.passed for request in network.of("PUT")) <= len(DATA) + 3 * (6 << 20)


def test_two_at_once_with_the_same_file(
    network: Network, service: Service, s3: MotoServer, file: Path, tmp_path: Path
) -> None:
    """Two tabs, that is: the second goes on with the upload of the first, and both are told the result."""
    memory = tmp_path / "memory"
    fault = network.stall("PUT", 1_000_000, nth=2)
    with started(network, file, "twice", remember=str(memory)) as first:
        wait_for(fault)
        second = upload(network, file, "twice", remember=str(memory))
        network.mend()
        said = result_of(first)
    assert (second["outcome"], said["outcome"]) == ("finished", "finished"), (second, said)
    assert said["result"]["id"] == second["result"]["id"]
    assert len(network.of("POST")) == 1
    assert stored(s3, "twice") == DATA
    assert remembered(memory) == []


@pytest.mark.parametrize("at", [0, len(DATA) - 1])
def test_another_file_of_the_same_name_and_size(
    network: Network, s3: MotoServer, file: Path, tmp_path: Path, at: int
) -> None:
    """It is told by its first and last bytes, so that the two are never mixed."""
    memory = tmp_path / "memory"
    network.cut_off("PUT", 7_000_000, nth=2)
    first = upload(network, file, f"blob {at}", remember=str(memory), options={"retryDelays": []})
    assert first["outcome"] == "UploadError"
    network.reset()
    other = bytearray(DATA)
    other[at] ^= 1
    (tmp_path / "other").write_bytes(other)
    said = upload(network, tmp_path / "other", f"blob {at}", remember=str(memory))
    assert (said["outcome"], len(network.of("POST"))) == ("finished", 1), said
    assert said["result"]["id"] != first["url"].rpartition("/")[2]
    assert stored(s3, f"blob {at}") == other
    assert remembered(memory) == []


def test_other_bytes_are_stored_already(network: Network, service: Service, file: Path, tmp_path: Path) -> None:
    """409: it ends, says why, and the next start makes a new upload."""
    memory = tmp_path / "memory"
    fault = network.stall("PUT", 1_000_000, nth=2)
    with started(network, file, "other bytes", remember=str(memory)) as process:
        wait_for(fault)
        (entry,) = remembered(memory)
        path = "/uploads/" + entry["url"].rpartition("/")[2]
        other, first = b"x" * (2 << 20), 12 << 20
        span = {"Content-Range": f"bytes {first}-{first + len(other) - 1}/{len(DATA)}"}
        assert service.request("PUT", path, body=other, headers=span).status == 308
        network.mend()
        said = result_of(process)
    assert (said["outcome"], said["status"], said["states"][-1]) == ("UploadError", 409, "failed"), said
    assert said["message"].startswith("The file is not the one that the upload was begun with")
    assert remembered(memory) == []
    assert upload(network, file, "other bytes", remember=str(memory))["outcome"] == "finished"


def test_somebody_elses_upload_of_the_same_key(
    network: Network, application: Application, service: Service, file: Path
) -> None:
    application.grant()
    made = service.request("POST", "/uploads", body=b'{"name": "bob/taken", "length": 5}')
    assert made.status == 201
    application.grant(owner="bob")
    said = upload(network, file, "taken")
    assert (said["outcome"], said["status"], network.of("PUT")) == ("UploadError", 409, []), said
    application.grant()
    assert service.request("DELETE", f"/uploads/{made.json['id']}").status == 204
    application.grant(owner="bob")
    assert upload(network, file, "taken")["outcome"] == "finished"


def test_a_file_that_is_too_large(network: Network, tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as huge:
        huge.truncate((40 << 20) + 1)
    said = upload(network, tmp_path / "huge", "huge")
    assert (said["outcome"], said["status"], said["states"]) == ("UploadError", 413, ["starting", "failed"]), said
    assert "41943040" in said["problem"]["detail"]
    assert network.of("PUT") == []


def test_retry_after_is_obeyed(network: Network, application: Application, file: Path) -> None:
    """However short the delays are, it is not asked again before that."""
    asked: list[float] = []

    def answer(_: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        asked.append(time.monotonic())
        return (429, {"Retry-After": "1"}, b"too much") if len(asked) == 1 else (200, {}, b"")

    application.answer = answer
    said = upload(network, file, "later", options={"retryDelays": [1]})
    assert (said["outcome"], said["states"][:3]) == ("finished", ["starting", "waiting", "starting"]), said
    assert asked[1] - asked[0] >= 1


#: Answers 308 to everything that brings bytes, and keeps nothing.
KEEPS_NOTHING = """
const { Upload } = await import(process.argv[1]);
let sent = 0;
globalThis.fetch = async (url, { method, body }) => {
  if (method === "POST") return new Response(JSON.stringify({ id: "x", chunk_size: 100 }), { status: 201 });
  sent += body?.size ?? 0;
  if (sent > 100_000) process.exit(9);
  return new Response(null, { status: 308 });
};
const store = { get() {}, set() {}, remove() {} };
const file = new Blob([new Uint8Array(1000)]);
await new Upload(file, { endpoint: "http://h/", name: "n", retryDelays: [1, 1], store }).start().catch((error) => {
  console.log(JSON.stringify({ sent, status: error.status, message: error.message }));
});
"""


def test_a_service_that_keeps_nothing() -> None:
    """It is brought the file once for each of the delays, and not over and over."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed (Debian: apt-get install nodejs)")
    command = [node, "--input-type=module", "-e", KEEPS_NOTHING, MODULE.as_uri()]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    said = json.loads(ended.stdout)
    assert said == {"sent": 3000, "status": 503, "message": "The service takes bytes and does not keep them."}
