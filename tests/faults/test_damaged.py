"""A byte that is damaged on the way to the store never becomes part of an object that anybody is told of."""

from __future__ import annotations

import hashlib
import random
from base64 import b64encode
from collections.abc import Iterator
from itertools import pairwise

import pytest

from tests.faults.conftest import nothing_left, stored
from tests.faults.proxy import FLIPPED, FLIPPED_UNSEEN, FaultyS3
from tests.harness import Service
from tests.service.conftest import configuration

#: Two parts and the rest.
DATA = random.Random(9).randbytes(13_000_000)
CALLS = ("UploadPart", "PutObject", "PutFragment")


@pytest.fixture(scope="module")
def verifying(shared_store: FaultyS3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    config = configuration(shared_store, digest="verify")
    with Service(tmp_path_factory.mktemp("verifying"), config) as started:
        yield started
        assert "Traceback" not in started.log


def put(service: Service, name: str, data: bytes, call: str) -> int:
    """The status of the last answer; for fragments in two bodies."""
    digest = f"sha-256=:{b64encode(hashlib.sha256(data).digest()).decode()}:"
    target, whole, status = f"/upload/{name}", len(data), 0
    cuts = [0, whole // 2, whole] if call == "PutFragment" else [0, whole]
    for first, end in pairwise(cuts):
        headers = {"Repr-Digest": digest, "Content-Range": f"bytes {first}-{end - 1}/{whole}"}
        status = service.request("PUT", target, headers, data[first:end]).status
    return status


@pytest.mark.soak
@pytest.mark.parametrize("call", CALLS)
def test_the_store_sees_it(verifying: Service, store: FaultyS3, name: str, call: str) -> None:
    """By the checksum that was sent with the bytes; then they are sent again."""
    data = DATA if call == "UploadPart" else DATA[:1_000_000]
    rule = store.fail(call, FLIPPED)
    assert put(verifying, name, data, call) == 200
    assert rule.hit
    assert stored(store, name) == data
    nothing_left(store)


@pytest.mark.soak
@pytest.mark.parametrize("call", CALLS[:2])
def test_the_store_says_nothing(verifying: Service, store: FaultyS3, name: str, call: str) -> None:
    """It answers 200 and has other bytes: the object is read back, and does not stay."""
    data = DATA if call == "UploadPart" else DATA[:1_000_000]
    rule = store.fail(call, FLIPPED_UNSEEN)
    assert put(verifying, name, data, call) == 400
    assert rule.hit
    assert not store.boto3().list_objects_v2(Bucket=store.bucket, Prefix=name).get("Contents", [])
    nothing_left(store)
    # And once more, undisturbed.
    store.mend()
    assert put(verifying, name, data, call) == 200
    assert stored(store, name) == data
