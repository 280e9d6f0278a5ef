"""Answers over TLS that tell no length and are cut short, at every byte: half an answer is never taken for the whole."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import pytest_twisted

from resumable.stores.port import PartRef, StoreError, StoreUnavailable, StoreVerdict
from resumable.stores.s3.client import S3Store
from resumable.stores.transport.pool import Transport
from tests.stores.fakes import Connection, R
from tests.stores.transport.test_tls import AUTHORITY, TlsStore

pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")

Call = Callable[[S3Store], Awaitable[Any]]


@pytest_twisted.async_yield_fixture
async def store() -> AsyncIterator[tuple[TlsStore, S3Store]]:
    """What answers, and a client of it that tries once."""
    fake = TlsStore()
    client = S3Store(
        R,
        endpoint=f"https://127.0.0.1:{fake.listen()}",
        access_key="key",
        secret_key="hidden",
        patience=0.0,
        transport=Transport(R, tls=AUTHORITY.policy),
    )
    fake.stores.append(client)
    yield fake, client
    await fake.close()


def ends_abruptly(connection: Connection) -> None:
    """Without a close_notify: anybody on the way can do that."""
    connection.transport.transport.loseConnection()


def ends_in_order(connection: Connection) -> None:
    """With one, as a server that has failed does."""
    connection.transport.loseConnection()


def says(what: bytes, ending: Callable[[Connection], None], connection: Connection) -> None:
    connection.transport.write(what)
    ending(connection)


async def complete(store: S3Store) -> Any:
    return await store.complete_multipart_upload("b", "k", "m", [PartRef(1, "e", None)])


async def copy(store: S3Store) -> Any:
    return await store.upload_part_copy("b", "k", "m", 1, source=("b", "f"), etag=None)


async def list_parts(store: S3Store) -> Any:
    return await store.list_parts("b", "k", "m")


async def read(store: S3Store) -> Any:
    return await store.get_object("b", "k", limit=1000)


async def put_part(store: S3Store) -> Any:
    return await store.upload_part("b", "k", "m", 1, [b"some bytes"])


COMPLETED = b'<CompleteMultipartUploadResult><ETag>"e"</ETag></CompleteMultipartUploadResult>'
COPIED = b'<CopyPartResult><ETag>"e"</ETag></CopyPartResult>'
PARTS = b'<ListPartsResult><Part><PartNumber>1</PartNumber><ETag>"e"</ETag><Size>5</Size></Part></ListPartsResult>'


@pytest.mark.parametrize("ending", [ends_abruptly, pytest.param(ends_in_order, marks=pytest.mark.soak)])
@pytest.mark.parametrize(
    ("call", "body"),
    [
        pytest.param(complete, COMPLETED, id="Complete"),
        pytest.param(copy, COPIED, id="UploadPartCopy"),
        pytest.param(list_parts, PARTS, id="ListParts"),
        pytest.param(put_part, b"", id="UploadPart"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_at_every_byte(
    store: tuple[TlsStore, S3Store], call: Call, body: bytes, ending: Callable[[Connection], None]
) -> None:
    """It may have taken effect, which is not known; only the last byte makes it an answer."""
    fake, client = store
    whole = b'HTTP/1.1 200 OK\r\nETag: "e"\r\nConnection: close\r\n\r\n' + body

    for length in range(whole.index(b"\r\n\r\n") if body else 0, len(whole)):
        fake.answers = [partial(says, whole[:length], ending)]
        with pytest.raises(StoreUnavailable) as caught:
            await call(client)
        assert not caught.value.said, "a store that said nothing"
    fake.answers = [partial(says, whole, ending)]
    await call(client)


@pytest.mark.parametrize("ending", [ends_abruptly, pytest.param(ends_in_order, marks=pytest.mark.soak)])
@pytest_twisted.ensureDeferred
async def test_a_refusal_at_every_byte(store: tuple[TlsStore, S3Store], ending: Callable[[Connection], None]) -> None:
    """That something is not there is believed when all of the store's own document has come."""
    fake, client = store
    whole = b"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n<Error><Code>NoSuchUpload</Code></Error>"
    for length in range(whole.index(b"\r\n\r\n"), len(whole)):
        fake.answers = [partial(says, whole[:length], ending)]
        with pytest.raises(StoreError) as caught:
            await complete(client)
        assert not isinstance(caught.value, StoreVerdict), whole[:length]
    fake.answers = [partial(says, whole, ending)]
    with pytest.raises(StoreVerdict):
        await complete(client)


@pytest.mark.parametrize("ending", [ends_abruptly, ends_in_order])
@pytest_twisted.ensureDeferred
async def test_an_object_without_a_length(
    store: tuple[TlsStore, S3Store], ending: Callable[[Connection], None]
) -> None:
    """Where its end is nobody knows, so it is not taken at all, however much of it has come."""
    fake, client = store
    fake.answers = [partial(says, b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nwhole or not", ending)]
    with pytest.raises(StoreUnavailable):
        await read(client)
