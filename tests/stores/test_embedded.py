"""The embedded store: it serves, it says why it does not, and it does not outlive its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPMessage
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

import boto3
import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from resumable.model import ObjectOptions
from resumable.stores import embedded
from resumable.stores.embedded import EmbeddedS3
from resumable.stores.port import PartRef, StoreError
from resumable.stores.s3.client import S3Store
from tests.stores.fakes import R

pytestmark = pytest.mark.process

COMMAND = [sys.executable, "-m", "resumable.stores.embedded"]
PART = 5 << 20
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    ) as process:
        yield process
        process.kill()


@pytest_twisted.ensureDeferred
async def test_it_serves_and_ends() -> None:
    server = EmbeddedS3(R)
    endpoint = await server.start()
    store = S3Store(R, endpoint=endpoint, access_key="any", secret_key="any")
    await store.create_bucket("bucket")
    await store.put_object("bucket", "k", [b"x"], ObjectOptions())
    assert await store.get_object("bucket", "k", limit=2**20) == [b"x"]
    await store.close()
    await server.stop()
    await server.stop()
    with pytest.raises(OSError, match="refused"):
        urlopen(endpoint)


def test_the_port_that_was_asked_for() -> None:
    """And a free one where another program has it."""
    with embedded.open_socket(0) as other:
        taken = other.getsockname()[1]
        with embedded.open_socket(taken) as instead:
            assert instead.getsockname()[1] not in (0, taken)
    with embedded.open_socket(taken) as had:
        assert had.getsockname() == ("127.0.0.1", taken)


#: What moto's server wants for services other than S3, and the extra `demo` does not bring.
NOT_BROUGHT = [
    "antlr4",
    "aws_xray_sdk",
    "cfnlint",
    "docker",
    "graphql",
    "joserfc",
    "jsonpath_ng",
    "openapi_spec_validator",
]
WITHOUT = f"""
import sys
sys.modules.update(dict.fromkeys({NOT_BROUGHT}))  # their import fails
from resumable.stores.embedded import main
sys.argv[1:] = []
main()
"""


def test_it_needs_no_more_than_the_demo_brings() -> None:
    """A bucket, an object in one piece and one in parts, as the service makes them."""
    with subprocess.Popen(
        [sys.executable, "-c", WITHOUT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT
    ) as child:
        assert child.stdout is not None
        endpoint = f"http://127.0.0.1:{int(child.stdout.readline())}"
        s3: Any = boto3.client(
            "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="any", aws_secret_access_key="any"
        )
        s3.create_bucket(Bucket="bucket")
        s3.put_object(Bucket="bucket", Key="one", Body=b"x", ChecksumAlgorithm="SHA256", Tagging="a=b")
        at = {"Bucket": "bucket", "Key": "many"}
        at["UploadId"] = s3.create_multipart_upload(**at)["UploadId"]
        etag = s3.upload_part(**at, PartNumber=1, Body=b"y" * PART)["ETag"]
        s3.upload_part_copy(**at, PartNumber=2, CopySource="bucket/one")
        assert len(s3.list_parts(**at)["Parts"]) == 2
        s3.complete_multipart_upload(**at, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]})
        assert [item["Key"] for item in s3.list_objects_v2(Bucket="bucket")["Contents"]] == ["many", "one"]
        child.kill()


@pytest.mark.parametrize("call", ["put_object", "init_multipart_upload"])
@pytest_twisted.ensureDeferred
async def test_an_acl_that_there_is_not(call: str) -> None:
    """The store says so itself, and is not asked again; the connection can be used further."""
    server = EmbeddedS3(R)
    tries: list[tuple[str, str]] = []
    store = S3Store(
        R,
        endpoint=await server.start(),
        access_key="any",
        secret_key="any",
        pauses=(0.01, 0.02),
        patience=1.0,
        observe=lambda operation, outcome, _seconds: tries.append((operation, outcome)),
    )
    await store.create_bucket("bucket")
    wrong, right = ObjectOptions(acl="x"), ObjectOptions(acl="public-read")
    body = ([b"x" * 100],) if call == "put_object" else ()
    with pytest.raises(StoreError) as refused:
        await getattr(store, call)("bucket", "k", *body, wrong)
    assert (refused.value.code, refused.value.said) == ("InvalidArgument", True)
    assert tries[1:] == [("PutObject" if body else "CreateMultipartUpload", "InvalidArgument")]
    await getattr(store, call)("bucket", "k", *body, right)
    await store.close()
    await server.stop()


def test_it_ends_with_its_parent(child: subprocess.Popen[bytes]) -> None:
    assert child.stdout is not None
    assert child.stdin is not None
    port = int(child.stdout.readline())
    child.send_signal(signal.SIGINT)
    with urlopen(f"http://127.0.0.1:{port}/") as answer:
        assert answer.status == 200
    child.stdin.close()
    assert child.wait(5) == 0
    assert child.stderr is not None
    assert child.stderr.read() == b""


def test_it_ends_when_it_is_told_to(child: subprocess.Popen[bytes]) -> None:
    assert child.stdout is not None
    assert child.stdout.readline()
    child.terminate()
    assert child.wait(5) == -signal.SIGTERM


def ask(
    port: int, method: str, key: str, bucket: str = "bucket", body: bytes | None = None, **headers: str
) -> tuple[int, bytes, HTTPMessage]:
    """One request without credentials: status, body and headers of the answer."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        chunked = "Transfer-Encoding" in headers
        connection.request(method, f"/{bucket}/{quote(key)}", body, headers, encode_chunked=chunked)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()


def read(port: int, key: str, data: bytes, bucket: str = "bucket") -> None:
    """Read the object without credentials, in each way there is."""
    status, body, _ = ask(port, "GET", key, bucket)
    assert (status, body) == (200, data)
    status, body, headers = ask(port, "HEAD", key, bucket)
    assert (status, body, headers["Content-Length"]) == (200, b"", str(len(data)))
    if data:
        status, body, headers = ask(port, "GET", key, bucket, Range="bytes=1-3")
        assert (status, body, headers["Content-Range"]) == (206, data[1:4], f"bytes 1-3/{len(data)}")
        status, body, _ = ask(port, "GET", key, bucket, Range="bytes=-2")
        assert (status, body) == (206, data[-2:])
        status, body, headers = ask(port, "HEAD", key, bucket, Range="bytes=1-3")
        assert (status, body, headers["Content-Length"]) == (206, b"", "3")
    assert ask(port, "GET", key, bucket, Range=f"bytes={len(data)}-")[0] == 416


KEYS = [
    *(
        "plain",
        "with space",
        " a b ",
        "a/b/c",
        "a//b",
        "/first",
        "last/",
        "a/.../b",
        "ünï/日本語",
        "e\u0301",
        "🎈",
        "\u2028",
    ),
    *(
        "100%",
        "%41",
        "%2F",
        "a+b",
        "q?x=1&acl",
        "h#a",
        "a;b=c",
        "back\\slash",
        "*",
        "[x](y)",
        "a'b\"<c>",
        "bucket",
        "acl",
    ),
    # What moto's dispatcher takes for an object of another service's, or of its own.
    *("favicon.ico", "x/.well-known/jwks.json", ".well-known/openid-configuration", "moto-api/reset", "Signature=1"),
]


@pytest_twisted.ensureDeferred
async def test_anybody_may_read_whatever_is_stored() -> None:
    """Empty, small and of many parts; under any key, in any bucket, and where the object's own ACL says that it is private."""
    server = EmbeddedS3(R)
    port = int((await server.start()).rpartition(":")[2])
    store = S3Store(R, endpoint=f"http://127.0.0.1:{port}", access_key="any", secret_key="any")
    private = ObjectOptions(acl="private")
    big = Random(3).randbytes(PART + 7)
    for bucket in ("bucket", "latest"):
        await store.create_bucket(bucket)
    for key in KEYS:
        await store.put_object("bucket", key, [key.encode(), b"...."], ObjectOptions())
    await store.put_object("bucket", "empty", [], ObjectOptions())
    await store.put_object("bucket", "private", [b"private"], private)
    # In the dispatcher's eyes not S3's: an instance's metadata.
    await store.put_object("latest", "meta-data/x", [b"elsewhere"], ObjectOptions())
    for key, options in (("parts", ObjectOptions()), ("private parts", private)):
        upload = await store.init_multipart_upload("bucket", key, options)
        cut = [big[:PART], big[PART:]]
        etags = [await store.upload_part("bucket", key, upload, n, [part]) for n, part in enumerate(cut, 1)]
        refs = [PartRef(n, etag) for n, etag in enumerate(etags, 1)]
        await store.complete_multipart_upload("bucket", key, upload, refs)
    await store.close()

    def look() -> None:
        for key in KEYS:
            read(port, key, key.encode() + b"....")
        read(port, "empty", b"")
        read(port, "private", b"private")
        read(port, "meta-data/x", b"elsewhere", "latest")
        for key in ("parts", "private parts"):
            read(port, key, big)
        assert ask(port, "GET", "none")[0] == 404
        # Reading it is.
        assert ask(port, "DELETE", "plain")[0] == 403
        assert ask(port, "PUT", "plain", body=b"mine")[0] == 403
        read(port, "plain", b"plain....")

    await deferToThread(look)
    await server.stop()


#: What may come with a body and say something of its form on the way, or of what is in it.
BODIES = [
    {},
    {"Expect": "100-continue"},
    {"Transfer-Encoding": "chunked"},
    {"Transfer-Encoding": "chunked", "Expect": "100-continue"},
    *[{"Content-Encoding": coding} for coding in ("gzip", "deflate", "br", "aws-chunked", "identity")],
    *[
        {"Content-Type": kind}
        for kind in ("application/json", "text/xml", "multipart/related; boundary=x", "message/http")
    ],
]


def test_a_body_is_stored_as_it_is_sent(child: subprocess.Popen[bytes]) -> None:
    """Whatever its headers say: moto undoes the framing, and nothing else."""
    assert child.stdout is not None
    port = int(child.stdout.readline())
    signed = {"Authorization": embedded.SIGNED}
    assert ask(port, "PUT", "", **signed)[0] == 200
    for number, headers in enumerate(BODIES):
        for body in (b"", b"x", b"key=value&file=x&Action=y&Version=2009-04-15", Random(number).randbytes(70_000)):
            # What http.client cuts itself is sent chunked.
            sent: Any = [body[:9], body[9:]] if "Transfer-Encoding" in headers else body
            assert ask(port, "PUT", "k", body=sent, **signed, **headers)[0] == 200
            assert ask(port, "GET", "k")[:2] == (200, body), headers


@pytest_twisted.ensureDeferred
async def test_moto_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "moto").mkdir()
    (tmp_path / "moto" / "__init__.py").write_text("raise ImportError('no moto')")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(RuntimeError) as caught:
        await EmbeddedS3(R).start()
    assert str(caught.value) == "the embedded store needs moto: pip install 'twisted-resumable[demo]'"


@pytest_twisted.ensureDeferred
async def test_it_dies_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "moto").mkdir()
    (tmp_path / "moto" / "__init__.py").write_text("raise RuntimeError('the dog ate it')")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(RuntimeError, match=r"(?s)ended.*exit code 1.*the dog ate it"):
        await EmbeddedS3(R).start()


@pytest_twisted.ensureDeferred
async def test_it_never_says_its_port(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "moto").mkdir()
    (tmp_path / "moto" / "__init__.py").write_text("import time; time.sleep(60)")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(embedded, "START", 0.2)
    monkeypatch.setattr(embedded, "STOP", 0.1)
    server: Any = EmbeddedS3(R)
    with pytest.raises(RuntimeError, match=r"did not start within 0\.2 s"):
        await server.start()
