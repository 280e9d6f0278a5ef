"""Many connections write one upload, in any order: it is one object, made once, of parts that were stored where they belong."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from tests.faults.proxy import FaultyS3
from tests.harness import Answer, Client, Service, eventually
from tests.receiver import SECRET, Receiver
from tests.s3servers import MotoServer
from tests.service.conftest import configuration

CHUNK = 6 << 20
DATA = random.Random(8).randbytes(7 * CHUNK + 321_987)
SWARM = {"Upload-Swarm": "?1"}


@pytest.fixture(scope="module")
def store() -> Iterator[FaultyS3]:
    with MotoServer() as server, FaultyS3(server) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as started:
        yield started


@pytest.fixture(scope="module")
def service(store: FaultyS3, receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    events = {"url": receiver.url, "secret": SECRET}
    with Service(tmp_path_factory.mktemp("swarm"), configuration(store, events=events)) as started:
        yield started
        assert "Traceback" not in started.log


@pytest.fixture(autouse=True)
def _counted(store: FaultyS3) -> None:
    store.reset()


def put(service: Service, path: str, first: int, end: int, data: bytes = DATA, **headers: str) -> Answer:
    span = {"Content-Range": f"bytes {first}-{end - 1}/{len(data)}"}
    return service.request("PUT", path, {**span, **headers}, data[first:end])


def query(service: Service, path: str) -> Answer:
    return service.request("PUT", path, {"Content-Range": "bytes */*"})


def stored(store: FaultyS3, name: str) -> bytes:
    return bytes(store.boto3().get_object(Bucket=store.bucket, Key=name)["Body"].read())


def left(store: FaultyS3) -> list[str]:
    s3 = store.boto3()
    found = s3.list_objects_v2(Bucket=store.bucket, Prefix=".resumable/").get("Contents", [])
    found += s3.list_multipart_uploads(Bucket=store.bucket).get("Uploads", [])
    return [entry["Key"] for entry in found]


def ranges(chance: random.Random, size: int, count: int) -> list[tuple[int, int]]:
    """Ranges that cover everything together, shuffled, unaligned, some of them overlapping."""
    cuts = sorted({0, size, *(chance.randrange(1, size) for _ in range(count))})
    found = [(first, min(size, end + chance.choice([0, 0, 0, 1, 100_000]))) for first, end in pairwise(cuts)]
    chance.shuffle(found)
    return found


def test_every_stored_range_is_named(service: Service, store: FaultyS3) -> None:
    """As the first request of a new upload too; aligned ranges become parts, the others fragments, all of it acknowledged."""
    name = "/upload/swarm/named.bin"
    answer = put(service, name, 2 * CHUNK, 3 * CHUNK, **SWARM)
    assert (answer.status, answer.headers["range"]) == (308, f"bytes={2 * CHUNK}-{3 * CHUNK - 1}")
    assert answer.headers["upload-chunk-size"] == str(CHUNK)
    assert put(service, name, 0, CHUNK, **SWARM).headers["range"] == f"bytes=0-{CHUNK - 1},{2 * CHUNK}-{3 * CHUNK - 1}"
    assert (store.counts["UploadPart"], store.counts["PutFragment"]) == (2, 0)
    # It is known now that many write it: nobody has to say so again.
    assert put(service, name, 5 * CHUNK + 5, 5 * CHUNK + 10).status == 308
    said = f"bytes=0-{CHUNK - 1},{2 * CHUNK}-{3 * CHUNK - 1},{5 * CHUNK + 5}-{5 * CHUNK + 9}"
    assert query(service, name).headers["range"] == said
    shown = service.request("GET", name).json
    assert (shown["offset"], shown["chunk_size"]) == (CHUNK, CHUNK)
    assert shown["stored"][-1] == [5 * CHUNK + 5, 5 * CHUNK + 9]
    assert put(service, name, 0, len(DATA)).status == 200
    assert stored(store, "swarm/named.bin") == DATA
    # What was there was not stored again.
    assert store.counts["UploadPart"] == 8
    eventually(lambda: left(store) == [])


@pytest.mark.parametrize("seed", range(3))
def test_in_any_order(service: Service, store: FaultyS3, receiver: Receiver, seed: int) -> None:
    """Eight connections, shuffled, unaligned, overlapping ranges, each of them perhaps the first: one object, one event."""
    name = f"swarm/shuffled-{seed}.bin"
    chance = random.Random(seed)
    work = ranges(chance, len(DATA), 24)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda one: put(service, f"/upload/{name}", *one, **SWARM), work))
    assert {answer.status for answer in answers} <= {200, 308}
    assert query(service, f"/upload/{name}").status == 200
    assert stored(store, name) == DATA
    assert (store.counts["Create"], store.counts["Complete"]) == (1, 1)
    result = service.request("GET", f"/upload/{name}").json
    eventually(lambda: receiver.of(result["id"]))
    assert [heard.type for heard in receiver.of(result["id"])] == ["upload.finished"]
    eventually(lambda: left(store) == [])


def test_a_session(service: Service, store: FaultyS3) -> None:
    """POST /uploads: a URL of its own; two of the same name are two."""
    described = {"name": "swarm/session.bin", "length": len(DATA), "content_type": "video/mp4", "metadata": {"a": "b"}}
    answer = service.request("POST", "/uploads", {"Content-Type": "application/json"}, json.dumps(described).encode())
    assert (answer.status, answer.headers["upload-chunk-size"]) == (201, str(CHUNK))
    created = answer.json
    assert answer.headers["location"].endswith(f"/uploads/{created['id']}")
    assert (created["state"], created["protocol"], created["stored"]) == ("open", "session", [])
    path = f"/uploads/{created['id']}"
    other = service.request("POST", "/uploads", None, json.dumps(described).encode())
    assert other.json["id"] != created["id"]
    assert service.request("DELETE", f"/uploads/{other.json['id']}").status == 204
    assert query(service, path).headers.get("range") is None
    work = [(first, min(first + CHUNK, len(DATA))) for first in range(0, len(DATA), CHUNK)]
    random.Random(1).shuffle(work)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda one: put(service, path, *one), work))
    assert sorted({answer.status for answer in answers}) == [200, 308]
    found = store.boto3().get_object(Bucket=store.bucket, Key="swarm/session.bin")
    assert (found["Body"].read(), found["ContentType"], found["Metadata"]["a"]) == (DATA, "video/mp4", "b")
    assert store.counts["UploadPart"] == len(work)
    assert store.counts["PutFragment"] == 0
    assert service.request("GET", path).json["state"] == "finished"


@pytest.mark.soak
def test_coming_back_on_one_of_many(service: Service, store: FaultyS3) -> None:
    """One connection of several hangs; its client asks what is stored, and goes on from there on another."""
    path, half = "/upload/swarm/back.bin", 4 * CHUNK
    with Client(service.port) as hanging:
        span = {"Content-Range": f"bytes {half}-{len(DATA) - 1}/{len(DATA)}", "Content-Length": str(len(DATA) - half)}
        hanging.head("PUT", path, {**span, **SWARM})
        hanging.send(DATA[half : half + CHUNK + 1000])
        eventually(lambda: query(service, path).headers.get("range") == f"bytes={half}-{half + CHUNK + 999}")
        assert put(service, path, half + CHUNK + 1000, len(DATA)).status == 308
        assert put(service, path, 0, half).status == 200
        assert stored(store, "swarm/back.bin") == DATA
        # What it still sends is too late, and does no harm.
        hanging.send(DATA[half + CHUNK + 1000 :])
        assert hanging.answer().status in (200, 409, 410)
    assert stored(store, "swarm/back.bin") == DATA
    eventually(lambda: left(store) == [])


def test_an_upload_that_becomes_one_of_many(service: Service, store: FaultyS3) -> None:
    """Begun by one connection, gone on with by several."""
    path = "/upload/swarm/becomes.bin"
    assert put(service, path, 0, 1000).status == 308
    refused = put(service, path, CHUNK, 2 * CHUNK)
    assert (refused.status, refused.headers["range"]) == (416, "bytes=0-999")
    assert put(service, path, CHUNK, 2 * CHUNK, **SWARM).headers["range"] == f"bytes=0-999,{CHUNK}-{2 * CHUNK - 1}"
    assert put(service, path, 1000, len(DATA)).status == 200
    assert stored(store, "swarm/becomes.bin") == DATA


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status"),
    [
        ("PUT", "/upload/swarm/bad", {**SWARM, "Content-Range": "bytes 5-9/*"}, b"12345", 400),
        ("PUT", "/upload/swarm/bad", {"Upload-Swarm": "?0", "Content-Range": "bytes 5-9/20"}, b"12345", 404),
        ("PUT", "/upload/swarm/bad", {"Upload-Swarm": "yes", "Content-Range": "bytes 5-9/20"}, b"12345", 404),
        ("GET", "/uploads", {}, b"", 405),
        ("POST", "/uploads", {}, b"", 400),
        ("POST", "/uploads", {}, b"[]", 400),
        ("POST", "/uploads", {}, b'{"name": "a"}', 400),
        ("POST", "/uploads", {}, b'{"length": 5}', 400),
        ("POST", "/uploads", {}, b'{"name": "a", "length": -1}', 400),
        ("POST", "/uploads", {}, b'{"name": "a", "length": true}', 400),
        ("POST", "/uploads", {}, b'{"name": "../a", "length": 5}', 400),
        ("POST", "/uploads", {}, b'{"name": "a", "length": 5, "size": 5}', 400),
        ("POST", "/uploads", {}, b'{"name": "a", "length": 5, "metadata": {"a": 1}}', 400),
        ("POST", "/uploads", {}, b'{"name": "a", "length": 5, "content_type": "a\\nb"}', 400),
        ("POST", "/uploads", {}, b'{"name": "a", "length": 1152921504606846976}', 413),
        ("POST", "/uploads", {}, b" " * 70_000, 413),
        ("PUT", "/uploads/none", {"Content-Range": "bytes 0-4/5"}, b"12345", 404),
        ("PUT", "/uploads/none", {}, b"12345", 400),
    ],
)
def test_bad_input(service: Service, method: str, path: str, headers: dict[str, str], body: bytes, status: int) -> None:
    """An error that says what is wrong, and nothing is begun."""
    answer = service.request(method, path, headers, body)
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    assert service.request("GET", "/upload/swarm/bad").status == 404
