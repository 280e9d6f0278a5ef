"""Google's clients in Python, unchanged, behind a network that breaks once: with each fault the object is right in the end."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httplib2
import pytest
import requests
from google.api_core.exceptions import PreconditionFailed
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY
from google.resumable_media.common import RetryStrategy
from google.resumable_media.requests import ResumableUpload
from googleapiclient.errors import HttpError
from googleapiclient.http import HttpRequest, MediaFileUpload, build_http

from tests.clients.conftest import file_of, stored
from tests.clients.network import Fault, Network, wait_for
from tests.faults.proxy import FaultyS3
from tests.harness import eventually

pytestmark = [pytest.mark.process, pytest.mark.soak]

MIB = 1 << 20
CHUNK = 5 * MIB
#: Three chunks of the clients that cut it by `CHUNK`, and three of google-genai's 8 MiB.
DATA = random.Random(14).randbytes(3 * CHUNK - 345_678)
LONG = random.Random(15).randbytes(17 * MIB + 345_678)
#: Seconds after which a client gives up a connection on which nothing comes.
SILENCE = 2.0

#: What goes wrong, at the request of the method that brings the nth chunk (counted from 1) of three.
FAULTS: dict[str, Callable[[Network, str, int], Fault]] = {
    "a reset in the middle": lambda network, method, skipped: network.break_off(method, 2_000_000, 2 + skipped),
    "503 once": lambda network, method, skipped: network.refuse(method, 2 + skipped),
    "a lost answer": lambda network, method, skipped: network.lose_answer(method, 2 + skipped),
    "the last answer is lost": lambda network, method, skipped: network.lose_answer(method, 3 + skipped),
    "half-open": lambda network, method, skipped: network.stall(method, 2_000_000, 2 + skipped),
}
each_fault = pytest.mark.parametrize("fault", FAULTS)


def gone_on(network: Network, fault: Fault) -> None:
    """Check that it has gone wrong, and that the client did not begin again for that."""
    wait_for(fault)
    assert len(network.of("POST")) == 1


@each_fault
def test_resumable_media(network: Network, store: FaultyS3, fault: str) -> None:
    """It sends the same chunk again, and does not ask first."""
    name = f"network/media {fault}"
    planned = FAULTS[fault](network, "PUT", 0)
    with requests.Session() as session:
        start = f"{network.url}/upload/storage/v1/b/{store.bucket}/o?uploadType=resumable"
        upload = ResumableUpload(start, CHUNK, checksum="crc32c")
        upload._retry_strategy = RetryStrategy(max_sleep=0.2, initial_delay=0.05, max_retries=5)
        upload.initiate(session, io.BytesIO(DATA), {"name": name}, "video/mp4", total_bytes=len(DATA))
        while not upload.finished:
            answer = upload.transmit_next_chunk(session, timeout=SILENCE)
    assert answer.json()["size"] == str(len(DATA))
    gone_on(network, planned)
    assert stored(store, name) == DATA


@each_fault
def test_cloud_storage(network: Network, store: FaultyS3, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """With checksums "auto", and on the condition that there is no such object: its repeats do not break that."""
    name = f"network/cloud {fault}"
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", network.url)
    client = storage.Client(project="p", credentials=AnonymousCredentials())
    planned = FAULTS[fault](network, "PUT", 0)
    how = {
        "retry": DEFAULT_RETRY.with_delay(initial=0.05, maximum=0.2),
        "timeout": SILENCE,
        "if_generation_match": 0,
    }
    blob = client.bucket(store.bucket).blob(name, chunk_size=CHUNK)
    blob.upload_from_file(io.BytesIO(DATA), size=len(DATA), **how)
    assert blob.size == len(DATA)
    gone_on(network, planned)
    with pytest.raises(PreconditionFailed):
        client.bucket(store.bucket).blob(name, chunk_size=CHUNK).upload_from_file(io.BytesIO(LONG), **how)
    client.close()
    assert stored(store, name) == DATA


def test_cloud_storage_is_closed_and_goes_on(
    network: Network, store: FaultyS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that kept the session's URL asks how far it is, in another process as it were, and brings the rest."""
    name = "network/cloud resumed"
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", network.url)
    client = storage.Client(project="p", credentials=AnonymousCredentials())
    url = client.bucket(store.bucket).blob(name).create_resumable_upload_session(size=len(DATA))
    client.close()
    fault, passed = network.break_off("PUT", CHUNK + 2_000_000), CHUNK + 2_000_000
    with requests.Session() as session, suppress(requests.ConnectionError):
        session.put(url, data=DATA, timeout=SILENCE)
    wait_for(fault)
    with requests.Session() as session:

        def known() -> str | None:
            return session.put(url, headers={"Content-Range": "bytes */*"}, timeout=SILENCE).headers.get("Range")

        eventually(lambda: known() == f"bytes=0-{passed - 1}")
        upload = ResumableUpload(url, CHUNK)
        stream = io.BytesIO(DATA)
        upload._stream, upload._resumable_url, upload._total_bytes = stream, url, len(DATA)
        upload._content_type, upload._invalid = "video/mp4", True
        upload.recover(session)
        assert upload.bytes_uploaded == passed
        while not upload.finished:
            upload.transmit_next_chunk(session)
    assert len(network.of("POST")) == 1
    assert stored(store, name) == DATA


@each_fault
def test_api_client(network: Network, store: FaultyS3, tmp_path: Path, fault: str) -> None:
    """It tells its program, and when that asks for the next chunk it asks how far it is."""
    name = f"network-api {fault}"
    planned = FAULTS[fault](network, "PUT", 0)
    media = MediaFileUpload(file_of(tmp_path / "film.mp4", DATA), "video/mp4", chunksize=CHUNK, resumable=True)
    http = build_http()
    http.timeout = SILENCE
    request = HttpRequest(
        http,
        lambda response, content: content,
        f"{network.url}/upload/drive/v3/files?uploadType=resumable",
        method="POST",
        body=f'{{"name": "{name}"}}',
        headers={"content-type": "application/json"},
        resumable=media,
    )
    answer, failures = None, 0
    while answer is None:
        try:
            _, answer = request.next_chunk()
        except (HttpError, OSError, httplib2.HttpLib2Error):
            failures += 1
            assert failures < 5
    http.close()
    assert b'"drive#file"' in answer
    gone_on(network, planned)
    assert stored(store, name) == DATA


@each_fault
def test_genai(network: Network, store: FaultyS3, fault: str) -> None:
    """It sends a piece again after a 503. What it does not hear of at all it raises: its program uploads the file again, and that
    ends in the same object.
    """
    genai: Any = pytest.importorskip("google.genai")
    name = f"network-genai {fault}"
    planned = FAULTS[fault](network, "POST", 1)
    how = {"base_url": network.url, "timeout": int(SILENCE * 1000)}
    client = genai.Client(api_key="key", http_options=how)
    config = genai.types.UploadFileConfig(display_name=name, mime_type="video/mp4")
    failures = 0
    while True:
        try:
            file = client.files.upload(file=io.BytesIO(LONG), config=config)
            break
        except Exception as error:
            # Of httpx, or of its fork: whichever is installed.
            assert "TransportError" in [base.__name__ for base in type(error).__mro__], repr(error)
            failures += 1
            assert failures < 5
    wait_for(planned)
    assert failures == (0 if fault == "503 once" else 1)
    assert (file.size_bytes, file.state) == (len(LONG), genai.types.FileState.ACTIVE)
    assert stored(store, name) == LONG
