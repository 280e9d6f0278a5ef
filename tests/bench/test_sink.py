"""The sink: framing, S3's calls and their names, and what is kept."""

from __future__ import annotations

import threading
import time
import zlib
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from bench.certificates import write_certificate
from bench.sink.framing import Body, decode_aws_chunks
from bench.sink.operations import FREE, GET_CLASS, PUT_CLASS, operation
from bench.sink.server import SinkServer
from bench.sink.state import SMALL

LARGE = b"0123456789" * (SMALL // 5)


@pytest.fixture
def sink() -> SinkServer:
    server = SinkServer()
    threading.Thread(target=server.run, daemon=True).start()
    return server


@pytest.fixture
def s3(sink: SinkServer) -> Any:
    """AWS's own client, which sends ``aws-chunked`` bodies with checksums behind them."""
    return boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{sink.port}",
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
    )


def test_a_large_body_is_counted_and_dropped(sink: SinkServer, s3: Any) -> None:
    """The sink must not become slower with what it holds."""
    s3.put_object(Bucket="b", Key="k", Body=LARGE)
    assert sink.state.digest("k") == f"{len(LARGE)} dropped"
    assert sink.state.bytes == len(LARGE)
    assert s3.get_object(Bucket="b", Key="k")["Body"].read() == bytes(len(LARGE))


def test_what_servers_read_back_is_kept(s3: Any) -> None:
    """Servers that find other bytes than they wrote fail, and rightly."""
    for key, body in [("note.info", b"{}"), (".resumable/id/0", LARGE), ("id.part", LARGE)]:
        s3.put_object(Bucket="b", Key=key, Body=body)
        assert s3.get_object(Bucket="b", Key=key)["Body"].read() == body


def test_pieces_are_dropped_for_clients_that_send_zeros(sink: SinkServer, s3: Any) -> None:
    """Pieces of hundreds of GiB would not fit into memory."""
    sink.state.drop = True
    s3.put_object(Bucket="b", Key=".resumable/id/0", Body=bytes(len(LARGE)))
    assert sink.state.digest(".resumable/id/0") == f"{len(LARGE)} dropped"


def test_parts_are_copied(sink: SinkServer, s3: Any) -> None:
    """A copied part is as long as what it was copied of, whether that is kept or not."""
    s3.put_object(Bucket="b", Key="small", Body=b"0123456789")
    s3.put_object(Bucket="b", Key="large", Body=LARGE)
    upload = s3.create_multipart_upload(Bucket="b", Key="k")["UploadId"]
    part = {"Bucket": "b", "Key": "k", "UploadId": upload}
    sources = [("small", {"CopySourceRange": "bytes=3-5"}), ("small", {}), ("large", {})]
    for number, (source, span) in enumerate(sources, 1):
        s3.upload_part_copy(**part, PartNumber=number, CopySource=f"b/{source}", **span)
    found = s3.list_parts(**part)["Parts"]
    assert [one["Size"] for one in found] == [3, 10, len(LARGE)]
    with pytest.raises(ClientError, match="NoSuchKey"):
        s3.upload_part_copy(**part, PartNumber=4, CopySource="b/none")
    s3.complete_multipart_upload(Bucket="b", Key="k", UploadId=upload)
    assert sink.state.digest("k") == f"{len(LARGE) + 13} dropped"


def test_a_multipart_upload_becomes_its_parts_in_order(sink: SinkServer, s3: Any) -> None:
    """Told to keep bodies, the sink can tell whether an object is what was sent."""
    sink.state.keep = True
    upload = s3.create_multipart_upload(Bucket="b", Key="k")["UploadId"]
    for number in (2, 1):
        s3.upload_part(Bucket="b", Key="k", UploadId=upload, PartNumber=number, Body=LARGE + bytes([number]))
    listed = s3.list_parts(Bucket="b", Key="k", UploadId=upload)["Parts"]
    assert [(part["PartNumber"], part["Size"]) for part in listed] == [(1, len(LARGE) + 1), (2, len(LARGE) + 1)]
    parts = [{"PartNumber": part["PartNumber"], "ETag": part["ETag"]} for part in listed]
    s3.complete_multipart_upload(Bucket="b", Key="k", UploadId=upload, MultipartUpload={"Parts": parts})
    whole = LARGE + b"\1" + LARGE + b"\2"
    assert sink.state.digest("k") == f"{len(whole)} {zlib.crc32(whole)}"
    assert sink.state.counts == {
        "CreateMultipartUpload": 1,
        "UploadPart": 2,
        "ListParts": 1,
        "CompleteMultipartUpload": 1,
    }
    with pytest.raises(ClientError, match="NoSuchUpload"):
        s3.list_parts(Bucket="b", Key="k", UploadId=upload)


def test_parts_are_listed_page_by_page(s3: Any) -> None:
    """Servers with many parts read all pages; a sink with one page only would hide what that costs."""
    upload = s3.create_multipart_upload(Bucket="b", Key="k")["UploadId"]
    for number in range(1, 6):
        s3.upload_part(Bucket="b", Key="k", UploadId=upload, PartNumber=number, Body=b"x")
    pages = s3.get_paginator("list_parts").paginate(
        Bucket="b", Key="k", UploadId=upload, PaginationConfig={"PageSize": 2}
    )
    assert [len(page["Parts"]) for page in pages] == [2, 2, 1]


def test_a_delay_holds_back_bodies_alone(sink: SinkServer, s3: Any) -> None:
    """A store that is slow with parts is no reason for a slow ListParts."""
    sink.state.delay = 0.3
    started = time.monotonic()
    upload = s3.create_multipart_upload(Bucket="b", Key="k")["UploadId"]
    assert time.monotonic() - started < 0.3
    started = time.monotonic()
    s3.upload_part(Bucket="b", Key="k", UploadId=upload, PartNumber=1, Body=LARGE)
    assert time.monotonic() - started >= 0.3


def test_reset_forgets_everything(sink: SinkServer, s3: Any) -> None:
    """Each measurement counts from zero, with the sink as it was at first."""
    sink.state.keep, sink.state.delay = True, 5.0
    sink.state.reset()
    s3.put_object(Bucket="b", Key="k", Body=LARGE)
    assert (sink.state.counts, sink.state.digest("k")) == ({"PutObject": 1}, f"{len(LARGE)} dropped")


def test_objects_are_listed_with_what_s3_says_of_each(s3: Any) -> None:
    """A server may leave out entries that lack something, and would never delete what it does not see."""
    for key in ("a/2", "b/1", "a/1"):
        s3.put_object(Bucket="b", Key=key, Body=b"x")
    listed = s3.list_objects_v2(Bucket="b", Prefix="a/")["Contents"]
    assert [(each["Key"], each["Size"]) for each in listed] == [("a/1", 1), ("a/2", 1)]
    assert all(each["ETag"] and each["LastModified"] for each in listed)


def test_objects_can_be_forgotten_while_pieces_are_kept(sink: SinkServer, s3: Any) -> None:
    """In hours there are too many of them; a piece is read back."""
    sink.state.forget = True
    s3.put_object(Bucket="b", Key="k", Body=b"x")
    s3.put_object(Bucket="b", Key=".resumable/id/0-0.x", Body=b"y")
    upload = s3.create_multipart_upload(Bucket="b", Key="m")["UploadId"]
    tag = s3.upload_part(Bucket="b", Key="m", UploadId=upload, PartNumber=1, Body=b"z")["ETag"]
    parts = [{"PartNumber": 1, "ETag": tag}]
    s3.complete_multipart_upload(Bucket="b", Key="m", UploadId=upload, MultipartUpload={"Parts": parts})
    assert [each["Key"] for each in s3.list_objects_v2(Bucket="b")["Contents"]] == [".resumable/id/0-0.x"]
    assert sink.state.counts["PutObject"] == 2


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_a_chunked_body_is_read_however_it_is_cut(step: int) -> None:
    """TCP cuts anywhere, also within a chunk's line."""
    wire = b"5\r\nabcde\r\n3;extension=1\r\nfgh\r\n0\r\nTrailer: x\r\n\r\nGET"
    body, buffer = Body({"transfer-encoding": "chunked"}, keep=True), bytearray()
    for at in range(0, len(wire), step):
        buffer += wire[at : at + step]
        body.take(buffer)
    assert (body.done, body.content(), bytes(buffer)) == (True, b"abcdefgh", b"GET")


def test_a_dropped_body_ends_where_its_length_says() -> None:
    """What follows on the connection is the next request."""
    body, buffer = Body({"content-length": "10"}, keep=False), bytearray(b"abc")
    assert body.take(buffer)
    assert body.droppable == 7
    body.skip(7)
    assert (body.done, body.received, body.content()) == (True, 10, None)


def test_aws_chunks_are_taken_out_of_their_wrapping() -> None:
    """Signatures and trailing checksums are not the object's bytes."""
    wire = b"3;chunk-signature=00\r\nabc\r\n2\r\nde\r\n0\r\nx-amz-checksum-crc32:AAAA==\r\n\r\n"
    assert decode_aws_chunks(wire) == b"abcde"


@pytest.mark.parametrize(
    ("method", "key", "query", "name"),
    [
        ("PUT", "k", [], "PutObject"),
        ("PUT", "k", ["partNumber", "uploadId"], "UploadPart"),
        ("POST", "k", ["uploads"], "CreateMultipartUpload"),
        ("POST", "k", ["uploadId"], "CompleteMultipartUpload"),
        ("GET", "k", ["uploadId"], "ListParts"),
        ("DELETE", "k", ["uploadId"], "AbortMultipartUpload"),
        ("DELETE", "k", [], "DeleteObject"),
        ("HEAD", "k", [], "HeadObject"),
        ("HEAD", "", [], "HeadBucket"),
        ("GET", "", ["list-type"], "ListObjectsV2"),
        ("GET", "", ["uploads"], "ListMultipartUploads"),
        ("POST", "", ["delete"], "DeleteObjects"),
        ("PATCH", "k", [], "Other"),
    ],
)
def test_calls_have_the_names_that_s3_charges_by(method: str, key: str, query: list[str], name: str) -> None:
    """The price of a run is reckoned from these names; each is in one class."""
    assert operation(method, key, query) == name
    assert sum(name in kind for kind in (PUT_CLASS, GET_CLASS, FREE)) == 1


def test_over_tls_too(tmp_path: Path) -> None:
    """The same objects, behind a certificate that a client can verify; large bodies are dropped and counted."""
    certificate = tmp_path / "sink.pem"
    write_certificate(certificate)
    sink = SinkServer(certificate=certificate)
    threading.Thread(target=sink.run, daemon=True).start()
    s3 = boto3.client(
        "s3",
        endpoint_url=f"https://127.0.0.1:{sink.tls_port}",
        verify=str(certificate),
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
    )
    s3.put_object(Bucket="b", Key="k", Body=LARGE * 30)
    s3.put_object(Bucket="b", Key="note.info", Body=b"{}")
    assert sink.state.digest("k") == f"{len(LARGE) * 30} dropped"
    assert s3.get_object(Bucket="b", Key="k")["Body"].read() == bytes(len(LARGE) * 30)
    assert s3.get_object(Bucket="b", Key="note.info")["Body"].read() == b"{}"
