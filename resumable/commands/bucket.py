"""The check of the bucket: runs a trial, and explains its result to an operator."""

from __future__ import annotations

from importlib.util import find_spec
from secrets import token_hex
from typing import Any

from attrs import evolve

from resumable.commands.bucket_probe import Trial, Unusable
from resumable.commands.finding import CheckStatus, Finding
from resumable.model import ObjectOptions
from resumable.settings import StoreSettings
from resumable.stores.advice import Meaning
from resumable.stores.embedded import MISSING
from resumable.stores.port import StoreContext, StoreError
from resumable.stores.registry import advisor_of, make_store

#: Seconds for which a failed call is tried again; few, since somebody is waiting.
PATIENCE = 3.0


async def check_bucket(settings: StoreSettings, reactor: Any) -> list[Finding]:
    """Return a finding for the bucket, or one for each thing that is wrong with it."""
    if settings.kind == "embedded":
        there = find_spec("moto") is not None
        says = "a throw-away S3, started with the service" if there else MISSING
        return [Finding("bucket", settings.bucket, CheckStatus.OK if there else CheckStatus.FAILED, says)]
    advisor = advisor_of(settings.kind)
    trial, refusal = await _attempt(settings, reactor)
    if refusal is None:
        failures = advisor.explain_denied(trial.denied, settings.bucket)
    elif await _without_checksums(settings, refusal, reactor):
        failures = [Meaning(f"refuses CRC32C checksums ({refusal.error.code})", "store.checksum: none")]
    else:
        failures = [advisor.explain(refusal.operation, refusal.error)]
    findings = [Finding("bucket", settings.bucket, CheckStatus.FAILED, each.says, each.advice) for each in failures]
    if trial.left is not None:
        findings.append(
            Finding(
                "bucket", settings.bucket, CheckStatus.WARNING, f"{trial.left} could not be deleted again", "delete it"
            )
        )
    return findings or [Finding("bucket", settings.bucket, CheckStatus.OK, "stores, reads, lists, deletes, multipart")]


async def _attempt(settings: StoreSettings, reactor: Any) -> tuple[Trial, Unusable | None]:
    store = make_store(evolve(settings, patience=min(settings.patience, PATIENCE)), StoreContext(reactor))
    # As fragments are stored: with the encryption that a bucket's policy may demand.
    options = ObjectOptions(encryption=settings.object.encryption, kms_key=settings.object.kms_key)
    name = f"check-{token_hex(4)}"
    trial = Trial(store, advisor_of(settings.kind), settings.bucket, settings.fragments_prefix, name, options, reactor)
    try:
        await store.start()
        await trial.run()
    except Unusable as refusal:
        return trial, refusal
    except StoreError as error:
        return trial, Unusable("start", error)
    finally:
        await store.close()
    return trial, None


async def _without_checksums(settings: StoreSettings, refusal: Unusable, reactor: Any) -> bool:
    """Say whether only the checksum was refused, so that the trial succeeds without it."""
    status = refusal.error.status
    if settings.checksum == "none" or status == 403 or not (400 <= status < 500 or status == 501):
        return False
    # A listing sends no checksum, so something else is wrong.
    if refusal.operation == "ListObjects":
        return False
    _, again = await _attempt(evolve(settings, checksum="none"), reactor)
    return again is None
