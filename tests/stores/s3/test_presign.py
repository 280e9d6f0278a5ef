"""URLs that are their own permission: fetched as a browser would, with nothing else in hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from resumable.model import ObjectOptions
from resumable.stores.port import Misconfigured
from resumable.stores.s3.client import S3Store
from tests.s3servers import S3Server
from tests.stores.fakes import R

KEYS = [
    "plain",
    "with blanks  twice",
    "a/deeper/one",
    "ü/東京 🎉",
    "1+1=2",
    "100%/%41",
    "a?b#c&d;e",
    "~!*'(),:@$[]|^\"<>",
]
OPENER = build_opener(ProxyHandler({}))


@pytest_twisted.async_yield_fixture
async def store(s3: S3Server) -> AsyncIterator[S3Store]:
    client = S3Store(R, endpoint=s3.endpoint, access_key=s3.access_key, secret_key=s3.secret_key, patience=0.3)
    yield client
    await client.close()


def fetch(url: str, method: str = "GET") -> tuple[int, bytes, str | None, str | None]:
    """Status, body, content type and disposition."""
    try:
        with OPENER.open(Request(url, method=method), timeout=20) as answer:
            kind, how = answer.headers["Content-Type"], answer.headers["Content-Disposition"]
            return answer.status, answer.read(), kind, how
    except HTTPError as error:
        with error:
            return error.code, b"", None, None


@pytest.mark.parametrize("key", KEYS)
@pytest_twisted.ensureDeferred
async def test_the_object_is_read(s3: S3Server, store: S3Store, key: str) -> None:
    """With the headers that are the object's own. (rclone checks the signature.)"""
    data = key.encode() * 3
    options = ObjectOptions(content_type="video/x-own", content_disposition="attachment; filename=own.bin")
    await store.put_object(s3.bucket, key, [data], options)
    url = await store.presigned_get(s3.bucket, key, 60)
    status, body, kind, how = await deferToThread(fetch, url)
    assert (status, body, kind) == (200, data, "video/x-own")
    if s3.name == "moto":
        assert how == "attachment; filename=own.bin"


@pytest_twisted.ensureDeferred
async def test_it_is_a_permission_for_this_object_alone(s3: S3Server, store: S3Store) -> None:
    if s3.name == "moto":
        pytest.skip("moto takes any signature")
    await store.put_object(s3.bucket, "mine", [b"mine"], ObjectOptions())
    await store.put_object(s3.bucket, "other", [b"other"], ObjectOptions())
    url = await store.presigned_get(s3.bucket, "mine", 60)
    assert (await deferToThread(fetch, url.replace("/mine?", "/other?")))[0] == 403
    assert (await deferToThread(fetch, url, "DELETE"))[0] == 403
    assert (await deferToThread(fetch, url.partition("?")[0]))[0] in (400, 403)
    assert (await deferToThread(fetch, url))[:2] == (200, b"mine")


@pytest.mark.parametrize(
    ("endpoint", "addressing", "beginning"),
    [
        ("https://s3.example.com", "auto", "https://s3.example.com/bucket/a%20k?"),
        ("https://s3.example.com/", "path", "https://s3.example.com/bucket/a%20k?"),
        ("https://s3.example.com:443/deep", "path", "https://s3.example.com/deep/bucket/a%20k?"),
        ("http://[::1]:9000", "path", "http://[::1]:9000/bucket/a%20k?"),
        ("https://s3.example.com:8443", "virtual", "https://bucket.s3.example.com:8443/a%20k?"),
        (None, "auto", "https://bucket.s3.eu-west-1.amazonaws.com/a%20k?"),
        (None, "path", "https://s3.eu-west-1.amazonaws.com/bucket/a%20k?"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_where_it_leads(endpoint: str | None, addressing: str, beginning: str) -> None:
    """Where requests of the service itself go, and for no longer than is said."""
    store = S3Store(
        R, region="eu-west-1", endpoint=endpoint, addressing=addressing, access_key="key", secret_key="hidden"
    )
    url = await store.presigned_get("bucket", "a k", 77)
    assert url.startswith(beginning)
    query = urlsplit(url).query
    assert "X-Amz-Expires=77&" in query
    assert "%2Feu-west-1%2Fs3%2Faws4_request" in query
    assert "hidden" not in url
    await store.close()


@pytest_twisted.ensureDeferred
async def test_a_proxy_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator's fault, in the port's own words."""
    monkeypatch.setenv("HTTPS_PROXY", "ftp://nothing")
    store = S3Store(R, endpoint="https://s3.example.com", access_key="key", secret_key="hidden")
    with pytest.raises(Misconfigured):
        await store.presigned_get("b", "k", 60)
    await store.close()
