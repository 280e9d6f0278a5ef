"""Signed URLs: as Google's own library makes them, and fetched as a browser would."""

from __future__ import annotations

import time

import pytest_twisted
from google.cloud.storage._signing import generate_signed_url_v4
from google.oauth2 import service_account
from twisted.internet.threads import deferToThread

from resumable.model import ObjectOptions
from resumable.stores.gcs.client import GcsStore
from resumable.stores.gcs.presigning import prepare
from tests.stores.gcs.server import EMAIL, GcsServer
from tests.stores.s3.test_presign import KEYS, fetch


def test_as_googles_library_signs(gcs: GcsServer) -> None:
    credentials = service_account.Credentials.from_service_account_file(str(gcs.key))
    for path in ("/bucket/k", "/bucket/a%20b%2B%25/%C3%BC", "/bucket//~-._/x"):
        theirs = generate_signed_url_v4(
            credentials, path, 300, "https://storage.googleapis.com", _request_timestamp="20261127T101112Z"
        )
        unsigned = prepare("GET", f"https://storage.googleapis.com{path}", EMAIL, 1795774272.9, 300)
        assert unsigned.signed(credentials.sign_bytes(unsigned.text)) == theirs


@pytest_twisted.ensureDeferred
async def test_the_object_is_read(gcs: GcsServer, store: GcsStore) -> None:
    options = ObjectOptions(content_type="video/x-own", content_disposition="attachment; filename=own.bin")
    for key in KEYS:
        await store.put_object("bucket", key, [key.encode()], options)
        url = await store.presigned_get("bucket", key, 60)
        assert await deferToThread(fetch, url) == (200, key.encode(), "video/x-own", "attachment; filename=own.bin")


@pytest_twisted.ensureDeferred
async def test_what_it_does_not_permit(gcs: GcsServer, store: GcsStore) -> None:
    for key in ("k", "other"):
        await store.put_object("bucket", key, [b"x"], ObjectOptions())
    url = await store.presigned_get("bucket", "k", 1)
    for changed, method in ((url.replace("/k?", "/other?"), "GET"), (url, "DELETE"), (url[:-2] + "00", "GET")):
        assert (await deferToThread(fetch, changed, method))[0] == 403
    ends = time.time() + 1.1
    while time.time() < ends:
        await deferToThread(time.sleep, 0.2)
    assert (await deferToThread(fetch, url))[0] == 400
    assert "X-Goog-Expires=604800" in await store.presigned_get("bucket", "k", 10**9)
