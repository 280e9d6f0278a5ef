"""tus's concatenation against real stores: one that copies parts, and one that does not; the process killed in between."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import Service, eventually
from tests.s3servers import MotoServer, RcloneServer, S3Server
from tests.scraping import Scrape
from tests.service.conftest import configuration

pytestmark = pytest.mark.soak

VERSION = {"Tus-Resumable": "1.0.0"}
SIZE = 25_000_000


@pytest.fixture(scope="module", params=[MotoServer, RcloneServer], ids=lambda kind: kind.name)
def s3(request: pytest.FixtureRequest) -> Iterator[S3Server]:
    with request.param() as server:
        yield server


def post(service: Service, **headers: str) -> str:
    """Make an upload; the path of its URL."""
    answer = service.request("POST", "/files/", {**VERSION, **headers})
    assert answer.status == 201, answer
    return answer.headers["location"].removeprefix(service.url)


def send(service: Service, path: str, data: bytes) -> None:
    headers = {**VERSION, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    assert service.request("PATCH", path, headers, data).status == 204


def partial_uploads(service: Service, datas: list[bytes]) -> list[str]:
    """All of them at the same time."""
    paths = [post(service, **{"Upload-Concat": "partial", "Upload-Length": str(len(data))}) for data in datas]
    sending = [threading.Thread(target=send, args=(service, *one)) for one in zip(paths, datas, strict=True)]
    for thread in sending:
        thread.start()
    for thread in sending:
        thread.join()
    return paths


def requests_made(service: Service) -> Counter[str]:
    samples = Scrape.of(service).samples("resumable_store_requests_total")
    return Counter({f"{of['operation']} {of['outcome']}": int(value) for _, of, value in samples})


def keys(s3: S3Server) -> list[str]:
    return [one["Key"] for one in s3.boto3().list_objects_v2(Bucket=s3.bucket).get("Contents", ())]


def test_four_of_25_megabytes(s3: S3Server, tmp_path: Path) -> None:
    """Few requests where the store copies, and nothing is left."""
    datas = [random.Random(n).randbytes(SIZE) for n in range(4)]
    with Service(tmp_path, configuration(s3)) as service:
        before = requests_made(service)
        paths = partial_uploads(service, datas)
        final = post(service, **{"Upload-Concat": f"final;{' '.join(paths)}", "Upload-Metadata": "filename ZmlsbQ=="})
        told = service.request("HEAD", final, VERSION)
        assert told.headers["upload-offset"] == told.headers["upload-length"] == str(4 * SIZE)
        eventually(lambda: keys(s3) == ["film"])
        assert s3.boto3().get_object(Bucket=s3.bucket, Key="film")["Body"].read() == b"".join(datas)
        made = requests_made(service) - before
        print(f"{s3.name}: {made.total()} requests for 4 x {SIZE} bytes: {dict(made)}")
        # moto does not tell the checksum of what it has stored, so that it is asked what is there. S3 does.
        assert made.total() - made["HeadObject ok"] - made["HeadBucket ok"] <= (11 if s3.name == "moto" else 60)
        assert not s3.boto3().list_multipart_uploads(Bucket=s3.bucket).get("Uploads")
        assert service.terminate() in (0, -15)
        assert "Traceback" not in service.log
    s3.boto3().delete_object(Bucket=s3.bucket, Key="film")


def test_killed_in_between(s3: S3Server, tmp_path: Path) -> None:
    """The final upload waits for its last part when the process is killed; the next one makes the object."""
    datas = [random.Random(n).randbytes(7_000_000 + n) for n in range(3)]
    config = configuration(s3)
    with Service(tmp_path, config) as service:
        paths = partial_uploads(service, datas[:2])
        paths.append(post(service, **{"Upload-Concat": "partial", "Upload-Length": str(len(datas[2]))}))
        final = post(service, **{"Upload-Concat": f"final;{' '.join(paths)}", "Upload-Metadata": "filename Z3JlYXQ="})
        service.kill()
    with Service(tmp_path, config) as service:
        told = service.request("HEAD", final, VERSION)
        assert (told.status, told.headers["upload-offset"], told.headers["upload-length"]) == (200, "0", "21000003")
        send(service, paths[2], datas[2])
        eventually(lambda: keys(s3) == ["great"])
        assert s3.boto3().get_object(Bucket=s3.bucket, Key="great")["Body"].read() == b"".join(datas)
        assert service.terminate() in (0, -15)
    s3.boto3().delete_object(Bucket=s3.bucket, Key="great")
