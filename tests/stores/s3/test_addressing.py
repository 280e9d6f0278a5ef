"""Where requests for a bucket go."""

from __future__ import annotations

import pytest
import pytest_twisted

from resumable.stores.s3.addressing import Addressing, resolve_aws
from resumable.stores.transport.base import parse_base
from tests.stores.fakes import R


@pytest.fixture(autouse=True)
def _no_settings_of_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE", "AWS_USE_FIPS_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")


@pytest.mark.parametrize(
    ("region", "bucket", "style", "url"),
    [
        ("us-east-1", "bucket", "auto", "https://bucket.s3.us-east-1.amazonaws.com"),
        ("eu-central-1", "bucket", "auto", "https://bucket.s3.eu-central-1.amazonaws.com"),
        ("eu-central-1", "bucket", "path", "https://s3.eu-central-1.amazonaws.com/bucket"),
        ("eu-central-1", "with.dots", "auto", "https://s3.eu-central-1.amazonaws.com/with.dots"),
        ("cn-north-1", "bucket", "virtual", "https://bucket.s3.cn-north-1.amazonaws.com.cn"),
        ("us-gov-west-1", "bucket", "auto", "https://bucket.s3.us-gov-west-1.amazonaws.com"),
    ],
)
def test_aws(region: str, bucket: str, style: str, url: str) -> None:
    base = resolve_aws(region, bucket, style)
    assert (base.url, base.port) == (url, 443)


@pytest_twisted.ensureDeferred
async def test_aws_is_asked_in_a_thread_once() -> None:
    addressing = Addressing(R, "eu-central-1", None)
    base = await addressing.base("bucket")
    assert base.authority == "bucket.s3.eu-central-1.amazonaws.com"
    assert await addressing.base("bucket") is base


@pytest.mark.parametrize(
    ("endpoint", "style", "url", "host", "port"),
    [
        ("http://127.0.0.1:9000", "auto", "http://127.0.0.1:9000/b", "127.0.0.1", 9000),
        ("https://s3.example.com/", "path", "https://s3.example.com/b", "s3.example.com", 443),
        (
            "https://s3.example.com:443/some/where/",
            "auto",
            "https://s3.example.com/some/where/b",
            "s3.example.com",
            443,
        ),
        ("http://s3.example.com:8080", "virtual", "http://b.s3.example.com:8080", "b.s3.example.com", 8080),
        ("http://[::1]:9000", "auto", "http://[::1]:9000/b", "::1", 9000),
    ],
)
@pytest_twisted.ensureDeferred
async def test_an_endpoint(endpoint: str, style: str, url: str, host: str, port: int) -> None:
    base = await Addressing(R, "us-east-1", endpoint, style).base("b")
    assert (base.url, base.host, base.port) == (url, host, port)


@pytest.mark.parametrize("endpoint", ["s3.example.com", "ftp://s3.example.com", "http://"])
def test_no_endpoint(endpoint: str) -> None:
    with pytest.raises(ValueError, match="http"):
        parse_base(endpoint)
