"""tus-js-client in Node, unchanged, against the service as it runs, through a network that may break."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.clients.conftest import arrived, file_of, finished, shown
from tests.clients.network import Fault, Network, wait_for
from tests.clients.node import end, result_of, run, start
from tests.faults.proxy import FaultyS3
from tests.harness import Service

pytestmark = [pytest.mark.process, pytest.mark.soak]

DATA = random.Random(12).randbytes((12 << 20) + 345_678)
CHUNK = 5_000_000


def described(path: str, network: Network, name: str, *, read: str = "file", **options: Any) -> dict[str, Any]:
    """What the script is to do: upload the file under the name."""
    said = {"endpoint": f"{network.url}/files/", "metadata": {"filename": name, "filetype": "video/mp4"}, **options}
    return {"file": path, "read": read, "options": said}


@pytest.fixture
def path(tmp_path: Path) -> str:
    return file_of(tmp_path / "file", DATA)


def upload(task: dict[str, Any]) -> str:
    """Have it uploaded; the upload's URL."""
    said = run("tus.mjs", task)
    assert said["outcome"] == "success", said
    return str(said["url"])


#: Ways to upload a file, and how many requests bring its bytes.
WAYS: dict[str, tuple[dict[str, Any], int]] = {
    "whole": ({}, 1),
    "buffer": ({"read": "buffer"}, 1),
    "chunks": ({"chunkSize": CHUNK}, 3),
    "with the creation": ({"uploadDataDuringCreation": True}, 1),
    "chunks, the first with the creation": ({"uploadDataDuringCreation": True, "chunkSize": CHUNK}, 3),
    "stream": ({"read": "stream", "uploadSize": len(DATA), "chunkSize": CHUNK}, 3),
    "length that comes later": ({"read": "stream", "uploadLengthDeferred": True, "chunkSize": CHUNK}, 3),
    "PATCH as POST": ({"overridePatchMethod": True, "chunkSize": CHUNK}, 3),
}


@pytest.mark.parametrize("way", WAYS)
def test_ways(path: str, network: Network, service: Service, store: FaultyS3, way: str) -> None:
    options, wanted = WAYS[way]
    name = f"tus-js/{way}"
    url = upload(described(path, network, name, **options))
    finished(service, store, url, name, DATA)
    assert shown(service, url)["content_type"] == "video/mp4"
    bringing = [request for request in network.passed if request.passed]
    assert len(bringing) == wanted
    assert sum(request.passed for request in bringing) == len(DATA)
    assert len(network.of("HEAD")) == 0


@pytest.mark.parametrize("options", [{}, {"read": "buffer"}, {"read": "buffer", "uploadDataDuringCreation": True}])
def test_an_empty_file(
    tmp_path: Path, network: Network, service: Service, store: FaultyS3, options: dict[str, Any]
) -> None:
    name = f"tus-js/empty-{len(options)}"
    url = upload(described(file_of(tmp_path / "empty", b""), network, name, **options))
    finished(service, store, url, name, b"")


@pytest.mark.xfail(strict=True, reason="concatenation is not spoken yet")
def test_parts_at_the_same_time(path: str, network: Network, service: Service, store: FaultyS3) -> None:
    url = upload(described(path, network, "tus-js/parallel", parallelUploads=3))
    finished(service, store, url, "tus-js/parallel", DATA)


def test_a_name_in_many_scripts(path: str, network: Network, service: Service, store: FaultyS3) -> None:
    name = "tus-js/Füße & 漢字, 100 % 🎬.mp4"
    finished(service, store, upload(described(path, network, name)), name, DATA)


def test_terminate(path: str, network: Network, service: Service, store: FaultyS3) -> None:
    """Nothing is left: not the upload, and not what was stored of it."""
    said = run(
        "tus.mjs",
        {**described(path, network, "tus-js/none", chunkSize=CHUNK), "stopAt": 2 * CHUNK, "terminate": True},
    )
    assert said["outcome"] == "terminated", said
    assert [request.status for request in network.of("DELETE")] == [204]
    assert requests.head(said["url"], timeout=10).status_code in (404, 410)
    assert store.boto3().list_multipart_uploads(Bucket=store.bucket).get("Uploads", []) == []
    kept = store.boto3().list_objects_v2(Bucket=store.bucket, Prefix=".resumable/").get("Contents", [])
    assert kept == []


# Another process


@pytest.mark.parametrize("how", ["remembered", "told"])
def test_another_process_goes_on(
    path: str, tmp_path: Path, network: Network, service: Service, store: FaultyS3, how: str
) -> None:
    """By a file of its own that remembers the URL, or by a URL that it is given. What was stored is not sent again."""
    name = f"tus-js/resumed-{how}"
    task = described(path, network, name, chunkSize=CHUNK)
    if how == "remembered":
        task["urls"] = str(tmp_path / "urls.json")
    first = run("tus.mjs", {**task, "stopAt": CHUNK})
    assert (first["outcome"], first["resumed"]) == ("stopped", False)
    network.reset()
    if how == "told":
        task["options"]["uploadUrl"] = first["url"]
    second = run("tus.mjs", task)
    assert (second["outcome"], second["url"], second["resumed"]) == ("success", first["url"], how == "remembered")
    finished(service, store, first["url"], name, DATA)
    assert network.of("POST") == []
    assert network.of("PATCH")[0].header("Upload-Offset") == network.of("HEAD")[0].answered("Upload-Offset")
    assert sum(request.passed for request in network.of("PATCH")) <= len(DATA) - CHUNK


def test_a_process_that_is_killed(
    path: str, tmp_path: Path, network: Network, service: Service, store: FaultyS3
) -> None:
    """In the middle of a request. The next process finds the URL, and goes on at the byte that was the last to arrive."""
    fault = network.cut_off("PATCH", 3_000_000, nth=2)
    task = {**described(path, network, "tus-js/killed", chunkSize=CHUNK), "urls": str(tmp_path / "urls.json")}
    first = start("tus.mjs", task)
    try:
        wait_for(fault)
    finally:
        first.kill()
        first.communicate()
    arrived(service, network, CHUNK + 3_000_000)
    network.reset()
    second = run("tus.mjs", task)
    assert (second["outcome"], second["resumed"]) == ("success", True)
    finished(service, store, second["url"], "tus-js/killed", DATA)
    assert network.of("POST") == []
    assert network.of("PATCH")[0].header("Upload-Offset") == str(CHUNK + 3_000_000)


# A network that breaks

#: What goes wrong.
FAULTS: dict[str, Callable[[Network], Fault]] = {
    "503": lambda network: network.refuse("PATCH", nth=2),
    "503 to the creation": lambda network: network.refuse("POST"),
    "first answer lost": lambda network: network.lose_answer("PATCH"),
    "last answer lost": lambda network: network.lose_answer("PATCH", nth=3),
}


@pytest.mark.parametrize("what", FAULTS)
def test_faults(path: str, network: Network, service: Service, store: FaultyS3, what: str) -> None:
    """The upload ends with the right object, and no byte that arrived is sent again."""
    fault = FAULTS[what](network)
    name = f"tus-js/fault {what}"
    url = upload(described(path, network, name, chunkSize=CHUNK))
    assert fault.hit.is_set()
    finished(service, store, url, name, DATA)
    assert sum(request.passed for request in network.of("PATCH")) == len(DATA)
    assert len([request for request in network.of("POST") if request.status == 201]) == 1


@pytest.mark.parametrize("way", ["chunks, the first with the creation", "length that comes later", "PATCH as POST"])
def test_the_last_answer_is_lost(path: str, network: Network, service: Service, store: FaultyS3, way: str) -> None:
    """In each way the client hears that all is there, and sends nothing twice."""
    options, bringing = WAYS[way]
    fault = network.lose_answer("PATCH", nth=bringing - (1 if "creation" in way else 0))
    name = f"tus-js/lost, {way}"
    url = upload(described(path, network, name, **options))
    assert fault.hit.is_set()
    finished(service, store, url, name, DATA)
    assert sum(request.passed for request in network.passed) == len(DATA)
    assert len(network.of("POST")) == 1


@pytest.mark.parametrize(("nth", "after"), [(1, 3_000_000), (2, 1), (3, 2_000_000)])
def test_a_reset_in_the_middle(
    path: str, network: Network, service: Service, store: FaultyS3, nth: int, after: int
) -> None:
    """The client asks at once how far it is, maybe before the service has read all that came; then a 409 comes next."""
    fault = network.break_off("PATCH", after, nth)
    name = f"tus-js/reset-{nth}"
    url = upload(described(path, network, name, chunkSize=CHUNK))
    assert fault.hit.is_set()
    finished(service, store, url, name, DATA)
    before = (nth - 1) * CHUNK
    taken = [request for request in network.of("PATCH") if request.status == 204][nth - 1]
    assert before <= int(taken.header("Upload-Offset") or 0) <= before + after
    assert len(network.of("POST")) == 1


def test_a_creation_with_bytes_that_is_broken_off(
    path: str, network: Network, service: Service, store: FaultyS3
) -> None:
    """The client never heard of the first upload, and begins another one."""
    fault = network.break_off("POST", 3_000_000)
    url = upload(described(path, network, "tus-js/broken creation", uploadDataDuringCreation=True))
    assert fault.hit.is_set()
    finished(service, store, url, "tus-js/broken creation", DATA)


def test_a_503_to_the_question_how_far(path: str, network: Network, service: Service, store: FaultyS3) -> None:
    """It comes from somebody in between: the service itself says 423. The client begins anew, and the object is right."""
    network.break_off("PATCH", 3_000_000)
    fault = network.refuse("HEAD")
    url = upload(described(path, network, "tus-js/503 to HEAD", chunkSize=CHUNK))
    assert fault.hit.is_set()
    finished(service, store, url, "tus-js/503 to HEAD", DATA)
    assert [request.status for request in network.of("POST")] == [201, 201]


def test_the_network_is_gone_for_a_while(path: str, network: Network, service: Service, store: FaultyS3) -> None:
    """The client tries again and again by itself, until it is back."""
    fault = network.cut_off("PATCH", 3_000_000)
    task = described(path, network, "tus-js/gone", retryDelays=[100] * 300)
    process = start("tus.mjs", task)
    try:
        wait_for(fault)
        arrived(service, network, 3_000_000)
        network.mend()
        said = result_of(process)
    finally:
        end(process)
    assert said["outcome"] == "success", said
    finished(service, store, said["url"], "tus-js/gone", DATA)
    assert network.of("PATCH")[1].header("Upload-Offset") == "3000000"
