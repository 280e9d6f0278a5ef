"""What counts as the store's own word, and what else answers in its place."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_twisted

from resumable.model import ObjectOptions
from resumable.stores.port import PartRef, StoreError, StoreUnavailable
from resumable.stores.s3.client import S3Store
from tests.s3servers import S3Server
from tests.stores.fakes import Connection, FakeStore, R, answer, completed, error, stored

PLAIN = ObjectOptions()
LIMIT = 2**20
PAGE = "<html><body><h1>404 Not Found</h1><hr>nginx</body></html>"
Send = Callable[[Connection], None]


@pytest_twisted.async_yield_fixture
async def fake() -> AsyncIterator[FakeStore]:
    server = FakeStore()
    yield server
    await server.close()


CALLS: dict[str, Callable[[S3Store], Awaitable[object]]] = {
    "put": lambda store: store.put_object("b", "k", [b"x"], PLAIN),
    "get": lambda store: store.get_object("b", "k", limit=LIMIT),
    "delete": lambda store: store.delete_object("b", "k"),
    "delete one": lambda store: store.delete_object("b", "k", etag="e"),
    "part": lambda store: store.upload_part("b", "k", "u", 1, [b"x"]),
    "complete": lambda store: store.complete_multipart_upload("b", "k", "u", [PartRef(1, "e")]),
    "abort": lambda store: store.abort_multipart_upload("b", "k", "u"),
    "parts": lambda store: store.list_parts("b", "k", "u"),
    "objects": lambda store: store.list_objects("b", "k"),
}
ENTITIES = '<!DOCTYPE Error [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
#: What is not the store's word, whatever its status.
STRANGERS = {
    "an ingress's 404": answer(404, PAGE),
    "an empty 404": answer(404),
    "an HTML 400": answer(400, "<html>Bad request"),
    "an empty 412": answer(412),
    "a number for a code": error(404, "404"),
    "a code in another document": answer(404, "<Problem><Code>NoSuchUpload</Code></Problem>"),
    "half a document": answer(404, "<Error><Code>NoSuchKey</Code>"),
    "a document without a code": answer(404, "<Error><Message>NoSuchUpload</Message></Error>"),
    "an encoding that there is not": answer(404, '<?xml version="1.0" encoding="no"?><Error><Code>A</Code></Error>'),
    "entities": answer(404, f"{ENTITIES}<Error><Code>NoSuchKey</Code><Message>&b;</Message></Error>"),
    "entities in UTF-16": answer(404, f"{ENTITIES}<Error><Code>NoSuchKey</Code></Error>".encode("utf-16")),
    "not implemented by a proxy": answer(501),
    "a redirection elsewhere": answer(302, headers={"Location": "http://127.0.0.1/"}),
    "nothing modified": answer(304),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("stranger", STRANGERS)
@pytest_twisted.ensureDeferred
async def test_what_the_store_did_not_say_may_pass(fake: FakeStore, call: str, stranger: str) -> None:
    """It is tried again, and the store is heard; once patience is over it is no refusal."""
    fake.answers = [STRANGERS[stranger], error(400, "InvalidRequest")]
    with pytest.raises(StoreError) as refused:
        await CALLS[call](fake.store())
    assert (refused.value.code, refused.value.said) == ("InvalidRequest", True)
    assert not isinstance(refused.value, StoreUnavailable)
    fake.answers = [STRANGERS[stranger]]
    with pytest.raises(StoreUnavailable) as caught:
        await CALLS[call](fake.store(patience=0.0))
    assert not caught.value.said


@pytest.mark.parametrize("call", ["get", "delete", "abort"])
@pytest_twisted.ensureDeferred
async def test_a_bucket_that_is_not_there_is_not_a_key_that_is_not(fake: FakeStore, call: str) -> None:
    fake.answers = [error(404, "NoSuchBucket")]
    with pytest.raises(StoreError) as caught:
        await CALLS[call](fake.store())
    assert (caught.value.code, caught.value.said) == ("NoSuchBucket", True)


@pytest.mark.parametrize("status", [401, 403, 301, 307, 413, 414, 431])
@pytest_twisted.ensureDeferred
async def test_what_the_operator_has_to_mend_is_told_at_once(fake: FakeStore, status: int) -> None:
    fake.answers = [answer(status, PAGE)]
    with pytest.raises(StoreError) as caught:
        await CALLS["put"](fake.store())
    assert (isinstance(caught.value, StoreUnavailable), caught.value.said) == (False, False)


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ('<Error xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Code>InvalidPart</Code></Error>', "InvalidPart"),
        (
            '<?xml version="1.0" encoding="UTF-8"?>\n<Error>\n  <Code>InvalidPart</Code>\n  <Resource>k</Resource>\n</Error>',
            "InvalidPart",
        ),
        (f"<Error><Code>Long{'x' * 5000}</Code></Error>", f"Long{'x' * 96}"),
        ("<Error><Code>Line&#10;&#9;break\u2028\u00e9</Code></Error>", "Linebreak"),
    ],
)
@pytest.mark.parametrize("status", [400, 200])
@pytest_twisted.ensureDeferred
async def test_the_stores_own_words(fake: FakeStore, document: str, code: str, status: int) -> None:
    """With or without a namespace, in a refusal or a 200; codes fit into a line of a log."""
    fake.answers = [answer(status, document)]
    with pytest.raises(StoreError) as caught:
        await CALLS["complete"](fake.store())
    assert (caught.value.code, caught.value.status, caught.value.said) == (code, status, True)


@pytest_twisted.ensureDeferred
async def test_messages_forge_no_lines(fake: FakeStore) -> None:
    fake.answers = [answer(400, f"<Error><Code>A</Code><Message>one&#10;two&#13;{'x' * 9000}</Message></Error>")]
    with pytest.raises(StoreError) as caught:
        await CALLS["put"](fake.store())
    assert str(caught.value).startswith("A: one two xxx")
    assert len(str(caught.value)) < 600


@pytest_twisted.ensureDeferred
async def test_a_garbled_status_line_is_not_quoted_without_end(fake: FakeStore) -> None:
    fake.answers = [lambda connection: connection.transport.write(b"nonsense\x1b " * 4000 + b"\r\n\r\n")]
    with pytest.raises(StoreUnavailable) as caught:
        await CALLS["put"](fake.store(patience=0.0))
    assert len(str(caught.value)) < 600
    assert str(caught.value).isprintable()


# HEAD, whose answers have no documents.


@pytest_twisted.ensureDeferred
async def test_a_404_to_head_is_confirmed(fake: FakeStore) -> None:
    fake.answers = [answer(404), error(404, "NoSuchKey")]
    assert await fake.store().head_object("b", "k") is None
    assert fake.requests[1].head.startswith("GET /b/k ")
    assert fake.requests[1].header("range") == "bytes=0-0"


@pytest.mark.parametrize(
    "glance", [answer(206, "x"), answer(200, "x" * 2**17), error(416, "InvalidRange"), answer(416)]
)
@pytest_twisted.ensureDeferred
async def test_an_object_that_is_there_after_all(fake: FakeStore, glance: Send) -> None:
    """An ingress's 404, in whose place the object is found: by its first byte, by all of it, or by there being none."""

    def head(connection: Connection) -> None:
        connection.transport.write(b'HTTP/1.1 200 X\r\nContent-Length: 7\r\nETag: "e"\r\n\r\n')

    fake.answers = [answer(404), glance, head]
    found = await fake.store().head_object("b", "k")
    assert found is not None
    assert (found.size, found.etag) == (7, "e")


@pytest_twisted.ensureDeferred
async def test_nobody_knows_whether_it_is_there(fake: FakeStore) -> None:
    """Two strangers' 404 are no more than one."""
    fake.answers = [answer(404)] * 20
    with pytest.raises(StoreUnavailable):
        await fake.store(patience=0.0).head_object("b", "k")
    fake.answers = [answer(404), answer(206, "x")] * 9
    with pytest.raises(StoreUnavailable):
        await fake.store().head_object("b", "k")


@pytest_twisted.ensureDeferred
async def test_the_bucket_is_the_operators(fake: FakeStore) -> None:
    fake.answers = [answer(404), error(404, "NoSuchBucket")]
    with pytest.raises(StoreError, match="NoSuchBucket"):
        await fake.store().head_object("b", "k")


@pytest_twisted.ensureDeferred
async def test_a_page_is_no_object(fake: FakeStore) -> None:
    """200 and a length, but no ETag: what answers a HEAD so is no store."""
    fake.answers = [answer(200, headers={"Content-Type": "text/html"})] * 2
    with pytest.raises(StoreUnavailable, match="no ETag"):
        await fake.store(patience=0.0).head_object("b", "k")


@pytest_twisted.ensureDeferred
async def test_servers_say_that_nothing_is_there(s3: S3Server) -> None:
    """What is not there, of servers that were not written for it."""
    store = S3Store(R, endpoint=s3.endpoint, access_key=s3.access_key, secret_key=s3.secret_key, patience=0.0)
    assert await store.head_object(s3.bucket, "nowhere") is None
    await store.delete_object(s3.bucket, "nowhere")
    await store.delete_object(s3.bucket, "nowhere", etag="e")
    await store.abort_multipart_upload(s3.bucket, "nowhere", "u")
    with pytest.raises(StoreError, match="NoSuchBucket") as caught:
        await store.head_object("no-such-bucket", "k")
    assert caught.value.said
    await store.put_object(s3.bucket, "an empty one", [], PLAIN)
    found = await store.head_object(s3.bucket, "an empty one")
    assert found is not None
    assert found.size == 0
    await store.close()


# Deleting what is ours, and nothing else.


@pytest_twisted.ensureDeferred
async def test_deleting_on_condition(fake: FakeStore) -> None:
    fake.answers = [answer(204)]
    await fake.store().delete_object("b", "k", etag="abc-2")
    assert fake.requests[0].header("if-match") == '"abc-2"'


@pytest.mark.parametrize("said", [(412, "PreconditionFailed"), (404, "NoSuchKey"), (404, "NoSuchVersion")])
@pytest_twisted.ensureDeferred
async def test_what_is_not_ours_any_more_is_left(fake: FakeStore, said: tuple[int, str]) -> None:
    fake.answers = [error(*said)]
    await fake.store().delete_object("b", "k", etag="e")
    assert len(fake.requests) == 1


@pytest.mark.parametrize("status", [501, 400])
@pytest_twisted.ensureDeferred
async def test_a_store_without_the_condition(fake: FakeStore, status: int) -> None:
    fake.answers = [error(status, "NotImplemented"), answer(204)]
    await fake.store().delete_object("b", "k", etag="e")
    assert [request.header("if-match") for request in fake.requests] == ['"e"', None]


@pytest_twisted.ensureDeferred
async def test_servers_delete_on_condition(s3: S3Server) -> None:
    store = S3Store(R, endpoint=s3.endpoint, access_key=s3.access_key, secret_key=s3.secret_key, patience=0.0)
    made = await store.put_object(s3.bucket, "conditional", [b"x"], PLAIN)
    if s3.name != "rclone":  # which takes no notice of the condition
        await store.delete_object(s3.bucket, "conditional", etag="0" * 32)
        assert await store.get_object(s3.bucket, "conditional", limit=LIMIT) == [b"x"]
    await store.delete_object(s3.bucket, "conditional", etag=made.etag)
    assert await store.head_object(s3.bucket, "conditional") is None
    await store.close()


# Successes that are none.


@pytest.mark.parametrize("call", ["complete", "parts", "objects"])
@pytest_twisted.ensureDeferred
async def test_a_well_formed_page_is_not_read_as_nothing(fake: FakeStore, call: str) -> None:
    """A listing of nothing would say that the parts are gone."""
    fake.answers = [answer(200, "<html><body/></html>")] * 2
    with pytest.raises(StoreUnavailable, match="MalformedAnswer"):
        await CALLS[call](fake.store(patience=0.0))


@pytest.mark.parametrize("call", ["put", "part"])
@pytest_twisted.ensureDeferred
async def test_a_success_without_an_etag_is_repeated(fake: FakeStore, call: str) -> None:
    fake.answers = [answer(200), answer(200, headers={"ETag": '""'}), stored("e" * 2000), stored("e\x07"), stored("e")]
    await CALLS[call](fake.store())
    assert [request.body for request in fake.requests] == [b"x"] * 5


@pytest_twisted.ensureDeferred
async def test_a_complete_without_an_etag_is_repeated(fake: FakeStore) -> None:
    fake.answers = [
        answer(200, "<CompleteMultipartUploadResult><Key>k</Key></CompleteMultipartUploadResult>"),
        completed(),
    ]
    await CALLS["complete"](fake.store())
    assert len(fake.requests) == 2


CREATED = answer(200, "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")


@pytest.mark.parametrize(
    "lost",
    [
        answer(200, "<html>"),
        answer(200, "<InitiateMultipartUploadResult><Key>k</Key></InitiateMultipartUploadResult>"),
        answer(200, "<Initiate", missing=10),
        lambda connection: connection.transport.abortConnection(),
        answer(502, "<html>Bad gateway"),
        answer(504),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_multipart_upload_is_not_begun_again_and_again(fake: FakeStore, lost: Send) -> None:
    """Each try may have left one open that nobody knows."""
    fake.answers = [lost] * 20
    with pytest.raises(StoreUnavailable):
        await fake.store().init_multipart_upload("b", "k", PLAIN)
    assert len(fake.requests) == 2
    fake.answers = [lost, CREATED]
    assert await fake.store().init_multipart_upload("b", "k", PLAIN) == "u"


@pytest_twisted.ensureDeferred
async def test_a_multipart_upload_that_was_certainly_not_begun_is_begun_again(fake: FakeStore) -> None:
    fake.answers = [error(503, "SlowDown")] * 4 + [answer(429), answer(404, PAGE), error(500, "InternalError"), CREATED]
    assert await fake.store().init_multipart_upload("b", "k", PLAIN) == "u"
