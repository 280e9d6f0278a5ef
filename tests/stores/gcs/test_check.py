"""``resumable check`` on a bucket of Cloud Storage: what an operator is told."""

from __future__ import annotations

from typing import Any

import pytest_twisted

from resumable.commands.bucket import check_bucket
from resumable.commands.finding import CheckStatus
from resumable.settings import parse_settings
from tests.stores.fakes import R
from tests.stores.gcs.server import GcsServer


def section(gcs: GcsServer, **changes: Any) -> Any:
    values = {"kind": "gcs", "bucket": "bucket", "endpoint": gcs.endpoint, "credentials": str(gcs.key), **changes}
    given = ", ".join(f"{name}: {value!r}" for name, value in values.items())
    return parse_settings(f"store: {{{given}}}\nauth: open", "F", {}).store


@pytest_twisted.ensureDeferred
async def test_what_the_operator_is_told(gcs: GcsServer) -> None:
    (found,) = await check_bucket(section(gcs), R)
    assert found.verdict is CheckStatus.OK
    assert (gcs.buckets["bucket"], gcs.multiparts) == ({}, {})

    gcs.denied = {"DeleteObject", "ListParts"}
    says = [finding.says for finding in await check_bucket(section(gcs), R)]
    assert says[0].startswith("storage.objects.delete is missing (AccessDenied)")
    assert says[1].startswith("storage.multipartUploads.listParts is missing (AccessDenied)")

    gcs.reset()
    (found,) = await check_bucket(section(gcs, bucket="none"), R)
    assert (found.verdict, found.says) == (CheckStatus.FAILED, "there is no such bucket (NoSuchBucket)")
    gcs.refuses_tokens = True
    (found,) = await check_bucket(section(gcs), R)
    assert found.says == "Google does not take the token (AuthenticationRequired)"
    (found,) = await check_bucket(section(gcs, credentials="/no/such/file"), R)
    assert "/no/such/file was not found" in found.says
    assert "store.credentials" in (found.advice or "")
