"""Giving back to the store what an ended upload had there."""

from __future__ import annotations

from resumable.model import Upload
from resumable.stores.store import Store
from resumable.uploads.policy import TOKEN


async def release(store: Store, upload: Upload) -> None:
    """Free what is stored of an upload that has ended without an object.

    :raises resumable.stores.store.StoreError: the store would not; it may be asked again.
    """
    if upload.multipart_id is not None:
        await store.abort_multipart_upload(upload.bucket, upload.key, upload.multipart_id)


async def delete_own_object(store: Store, upload: Upload) -> None:
    """Delete the upload's object if there is one under its key and it is this upload's, not somebody else's since."""
    found = await store.head_object(upload.bucket, upload.key)
    if found is not None and found.metadata.get(TOKEN) == upload.token:
        await store.delete_object(upload.bucket, upload.key)
