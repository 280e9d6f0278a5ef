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
from resumable.stores.profiles import PROFILES, Habits, habits_of
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
    if not findings:
        findings.append(Finding("bucket", settings.bucket, CheckStatus.OK, "stores, reads, lists, deletes, multipart"))
        if settings.kind == "s3" and trial.found_by_prefix is False:
            findings.append(_lists_no_uploads(settings))
    return findings


def check_profile(settings: StoreSettings) -> list[Finding]:
    """Return what the store of these settings is taken to do, and what the settings ask of it that it does not."""
    if settings.kind != "s3":
        return []
    habits = habits_of(settings)
    name = habits.profile.name if settings.profile != "auto" else f"auto: {_found(habits)}"
    findings = [Finding("profile", name, CheckStatus.OK, str(habits))]
    if settings.object.tags and not habits.profile.tags:
        says = f"object.tags: objects have no tags at {habits.profile.title}"
        findings.append(Finding("profile", name, CheckStatus.FAILED, says, "leave store.object.tags out"))
    if habits.limits.parts > (most := habits.profile.limits.parts):
        says = f"max_parts: {habits.profile.title} takes {most} parts, and {habits.limits.parts} are asked for"
        findings.append(Finding("profile", name, CheckStatus.WARNING, says, "leave store.max_parts out"))
    return findings


def _found(habits: Habits) -> str:
    return habits.profile.name if habits.profile.name in PROFILES else "no store that is known"


def _lists_no_uploads(settings: StoreSettings) -> Finding:
    """Return a warning where a listing does not find multipart uploads, as MinIO's does not, and nobody has said so."""
    says = "lists multipart uploads by their exact key alone, so that the listing finds none that are left over"
    return Finding("bucket", settings.bucket, CheckStatus.WARNING, says, "store.profile: minio")


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
    if not _sends_checksums(settings) or status == 403 or not (400 <= status < 500 or status == 501):
        return False
    # A listing sends no checksum, so something else is wrong.
    if refusal.operation == "ListObjects":
        return False
    _, again = await _attempt(evolve(settings, checksum="none"), reactor)
    return again is None


def _sends_checksums(settings: StoreSettings) -> bool:
    return habits_of(settings).checksum if settings.kind == "s3" else settings.checksum != "none"
