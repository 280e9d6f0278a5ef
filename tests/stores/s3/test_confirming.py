"""The checksums that answers tell: confirmed, damaged, or not told."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_twisted
from crc32c import crc32c as crc32c_of

from resumable.crc32c_text import decode_crc32c, encode_crc32c
from resumable.model import ObjectOptions
from resumable.stores.port import Made, PartRef
from resumable.stores.s3.confirming import composite
from tests.stores.fakes import FakeStore, answer, stored

PLAIN = ObjectOptions()
BODY = b"123456789"
CRC = 0xE3069283
TOLD = {"ETag": '"e"', "x-amz-checksum-crc32c": "4waSgw=="}
DAMAGED = {"ETag": '"e"', "x-amz-checksum-crc32c": "AAAAAA=="}
PARTS = [PartRef(1, "one", 1), PartRef(2, "two", 2)]


@pytest_twisted.async_yield_fixture
async def fake() -> AsyncIterator[FakeStore]:
    server = FakeStore()
    yield server
    await server.close()


def made(fields: str) -> str:
    return f"<CompleteMultipartUploadResult><ETag>e</ETag>{fields}</CompleteMultipartUploadResult>"


def test_composite() -> None:
    assert crc32c_of(BODY) == CRC
    assert composite(PARTS) == encode_crc32c(crc32c_of(bytes([0, 0, 0, 1, 0, 0, 0, 2])))
    assert composite([*PARTS, PartRef(3, "three")]) is None


@pytest.mark.parametrize("written", [None, "", "AAAA", "4waSgw", "4waSgw==\n", "?", "4waSgw==-2", "\u00e9"])
def test_what_is_no_checksum(written: str | None) -> None:
    assert decode_crc32c(written) is None
    assert decode_crc32c("4waSgw==") == CRC


@pytest_twisted.ensureDeferred
async def test_an_object_is_confirmed(fake: FakeStore) -> None:
    fake.answers = [answer(200, headers=TOLD), stored(), answer(200, headers=TOLD)]
    store = fake.store()
    assert await store.put_object("b", "k", [BODY], PLAIN, crc32c=CRC) == Made("e", confirmed=True)
    assert await store.put_object("b", "k", [BODY], PLAIN, crc32c=CRC) == Made("e", confirmed=False)
    assert await store.put_object("b", "k", [BODY], PLAIN) == Made("e", confirmed=False)


@pytest_twisted.ensureDeferred
async def test_other_bytes_than_were_sent_are_sent_again(fake: FakeStore) -> None:
    fake.answers = [answer(200, headers=DAMAGED), answer(200, headers=TOLD)] * 2
    store = fake.store()
    assert (await store.put_object("b", "k", [BODY], PLAIN, crc32c=CRC)).confirmed
    assert await store.upload_part("b", "k", "u", 1, [BODY], crc32c=CRC) == "e"
    assert [outcome for _, outcome in fake.tries] == ["ChecksumMismatch", "ok"] * 2


@pytest.mark.parametrize("suffix", ["", "-2"])
@pytest_twisted.ensureDeferred
async def test_an_object_of_parts_is_confirmed(fake: FakeStore, suffix: str) -> None:
    told = f"<ChecksumCRC32C>{composite(PARTS)}{suffix}</ChecksumCRC32C>"
    fake.answers = [answer(200, made(told)), answer(200, made("")), answer(200, made(told))]
    store = fake.store()
    assert await store.complete_multipart_upload("b", "k", "u", PARTS) == Made("e", confirmed=True)
    assert await store.complete_multipart_upload("b", "k", "u", PARTS) == Made("e", confirmed=False)
    assert await store.complete_multipart_upload("b", "k", "u", [PartRef(1, "one")]) == Made("e", confirmed=False)


@pytest_twisted.ensureDeferred
async def test_an_object_of_other_parts_is_asked_for_again(fake: FakeStore) -> None:
    right = made(f"<ChecksumCRC32C>{composite(PARTS)}-2</ChecksumCRC32C>")
    fake.answers = [answer(200, made("<ChecksumCRC32C>AAAAAA==-2</ChecksumCRC32C>")), answer(200, right)]
    assert (await fake.store().complete_multipart_upload("b", "k", "u", PARTS)).confirmed


@pytest_twisted.ensureDeferred
async def test_the_checksum_of_the_whole_is_another_one(fake: FakeStore) -> None:
    """It cannot be had from those of the parts alone: it is handed on to whoever knows how long they are."""
    told = "<ChecksumCRC32C>AAAAAA==</ChecksumCRC32C><ChecksumType>FULL_OBJECT</ChecksumType>"
    fake.answers = [answer(200, made(told))]
    assert await fake.store().complete_multipart_upload("b", "k", "u", PARTS) == Made("e", confirmed=False, crc32c=0)
    # Some stores say that it is the whole object's where it is not.
    fake.answers = [answer(200, made(told.replace("AAAAAA==", composite(PARTS) or "")))]
    assert await fake.store().complete_multipart_upload("b", "k", "u", PARTS) == Made("e", confirmed=True)


@pytest_twisted.ensureDeferred
async def test_an_objects_own_checksum(fake: FakeStore) -> None:
    """Only where the store says that it is no checksum of checksums."""
    told = {"ETag": '"e"', "x-amz-checksum-crc32c": "4waSgw=="}
    for more, crc32c in (({}, None), ({"x-amz-checksum-type": "FULL_OBJECT"}, CRC)):
        fake.answers = [answer(200, headers={**told, **more})]
        found = await fake.store().head_object("b", "k")
        assert (found.crc32c if found is not None else 0) == crc32c


@pytest_twisted.ensureDeferred
async def test_parts_are_listed_with_their_checksums(fake: FakeStore) -> None:
    def part(number: int, more: str = "") -> str:
        return f"<Part><PartNumber>{number}</PartNumber><Size>9</Size><ETag>e</ETag>{more}</Part>"

    some = (
        part(1, "<ChecksumCRC32C>4waSgw==</ChecksumCRC32C>") + part(2) + part(3, "<ChecksumCRC32C>?</ChecksumCRC32C>")
    )
    fake.answers = [answer(200, f"<ListPartsResult>{some}</ListPartsResult>")]
    assert [each.crc32c for each in await fake.store().list_parts("b", "k", "u")] == [CRC, None, None]
