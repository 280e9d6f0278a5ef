"""Giving back to the store what an ended upload had there."""

from __future__ import annotations

from resumable.model import State, Upload
from resumable.stores.store import Store, StoredObject
from resumable.uploads.fragments import Fragments
from resumable.uploads.policy import TOKEN


async def release(store: Store, fragments: Fragments, upload: Upload) -> None:
    """Free what is stored of an upload that has ended, but for its object if it is finished.

    :raises resumable.stores.store.StoreError: the store would not; it may be asked again.
    """
    if upload.multipart_id is not None and upload.state is not State.FINISHED:
        await store.abort_multipart_upload(upload.bucket, upload.key, upload.multipart_id)
    await fragments.sweep(upload)


async def own_object(store: Store, upload: Upload) -> StoredObject | None:
    """The object under the upload's key, if it is this upload's and not somebody else's."""
    found = await store.head_object(upload.bucket, upload.key)
    if found is not None and found.metadata.get(TOKEN) == upload.token:
        return found
    return None


async def delete_own_object(store: Store, upload: Upload) -> None:
    """Delete the upload's object, if there is one; nobody else's."""
    if await own_object(store, upload) is not None:
        await store.delete_object(upload.bucket, upload.key)
