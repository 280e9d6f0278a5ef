"""What the store alone can know: what it will never take ends the upload, what the operator can mend keeps it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from pytest_twisted import async_yield_fixture

from resumable.model import Rejected, State, Unavailable, Upload, UploadError
from resumable.stores.port import StoreError
from resumable.stores.s3.codes import refusal
from resumable.uploads.policy import CreateRequest
from resumable.uploads.registry import Span
from tests.uploads.test_states import Body, certain
from tests.uploads.wiring import CHUNK, House, ledger_in

DATA = bytes(range(3 * CHUNK))


@async_yield_fixture
async def wiring(tmp_path: Path) -> AsyncIterator[House]:
    async with ledger_in(tmp_path) as ledger:
        yield House(ledger)


async def put(wiring: House, call: str, code: str, size: int) -> tuple[Upload, UploadError]:
    """Bring an upload while the store refuses a call; the upload as it is then, and what its client is told."""

    async def refuse(*_: Any, **__: Any) -> Any:
        raise refusal(code, "as the test wants it", 400, said=True)

    setattr(wiring.uploads._store, call, refuse)
    upload = await wiring.uploads.create(CreateRequest("put", "n", length=size))
    body = Body(DATA[:size], 7, drop=False, stall=False)
    with pytest.raises(UploadError) as caught:
        await wiring.uploads.receive(upload, body, Span(0, size), revalidate=certain, new=True)
    return await wiring.uploads.get(upload.id, ""), caught.value


@pytest.mark.parametrize(("call", "size"), [("put_object", CHUNK), ("init_multipart_upload", 3 * CHUNK)])
@pytest.mark.parametrize(
    ("code", "field"),
    [
        ("KeyTooLongError", "key"),
        ("XMinioInvalidObjectName", "key"),
        ("MetadataTooLarge", "metadata"),
        ("EntityTooLarge", "length"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_is_never_taken(wiring: House, call: str, size: int, code: str, field: str) -> None:
    """A 4xx that names the field, and the upload has ended: who came again would be told the same for ever."""
    upload, told = await put(wiring, call, code, size)
    assert isinstance(told, Rejected)
    assert told.field == field
    assert upload.state is State.FAILED
    assert upload.reason is not None
    assert code in upload.reason
    wiring.uploads.faults.check("bucket")


@pytest.mark.parametrize(("call", "size"), [("put_object", CHUNK), ("init_multipart_upload", 3 * CHUNK)])
@pytest.mark.parametrize("code", ["AccessDenied", "NoSuchBucket", "KMS.DisabledException"])
@pytest_twisted.ensureDeferred
async def test_what_the_operator_can_mend(wiring: House, call: str, size: int, code: str) -> None:
    """503, the upload waits, and the service is not ready until something is stored."""
    upload, told = await put(wiring, call, code, size)
    assert type(told) is Unavailable
    assert upload.state is State.OPEN
    with pytest.raises(StoreError):
        wiring.uploads.faults.check("bucket")
    delattr(wiring.uploads._store, call)
    body = Body(DATA[:size], 7, drop=False, stall=False)
    await wiring.uploads.receive(upload, body, Span(0, size), revalidate=certain)
    wiring.uploads.faults.check("bucket")
