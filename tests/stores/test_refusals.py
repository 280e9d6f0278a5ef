"""What a store refuses, told as whose fault it is: with both kinds of stores, through the whole service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from attrs import frozen
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.logger import LogLevel

from resumable.model import State
from resumable.stores.port import Misconfigured, Store, StoreContext
from resumable.stores.s3.making import make_s3
from tests.protocols.harness import Memory, memory_service
from tests.stores.gcs.server import Fault, GcsServer
from tests.stores.s3.habits import HabitualStore, Strictness
from tests.stores.s3.test_profiles import quick, settings_for
from tests.uploads.wiring import CHUNK

DATA = bytes(range(5 * CHUNK))
#: The operations that an upload of several chunks, and one of a single chunk, consists of.
LARGE = ("CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload")
KINDS = ("s3", "gcs")


@frozen
class Refusing:
    """A service, and how its store is told to refuse an operation so many times, or no more.

    :ivar left: returns what is in the store: keys of objects, and how many multipart uploads are open.
    """

    service: Memory
    refuse: Callable[[str, int, str, int], None]
    mend: Callable[[], None]
    left: Callable[[], tuple[list[str], int]]


@pytest.fixture(scope="module")
def running() -> Iterator[GcsServer]:
    with GcsServer() as server:
        yield server


@pytest.fixture
def google(running: GcsServer) -> GcsServer:
    """Cloud Storage, with nothing stored."""
    running.reset()
    running.smallest_part = 1
    return running


@pytest.fixture
def errors(logged: list[Any]) -> Iterator[list[Any]]:
    """What was logged of refusals, which the operator is meant to see."""
    yield logged
    logged.clear()


@asynccontextmanager
async def refusing(kind: str, google: GcsServer) -> AsyncIterator[Refusing]:
    if kind == "gcs":
        store: Store = google.client()

        def refuse(operation: str, status: int, code: str, times: int) -> None:
            google.faults += [Fault(operation, status=status, code=code)] * times

        mend: Callable[[], None] = google.faults.clear

        def left() -> tuple[list[str], int]:
            return sorted(google.buckets["bucket"]), len(google.multiparts)

        server = None
    else:
        server = HabitualStore(Strictness())
        made = make_s3(settings_for("auto", server.endpoint), StoreContext(reactor))
        quick(made)
        store, asked = made, server

        def refuse(operation: str, status: int, code: str, times: int) -> None:
            asked.refusals += [(operation, status, code)] * times

        mend = asked.refusals.clear

        def left() -> tuple[list[str], int]:
            return sorted(asked.objects), len(asked.multiparts)

    try:
        async with memory_service(store=store) as service:
            yield Refusing(service, refuse, mend, left)
    finally:
        await store.close()
        if server is not None:
            await server.close()


async def put(service: Memory, data: bytes = DATA, first: int = 0, total: int | None = None) -> Any:
    length = len(data) + first if total is None else total
    span = [f"Content-Range: bytes {first}-{first + len(data) - 1}/{length}"]
    return await service.ask("PUT", "/upload/film", span, data)


async def state_of(service: Memory) -> State:
    found = await service.parts.ledger._database.read(
        lambda connection: connection.exec_driver_sql("SELECT state FROM uploads").scalars().all()
    )
    return State(found[-1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("operation", LARGE)
@ensureDeferred
async def test_what_may_pass(kind: str, operation: str, google: GcsServer, errors: list[Any]) -> None:
    """It is tried again while the client waits, and nobody hears of it."""
    async with refusing(kind, google) as at:
        at.refuse(operation, 503, "SlowDown", 1)
        assert (await put(at.service)).status == 200
        assert at.left() == (["film"], 0)
    assert not [event for event in errors if event.get("log_level") is LogLevel.error]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("code", "field"), [("KeyTooLong", "key"), ("MetadataTooLarge", "metadata"), ("EntityTooLarge", "length")]
)
@ensureDeferred
async def test_what_is_the_clients_own(kind: str, code: str, field: str, google: GcsServer, errors: list[Any]) -> None:
    """A 4xx that names the field. The upload has ended and nothing is left of it; the store is well."""
    async with refusing(kind, google) as at:
        at.refuse("CreateMultipartUpload", 400, code, 1)
        refused = await put(at.service)
        assert 400 <= refused.status < 500
        assert refused.json["field"] == field
        assert await state_of(at.service) is State.FAILED
        at.service.parts.uploads.faults.check("bucket")
        assert at.left() == ([], 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("operation", "status", "code", "needs"),
    [
        (
            "CreateMultipartUpload",
            403,
            "AccessDenied",
            {"s3": "s3:PutObject", "gcs": "storage.multipartUploads.create"},
        ),
        ("UploadPart", 403, "AccessDenied", {"s3": "s3:PutObject", "gcs": "storage.multipartUploads.create"}),
        (
            *("CompleteMultipartUpload", 403, "AccessDenied"),
            {"s3": "s3:PutObject", "gcs": "storage.multipartUploads.create"},
        ),
        pytest.param("UploadPart", 404, "NoSuchBucket", {}, marks=pytest.mark.soak),
        pytest.param("UploadPart", 403, "QuotaExceeded", {}, marks=pytest.mark.soak),
    ],
)
@ensureDeferred
async def test_what_is_the_operators(
    kind: str, operation: str, status: int, code: str, needs: dict[str, str], google: GcsServer, errors: list[Any]
) -> None:
    """503, one line in the log that names the permission, not ready; nothing is freed, and the client goes on from there."""
    async with refusing(kind, google) as at:
        begun = await put(at.service, DATA[: 2 * CHUNK], total=len(DATA)) if operation != LARGE[0] else None
        kept = at.left()
        at.refuse(operation, status, code, 20)
        refused = await put(at.service, DATA[2 * CHUNK :], 2 * CHUNK) if begun else await put(at.service)
        assert refused.status == 503
        assert refused.header("Retry-After") is not None
        (said,) = [event["error"] for event in errors if event.get("log_level") is LogLevel.error]
        assert said.startswith(code)
        assert f"; {needs[kind]} is missing" in said if needs else "is missing" not in said
        with pytest.raises(Misconfigured):
            at.service.parts.uploads.faults.check("bucket")
        assert await state_of(at.service) in (State.OPEN, State.FINISHING)
        assert at.left()[1] == kept[1]
        at.mend()
        told = await at.service.ask("PUT", "/upload/film", ["Content-Range: bytes */*"])
        if told.status == 308:
            stored = told.header("Range")
            first = int(stored.rpartition("-")[2]) + 1 if stored else 0
            told = await put(at.service, DATA[first:], first)
        assert told.status == 200
        assert at.left() == (["film"], 0)
