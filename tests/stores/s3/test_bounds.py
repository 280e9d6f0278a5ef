"""Answers of the store that have no end, or are more than was asked for."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from twisted.logger import LogLevel

from resumable.model import ObjectOptions
from resumable.stores.port import StoreError, StoreUnavailable
from resumable.stores.transport.exchange import ERROR_LIMIT
from resumable.stores.xmlapi import answers
from tests.stores.fakes import Connection, FakeStore, answer, error, stored

PLAIN = ObjectOptions()


@pytest_twisted.async_yield_fixture
async def fake() -> AsyncIterator[FakeStore]:
    server = FakeStore()
    yield server
    await server.close()


class Endless:
    """Answers with a beginning and then the same again for as long as somebody takes it, or up to a bound of the test's."""

    def __init__(self, begin: bytes, again: bytes, most: int = 64 * 2**20) -> None:
        self.begin, self.again, self.left = begin, again * (2**16 // len(again) + 1), most
        self.sent = 0

    def __call__(self, connection: Connection) -> None:
        connection.transport.write(self.begin)
        self._connection = connection
        connection.transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        self.sent += len(self.again)
        if self.sent > self.left:
            self._connection.transport.unregisterProducer()
            self._connection.transport.loseConnection()
        else:
            self._connection.transport.write(self.again)

    def stopProducing(self) -> None:
        self.left = 0


OK = b"HTTP/1.1 200 X\r\n"
#: What the kernel's buffers may have taken beside it.
ON_THE_WAY = 16 * 2**20


@pytest.mark.parametrize(
    ("begin", "again"),
    [
        (OK, b"a: b\r\n"),
        (OK + b"a: ", b"x"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"", b"HTTP/1.1 103 Hints\r\nLink: </a>\r\n\r\n"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_head_without_end(fake: FakeStore, begin: bytes, again: bytes) -> None:
    """It is an ordinary failure: it may pass."""
    endless = Endless(begin, again)
    fake.answers = [endless, stored("e")]
    assert (await fake.store().put_object("b", "k", [b"x"], PLAIN)).etag == "e"
    assert [outcome for _, outcome in fake.tries] == ["HeadTooLong", "ok"]
    assert endless.sent < ON_THE_WAY


@pytest_twisted.ensureDeferred
async def test_an_endless_head_while_the_body_is_sent(fake: FakeStore) -> None:
    fake.early = Endless(OK, b"a: b\r\n")
    fake.answers = [stored("e")]
    assert await fake.store().upload_part("b", "k", "u", 1, [b"x" * 2**20] * 16) == "e"
    assert len(fake.tries) == 2


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 99999999\r\n\r\n", b"\r\n", b"Transfer-Encoding: chunked\r\n\r\n"]
)
@pytest_twisted.ensureDeferred
async def test_an_object_that_is_longer_than_it_can_be(fake: FakeStore, framing: bytes) -> None:
    """It is a failure at once, and not read again."""
    endless = Endless(OK + framing, b"5\r\nabcde\r\n")
    fake.answers = [endless]
    with pytest.raises(StoreError, match="AnswerTooLong: more than 1000 bytes") as caught:
        await fake.store().get_object("b", "k", limit=1000)
    assert not isinstance(caught.value, StoreUnavailable)
    assert not caught.value.said
    assert endless.sent < ON_THE_WAY


@pytest_twisted.ensureDeferred
async def test_an_object_of_just_the_bound(fake: FakeStore) -> None:
    fake.answers = [answer(200, "x" * 1000), answer(200, "x" * 1001)]
    assert b"".join(await fake.store().get_object("b", "k", limit=1000)) == b"x" * 1000
    with pytest.raises(StoreError, match="AnswerTooLong"):
        await fake.store().get_object("b", "k", limit=1000)


@pytest_twisted.ensureDeferred
async def test_a_success_that_talks_on(fake: FakeStore) -> None:
    """Where nothing is to be told but that it is done, megabytes are nobody's to keep."""
    endless = Endless(OK + b'ETag: "e"\r\n\r\n', b"x")
    fake.answers = [endless, stored("e")]
    assert await fake.store().upload_part("b", "k", "u", 1, [b"x"]) == "e"
    assert [outcome for _, outcome in fake.tries] == ["AnswerTooLong", "ok"]
    assert endless.sent < ON_THE_WAY


@pytest_twisted.ensureDeferred
async def test_many_small_pieces_are_few(fake: FakeStore) -> None:
    """Each that was kept would cost its own size many times over."""
    chunks = b"2\r\nab\r\n" * 50_000
    fake.answers = [
        lambda connection: connection.transport.write(
            OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
        )
    ]
    segments = await fake.store().get_object("b", "k", limit=100_000)
    assert b"".join(segments) == b"ab" * 50_000
    assert len(segments) < 20


@pytest.mark.parametrize("status", [400, 404, 503])
@pytest_twisted.ensureDeferred
async def test_an_error_document_without_end(fake: FakeStore, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is too long is no document, whatever it begins with, and is never parsed."""
    parsed: list[int] = []
    parse = answers.parse
    monkeypatch.setattr(answers, "parse", lambda body: parsed.append(len(body)) or parse(body))
    begin = b"<Error><Code>NoSuchUpload</Code>"
    head = b"HTTP/1.1 %d X\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (status, len(begin), begin)
    endless = Endless(head, b"6\r\n<a/><b\r\n")
    fake.answers = [endless]
    with pytest.raises(StoreUnavailable) as caught:
        await fake.store(patience=0.0).put_object("b", "k", [b"x"], PLAIN)
    assert (caught.value.status, caught.value.said) == (status, False)
    assert parsed == []
    assert endless.sent < ON_THE_WAY
    fake.answers = [error(400, "A" * 20), answer(400, f"<Error><Code>A</Code>{' ' * ERROR_LIMIT}</Error>")]
    with pytest.raises(StoreError, match="AAAA"):
        await fake.store(patience=0.0).put_object("b", "k", [b"x"], PLAIN)
    with pytest.raises(StoreUnavailable, match="BadRequest"):
        await fake.store(patience=0.0).put_object("b", "k", [b"x"], PLAIN)


@pytest_twisted.ensureDeferred
async def test_long_documents_are_read_in_a_thread(fake: FakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    parse = answers.parse
    monkeypatch.setattr(answers, "parse", lambda body: threads.append(threading.get_ident()) or parse(body))
    entry = "<Contents><Key>k</Key><Size>1</Size><LastModified>1970-01-01T00:01:00Z</LastModified></Contents>"
    fake.answers = [answer(200, f"<ListBucketResult>{entry * count}</ListBucketResult>") for count in (1, 1000)]
    store = fake.store()
    assert len(await store.list_objects("b", "k")) == 1
    assert len(await store.list_objects("b", "k")) == 1000
    assert [thread == threading.get_ident() for thread in threads] == [True, False]


@pytest_twisted.ensureDeferred
async def test_more_parts_than_there_can_be(fake: FakeStore) -> None:
    """A listing that goes on for ever ends."""
    part = "<Part><PartNumber>1</PartNumber><Size>1</Size><ETag>e</ETag></Part>"
    fake.answers = [
        answer(
            200,
            f"<ListPartsResult><IsTruncated>true</IsTruncated><NextPartNumberMarker>{page}</NextPartNumberMarker>"
            f"{part * 1000}</ListPartsResult>",
        )
        for page in range(1, 30)
    ]
    with pytest.raises(StoreUnavailable, match="more parts than there can be"):
        await fake.store().list_parts("b", "k", "u")
    assert len(fake.requests) == 11


# Listings with entries that lack something.


def listing(root: str, entries: list[str]) -> Any:
    return answer(200, f"<{root}><IsTruncated>false</IsTruncated>{''.join(entries)}</{root}>")


def without(entry: str, name: str) -> str:
    begin, _, rest = entry.partition(f"<{name}>")
    return begin + rest.partition(f"</{name}>")[2]


OBJECT = "<Contents><Key>k</Key><Size>1</Size><LastModified>1970-01-01T00:01:00Z</LastModified></Contents>"
UPLOAD = "<Upload><Key>k</Key><UploadId>u</UploadId><Initiated>1970-01-01T00:01:00Z</Initiated></Upload>"


def warnings(logged: list[Any]) -> list[Any]:
    return [event for event in logged if event.get("log_level", LogLevel.info) == LogLevel.warn]


@pytest_twisted.ensureDeferred
async def test_an_object_without_a_key(fake: FakeStore, logged: list[Any]) -> None:
    """It is left out with one warning, however many there are; an empty object lacks nothing."""
    empty = OBJECT.replace("<Size>1<", "<Size>0<")
    fake.answers = [listing("ListBucketResult", [without(OBJECT, "Key"), empty, without(OBJECT, "Key"), OBJECT])]
    found = await fake.store().list_objects("b", "k")
    assert [(each.key, each.size, each.modified) for each in found] == [("k", 0, 60.0), ("k", 1, 60.0)]
    assert len(warnings(logged)) == 1
    assert warnings(logged)[0]["missing"] == "Key"


@pytest.mark.parametrize(("name", "size", "modified"), [("Size", 0, 60.0), ("LastModified", 1, None)])
@pytest_twisted.ensureDeferred
async def test_a_key_is_enough(
    fake: FakeStore, logged: list[Any], name: str, size: int, modified: float | None
) -> None:
    """To delete an object nothing else is needed: what is left out would stay for ever."""
    fake.answers = [listing("ListBucketResult", [without(OBJECT, name), OBJECT])]
    found = await fake.store().list_objects("b", "k")
    assert [(each.key, each.size, each.modified) for each in found] == [("k", size, modified), ("k", 1, 60.0)]
    assert warnings(logged) == []


@pytest.mark.parametrize("name", ["Key", "UploadId", "Initiated"])
@pytest_twisted.ensureDeferred
async def test_a_multipart_upload_without(fake: FakeStore, logged: list[Any], name: str) -> None:
    fake.answers = [listing("ListMultipartUploadsResult", [without(UPLOAD, name), UPLOAD])]
    found = await fake.store().list_multipart_uploads("b")
    assert [(each.key, each.multipart_id, each.initiated) for each in found] == [("k", "u", 60.0)]
    assert len(warnings(logged)) == 1


@pytest.mark.parametrize("value", ["yesterday", "", "99999999999999999999", "0001-01-01T00:00:00Z-"])
@pytest_twisted.ensureDeferred
async def test_a_time_that_cannot_be_read(fake: FakeStore, logged: list[Any], value: str) -> None:
    """It is as good as none, and does not end the listing either."""
    garbled = OBJECT.replace("1970-01-01T00:01:00Z", value)
    fake.answers = [listing("ListBucketResult", [garbled, OBJECT])]
    assert [each.modified for each in await fake.store().list_objects("b", "k")] == [None, 60.0]
    assert warnings(logged) == []


@pytest_twisted.ensureDeferred
async def test_a_size_that_is_no_number(fake: FakeStore) -> None:
    """The page cannot be read; it may be another time."""
    garbled = OBJECT.replace("<Size>1<", "<Size>large<")
    fake.answers = [listing("ListBucketResult", [garbled]), listing("ListBucketResult", [OBJECT])]
    assert len(await fake.store().list_objects("b", "k")) == 1


@pytest.mark.parametrize("name", ["PartNumber", "Size", "ETag"])
@pytest_twisted.ensureDeferred
async def test_a_part_is_not_left_out(fake: FakeStore, name: str) -> None:
    """An upload would be said to have lost it: rather the page is asked for again."""
    part = "<Part><PartNumber>1</PartNumber><Size>1</Size><ETag>e</ETag></Part>"
    fake.answers = [listing("ListPartsResult", [without(part, name), part]), listing("ListPartsResult", [part])]
    assert [each.number for each in await fake.store().list_parts("b", "k", "u")] == [1]
    assert len(fake.requests) == 2
