"""What the log says at the start of what the service needs: whether the bucket and the application are as configured."""

from __future__ import annotations

from twisted.logger import Logger

from resumable.callbacks.caller import CallFailure
from resumable.callbacks.webhooks import Webhooks
from resumable.settings import StoreSettings
from resumable.stores.port import Store, StoreError
from resumable.stores.registry import advisor_of

log = Logger()


async def look_at_bucket(store: Store, settings: StoreSettings) -> None:
    """Say whether the bucket can be used, as far as one question shows; if not, what to do. It raises nothing."""
    bucket, operation = settings.bucket, "HeadBucket"
    try:
        try:
            await store.probe(bucket)
        except StoreError as error:
            if not error.status:
                raise
            # The answer to a HEAD has no document that could say why.
            operation = "ListObjects"
            await store.list_objects(bucket, f"{settings.fragments_prefix}start/")
    except StoreError as error:
        meaning = advisor_of(settings.kind).explain(operation, error)
        log.warn(
            "bucket {bucket} cannot be used: {says}; {advice}. Nothing can be uploaded until then (resumable check says more)",
            bucket=bucket,
            says=meaning.says,
            advice=meaning.advice,
        )
    else:
        log.info("bucket {bucket} answers", bucket=bucket)


async def look_at_events(webhooks: Webhooks) -> None:
    """Say whether anybody answers at the URL for events. Nothing is told to it. It raises nothing."""
    try:
        status = await webhooks.reach()
    except CallFailure as failure:
        log.warn(
            "the application for events at {app} {reason} ({detail}); look at events.url and whether the application runs. "
            "Events are kept, and told later",
            app=webhooks.shown,
            reason=failure.reason,
            detail=failure.detail.strip(" ()") or "no more is known",
        )
    else:
        log.info(
            "the application for events at {app} answers ({status} to OPTIONS; try it with: resumable events test)",
            app=webhooks.shown,
            status=status,
        )
